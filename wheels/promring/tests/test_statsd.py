"""StatsD calls: what is counted is what statsd_exporter would make of the datagrams of the real clients."""

import asyncio
import math
import random
import re
from datetime import timedelta

import datadog.dogstatsd
import promring.statsd
import pytest
import statsd
from conftest import Worker, page, samples


@pytest.fixture
def silent(monkeypatch):
    """Record what the real clients would send, as lines."""
    sent, made = [], []
    construct = statsd.StatsClient.__init__

    def remember(client, *args, **kwargs):
        construct(client, *args, **kwargs)
        made.append(client)

    def record(client, packet, *args, **kwargs):
        sent.extend(packet.split("\n"))
        return True

    monkeypatch.setattr(statsd.StatsClient, "__init__", remember)
    monkeypatch.setattr(statsd.StatsClient, "_send", record)
    monkeypatch.setattr(datadog.dogstatsd.DogStatsd, "_send_to_server", record)
    yield sent
    for client in made:
        client.close()


def dogstatsd(**options):
    return datadog.dogstatsd.DogStatsd(disable_telemetry=True, origin_detection_enabled=False, **options)


def shown():
    """Return all samples, counters by the names that they have: prometheus_client's parser wants `_total`."""
    return samples(re.sub("# TYPE .* counter\n", "", page()))


def value(name, **labels):
    """Return a value of the page, None if it is not there; empty labels are none."""
    wanted = name, tuple(sorted(labels.items()))
    return next((v for (n, ls), v in shown().items() if (n, tuple(pair for pair in ls if pair[1])) == wanted), None)


def counted():
    """Return what stands in the segment by StatsD calls."""
    found = {}
    for (name, labels), number in shown().items():
        if not name.startswith("promring_") and not name.endswith("_bucket"):
            found[name, tuple(pair for pair in labels if pair[1])] = number
    return found


def as_exporter(lines):
    """Return what statsd_exporter makes of datagrams, of the forms that these clients send, and the values of sets."""
    found, sets = {}, {}
    for line in lines:
        raw, number, letters, tags = re.fullmatch(r"([^:|]+):([^|]+)\|(\w+)(?:\|#(.*))?", line).groups()
        name = re.sub(r"[^A-Za-z0-9_]", "_", raw)
        pairs = dict(tag.split(":", 1) for tag in (tags or "").split(",") if ":" in tag)
        labels = tuple(sorted(pairs.items()))
        if letters == "s":
            sets.setdefault((name, labels), set()).add(number)
            continue
        amount = float(number) / (1000 if letters == "ms" else 1)
        if letters == "c":  # a negative one is refused: here its series stands at zero
            found[name, labels] = found.get((name, labels), 0) + max(amount, 0)
        elif letters == "g":
            change = number[0] in "+-"
            found[name, labels] = found.get((name, labels), 0) + amount if change else amount
        elif letters in ("ms", "h", "d"):
            for suffix, more in (("_count", 1), ("_sum", amount)):
                found[name + suffix, labels] = found.get((name + suffix, labels), 0) + more
    return found, sets


def assert_same(lines):
    ours = counted()
    theirs, sets = as_exporter(lines)
    assert ours.keys() == theirs.keys() | sets.keys()
    for key, members in sets.items():
        # Five standard errors, and of few values some may share a register.
        assert abs(ours[key] - len(members)) <= max(3, 0.17 * len(members)), (key, ours[key], members)
    for key, number in theirs.items():
        assert math.isclose(ours[key], number, rel_tol=1e-6, abs_tol=1e-6), (key, ours[key], number)


def statsd_calls(seed):
    """Return calls of StatsClient's surface, without its times."""
    chance = random.Random(seed)

    def call(client):
        kind = chance.choice(["incr", "timing", "delta", "gauge", "set", "pipeline", "timedelta"])
        name = f"{kind}.{chance.choice(['a', 'b-c', 'd:e'.replace(':', '_')])}"
        if kind == "incr":
            client.incr(name, chance.randrange(9))
        elif kind == "timing":
            client.timing(name, chance.random() * 900)
        elif kind == "timedelta":
            client.timing(name, timedelta(milliseconds=chance.randrange(5000)))
        elif kind == "delta":
            client.gauge(name, chance.randrange(-9, 9), delta=True)
        elif kind == "gauge":
            client.gauge(name, chance.randrange(-9, 9))
        elif kind == "set":
            client.set(name, chance.randrange(9))
        else:
            with client.pipeline() as pipe:
                pipe.incr(name + ".n", 2)
                pipe.gauge(name + ".g", -3.5)

    def run(client):
        chance.seed(seed)
        for _ in range(300):
            call(client)

    return run


def dogstatsd_calls(seed):
    """Return calls of DogStatsd's surface, without its times."""
    chance = random.Random(seed)

    def run(client):
        chance.seed(seed)
        for _ in range(300):
            kind = chance.choice(["increment", "count", "histogram", "distribution", "timing", "set", "decrement"])
            tags = [f"kind:{chance.choice(['a', 'b c', 'c:d'])}", f"z one:{chance.randrange(2)}", "alone"]
            getattr(client, kind)(f"{kind}.x", chance.randrange(50), tags=tags)
            client.gauge("level", chance.randrange(50), tags=("kind:g",))

    return run


