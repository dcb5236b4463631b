"""Django with django-prometheus: settings, urls and app in one module."""

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import include, path
from prometheus_client import Counter

DONE = Counter("app_done", "What the app counts itself.")
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
)
django.setup()


def work(request):
    """Answer who did it."""
    DONE.inc(exemplar={"trace_id": str(os.getpid())})
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("work", work, name="work"), path("", include("django_prometheus.urls"))]
app = get_wsgi_application()
