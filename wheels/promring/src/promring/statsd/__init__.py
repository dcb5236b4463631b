"""StatsD calls counted in shared memory: the clients of the packages statsd and datadog, without a datagram.

A client in use has its transport taken by one line, `promring.statsd.take_over(client)`; `StatsClient` and
`DogStatsd` are the same surfaces where neither package is installed.
"""

from promring.statsd.dogstatsd import DogStatsd
from promring.statsd.statsclient import StatsClient
from promring.statsd.transport import take_over

__all__ = ["DogStatsd", "StatsClient", "take_over"]
