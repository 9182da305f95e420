"""Looks at upstreams: against a real server, off the request path, bounded in time and size."""

import json
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

import gevent
import gevent.ssl
import orjson
import pytest
import requests
from gevent.event import Event

from gateway.backends.openai_compatible import OpenAICompatible
from gateway.backends.settings import BackendSettings
from gateway.kernel.call import Target
from gateway.kernel.logs import Log
from gateway.routing.catalog import Catalog
from gateway.routing.probes import Probes, _reason
from gateway.routing.settings import RoutingSettings
from tests.fakes.backend import ScriptedBackend, an_upstream
from tests.fakes.upstream import (
    LAST_CHUNK,
    End,
    FakeUpstream,
    answer,
    answer_json,
    chunk,
    stream,
    stream_head,
)
from tests.gateway.backends.certificates import make_certificates

ROOT = Path(__file__).parents[3]
LIST = {"object": "list", "data": [{"id": "llama"}]}


def serve(ready: Queue, tls=None) -> None:
    """Run a fake upstream on a hub of its own until it is told to stop."""
    server, stop = FakeUpstream(tls), Event()
    loop = gevent.get_hub().loop
    ready.put((server, lambda: loop.run_callback_threadsafe(stop.set)))
    stop.wait()
    server.close()
    gevent.get_hub().destroy(destroy_loop=True)


@contextmanager
def serving(tls=None) -> Iterator[FakeUpstream]:
    """A raw upstream in a thread: requests blocks as long as nothing is patched."""
    ready: Queue = Queue()
    thread = Thread(target=serve, args=(ready, tls))
    thread.start()
    server, stop = ready.get(timeout=10)
    try:
        yield server
    finally:
        stop()
        thread.join(10)


@pytest.fixture
def upstream():
    """A raw upstream on a free port."""
    with serving() as server:
        yield server


class Watch:
    """A catalog of one backend, the probes that fill it, and what they logged."""

    def __init__(self, url: str, backends=BackendSettings(), **upstream) -> None:  # noqa: B008
        self.backend = OpenAICompatible(an_upstream("vllm", url, **upstream), None)
        self.catalog = Catalog([self.backend])
        self.lines: list[bytes] = []
        log = Log("DEBUG", self.lines.append)
        routing = RoutingSettings(probe_timeout_s=2.0, refresh_s=0.1)
        self.probes = Probes(self.catalog, routing, backends, log)

    def look(self) -> bool:
        """Look once."""
        return self.probes.look(self.backend)

    @property
    def health(self):
        """What the catalog holds of the upstream."""
        return self.catalog.health()["vllm"]

    def logged(self) -> list[tuple[str, str]]:
        """Return level and event of each line."""
        records = map(orjson.loads, self.lines)
        return [(record["level"], record["event"]) for record in records]


@pytest.fixture
def watch(upstream) -> Watch:
    """Probes of the fake upstream."""
    return Watch(upstream.url())


# --- learning ------------------------------------------------------------------------------------


def test_a_look_learns_the_models(upstream, watch):
    upstream.script(answer_json(LIST), End.CLOSE)

    assert watch.look() is True
    assert watch.catalog.snapshot.find("llama") == (Target("vllm", "llama"),)
    assert watch.health.healthy is True
    assert watch.logged() == [("INFO", "upstream answers")]


def test_a_look_is_a_plain_get_with_the_key(upstream):
    upstream.script(answer_json(LIST), End.CLOSE)

    Watch(upstream.url(), api_key="sk-upstream").look()

    (request,) = upstream.requests
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert request.headers["authorization"] == "Bearer sk-upstream"
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers


def test_a_second_look_learns_what_has_changed(upstream, watch):
    upstream.script(answer_json(LIST), End.CLOSE)
    upstream.script(answer_json({"data": [{"id": "qwen"}]}), End.CLOSE)

    assert [watch.look(), watch.look()] == [True, True]
    assert watch.catalog.snapshot.find("llama") == ()
    assert watch.catalog.snapshot.find("qwen")
    assert len(watch.lines) == 1


@pytest.mark.parametrize("document", [{"data": []}, {"object": "list", "data": [{}, 5]}])
def test_an_upstream_without_models_is_well(upstream, watch, document):
    upstream.script(answer_json(document), End.CLOSE)

    assert watch.look() is True
    assert watch.health.cards == ()


def test_a_list_may_come_in_chunks(upstream, watch):
    body = orjson.dumps(LIST)
    upstream.script(*stream(body[:9], body[9:], content_type="application/json"), End.CLOSE)

    assert watch.look() is True
    assert watch.catalog.snapshot.find("llama")


# --- losing --------------------------------------------------------------------------------------

