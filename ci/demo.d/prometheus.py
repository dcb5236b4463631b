"""A real Prometheus that scrapes the three aggregators every second, and what it is asked."""

import json
import os
import subprocess
import time
import urllib.parse

from processes import DemoError, free_port, wait_until
from servers import answers, fetch


class Prometheus:
    """The process and its query interface."""

    def __init__(self, place, servers):
        self.port = free_port()
        self.log = place.logs / "prometheus.log"
        self._binary = place.env["DEMO_PROMETHEUS"]
        self._data = place.work / "prometheus"
        self._config = place.work / "prometheus.json"
        jobs = [
            {"job_name": s.name, "static_configs": [{"targets": [s.aggregator.removeprefix("http://")]}]}
            for s in servers
        ]
        interval = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        self._config.write_text(json.dumps({"global": interval, "scrape_configs": jobs}))  # JSON is YAML, too

    @property
    def url(self):
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Start it and wait until it answers."""
        command = [
            self._binary,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._data}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"GOMAXPROCS": "1"},
                start_new_session=True,
            )

        def ready():
            if self._process.poll() is not None:
                raise DemoError(f"prometheus ended at its start:\n{self.log.read_text()[-2000:]}")
            return answers(f"{self.url}/-/ready")

        wait_until("prometheus", ready)

    def ask(self, query):
        """Return the rows of an instant query: a list of (labels, value)."""
        data = urllib.parse.urlencode({"query": query}).encode()
        result = json.loads(fetch(f"{self.url}/api/v1/query", data=data))["data"]["result"]
        return [(row["metric"], float(row["value"][1])) for row in result]

    def wait_for_scrapes(self, servers):
        """Wait until each server has been scraped successfully well after this call.

        Well after: scrapes within 100 ms of each other may be answered with the same page.
        """
        not_before = time.time() + 0.5
        for server in servers:
            up = f'up{{job="{server.name}"}}'
            wait_until(
                f"prometheus to scrape {server.name}",
                lambda up=up: any(at > not_before for _, at in self.ask(f"timestamp({up}) and {up} == 1")),
            )

    def sums(self, job):
        """Return metric name -> sum over all its series of a job."""
        rows = self.ask(f'sum by (__name__) ({{job="{job}"}})')
        return {labels["__name__"]: value for labels, value in rows}

    def resets(self, job, name):
        """Return (resets, series) of the counters called ``name`` since the start."""
        rows = self.ask(f'resets({name}{{job="{job}"}}[1h])')
        return sum(value for _, value in rows), len(rows)

    def scrapes(self, job):
        """Return how many scrapes there were, and how many of them failed."""
        total = sum(value for _, value in self.ask(f'count_over_time(up{{job="{job}"}}[1h])'))
        good = sum(value for _, value in self.ask(f'sum_over_time(up{{job="{job}"}}[1h])'))
        return int(total), int(total - good)
