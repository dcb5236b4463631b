"""What each view of the metrics says, held against the ledger of the clients."""

import re
from collections import Counter

from servers import fetch

SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
UNITS, REQUESTS = "demo_work_total", "demo_work_seconds_count"
VIEWS = ("/metrics", "in-app", "Prometheus")


def read_page(text):
    """Return the sums of a page: by metric name, and the units also by kind."""
    sums = Counter()
    for line in text.splitlines():
        if sample := SAMPLE.match(line):
            name, labels, value = sample.groups()
            sums[name] += float(value)
            if name == UNITS and (kind := re.search(r'\bkind="(\w+)"', labels or "")):
                sums[name, kind[1]] += float(value)
    return sums


def counters(text):
    """Return the names of all samples of a page that must never decrease."""
    names = []
    for family, kind in TYPE.findall(text):
        suffixes = {"counter": [""], "histogram": ["_count", "_sum", "_bucket"], "summary": ["_count", "_sum"]}
        names += [family + suffix for suffix in suffixes.get(kind, [])]
    return names


def views(server, prometheus):
    """Return the sums as the aggregator, the app itself and Prometheus see them."""
    seen = [read_page(fetch(f"{server.aggregator}/metrics")), read_page(fetch(server.in_app))]
    sums = Counter(prometheus.sums(server.name))
    for labels, value in prometheus.ask(f'sum by (kind) ({UNITS}{{job="{server.name}"}})'):
        sums[UNITS, labels.get("kind")] = value
    return [*seen, sums]


def verdict(certain, doubt, seen):
    """Return "equal", "within" (all agree, inside what is in doubt) or "WRONG"."""
    if len(set(seen)) == 1 and certain <= seen[0] <= certain + doubt:
        return "within" if doubt else "equal"
    return "WRONG"


def rows(server, prometheus):
    """Yield one row per number: (what, certain, in doubt, the three views, verdict)."""
    ledger, seen = server.load.ledger, views(server, prometheus)
    asked = [
        ("units of kind a", ledger.answered_units["a"], ledger.doubtful_units["a"], (UNITS, "a")),
        ("units of kind b", ledger.answered_units["b"], ledger.doubtful_units["b"], (UNITS, "b")),
        ("units", ledger.answered_units.total(), ledger.doubtful_units.total(), UNITS),
        ("requests", ledger.answered, ledger.doubtful, REQUESTS),
    ]
    for what, certain, doubt, key in asked:
        values = [_whole(view[key]) for view in seen]
        yield what, certain, doubt, values, verdict(certain, doubt, values)


def _whole(value):
    return int(value) if value == int(value) else value


def resets(server, prometheus):
    """Return (resets, series) over every counter that the server's page shows."""
    found = [prometheus.resets(server.name, name) for name in counters(fetch(f"{server.aggregator}/metrics"))]
    return int(sum(count for count, _ in found)), sum(series for _, series in found)