@pytest.mark.parametrize("prefix", [None, "shop.web"])
def test_statsclient_counts_what_the_real_one_sends(silent, prefix):
    run = statsd_calls(7)
    run(statsd.StatsClient(prefix=prefix))
    run(promring.statsd.StatsClient(prefix=prefix))
    assert_same(silent)


@pytest.mark.parametrize("options", [{}, {"namespace": "shop", "constant_tags": ["region:eu", "kind:z"]}])
def test_dogstatsd_counts_what_the_real_one_sends(silent, options):
    run = dogstatsd_calls(7)
    run(dogstatsd(**options))
    run(promring.statsd.DogStatsd(**options))
    assert_same(silent)


@pytest.mark.parametrize("more", [{}, {"disable_buffering": False}, {"disable_aggregation": False}])
def test_a_real_dogstatsd_is_taken_over(silent, more):
    run = dogstatsd_calls(3)
    run(dogstatsd(namespace="n", constant_tags=["region:eu"]))
    lines = list(silent)
    client = promring.statsd.take_over(dogstatsd(namespace="n", constant_tags=["region:eu"], **more))
    run(client)
    client.flush()
    client.stop()
    assert silent == lines, "it has sent something"
    assert isinstance(client, datadog.dogstatsd.DogStatsd)
    assert_same(lines)


def test_a_real_statsclient_is_taken_over(silent):
    run = statsd_calls(3)
    run(statsd.StatsClient(prefix="p"))
    lines = list(silent)
    client = promring.statsd.take_over(statsd.StatsClient(prefix="p"))
    assert promring.statsd.take_over(client) is client
    run(client)
    client.close()
    assert silent == lines, "it has sent something"
    assert_same(lines)


def test_sets_show_how_many_different_values_were_added():
    client = promring.statsd.StatsClient()
    for member in (7, "7", "seven", 7.5, "a|b", "\udcff", None, ["x"], 7):
        client.set("users", member)
    known = value("users")
    assert 4 <= known <= 7, "some may share a register"
    client.gauge("users", 5)  # contradicts it
    client.gauge("level", 5)
    client.set("level", 1)
    assert (value("users"), value("level")) == (known, 5)
    assert value("promring_statsd_refused_total", what="call") == 2


def test_tags_and_namespace_given_later_hold(silent):
    client = promring.statsd.take_over(dogstatsd())
    client.increment("n")
    client.namespace, client.constant_tags = "later", ["region:eu"]
    client.increment("n")
    client.constant_tags.append("zone:a")
    client.gauge("g", 1)
    assert counted() == {
        ("n", ()): 1,
        ("later_n", (("region", "eu"),)): 1,
        ("later_g", (("region", "eu"), ("zone", "a"))): 1,
    }


def test_a_subclass_keeps_its_own_calls(silent):
    class Doubling(statsd.StatsClient):
        def incr(self, stat, count=1, rate=1):
            super().incr("own." + stat, 2 * count, rate)

        def timing(self, stat, delta, rate=1):
            super().timing("own." + stat, delta, rate)

        def gauge(self, stat, value, rate=1, delta=False):
            super().gauge("own." + stat, value, rate, delta)

    class Tagging(datadog.dogstatsd.DogStatsd):
        def increment(self, metric, *args, **kwargs):
            super().increment(metric, *args, tags=["own:yes"], **kwargs)

    client = promring.statsd.take_over(Doubling())
    client.incr("n", 3, rate=0.001)
    client.timing("t", 500)
    client.gauge("g", -5)
    client.gauge("g", -2, delta=True)
    client.gauge("g", 1, delta=True)
    promring.statsd.take_over(Tagging(disable_telemetry=True)).increment("d", sample_rate=0.0001)
    assert silent == []
    assert value("own_n") == 6
    assert value("own_t_sum") == 0.5
    assert value("own_g") == -6
    assert value("d", own="yes") == 1


def clients():
    return [promring.statsd.StatsClient(), promring.statsd.take_over(statsd.StatsClient())]


def dog_clients():
    return [promring.statsd.DogStatsd(), promring.statsd.take_over(dogstatsd())]


@pytest.mark.parametrize("client", [0, 1])
def test_every_sampled_call_counts(silent, client):
    tiny = clients()[client]
    dog = dog_clients()[client]
    for _ in range(1000):
        tiny.incr("n", rate=0.001)
        tiny.timing("t", 2, rate=0.001)
        tiny.gauge("below", -1, rate=0.001)
        dog.increment("dn", sample_rate=0.001)
        dog.histogram("dh", 3, sample_rate=0.001)
    assert value("n") == value("t_count") == value("dn") == value("dh_count") == 1000
    assert (value("below"), value("dh_sum")) == (-1, 3000)


