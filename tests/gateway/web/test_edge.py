"""The edge: identity, the size of the crowd, errors and headers of every request."""

import orjson
import pytest
from flask import Blueprint, Flask
from gevent import GreenletExit

from gateway.kernel.errors import (
    AuthError,
    ClientGone,
    InvalidRequest,
    NotAllowed,
    NotFound,
    UpstreamError,
)
from gateway.kernel.logs import Log
from gateway.web.edge import Edge
from gateway.web.endpoint import PUBLIC, endpoint
from gateway.web.incoming import Outgoing, json_answer
from gateway.web.services import part_of
from gateway.web.settings import WebSettings
from tests.fakes import wsgi

OBSERVED = ["/health", "/readyz", "/health/upstreams", "/metrics"]
CHAT = {"model": "mock", "messages": [{"role": "user", "content": "Hello"}]}


class Seen(list):
    """Keeps what the edge reports about finished requests."""

    def finished(self, incoming, endpoint, status, took_s):
        self.append((endpoint, status, incoming.facts.get("code")))


class Blocks:
    """A streamed body that counts how often it is closed."""

    def __init__(self, *blocks):
        self.blocks = list(blocks)
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        if not self.blocks:
            raise StopIteration
        return self.blocks.pop(0)

    def close(self):
        self.closed += 1


def edge_over(view, *, hot=True, **settings):
    """Return an edge over an application with one public view at /it, and what it reports."""
    app, seen = Flask("small"), Seen()
    blueprint = Blueprint("small", __name__)
    endpoint(blueprint, "GET", "/it", scope=PUBLIC, operation_id="it", hot=hot)(view)
    app.register_blueprint(blueprint)
    lines = []
    edge = Edge(app, WebSettings(**settings), seen, Log("DEBUG", lines.append))
    edge.lines = lines
    return edge, seen


def ask(edge, method="GET", path="/it", **more):
    """Return the answer to one request."""
    return wsgi.ask(edge, wsgi.environ(method, path, **more))


def error_of(answer):
    """Return the error in an answer."""
    assert answer.header("Content-Type") == "application/json"
    return orjson.loads(answer.read())["error"]


# --- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/metadata", "/nowhere"])
def test_a_sane_request_id_is_honoured_everywhere(client, headers, path):
    answer = client.get(path, headers={**headers, "X-Request-Id": "mine-1"})

    assert answer.headers.getlist("x-request-id") == ["mine-1"]


@pytest.mark.parametrize("offered", [None, "", "a b", "<script>", "x" * 129, "a\u00e9"])
def test_any_other_request_id_is_replaced(app, offered):
    more = {} if offered is None else {"HTTP_X_REQUEST_ID": offered}

    answer = ask(app.wsgi_app, path="/health", **more)

    assert answer.header("x-request-id").startswith("req-")
    answer.close()


def test_an_error_names_the_same_request_id_in_body_header_and_log(client, lines):
    answer = client.get("/nowhere", headers={"X-Request-Id": "mine-1"})

    assert answer.json["error"]["request_id"] == answer.headers["x-request-id"] == "mine-1"
    assert lines.events("request")[0]["request_id"] == "mine-1"


def test_every_answer_forbids_guessing_its_type(client, headers):
    for path in ("/health", "/v1/models", "/nowhere"):
        answer = client.get(path, headers=headers)
        assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("OPTIONS", "/health", 405, "method_not_allowed"),
        ("BREW", "/health", 405, "method_not_allowed"),
        ("POST", "/v1/chat/completions", 401, "missing_api_key"),
        ("GET", "//v1/models", 404, "not_found"),
    ],
)
def test_every_failure_is_the_json_envelope(client, method, path, status, code):
    answer = client.open(path, method=method)

    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert answer.content_type == "application/json"
    assert int(answer.headers["Content-Length"]) == len(answer.data)


@pytest.mark.parametrize(("has_key", "status"), [(False, 401), (True, 200)])
def test_a_body_is_asked_for_only_when_the_caller_may_send_one(app, headers, has_key, status):
    """``100 Continue`` before a 401 would make the caller send for nothing."""
    continued = []
    more = {"gateway.continue": lambda: continued.append(True)}
    if has_key:
        more["HTTP_AUTHORIZATION"] = headers["Authorization"]

    answer = ask(
        app.wsgi_app, "POST", "/v1/chat/completions", body=orjson.dumps(CHAT), **more
    )  # fmt: skip
    answer.close()

    assert (answer.status, len(continued)) == (status, has_key)


