"""Takes the transport of a client of the packages statsd and datadog: it counts from now on, and sends nothing."""

from typing import Any, TypeVar

from promring.install import install
from promring.statsd import dogstatsd, statsclient

Client = TypeVar("Client")

# Package, a class that its clients are of, and what they are asked for.
_CLIENTS: tuple[tuple[str, str, type], ...] = (
    ("statsd", "StatsClientBase", statsclient.Calls),
    ("datadog", "DogStatsd", dogstatsd.Calls),
)


def take_over(client: Client) -> Client:
    """Have a client count instead of sending; return it.

    It stays the object that it is, with its prefix, namespace and constant tags, also those it is given later.
    What a subclass has made its own stays too: where that calls the package's code, the end of it counts.
    """
    for package, base, surface in _CLIENTS:
        if any(cls.__name__ == base and _is_of(cls, package) for cls in type(client).__mro__):
            install()
            for name, call in vars(surface).items():
                owner = _owner(client, name)
                if callable(call) and (owner is None or _is_of(owner, package)):
                    vars(client)[name] = call.__get__(client)
            return client
    raise TypeError(f"promring takes over clients of the packages statsd and datadog, not a {type(client).__name__}")


def _owner(client: Any, name: str) -> type | None:
    """Return the class that a client has a method from, if it has it."""
    return next((cls for cls in type(client).__mro__ if name in vars(cls)), None)


def _is_of(cls: type, package: str) -> bool:
    return cls.__module__.partition(".")[0] == package
