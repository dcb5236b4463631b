"""Counted load: client threads that ask for work, and the ledger of what was answered."""

import http.client
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from processes import DemoError, wait_until

CLIENTS = 4
# Between a client's requests: the servers share the machine's processors with the clients and Prometheus.
PAUSE_SECONDS = 0.005
# Large where a worker is to be killed amid its work.
MOST_UNITS = {"a": 20, "b": 100_000}


@dataclass
class Ledger:
    """What one server's clients know.

    An answered request is certain: its units were counted before the answer was written. One whose
    connection broke is in doubt: its worker died before, amid or after counting, or never read it.
    """

    answered_units: Counter = field(default_factory=Counter)
    doubtful_units: Counter = field(default_factory=Counter)
    answered: int = 0
    doubtful: int = 0
    never_sent: int = 0
    refused: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def certain(self, kind, units):
        """Enter an answered request."""
        with self.lock:
            self.answered_units[kind] += units
            self.answered += 1

    def in_doubt(self, kind, units):
        """Enter a request that was sent and never answered."""
        with self.lock:
            self.doubtful_units[kind] += units
            self.doubtful += 1


class Load:
    """Clients of one server. Each has one request in flight at a time, on a connection of its own.

    Units are of kind a, except around what may leave a request without an answer (a SIGKILL that hits a worker amid
    its work, Puma's phased restart): before it every client goes over to kind b, after it back. So every request of
    kind a is certain and its sum must be met exactly, and only kind b has doubt.
    """

    def __init__(self, port):
        self.port = port
        self.ledger = Ledger()
        self.last_worker = None
        self._kind = "a"
        self._under_way = [None] * CLIENTS
        self._stop = False
        self._threads = [threading.Thread(target=self._client, args=(i,), daemon=True) for i in range(CLIENTS)]

    def start(self):
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self):
        """End when every request under way has been answered or has broken."""
        self._stop = True
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                raise DemoError(f"a request to port {self.port} was not answered for 60 s")

    def go_over_to(self, kind):
        """Ask for units of ``kind`` from now on, for nothing if it is None; return when nothing else is in flight."""
        self._kind = kind
        wait_until("answers to the requests in flight", lambda: all(k in (kind, None) for k in self._under_way))

    def more(self, requests):
        """Wait until so many further requests have been answered."""
        goal = self.ledger.answered + requests
        wait_until(f"{requests} more answers from port {self.port}", lambda: self.ledger.answered >= goal, 120)

    def _client(self, number):
        dice = random.Random(number)
        while not self._stop:
            # Shown first, then looked at again: go_over_to() either sees the old kind here, or it is not asked for.
            kind = self._under_way[number] = self._kind
            if kind is not None and kind == self._kind:
                self._ask(kind, dice.randint(1, MOST_UNITS[kind]))
            self._under_way[number] = None
            time.sleep(PAUSE_SECONDS)

    def _ask(self, kind, units):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.connect()
        except OSError:
            self.ledger.never_sent += 1
            return
        try:
            connection.request("GET", f"/work?n={units}&kind={kind}", headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self.ledger.in_doubt(kind, units)
            return
        finally:
            connection.close()
        if answer.status != 200:
            self.ledger.refused.append(f"{answer.status} {body[:80]!r}")
            return
        self.ledger.certain(kind, units)
        if worker := re.search(rb"by (\d+)", body):
            self.last_worker = int(worker[1])