@pytest.mark.T(25)
@pytest.mark.parametrize("path", ["//v1/models", "/v1//models", "/v1/models/", "/nowhere", "/"])
def test_no_answer_repeats_the_host_of_its_request(client, headers, path):
    answer = client.get(path, headers={**headers, "Host": "evil.example"})

    assert "evil.example" not in str(answer.headers) + answer.text


@pytest.mark.parametrize("hot", [True, False])
def test_a_defect_is_a_500_that_tells_nothing_and_one_log_line_that_tells_where(hot):
    def fails(incoming):
        raise RuntimeError("sk-canary-1234567890")

    edge, seen = edge_over(fails, hot=hot)
    answer = ask(edge)

    assert error_of(answer)["code"] == "internal_error"
    assert seen == [("/it", 500, "internal_error")]
    [line] = edge.lines
    assert b"RuntimeError < test_edge.py" in line
    assert b"canary" not in line


def test_a_caller_that_left_is_a_499_and_its_connection_is_closed():
    def leaves(incoming):
        raise ClientGone("gone")

    edge, seen = edge_over(leaves)
    closed = []

    answer = ask(edge, **{"gateway.force_close": lambda: closed.append(True)})

    assert answer.status == 499
    assert seen == [("/it", 499, "client_gone")]
    assert closed == [True]


@pytest.mark.parametrize("hot", [True, False])
@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (
            InvalidRequest("No.", param="messages"),
            {"code": "invalid_request", "param": "messages"},
        ),
        (
            UpstreamError("No.", details={"upstream_status": 418, "body": "x"}),
            {"code": "upstream_error", "upstream_status": 418},
        ),
        (AuthError("No."), {"code": "invalid_api_key", "client": "127.0.0.1"}),
        (NotAllowed("No."), {"code": "not_allowed", "client": "127.0.0.1"}),
        (NotFound("No."), {"code": "not_found"}),
    ],
    ids=["a field", "an upstream", "a key", "a scope", "a path"],
)
def test_a_failure_leaves_for_the_log_what_an_operator_asks_first(error, facts, hot):
    """Which field, what the upstream said, and who guesses keys; the address only of those."""

    def fails(incoming):
        raise error

    noted = []
    edge, seen = edge_over(fails, hot=hot)
    seen.finished = lambda incoming, *_: noted.append(incoming.facts)

    ask(edge).close()

    [found] = noted
    assert {name: value for name, value in found.items() if value is not None} == facts


def test_http_1_1_without_a_host_is_refused(app):
    request = wsgi.environ(path="/health")
    del request["HTTP_HOST"]

    answer = wsgi.ask(app.wsgi_app, request)

    assert answer.status == 400
    assert "Host" in error_of(answer)["message"]


def test_http_1_0_needs_no_host(app):
    request = wsgi.environ(path="/health", SERVER_PROTOCOL="HTTP/1.0")
    del request["HTTP_HOST"]

    answer = wsgi.ask(app.wsgi_app, request)

    assert answer.status == 200
    answer.close()


# --- the crowd -----------------------------------------------------------------------------------


def stream_of(app, headers):
    """Return the answer to a streamed request, still open."""
    body = orjson.dumps({**CHAT, "stream": True})
    request = wsgi.environ(
        "POST", "/v1/chat/completions", body=body, HTTP_AUTHORIZATION=headers["Authorization"]
    )
    return wsgi.ask(app.wsgi_app, request)


def test_beyond_the_limit_a_caller_is_told_at_once_and_admitted_again_afterwards(make_app, headers):
    app = make_app(GATEWAY_MAX_IN_FLIGHT="2")
    open_streams = [stream_of(app, headers) for _ in range(2)]

    refused = ask(app.wsgi_app, path="/v1/models")
    error = error_of(refused)

    assert (refused.status, error["code"]) == (503, "overloaded")
    assert refused.header("Retry-After") == "1"
    for answer in open_streams:
        assert answer.read().endswith(b"data: [DONE]\n\n")
    assert ask(app.wsgi_app, path="/v1/models").status == 401


def test_the_observability_port_answers_while_the_api_is_full(make_app, headers):
    app = make_app(GATEWAY_MAX_IN_FLIGHT="1")
    stream = stream_of(app, headers)

    answer = ask(app.wsgi_app, path="/health", port=8801)

    assert answer.status == 200
    stream.close()


def test_a_stream_counts_until_it_is_closed(app, headers):
    edge = part_of(app, Edge)

    answer = stream_of(app, headers)
    assert edge.in_flight == 1
    answer.close()
    answer.close()

    assert edge.in_flight == 0


