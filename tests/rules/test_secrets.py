"""No secret in any log line, error body or metric, whatever goes wrong (T54)."""

from io import BytesIO

import orjson
import pytest

from gateway.backends.base import backend_for
from gateway.kernel.errors import UpstreamError
from gateway.kernel.sse import DONE
from gateway.routing.catalog import Catalog
from gateway.web.services import part_of
from tests.fakes import wsgi
from tests.fakes.backend import ScriptedBackend, finish, role, says

CANARY = "sk-canary-7f3e9b1c5d2a8064e9f1b3c7"
OURS = f"nxs-{CANARY}-gateway-key"
CHAT = "/v1/chat/completions"


class Careless(ScriptedBackend):
    """Fails with secrets in the text of its exceptions."""

    def reply(self, call, model, wait):
        raise RuntimeError(f"{CANARY} was refused: {call.body!r}")

    def stream(self, call, model, wait, beat_s):
        yield role() + says("a")
        raise ValueError(f"{CANARY}: {call.members}")


@pytest.fixture
def house(make_app):
    """An application with secrets wherever one can be configured."""
    return make_app(
        GATEWAY_API_KEYS=OURS, GATEWAY_LOG_LEVEL="DEBUG",
        GATEWAY_UPSTREAMS="gone=http://127.0.0.1:1;broken=mock://fail",
        GATEWAY_UPSTREAM_API_KEYS=f"gone={CANARY}",
    )  # fmt: skip


@pytest.fixture
def careless(make_app):
    """An application over a backend whose exceptions carry secrets."""
    return make_app(
        backends=(Careless("careless", api_key=CANARY).listing("m"),), GATEWAY_API_KEYS=OURS
    )


def body_of(**more):
    """Return a chat body that is full of secrets."""
    body = {
        "model": "mock", "messages": [{"role": "user", "content": CANARY}], "user": CANARY,
        "metadata": {"api_key": CANARY}, CANARY: CANARY, **more,
    }  # fmt: skip
    return orjson.dumps(body)


def everything_said(app, lines, requests):
    """Return all that leaves an application: failed answers, log lines and metrics."""
    said = []
    for request in requests:
        answer = wsgi.ask(app.wsgi_app, request)
        try:
            text = answer.read()
        except ConnectionError:
            text = b""
        if answer.status >= 400:
            said.append(text)
        said.append(repr(answer.headers).encode())
    asked = ["/metrics", "/health/upstreams", "/health", "/readyz"]
    observed = [wsgi.ask(app.wsgi_app, wsgi.environ(path=path, port=8801)) for path in asked]
    return b"\n".join([*said, *(answer.read() for answer in observed), *lines])


def post(body, key=OURS, path=CHAT, **more):
    """Return a request that carries a secret in every header."""
    return wsgi.environ(
        "POST", path, body=body, QUERY_STRING=f"api_key={CANARY}",
        HTTP_AUTHORIZATION=f"Bearer {key}", HTTP_COOKIE=f"session={CANARY}",
        HTTP_X_SECRET=CANARY, HTTP_USER_AGENT=CANARY, **more,
    )  # fmt: skip


@pytest.mark.T(54)
def test_no_failure_of_a_request_tells_a_secret(house, lines):
    requests = [
        post(body_of(), key=CANARY),
        post(body_of(), key=OURS, HTTP_X_API_KEY=CANARY),
        post(body_of(), key=f"{OURS}\u00ff"),
        post(body_of(model="gone:x")),
        post(body_of(model="broken:x")),
        post(body_of(model="broken:x", stream=True)),
        post(body_of(n=CANARY)),
        post(body_of(messages=[{"role": CANARY}])),
        post(body_of(messages=[{"role": "user", "content": [CANARY]}])),
        post(body_of(stream_options=CANARY)),
        post(body_of(model="mock/status=500")),
        post(body_of(model="mock/status=401", stream=True)),
        post(body_of(model="mock/fault=error", stream=True)),
        post(body_of(model="mock")),
        post(body_of(model="mock", stream=True)),
        post(b'{"model":"%b' % CANARY.encode()),
        post(b'{"%b":1,"%b":2}' % (CANARY.encode(), CANARY.encode())),
        post(body_of(), path=f"/v1/{CANARY}"),
        post(body_of(), path=f"/v1/models/{CANARY}"),
        wsgi.environ("GET", f"/{CANARY}", HTTP_HOST=CANARY),
        post(b"", CONTENT_LENGTH="99999999999"),
    ]

    said = everything_said(house, lines, requests)

    assert len(lines.events("request")) >= len(requests)
    assert CANARY.encode() not in said


@pytest.mark.T(54)
@pytest.mark.parametrize("stream", [False, True])
def test_no_defect_tells_a_secret(careless, lines, stream):
    said = everything_said(careless, lines, [post(body_of(model="m", stream=stream))])

    assert b'"level":"ERROR"' in said
    assert CANARY.encode() not in said


@pytest.mark.T(54)
def test_no_body_that_breaks_while_it_is_read_tells_a_secret(house, lines):
    class Broken(BytesIO):
        def read(self, size=-1):
            raise RuntimeError(CANARY)

    request = post(body_of(), CONTENT_LENGTH="10")
    request["wsgi.input"] = Broken()

    said = everything_said(house, lines, [request])

    assert b"RuntimeError" in said
    assert CANARY.encode() not in said


@pytest.mark.T(54)
def test_a_stream_that_fails_later_tells_no_secret(make_app, lines):
    error = UpstreamError("The upstream failed.", details={"upstream_status": 500})
    backend = ScriptedBackend(
        "gpu", (role(), says("a"), error), (role(), says("b"), finish(), DONE)
    )
    app = make_app(backends=(backend.listing("m"),), GATEWAY_API_KEYS=OURS)

    said = everything_said(app, lines, [post(body_of(model="m", stream=True))] * 2)

    assert CANARY.encode() not in said


@pytest.mark.T(54)
@pytest.mark.parametrize("text", ["a\nb", "a\r\n{}", "\x1b[31m", "x" * 5_000])
def test_nothing_a_caller_sends_breaks_a_log_line(app, headers, lines, text):
    requests = [
        wsgi.environ("GET", f"/{text}", HTTP_AUTHORIZATION=headers["Authorization"]),
        wsgi.environ("GET", "/v1/models", HTTP_X_REQUEST_ID=text, HTTP_AUTHORIZATION=text),
        post(body_of(model=text), key=headers["Authorization"].removeprefix("Bearer ")),
    ]

    everything_said(app, lines, requests)

    assert len(lines.events("request")) >= 3
    assert all(
        line.count(b"\n") == 1 and b"\x1b" not in line and b"\r" not in line for line in lines
    )


@pytest.mark.parametrize("url", ["http://x", "ollama://x", "mlx://x", "mock://x"])
def test_the_objects_that_hold_credentials_do_not_show_them(make_app, url):
    app = make_app(GATEWAY_UPSTREAMS=f"one={url}", GATEWAY_UPSTREAM_API_KEYS=f"one={CANARY}")
    backend = part_of(app, Catalog).snapshot.backends["one"]

    assert backend.upstream.api_key == CANARY
    assert isinstance(backend, backend_for(url))
    assert CANARY not in repr(backend.upstream) + repr(backend) + repr(backend.probe())
