"""Scrapes an aggregator while crowds of hostile peers are at it: listener.py SCRAPES [PEERS]. Called by ci/listener."""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from processes import free_port, wait_until

SERIES = 10_000
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
# What the aggregator may grow by under any crowd, beyond the first one: pages being sent are shared, heads are bounded.
MOST_GROWTH_KIB = 16 * 1024

# By kind of peer, what each of them sends. None of these gets a page but for the first request of a pipeline.
SENT = {
    "nobody": None,
    "half-open": GET,
    "silent": b"",
    "slow readers": GET + b"\r\n",
    "pipelining": (GET + b"\r\n") * 50,
    "oversized heads": GET + b"X-Long: " + b"x" * 64_000,
    "many headers": GET + b"".join(b"X-%d: y\r\n" % number for number in range(2000)),
    "smuggling": GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n",
    "bodies": b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 50_000,
    "noise": bytes(range(256)) * 200,
}
# Whoever sends so must never be answered with a page.
NEVER_A_PAGE = {"oversized heads", "many headers", "smuggling", "bodies", "noise"}
# Those that do not read what they asked for.
DEAF = {"slow readers"}


def connect(port):
    """Return a connection to the aggregator."""
    return socket.create_connection(("127.0.0.1", port), timeout=30)


class Crowd:
    """Peers of one kind, always so many of them: who is shut out comes again."""

    def __init__(self, port, kind, size):
        self.pages = self.came = 0
        self._port, self._kind, self._stop = port, kind, False
        self._sockets = []
        self._thread = threading.Thread(target=self._press, args=(size,), daemon=True)
        self._thread.start()

    def stop(self):
        """Let them go."""
        self._stop = True
        self._thread.join()
        for peer in self._sockets:
            peer.close()

    def _press(self, size):
        if SENT[self._kind] is None:
            return
        while not self._stop:
            self._sockets = [peer for peer in self._sockets if self._stays(peer)]
            for _ in range(min(50, size - len(self._sockets))):
                with contextlib.suppress(OSError):
                    self._come()
            time.sleep(0.005)

    def _come(self):
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(5)
        peer.connect(("127.0.0.1", self._port))
        self.came += 1
        self._sockets.append(peer)
        peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            peer.send(SENT[self._kind])

    def _stays(self, peer):
        """Take a bite of what came; False if the other side has closed."""
        try:
            bite = peer.recv(1 if self._kind in DEAF else 65_536)
        except BlockingIOError:
            return True
        except OSError:
            bite = b""
        self.pages += b" 200 OK\r\n" in bite
        if not bite:
            peer.close()
        return bool(bite)


def scrape(port):
    """Return how long a scrape took, and what is wrong with its answer."""
    started = time.monotonic()
    with connect(port) as stream:
        stream.sendall(GET + b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: stream.recv(1 << 20), b""))
    took = time.monotonic() - started
    head, _, body = answer.partition(b"\r\n\r\n")
    whole = head.startswith(b"HTTP/1.1 200 ") and body.count(b"\nlistener_total{") == SERIES
    return took, None if whole else f"a scrape was answered with {head[:60]!r} and {len(body)} bytes"


def memory_kib(pid):
    """Return the memory of a process that is its own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise ValueError(f"no RssAnon of {pid}")


def row(port, pid, kind, scrapes, peers):
    """Scrape amid a crowd; print a row, return what is wrong and the memory after it."""
    crowd, wrong, times = Crowd(port, kind, peers), [], []
    if SENT[kind] is not None:
        wait_until(f"a crowd of {kind}", lambda: crowd.came >= peers)
    for _ in range(scrapes):
        try:
            took, fault = scrape(port)
        except OSError as error:
            took, fault = 0.0, f"a scrape failed: {error}"
        times.append(took)
        wrong += [fault] if fault else []
    memory = memory_kib(pid)
    crowd.stop()
    if kind in NEVER_A_PAGE and crowd.pages:
        wrong.append(f"{crowd.pages} of {kind} were answered with a page")
    times.sort()
    middle, high = times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3
    numbers = f"{crowd.came:>9}{scrapes:>9}{middle:>9.1f}{high:>9.1f}{memory:>10}"
    print(f"{kind:<16}{numbers}  {'WRONG' if wrong else 'served'}", flush=True)
    for line in sorted(set(wrong)):
        print(f"    | {line}", flush=True)
    return wrong, memory


def main():
    """Start an aggregator with many series, and try every kind of peer."""
    scrapes, peers = [*map(int, sys.argv[1:]), 1000][:2]
    place, port = tempfile.mkdtemp(prefix="promring-listener-", dir="/dev/shm"), free_port()
    os.environ |= {"PROMRING_SEGMENT": f"{place}/segment", "PROMRING_LISTEN": f"127.0.0.1:{port}"}
    from promring import _native  # reads the environment

    wrong, first = [], None
    try:
        family = _native.family("counter", "listener_total", "Series of a long page.", ("number",))
        for number in range(SERIES):
            family.series((str(number),)).inc(1.0)
        pid = _native.start_aggregator()
        wait_until("the aggregator", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        print(f"{'peers':<16}{'came':>9}{'scrapes':>9}{'p50 ms':>9}{'p99 ms':>9}{'own KiB':>10}", flush=True)
        for kind in SENT:
            found, memory = row(port, pid, kind, scrapes, peers)
            first = first or memory
            if memory > first + MOST_GROWTH_KIB:
                found.append(f"the aggregator has grown from {first} to {memory} KiB")
                print(f"    | {found[-1]}", flush=True)
            wrong += found
    finally:
        _native.stop_aggregator()
        shutil.rmtree(place)
    print("listener: WRONG" if wrong else "listener: served")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