@pytest.mark.parametrize(("size", "counts"), [(60_000, 0), (3_000_000, 1)])
def test_an_answer_that_the_kernel_cannot_take_at_once_counts_until_it_is_sent(size, counts):
    """Readers that do not read would else hold more answers than may be in flight."""
    edge, seen = edge_over(lambda incoming: json_answer(b"x" * size))

    answer = ask(edge)
    before = (edge.in_flight, len(seen))
    answer.close()

    assert before == (counts, 1 - counts)
    assert (edge.in_flight, seen) == (0, [("/it", 200, None)])


def test_a_finished_stream_is_closed_once_and_reported_once():
    blocks = Blocks(b"a", b"b")
    edge, seen = edge_over(lambda incoming: Outgoing(200, [], blocks))

    answer = ask(edge)
    assert seen == []
    assert answer.read() == b"ab"
    answer.close()

    assert blocks.closed == 1
    assert seen == [("/it", 200, None)]


def test_a_body_that_fails_to_close_is_finished_all_the_same():
    class Stubborn(Blocks):
        def close(self):
            raise OSError("stuck")

    edge, seen = edge_over(lambda incoming: Outgoing(200, [], Stubborn()))
    answer = ask(edge)

    with pytest.raises(OSError, match="stuck"):
        answer.close()

    assert edge.in_flight == 0
    assert seen == [("/it", 200, None)]


@pytest.mark.parametrize("hot", [True, False])
@pytest.mark.parametrize("end", [GreenletExit, SystemExit, KeyboardInterrupt])
def test_a_request_that_is_killed_no_longer_counts(hot, end):
    def killed(incoming):
        incoming.wait()
        raise end

    edge, _ = edge_over(killed, hot=hot)

    with pytest.raises(end):
        ask(edge)

    assert edge.in_flight == 0


def test_a_plain_answer_has_its_length_and_is_reported_at_once():
    edge, seen = edge_over(lambda incoming: json_answer({"ok": True}))

    answer = ask(edge)

    assert answer.header("Content-Length") == "11"
    assert seen == [("/it", 200, None)]
    assert edge.in_flight == 0


def test_headers_set_on_the_way_are_sent_even_with_an_error():
    def fails(incoming):
        incoming.answer_headers.append(("X-Backend-Used", "mock"))
        raise ClientGone("gone")

    edge, _ = edge_over(fails)

    assert ask(edge).header("X-Backend-Used") == "mock"


# --- the observability port ----------------------------------------------------------------------


@pytest.mark.parametrize("path", OBSERVED)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_observability_port_needs_no_key(app, path, method):
    answer = ask(app.wsgi_app, method, path, port=8801)

    assert answer.status == 200
    answer.close()


@pytest.mark.parametrize(
    "path", ["/", "/v1/models", "/v1/metadata", "/v1/chat/completions", "/admin"]
)
def test_the_observability_port_serves_nothing_else_even_with_a_key(app, headers, path):
    answer = ask(app.wsgi_app, path=path, port=8801, HTTP_AUTHORIZATION=headers["Authorization"])

    assert answer.status == 404
    assert error_of(answer)["message"] == (
        "This port serves /health, /health/upstreams, /metrics, /readyz."
    )


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_the_observability_port_only_reads(app, method):
    answer = ask(app.wsgi_app, method, "/health", port=8801)

    assert answer.status == 404
    answer.close()


@pytest.mark.parametrize("path", ["/health/upstreams", "/metrics"])
def test_on_the_api_port_the_same_endpoints_need_a_key(client, headers, path):
    assert client.get(path).status_code == 401
    assert client.get(path, headers=headers).status_code == 200


def test_the_port_decides_not_the_host_header(app):
    answer = ask(app.wsgi_app, path="/metrics", HTTP_HOST="127.0.0.1:8801")

    assert answer.status == 401
    answer.close()


# --- with and without Flask ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions/"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_hot_endpoint_answers_alike_with_and_without_flask(client, headers, lines, path, stream):
    """A trailing slash leaves the short cut and goes through Flask's router."""
    answer = client.post(path, headers=headers, json={**CHAT, "stream": stream})

    assert answer.status_code == 200
    assert answer.headers["X-Backend-Used"] == "mock"
    assert answer.headers.getlist("x-request-id") == [lines.events("request")[0]["request_id"]]
    assert lines.events("request")[0]["endpoint"] == "/v1/chat/completions"
    assert b"built-in" in answer.data


def test_a_slow_reader_is_given_up_after_the_write_deadline():
    class Connection:
        deadline = None

        def settimeout(self, seconds):
            self.deadline = seconds

    connection = Connection()
    edge, _ = edge_over(lambda incoming: json_answer({}), write_timeout_s=7.5)

    ask(edge, **{"gunicorn.socket": connection})

    assert connection.deadline == 7.5
