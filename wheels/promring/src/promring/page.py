"""The bytes of /metrics: the core's page of the segment, with what only this process can answer put in."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from prometheus_client import REGISTRY, exposition
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from promring import _native, metrics, states
from promring.collect import Contents, add_function_samples, gives_way, is_ours

# They describe the process that happens to answer: on a page for all workers, counters of theirs would jump.
_OF_ONE_PROCESS = (GCCollector, PlatformCollector, ProcessCollector)
# The library's own, before `install` puts others in their place.
_text = exposition.generate_latest
_open_metrics = openmetrics.generate_latest
OPEN_METRICS = "application/openmetrics-text"
_EOF = b"# EOF\n"


class _Gathered:
    """Metrics in hand, as the library's encoder wants them."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def app_page(accept: str = "", registry: CollectorRegistry = REGISTRY) -> tuple[str, bytes]:
    """Return content type and page: all workers' metrics, and the custom collectors of a registry."""
    contents = Contents(registry)

    def wanted(collector: Any) -> bool:
        return _is_another(collector) and not isinstance(collector, _OF_ONE_PROCESS)

    if not metrics.functions and not contents.has_others(wanted):
        return _native.scrape(accept)
    return _complete(accept, contents.collect(wanted))


def registry_page(registry: Any, accept: str = "") -> bytes | None:
    """Return a registry's page from the core's bytes; None when these would say more or less."""
    if type(registry) is not CollectorRegistry:
        return None
    contents = Contents(registry)
    if contents.has_everything or (registry is REGISTRY and contents.covers_segment()):
        return _complete(accept, contents.collect(_is_another))[1]
    return None


def _is_another(collector: Any) -> bool:
    """Tell whether the page of the segment lacks a collector.

    A metric whose family the core has refused contradicts one that stands there by its name.
    """
    ours = is_ours(collector) or isinstance(collector, MultiProcessCollector) or states.stands_in_segment(collector)
    return not ours and not metrics.refused(collector) and not gives_way(collector)


def _complete(accept: str, others: Iterable[Metric]) -> tuple[str, bytes]:
    """Return the core's page with what it lacks put in; protobuf, which cannot be added to, gives way to text."""
    content_type, page = _native.scrape(accept)
    if not content_type.startswith((OPEN_METRICS, "text/plain")):
        content_type, page = _native.scrape()
    encode = _encoder(content_type)
    page = page.removesuffix(_EOF)
    for gauge in list(metrics.functions):
        page = _put_in(page, gauge, encode)
    return content_type, page + encode(_Gathered(others))


def _encoder(content_type: str) -> Callable[[Any], bytes]:
    """Return the library's encoder of a format and escaping."""
    escaping = content_type.partition("escaping=")[2] or openmetrics.UNDERSCORES
    return partial(_open_metrics if content_type.startswith(OPEN_METRICS) else _text, escaping=escaping)


def _put_in(page: bytes, gauge: Any, encode: Callable[[Any], bytes]) -> bytes:
    """Put the samples of a gauge that a function answers for under its family's heading."""
    metric = Metric(gauge._name, gauge._documentation, "gauge")
    add_function_samples(metric, gauge)
    text = encode(_Gathered([metric])).removesuffix(_EOF)
    lines = text.splitlines(keepends=True)
    heading = b"".join(line for line in lines if line.startswith(b"# TYPE "))
    before, found, after = page.partition(heading)
    if not found:
        return page + text
    name = heading.split(b" ")[2]
    while after.startswith((b"# HELP %s " % name, b"# UNIT %s " % name)):  # behind it in OpenMetrics
        line, newline, after = after.partition(b"\n")
        found += line + newline
    return before + found + b"".join(line for line in lines if not line.startswith(b"# ")) + after