BAD = {
    "nothing": (End.CLOSE,),
    "a reset": (End.RESET,),
    "not HTTP": (b"SSH-2.0\r\n", End.CLOSE),
    "half a head": (b"HTTP/1.1 200 OK\r\nX", End.CLOSE),
    "half a list": (answer_json(LIST)[:-9], End.CLOSE),
    "half of its chunks": (stream_head("application/json"), chunk(b'{"data"'), End.CLOSE),
    "broken JSON": (answer(b'{"data": ['), End.CLOSE),
    "bytes": (answer(b"\xff\xfe"), End.CLOSE),
    "a page": (answer(b"<html></html>", content_type="text/html"), End.CLOSE),
    "no list": (answer_json({"data": 5}), End.CLOSE),
    "another document": (answer_json([1, 2]), End.CLOSE),
    "nothing at all": (answer(b""), End.CLOSE),
    "a 401": (answer_json({"error": "no"}, 401), End.CLOSE),
    "a 500": (answer(b"Internal Server Error", 500, "text/plain"), End.CLOSE),
    "a redirect": (answer(b"", 302, Location="/v1/elsewhere"), End.CLOSE),
    "deep JSON": (answer(b'{"data":' + b"[" * 100_000), End.CLOSE),
    "a wrong coding": (answer(b"\x1f\x8b", Content_Encoding="gzip"), End.CLOSE),
}


@pytest.mark.parametrize("steps", BAD.values(), ids=BAD.keys())
def test_what_is_no_model_list_loses_the_upstream_and_raises_nothing(upstream, watch, steps):
    upstream.script(*steps)

    assert watch.look() is False
    assert watch.health.healthy is False
    assert watch.health.error
    assert "127.0.0.1" not in watch.health.error
    assert len(upstream.requests) == 1
    assert watch.logged() == [("WARNING", "upstream unavailable")]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((answer(b"", 401),), "GATEWAY_UPSTREAM_API_KEYS"), ((answer(b"", 500),), "status 500"),
        ((answer(b"<html>"),), "no model list"), ((End.CLOSE,), "connection failed"),
        ((answer_json({"data": 5}),), "unknown shape"),
    ],
    ids=["a wrong key", "a defect", "a page", "a hang-up", "no list"],
)  # fmt: skip
def test_why_it_was_lost_is_told_in_an_operators_words(upstream, watch, steps, words):
    upstream.script(*steps, End.CLOSE)

    watch.look()

    assert words in watch.health.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.ConnectionError("NameResolutionError: gpu7"), "its name cannot be resolved"),
        (requests.ConnectionError("[Errno 111] Connection refused"), "connection refused"),
        (requests.ConnectionError("gpu7 went away"), "the connection failed"),
        (requests.ConnectTimeout("gpu7"), "no answer within 5 s"),
        (gevent.Timeout(5.0), "no answer within 5 s"),
        (requests.exceptions.InvalidURL("http://gpu7:x"), "its address is not valid"),
        (OSError("gpu7"), "OSError"),
    ],
)
def test_an_error_is_told_in_words_without_an_address(error, words):
    assert _reason(error, 5.0) == words


def test_a_port_where_nobody_listens_loses_the_upstream():
    gone = FakeUpstream()
    gone.close()
    watch = Watch(gone.url())

    assert watch.look() is False
    assert watch.health.error == "connection refused"


def test_a_lost_upstream_keeps_its_last_good_list(upstream, watch):
    upstream.script(answer_json(LIST), End.CLOSE)
    upstream.script(answer(b"", 500), End.CLOSE)

    assert [watch.look(), watch.look()] == [True, False]
    assert watch.catalog.snapshot.find("llama")


def test_only_a_change_is_logged(upstream, watch):
    for steps in (answer_json(LIST), answer_json(LIST), answer(b"", 500), answer(b"", 500),
                  answer_json(LIST)):  # fmt: skip
        upstream.script(steps, End.CLOSE)

    looks = [watch.look() for _ in range(5)]

    assert looks == [True, True, False, False, True]
    assert watch.logged() == [
        ("INFO", "upstream answers"), ("WARNING", "upstream unavailable"),
        ("INFO", "upstream answers"),
    ]  # fmt: skip


def test_an_upstream_that_nobody_configured_is_lost_without_a_word(upstream):
    upstream.script(End.CLOSE)
    watch = Watch(upstream.url(), implied=True)

    watch.look()

    assert watch.lines == []


def test_a_huge_list_is_refused(upstream, watch):
    upstream.script(answer(b'{"data":[' + b" " * 9_000_000 + b"]}"), End.CLOSE)

    assert watch.look() is False
    assert "too long" in watch.health.error


def test_a_huge_list_in_chunks_is_refused_too(upstream, watch):
    block = chunk(b" " * 1_000_000)
    upstream.script(stream_head("application/json"), *[block] * 50, LAST_CHUNK, End.CLOSE)

    assert watch.look() is False
    assert "too long" in watch.health.error
    assert upstream.peers[0].sent_bytes < 40_000_000


