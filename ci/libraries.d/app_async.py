"""aiohttp with prometheus-async: its decorators and its page."""

import os

from aiohttp import web
from prometheus_async import aio
from prometheus_client import Counter, Gauge, Histogram

SECONDS = Histogram("work_seconds", "Time of a request.")
ERRORS = Counter("work_errors", "Requests that raised.")
DONE = Counter("app_done", "What the app counts itself.")
BUSY = Gauge("work_busy", "Requests under way.", multiprocess_mode="livesum")


@aio.time(SECONDS)
@aio.track_inprogress(BUSY)
async def work(request):
    """Answer who did it, after an error that is counted."""
    DONE.inc(exemplar={"trace_id": str(os.getpid())})
    try:
        await fail()
    except LookupError:
        return web.Response(text=str(os.getpid()))


@aio.count_exceptions(ERRORS)
async def fail():
    """Raise."""
    raise LookupError


async def app():
    """Make the app, as aiohttp's gunicorn worker wants it."""
    made = web.Application()
    made.add_routes([web.get("/work", work), web.get("/metrics", aio.web.server_stats)])
    return made