def test_what_aggregation_has_sampled_has_its_weight():
    client = promring.statsd.take_over(dogstatsd())
    client._report("n", "c", 3, None, 0.5, sampling=False)
    client._report("h", "h", 7, None, 0.25, sampling=False)
    assert (value("n"), value("h_count"), value("h_sum")) == (6, 4, 28)


@pytest.mark.parametrize("client", [0, 1])
def test_statsclient_s_timer(silent, client):
    client = clients()[client]

    @client.timer("decorated")
    def fail():
        raise LookupError

    @client.timer("coroutine")
    async def nothing():
        return 5

    with client.timer("block") as timer:
        assert timer.ms is None
    with pytest.raises(LookupError):
        fail()
    assert asyncio.run(nothing()) == 5
    assert value("block_sum") == pytest.approx(timer.ms / 1000)
    assert value("decorated_count") == value("coroutine_count") == value("block_count") == 1
    with pytest.raises(RuntimeError, match="Already sent data"):
        timer.send()
    with pytest.raises(RuntimeError, match="Timer has not started"):
        client.timer("x").stop()
    assert client.timer("x").start().stop(send=False).ms >= 0
    assert value("x_count") is None


@pytest.mark.parametrize("use_ms", [False, True])
@pytest.mark.parametrize("client", [0, 1])
def test_dogstatsd_s_timers_are_in_seconds(silent, monkeypatch, client, use_ms):
    client = dog_clients()[client]
    client.use_ms = use_ms
    ticks = iter(range(100, 200, 2))
    monkeypatch.setattr(promring.statsd.dogstatsd, "perf_counter", lambda: next(ticks))

    with client.timed("block", tags=["a:b"]) as timer:
        pass
    with client.distributed("spread"):
        pass

    @client.timed()
    async def named():
        pass

    asyncio.run(named())
    assert value("block_sum", a="b") == 2
    assert timer.elapsed == (2000 if use_ms else 2)
    assert value("spread_sum") == (2000 if use_ms else 2)
    assert [name for name, _ in counted() if name.endswith("named_count")]
    with pytest.raises(TypeError), client.timed():
        pass


def test_a_pipeline_counts_when_it_is_sent():
    client = promring.statsd.StatsClient(prefix="p")
    pipe = client.pipeline()
    pipe.incr("n")
    assert value("p_n") is None
    pipe.send()
    pipe.send()
    with pytest.raises(LookupError), client.pipeline() as pipe:
        pipe.incr("n")
        raise LookupError
    assert value("p_n") == 2


@pytest.mark.parametrize("client", [0, 1])
def test_nothing_that_is_given_raises(silent, client):
    tiny, dog = clients()[client], dog_clients()[client]
    tiny.incr("n", "many")
    tiny.incr("n", None)
    tiny.incr("")
    tiny.timing("n", 5)  # a counter? not yet: refused values register nothing
    tiny.incr("n")  # now it contradicts
    dog.gauge("g", None)
    dog.gauge("g", object(), tags=["a:b"])
    dog.increment("tagged", tags=["le:5", "__name__:x", "empty:", "alone"])
    dog.increment("tagged", tags=["le:5", "other:1"])
    dog.decrement("tagged")
    dog.event("title", "text", tags=["a:b"])
    dog.service_check("check", dog.OK)
    assert value("n_sum") == 0.005
    # One name with two meanings, what is no number, and what has no name.
    assert value("promring_statsd_refused_total", what="call") == 5
    assert value("promring_statsd_refused_total", what="tag") == 3
    assert value("promring_statsd_refused_total", what="event") == 1
    assert value("promring_statsd_refused_total", what="service_check") == 1
    assert value("promring_refused_values_total", reason="negative") == 1
    assert value("tagged", exported_le="5", exported_name__="x") == 1
    assert value("tagged", exported_le="5") == 1


def test_a_disabled_client_counts_nothing(monkeypatch, silent):
    monkeypatch.setenv("DD_DOGSTATSD_DISABLE", "1")
    promring.statsd.take_over(dogstatsd()).increment("n")
    assert counted() == {}


def test_only_clients_are_taken_over():
    with pytest.raises(TypeError, match="not a dict"):
        promring.statsd.take_over({})


def test_calls_of_many_forms_hold_no_memory(monkeypatch):
    calls = promring.statsd.calls
    monkeypatch.setattr(calls, "_MOST_CALLS", 10)
    client = promring.statsd.DogStatsd()
    for number in range(50):
        client.increment("n", tags=[f"a:{number}"])
    assert len(calls._series) <= 10
    assert sum(number for (name, _), number in counted().items() if name == "n") == 50


def test_workers_count_together():
    client = promring.statsd.DogStatsd(constant_tags=["app:shop"])
    client.increment("n")

    def work():
        client.increment("n", 2)
        client.gauge("level", 5)

    workers = [Worker(work) for _ in range(2)]
    for worker in workers:
        worker.kill()
    assert value("n", app="shop") == 5
    assert value("level", app="shop") == 5