def test_an_upstream_that_needs_no_look_is_well():
    catalog = Catalog([ScriptedBackend("mock").listing("mock")])
    probes = Probes(catalog, RoutingSettings(), BackendSettings(), Log("DEBUG", [].append))

    assert probes.look(catalog.snapshot.backends["mock"]) is True


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_certificates_are_checked_and_shown_as_they_are_for_calls(tmp_path):
    make_certificates(tmp_path)
    tls = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(tmp_path / "ca.pem")
    ours = f"{tmp_path / 'client.pem'},{tmp_path / 'client.key'}"
    ca_bundle = str(tmp_path / "ca.pem")

    with serving(tls) as upstream:
        upstream.always(answer_json(LIST), End.CLOSE)
        url = upstream.url("https", host="localhost")
        looks = [
            Watch(url, BackendSettings(ca_bundle=ca_bundle, client_cert=ours)).look(),
            Watch(url, BackendSettings(verify_tls=False, client_cert=ours)).look(),
            Watch(url, BackendSettings(ca_bundle=ca_bundle)).look(),
            Watch(url, BackendSettings(client_cert=ours)).look(),
        ]

    assert looks == [True, True, False, False]


# --- in the background ---------------------------------------------------------------------------


def test_nothing_is_watched_that_needs_no_look():
    catalog = Catalog([ScriptedBackend("mock").listing("mock")])
    probes = Probes(catalog, RoutingSettings(), BackendSettings(), Log("DEBUG", [].append))

    probes.start()

    assert probes._greenlets == []
    probes.stop()


def test_a_defect_of_one_look_does_not_end_the_watching():
    looks = Event()

    class Broken(ScriptedBackend):
        count = 0

        def probe(self):
            if self.looked_at:
                self.count += 1
                if self.count == 2:
                    looks.set()
                raise RuntimeError("a defect")
            return super().probe()

        looked_at = False

    backend = Broken("a").probed_at("http://127.0.0.1:1")
    catalog, lines = Catalog([backend]), []
    routing = RoutingSettings(refresh_s=0.001)
    probes = Probes(catalog, routing, BackendSettings(), Log("DEBUG", lines.append))
    probes.start()
    backend.looked_at = True

    assert looks.wait(2)
    probes.stop()
    assert orjson.loads(lines[0])["event"] == "probe failed"


def test_slow_upstreams_are_given_up_where_gevent_has_replaced_the_sockets():
    """As in a worker: one that drips, one that is silent, one that never ends its head."""
    script = """
        from gevent import monkey; monkey.patch_all()
        import json, time
        from tests.fakes.upstream import FakeUpstream, chunk, stream_head
        from tests.gateway.routing.test_probes import BackendSettings, Probes, RoutingSettings
        from tests.gateway.routing.test_probes import Watch
        from gateway.kernel.logs import Log

        def drip(first, piece):
            upstream = FakeUpstream()
            upstream.always(first, *[step for _ in range(400) for step in (0.01, piece)])
            return upstream

        found = []
        for upstream in (drip(stream_head(), chunk(b" ")), drip(b"", b""),
                         drip(b"HTTP/1.1 200 OK\\r\\n", b"X: y\\r\\n")):
            watch = Watch(upstream.url())
            probes = Probes(watch.catalog, RoutingSettings(probe_timeout_s=0.2),
                            BackendSettings(), Log("DEBUG", watch.lines.append))
            began_s = time.monotonic()
            well = probes.look(watch.backend)
            found.append([well, time.monotonic() - began_s, watch.health.error])
            upstream.close()
        print(json.dumps(found))
    """

    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    for well, took_s, error in json.loads(run.stdout):
        assert well is False
        assert took_s < 0.5
        assert error == "no answer within 0.2 s"


def test_watching_goes_on_until_it_is_stopped_where_gevent_has_replaced_the_sockets():
    script = """
        from gevent import monkey; monkey.patch_all()
        import gevent
        from tests.fakes.upstream import FakeUpstream, answer_json
        from tests.gateway.routing.test_probes import LIST, Watch
        upstream = FakeUpstream()
        upstream.always(answer_json(LIST))
        watch = Watch(upstream.url())
        watch.probes.start()
        for _ in range(500):
            if len(upstream.requests) >= 3:
                break
            gevent.sleep(0.01)
        watch.probes.stop()
        gevent.sleep(0.02)
        before = len(upstream.requests)
        gevent.sleep(0.2)
        print(before >= 3, len(upstream.requests) == before, watch.health.healthy)
    """

    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert run.stdout.split() == ["True", "True", "True"], run.stderr
