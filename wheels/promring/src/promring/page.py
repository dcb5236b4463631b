"""The bytes of /metrics: the core's page of the segment, with what only this process can answer put in."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

from prometheus_client import REGISTRY, exposition
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from promring import _native, metrics
from promring.collect import Contents, add_function_samples, app_metrics_with_own, gives_way, is_ours

# They describe the process that happens to answer: on a page for all workers, counters of theirs would jump.
_OF_ONE_PROCESS = (GCCollector, PlatformCollector, ProcessCollector)
# The library's own, before `install` puts another one in its place.
_text = exposition.generate_latest


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

    if not metrics.functions and not metrics.keeps_exemplars and not contents.has_others(wanted):
        return _native.scrape(accept)
    # The core's page of another format than text cannot be added to: this one is made here, or is text.
    encode, content_type = exposition.choose_encoder(accept)
    if content_type.startswith("application/openmetrics-text"):
        return content_type, encode(_Gathered(chain(app_metrics_with_own(), contents.collect(wanted))))
    return _complete(contents.collect(wanted))


def registry_page(registry: Any) -> bytes | None:
    """Return a registry's text page from the core's bytes; None when these would say more or less."""
    if type(registry) is not CollectorRegistry:
        return None
    contents = Contents(registry)
    if contents.has_everything or (registry is REGISTRY and contents.covers_segment()):
        return _complete(contents.collect(_is_another))[1]
    return None


def _is_another(collector: Any) -> bool:
    """Tell whether the page of the segment lacks a collector.

    A metric whose family the core has refused contradicts one that stands there by its name.
    """
    ours = is_ours(collector) or isinstance(collector, MultiProcessCollector)
    return not ours and not metrics.refused(collector) and not gives_way(collector)


def _complete(others: Iterable[Metric]) -> tuple[str, bytes]:
    content_type, page = _native.scrape()
    for gauge in list(metrics.functions):
        page = _put_in(page, gauge)
    return content_type, page + _text(_Gathered(others))


def _put_in(page: bytes, gauge: Any) -> bytes:
    """Put the samples of a gauge that a function answers for under its family's heading."""
    metric = Metric(gauge._name, gauge._documentation, "gauge")
    add_function_samples(metric, gauge)
    text = _text(_Gathered([metric]))
    heading, lines = _split_heading(text)
    before, found, after = page.partition(heading)
    return before + found + lines + after if found else page + text


def _split_heading(text: bytes) -> tuple[bytes, bytes]:
    """Split a family's text into its TYPE line and its samples."""
    heading: list[bytes] = []
    samples: list[bytes] = []
    for line in text.splitlines(keepends=True):
        (heading if line.startswith(b"# TYPE") else samples).append(line)
    return b"".join(heading), b"".join(s for s in samples if not s.startswith(b"# HELP"))
