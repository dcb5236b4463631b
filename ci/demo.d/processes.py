"""The process table, as far as the demo reads it, and waiting for conditions."""

import ctypes
import os
import signal
import socket
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


def wait_until(what, condition, seconds=60):
    """Wait for a true value of ``condition()`` and return it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise DemoError(f"waited {seconds} s for {what}")
        time.sleep(0.02)
    return value


def free_port():
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def adopt_orphans():
    """Become the parent of every descendant whose own parent ends, so that none gets away."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def state_and_parent(pid, thread=None):
    """Return the state of a process or of one thread of it, a letter as ps shows it, and its parent's pid.

    One that has ended is ("Z", 0).
    """
    where = f"{pid}/task/{thread}" if thread else str(pid)
    try:
        state, parent = Path(f"/proc/{where}/stat").read_text().rsplit(")", 1)[1].split()[:2]
    except OSError:
        return "Z", 0
    return state, int(parent)


def has_ended(pid):
    """Tell whether a process is gone, or a zombie."""
    return state_and_parent(pid)[0] == "Z"


def is_running(pid):
    """Tell whether a thread of a process is on a processor, or waits for nothing else."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return any(state_and_parent(pid, thread)[0] == "R" for thread in threads)


def parents():
    """Return pid -> parent's pid of every process that is not a zombie."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    rows = ((pid, *state_and_parent(pid)) for pid in pids)
    return {pid: parent for pid, state, parent in rows if state != "Z"}


def children(pid):
    """Return the pids of the children of ``pid``."""
    return {child for child, parent in parents().items() if parent == pid}


def descendants(pid):
    """Return the pids of all that ``pid`` and its children started."""
    table, found, fresh = parents(), set(), {pid}
    while fresh:
        fresh = {child for child, parent in table.items() if parent in fresh}
        found |= fresh
    return found


def command_line(pid):
    """Return how ``pid`` was called, or what it calls itself."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(ended)"


def listening_inode(port):
    """Return the socket's name, as /proc shows it, that listens on ``port``; None if there is none."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
            return f"socket:[{fields[9]}]"
    return None


def holds(pid, link):
    """Tell whether ``pid`` has the socket named ``link`` open."""
    try:
        return any(os.readlink(entry) == link for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it, or one of its files, has gone meanwhile
        return False


def send(pid, number):
    """Signal a process; False if it has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def reap():
    """Take note of every child that has ended, adopted ones too."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end_all(seconds=20):
    """End every descendant; return the command lines of those that SIGTERM did not end in time."""
    mine = os.getpid()
    for pid in children(mine):
        send(pid, signal.SIGTERM)

    def gone():
        reap()
        return not descendants(mine)

    try:
        wait_until("the descendants' end", gone, seconds)
        return []
    except DemoError:
        stubborn = {pid: command_line(pid) for pid in descendants(mine)}
        while left := descendants(mine):
            for pid in left:
                send(pid, signal.SIGKILL)
            reap()
        return [f"{pid} {line}" for pid, line in stubborn.items()]
