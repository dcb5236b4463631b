"""A stretch of code timed, as a context manager and as a decorator of functions and coroutines."""

import functools
from collections.abc import Callable
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any


def timed(function: Callable[..., Any], record: Callable[[float], None]) -> Callable[..., Any]:
    """Return a function that records the seconds of each of its calls, also of one that raises."""
    named = function
    while isinstance(named, functools.partial):
        named = named.func

    if iscoroutinefunction(function):

        @functools.wraps(named)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            try:
                return await function(*args, **kwargs)
            finally:
                record(perf_counter() - started)

        return coroutine

    @functools.wraps(named)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            record(perf_counter() - started)

    return wrapped
