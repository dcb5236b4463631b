"""The three pre-fork servers: how each is started, and how each replaces its workers or itself."""

import os
import signal
import subprocess
import urllib.request

from load import Load
from processes import (
    DemoError,
    children,
    command_line,
    free_port,
    has_ended,
    holds,
    is_running,
    listening_inode,
    send,
    wait_until,
)

WORKERS = 4


# Everything is on the loopback: a proxy in the environment has no part in it.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, seconds=10, data=None):
    """Return the body at ``url`` as text."""
    with _direct.open(url, data, timeout=seconds) as answer:
        return answer.read().decode()


def answers(url):
    """Tell whether a GET of ``url`` succeeds."""
    try:
        fetch(url, 5)
    except OSError:
        return False
    return True


class Server:
    """One server with its workers, its aggregator and its load."""

    name = ""
    example = ""
    replacing = "upgraded: new master by USR2, then the old one ended"
    end_old_master = signal.SIGQUIT

    def __init__(self, place):
        self.directory = place.root / "examples" / self.example
        self.segment = place.segments / self.name
        self.log = place.logs / f"{self.name}.log"
        self.port, self.aggregator_port = free_port(), free_port()
        self.env = (
            os.environ
            | place.env
            | {
                "HOME": str(place.work),  # gunicorn puts its control socket there
                "PORT": str(self.port),
                "WEB_CONCURRENCY": str(WORKERS),
                "PROMRING_SEGMENT": str(self.segment),
                "PROMRING_LISTEN": f"127.0.0.1:{self.aggregator_port}",
            }
        )
        self.load = Load(self.port)
        self.master = None

    @property
    def in_app(self):
        """The app's own /metrics, answered by any worker."""
        return f"http://127.0.0.1:{self.port}/metrics"

    @property
    def aggregator(self):
        """The aggregator's address."""
        return f"http://127.0.0.1:{self.aggregator_port}"

    def command(self):
        """Return the command line."""
        raise NotImplementedError

    def start(self):
        """Start the master."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.master = self.process.pid

    def wait_ready(self):
        """Wait until all workers are there and both endpoints answer."""

        def ready():
            if self.process.poll() is not None:
                raise DemoError(f"{self.name} ended at its start with status {self.process.returncode}")
            return len(self.workers()) == WORKERS and answers(self.in_app) and answers(f"{self.aggregator}/-/ready")

        wait_until(f"{self.name} and its aggregator", ready)

    def workers(self, master=None):
        """Return the children of the master that share its listening socket and are no masters themselves."""
        link = listening_inode(self.port)
        sharing = {pid for pid in children(master or self.master) if link and holds(pid, link)}
        return {pid for pid in sharing if not any(holds(child, link) for child in children(pid))}

    def kill_busy_worker(self):
        """SIGKILL a worker amid its work, a request of kind b; return what came of it."""
        load, before = self.load, self.load.ledger.doubtful
        load.go_over_to("b")
        load.more(5)
        victim = wait_until("a busy worker", lambda: next(filter(is_running, self.workers()), None))
        send(victim, signal.SIGKILL)
        self._wait_replaced(victim)
        load.more(5)
        load.go_over_to("a")
        return f"worker {victim} killed amid its work, {load.ledger.doubtful - before} requests broke; replaced"

    def kill_worker_after_answer(self):
        """SIGKILL the worker that answered last, when all is answered and not yet collected from its ring."""
        workers = self.workers()
        self.load.go_over_to(None)
        victim = self.load.last_worker
        if victim not in workers:
            raise DemoError(f"{self.name}: the last answer names no worker of its master, but {victim}")
        send(victim, signal.SIGKILL)
        wait_until(f"the end of worker {victim}", lambda: has_ended(victim))  # until then it might accept
        self.load.go_over_to("a")
        self._wait_replaced(victim)
        return f"worker {victim} killed just after its last answer; replaced"

    def _wait_replaced(self, victim):
        wait_until(
            f"{self.name} to replace worker {victim}",
            lambda: victim not in (now := self.workers()) and len(now) == WORKERS,
        )

    def replace(self):
        """Upgrade: a new master beside the old one, then the end of the old one."""
        old = self.master
        self.master = wait_until(f"{self.name}'s second master", lambda: self._second_master(old))
        self.load.more(50)
        send(old, self.end_old_master)
        wait_until(f"the end of {self.name}'s old master", lambda: has_ended(old))
        return f"{self.replacing} ({old} -> {self.master})"

    def _second_master(self, old):
        # Asked more than once: gunicorn refuses as long as it has not noticed the end of the master before it.
        send(old, signal.SIGUSR2)

        def second():
            return next((pid for pid in children(old) if len(self.workers(pid)) == WORKERS), None)

        try:
            return wait_until("a second master", second, 10)
        except DemoError:
            return None

    def replace_workers(self, number):
        """Send the master a signal that makes it replace every worker."""
        old = self.workers()
        send(self.master, number)
        wait_until(f"{self.name}'s new workers", lambda: len(now := self.workers()) == WORKERS and not now & old, 120)


class Puma(Server):
    """Puma cluster; its master stays, and its workers are replaced one by one."""

    name = "puma"
    example = "puma-rack"

    def command(self):
        return [self.env["DEMO_RUBY"], self.env["DEMO_PUMA"], "-C", "puma.rb"]

    def replace(self):
        # A worker that stops closes the connections that it has accepted and has read nothing from yet: Puma's way,
        # and the fate of a client that is between its connect and its request.
        self.load.go_over_to("b")
        self.replace_workers(signal.SIGUSR1)
        self.load.go_over_to("a")
        return "phased restart by USR1: every worker replaced"


class Unicorn(Server):
    """Unicorn."""

    name = "unicorn"
    example = "unicorn-rack"

    def command(self):
        return [self.env["DEMO_RUBY"], self.env["DEMO_UNICORN"], "-c", "unicorn.rb", "config.ru"]


class Gunicorn(Server):
    """Gunicorn; its QUIT would be the hasty end, TERM is the graceful one."""

    name = "gunicorn"
    example = "gunicorn-wsgi"
    end_old_master = signal.SIGTERM

    def command(self):
        # Not `python -m gunicorn`: what that re-executes itself as on USR2 does not find http.server.
        return [
            self.env["DEMO_GUNICORN"],
            "-c",
            "gunicorn.conf.py",
            "-b",
            f"127.0.0.1:{self.port}",
            "-w",
            str(WORKERS),
            "app:app",
        ]


def last_lines(server, count=25):
    """Return the end of a server's log, for who has to find out why."""
    lines = server.log.read_text(errors="replace").splitlines()[-count:]
    state = ", ".join(f"{pid} {command_line(pid)}" for pid in sorted(children(server.master or 0)))
    return "\n".join([f"--- {server.name}: {state}", *lines])
