"""Info and Enum across processes: what they say stands in the segment as gauges of one value per series.

An `Info` is a series of the family `<name>_info` that is 1, an `Enum` one series for each of its
states, 1 or 0. Whoever sets one last is shown by all. The objects keep what was last set in this
process, as the library does; that is what they go back to at `uninstall()`.
"""

import gc
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.metrics import Enum, Info
from prometheus_client.samples import Sample

from promring import _native, metrics

KINDS = (Info, Enum)
# Every one of this process.
adopted: "weakref.WeakSet[Any]" = weakref.WeakSet()


def family_name(metric: Any) -> str:
    """Return the name under which its family stands in the segment."""
    name: str = metric._name
    return name + "_info" if isinstance(metric, Info) else name


def existing() -> list[Any]:
    """Return every object of this process."""
    return [thing for thing in gc.get_objects() if issubclass(type(thing), KINDS)]


def adopt(metric: Any) -> None:
    """Take a new object up: an enum that nobody has set yet is in its first state."""
    _note(metric)
    if isinstance(metric, Enum) and metric._is_observable():
        family = _family(metric, (metric._name,))
        if family is not None and not any(_rows(metric, family)):
            _publish_state(metric)


def take_over(metric: Any) -> None:
    """Take up an object that was made before `install()`, with what it says."""
    _note(metric)
    publish(metric)


def _note(metric: Any) -> None:
    adopted.add(metric)
    metrics.declared.add(family_name(metric))


def publish(metric: Any) -> None:
    """Let all processes show what this object says now."""
    if not metric._is_observable():
        return
    if isinstance(metric, Enum):
        _publish_state(metric)
    elif metric._value:
        _publish_info(metric)


def _publish_state(metric: Any) -> None:
    family = _family(metric, (metric._name,))
    if family is None:
        return
    every = [family.series((*metric._labelvalues, str(state))) for state in metric._states]
    with metric._lock:
        chosen = every[metric._value]
        for series in every:
            if series is not chosen:
                series.set(0.0)
        chosen.set(1.0)


def _publish_info(metric: Any) -> None:
    said = {str(name): str(value) for name, value in sorted(metric._value.items())}
    family = _family(metric, said)
    if family is None:
        return
    # Another worker has registered the same labels, perhaps in another order.
    label_values = tuple(said[name] for name in family.label_names[len(metric._labelnames) :])
    wanted = (*metric._labelvalues, *label_values)
    for others in _rows(metric, family):
        if others[0] != wanted:
            family.remove(others[0])
    family.series(wanted).set(1.0)


def _family(metric: Any, more: Iterable[str]) -> _native.Family | None:
    """Return the family, registered now if it is new; None if the core refuses it."""
    name = family_name(metric)
    try:
        family = _native.family("gauge", name, metric._documentation, (*metric._labelnames, *more), mode="shared")
    except _native.Error as error:
        if name not in metrics.contradicted:
            metrics.log.warning("promring: %s; it says so in this process alone", error)
        metrics.contradicted.add(name)
        vars(metric).pop("_promring_family", None)
        return None
    metric._promring_family = family
    return family


def family_of(metric: Any) -> _native.Family | None:
    """Return the family if it stands in the segment by any process, and agrees."""
    family: _native.Family | None = vars(metric).get("_promring_family")
    if family is None and family_name(metric) not in metrics.contradicted:
        names = metric._labelnames
        known = (family for family in _native.families() if family.name == family_name(metric))
        family = next((f for f in known if f.mode == "shared" and f.label_names[: len(names)] == names), None)
    return family


def stands_in_segment(metric: Any) -> bool:
    """Tell whether the page of the segment has this name, whoever has said it."""
    return isinstance(metric, KINDS) and any(f.name == family_name(metric) for f in _native.families())


def _rows(metric: Any, family: _native.Family) -> Iterator[Any]:
    """Yield the rows of one label set, or of all of them."""
    mine = metric._labelvalues or ()
    for row in family.collect():
        if row[0][: len(mine)] == mine and not row[4]:
            yield row


def samples(metric: Any) -> tuple[Sample, ...] | None:
    """Return what a metric, or a child by itself, shows of all processes; None if nothing was said."""
    family = family_of(metric)
    if family is None:
        return None
    suffix = "_info" if isinstance(metric, Info) else ""
    own = len(metric._labelvalues or ())
    found = []
    for label_values, _, value, *_ in _rows(metric, family):
        labels = dict(zip(family.label_names[own:], label_values[own:], strict=True))
        found.append(Sample(suffix, labels, value, None, None))
    return tuple(found) or None


def start_afresh() -> None:
    """Say it again in the segment that is configured now; for tests."""
    for metric in list(adopted):
        vars(metric).pop("_promring_family", None)
        take_over(metric)


def let_go() -> None:
    """Give all of them back to the library."""
    for metric in list(adopted):
        vars(metric).pop("_promring_family", None)
    adopted.clear()
