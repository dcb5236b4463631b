"""Scrapers that never stop, and what they hold against a page: no counter goes back, none vanishes."""

import threading
import time
from http.client import HTTPException
from urllib.error import HTTPError

from compare import SAMPLE, counters
from servers import fetch

PAUSE_SECONDS = 0.02


class Scraper:
    """Asks one address for its page, again and again, and compares it with the one before."""

    def __init__(self, url):
        self.pages = self.unanswered = 0
        self.faults = []
        self._url, self._last, self._stop = url, {}, False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self):
        """End, after a last page."""
        self._stop = True
        self._thread.join()

    def _work(self):
        last = False
        while not last:
            last = self._stop
            try:
                text = fetch(self._url)
            except HTTPError as error:
                self.faults.append(f"{self._url}: {error}")
            except (OSError, HTTPException):
                self.unanswered += 1  # nobody listens amid some restarts, or who did has been killed
            else:
                self.pages += 1
                self._compare(text)
            time.sleep(PAUSE_SECONDS)

    def _compare(self, text):
        names, found = set(counters(text)), {}
        for line in text.splitlines():
            if sample := SAMPLE.match(line):
                if sample[1] in names:
                    found[sample[1], sample[2]] = float(sample[3])
            elif not line.startswith("# "):
                self.faults.append(f"{self._url}: no line of an exposition: {line!r}")
        for series, before in self._last.items():
            now = found.get(series)
            if now is None or now < before:
                self.faults.append(f"{self._url}: {series}: {before} -> {now}")
        self._last = found
