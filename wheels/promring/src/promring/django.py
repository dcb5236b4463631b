"""Django: a middleware that counts requests and answers GET /metrics.

`MIDDLEWARE = ["promring.django.Middleware", ...]`: the first, so that what others answer is counted. The setting
PROMRING_METRICS_PATH is the page's path, "/metrics" unless it says otherwise; None for no page.
"""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from promring import _native
from promring.install import install
from promring.page import app_page
from promring.requests import Recorder
from promring.wsgi import ALLOW, NOT_ALLOWED


class Middleware:
    """Counts requests: `http_server_requests_total{method,code,path}`, their duration, and those under way.

    `path` is the route of the URL's pattern, empty where none has matched.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        install()
        self._get_response = get_response
        self._path = getattr(settings, "PROMRING_METRICS_PATH", "/metrics")
        self._recorder = Recorder("http_server", _route)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer a request."""
        if request.path == self._path:
            return self._answer_later(request) if self._is_async else _page(request)
        return self._count_later(request) if self._is_async else self._count(request)

    async def _answer_later(self, request: HttpRequest) -> HttpResponse:
        return _page(request)

    def _count(self, request: HttpRequest) -> HttpResponseBase:
        begun, code = self._recorder.begin(), 500
        try:
            response: HttpResponseBase = self._get_response(request)
            code = response.status_code
            return response
        finally:
            self._recorder.end(begun, request.method or "", code, self._recorder.route(request))

    async def _count_later(self, request: HttpRequest) -> HttpResponseBase:
        begun, code = self._recorder.begin(), 500
        try:
            response: HttpResponseBase = await self._get_response(request)
            code = response.status_code
            return response
        finally:
            self._recorder.end(begun, request.method or "", code, self._recorder.route(request))


def _page(request: HttpRequest) -> HttpResponse:
    _native.tick()
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(NOT_ALLOWED, status=405, content_type="text/plain", headers={"Allow": ALLOW})
    content_type, body = app_page(request.headers.get("Accept", ""))
    return HttpResponse(body, content_type=content_type)


def _route(request: HttpRequest) -> str:
    match = request.resolver_match
    return "" if match is None else f"/{match.route}"
