"""What StatsD calls become: what prometheus/statsd_exporter would have made of their datagrams.

A set, which that one refuses, is a gauge of about how many different values the last ten minutes have brought.

Two things differ, both on purpose. A negative gauge is a value, unless the client's own call says it is a change.
And a `sample_rate` loses nothing: it is there to save datagrams, and there are none here, so every call counts,
which is the number that sampling estimates. What comes already sampled has its rate's weight.
"""

import re
from collections.abc import Iterable
from typing import Any, Literal

from prometheus_client.metrics import Histogram

from promring import _native, metrics

# `time` is in milliseconds and becomes seconds; `change` is a gauge's, by what it says.
Kind = Literal["count", "gauge", "change", "time", "observe", "set"]

HELP = "Counted by calls of StatsD."
_BUCKETS = tuple(Histogram.DEFAULT_BUCKETS[:-1])
# Beyond so many the table starts anew: names and tags may be without end, memory is not.
_MOST_CALLS = 10_000
_MOST_SAID = 100

# By kind, name and tags as they came: the series that stands for them; None if the core has refused it.
_series: dict[tuple[str, str, tuple[str, ...]], _native.Series | None] = {}
_refused: dict[str, _native.Series] = {}
_said: set[str] = set()


def count(kind: Kind, name: str, value: Any, tags: tuple[str, ...] = (), weight: float = 1.0) -> None:
    """Do what a call asks for. Never raises: a request goes on, whatever was given."""
    try:
        number = 0.0 if kind == "set" else float(value)
        key = kind, name, tags
        series = _series[key] if key in _series else _learn(key)
        if series is None:
            refuse("call")
        elif kind == "set":
            series.add_to_set(str(value).encode(errors="surrogatepass"))
        elif kind == "gauge":
            series.set(number)
        elif kind == "count":
            series.inc(number * weight)
        elif kind == "change":
            series.inc(number)
        else:
            series.observe(number / 1000.0 if kind == "time" else number, weight)
    except Exception as error:
        refuse("call", line=f"StatsD {name!r:.200}: {error}")


def refuse(what: str, times: int = 1, line: str | None = None) -> None:
    """Count what Prometheus has no place for, and say each thing once."""
    if what not in _refused:
        family = _native.family(
            "counter",
            "promring_statsd_refused_total",
            "StatsD calls, or tags of them, that Prometheus has no place for.",
            ("what",),
        )
        _refused[what] = family.series((what,))
    _refused[what].inc(times)
    if line is not None and line not in _said and len(_said) < _MOST_SAID:
        _said.add(line)
        metrics.log.warning("promring: %s", line)


def start_afresh() -> None:
    """Forget what calls stand for, in a segment that is not there any more; for tests."""
    _series.clear()
    _refused.clear()
    _said.clear()


# ---------------------------------------------------------------------------------------------
# A call of a form that has not been seen before


def _learn(key: tuple[str, str, tuple[str, ...]]) -> _native.Series | None:
    kind, name, tags = key
    if len(_series) >= _MOST_CALLS:
        _series.clear()
    labels, bad = _labels(tags)
    if bad:
        refuse("tag", bad)
    series = None
    if not name:
        raise ValueError("it has no name")
    try:
        series = _stands_for(kind, metric_name(name), labels)
    except _native.Error as error:
        refuse("call", 0, f"StatsD {name!r:.200}: {error}")
    _series[key] = series
    return series


def _stands_for(kind: str, name: str, labels: dict[str, str]) -> _native.Series:
    """Return the series of a name and labels, whose names are those that the app has registered first.

    In StatsD each call may bring other tags: one that lacks some of the labels leaves them empty, which is the
    same as absent; tags that are not among them are left off, and that is said and counted. The sum over the
    family stays exact.
    """
    kinds = {"count": "counter", "gauge": "gauge", "change": "gauge", "set": "gauge"}
    metric_type = kinds.get(kind, "histogram")
    there = (family for family in _native.families() if (family.metric_type, family.name) == (metric_type, name))
    family = next(there, None)
    if family is not None and (family.mode == "unique") != (kind == "set"):
        family = None  # a set and another gauge: the core says that they contradict each other
    if family is None:
        mode = "unique" if kind == "set" else "shared" if metric_type == "gauge" else ""
        buckets = _BUCKETS if metric_type == "histogram" else ()
        family = _native.family(metric_type, name, HELP, tuple(labels), mode=mode, buckets=buckets)
    extra = [label for label in labels if label not in family.label_names]
    if extra:
        known = ", ".join(family.label_names) or "none"
        refuse(
            "tag", len(extra), f"StatsD metric {name}: tags {', '.join(extra)} are left off, its labels are: {known}"
        )
    return family.series(labels.get(label, "") for label in family.label_names)


def metric_name(name: str) -> str:
    """Return a name as Prometheus can have it: all else becomes `_`, and a run of `-` a single one."""
    name = re.sub(r"-+|[^A-Za-z0-9_-]", "_", name)
    return f"_{name}" if name[0].isdigit() else name


def _labels(tags: Iterable[str]) -> tuple[dict[str, str], int]:
    """Return the labels that tags become, the last of several equal ones, and how many lacked a name or a value."""
    labels: dict[str, str] = {}
    bad = 0
    for tag in tags:
        name, _, value = tag.partition(":")
        if name and value:
            labels[_free(metric_name(name))] = value
        else:
            bad += 1
    return labels, bad


def _free(label: str) -> str:
    """Return another label for one that Prometheus keeps for itself."""
    taken = label.startswith("__") or label in ("le", "quantile", "pid")
    return "exported_" + label.removeprefix("__") if taken else label
