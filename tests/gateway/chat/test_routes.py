"""Chat and completions at the door: what reaches the pipeline, and what is refused before it."""

import orjson
import pytest

from tests.fakes import wsgi

MESSAGES = [{"role": "user", "content": "Hello there"}]
ENDPOINTS = {
    "/v1/chat/completions": {"model": "mock", "messages": MESSAGES},
    "/v1/completions": {"model": "mock", "prompt": "Hello there"},
}
each = pytest.mark.parametrize(("path", "body"), ENDPOINTS.items(), ids=["chat", "completions"])


@pytest.fixture
def post(client, headers):
    """A function that posts a body and returns the answer."""

    def posted(path, body, **more):
        return client.post(path, json=body, headers={**headers, **more})

    return posted


def events_of(answer):
    """Return the data of a streamed answer, the last [DONE] checked and left out."""
    *events, done, rest = answer.data.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events]


@each
def test_an_answer_in_one_piece_has_openais_shape(post, path, body):
    answer = post(path, body)

    assert answer.status_code == 200
    assert answer.json["object"] == ("chat.completion" if "chat" in path else "text_completion")
    assert answer.json["choices"][0]["finish_reason"] == "stop"
    assert answer.json["usage"]["total_tokens"] > 0


@each
def test_a_streamed_answer_ends_with_done_and_says_the_same(post, path, body):
    whole = post(path, body).json["choices"][0]
    events = events_of(post(path, {**body, "stream": True}))

    pieces = [event["choices"][0] for event in events]
    if "chat" in path:
        text, told = (
            "".join(p["delta"].get("content") or "" for p in pieces),
            whole["message"]["content"],
        )
    else:
        text, told = "".join(piece["text"] for piece in pieces), whole["text"]
    assert text == told
    assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == ["stop"]


@pytest.mark.parametrize("wanted", [True, False, None])
def test_usage_is_streamed_last_and_only_if_asked_for(post, wanted):
    options = {} if wanted is None else {"stream_options": {"include_usage": wanted}}

    events = events_of(
        post(
            "/v1/chat/completions", {**ENDPOINTS["/v1/chat/completions"], "stream": True, **options}
        )
    )

    with_usage = [place for place, event in enumerate(events) if event.get("usage")]
    assert with_usage == ([len(events) - 1] if wanted else [])
    if wanted:
        assert events[-1]["choices"] == []


@each
def test_the_answer_tells_who_gave_it_and_why(post, path, body):
    for stream in (False, True):
        headers = post(path, {**body, "stream": stream}).headers
        assert headers["X-Backend-Used"] == headers["X-Model-Used"] == "mock"
        assert headers["X-Router-Reason"] == "direct:model"


def test_a_stream_is_not_held_back_by_proxies(post):
    answer = post("/v1/chat/completions", {**ENDPOINTS["/v1/chat/completions"], "stream": True})

    assert answer.content_type == "text/event-stream; charset=utf-8"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in answer.headers


def test_the_caller_may_name_the_upstream(post):
    pinned = post(
        "/v1/chat/completions", {"model": "any", "messages": MESSAGES}, **{"X-Backend": "mock"}
    )
    unknown = post(
        "/v1/chat/completions", {"model": "any", "messages": MESSAGES}, **{"X-Backend": "mok"}
    )

    assert pinned.headers["X-Router-Reason"] == "override:x-backend"
    assert unknown.status_code == 400
    assert "did you mean 'mock'" in unknown.json["error"]["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [*MESSAGES, {"role": "user", "content": 7}]}, "messages[1].content"),
        ({"stream": "yes"}, "stream"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"n": 129}, "n"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [1]}, "tools[0]"),
    ],
    ids=str,
)
def test_a_wrong_field_is_a_400_that_names_it(post, change, param):
    answer = post("/v1/chat/completions", {**ENDPOINTS["/v1/chat/completions"], **change})

    assert answer.status_code == 400
    assert answer.json["error"]["param"] == param
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-should-retry"] == "false"


@each
@pytest.mark.parametrize("missing", ["model"])
def test_a_missing_model_is_a_400(post, path, body, missing):
    answer = post(path, {name: value for name, value in body.items() if name != missing})

    assert (answer.status_code, answer.json["error"]["param"]) == (400, "model")


@each
@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"a=1"])
def test_what_is_no_json_object_is_a_400_whatever_its_content_type(
    client, headers, path, body, raw
):
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        answer = client.post(path, data=raw, headers=headers, content_type=content_type)

        assert answer.status_code == 400
        assert answer.json["error"]["code"] == "invalid_json"


@each
def test_the_content_type_of_a_good_body_does_not_matter(client, headers, path, body):
    answer = client.post(path, data=orjson.dumps(body), headers=headers, content_type="text/plain")

    assert answer.status_code == 200


@each
def test_a_body_beyond_the_limit_is_a_413(make_app, headers, path, body):
    app = make_app(MAX_REQUEST_BYTES="200")

    answer = app.test_client().post(path, json={**body, "x": "y" * 200}, headers=headers)

    assert answer.status_code == 413
    assert answer.json["error"]["code"] == "request_too_large"


@each
def test_the_key_is_asked_for_before_the_body_is_read(app, path, body):
    request = wsgi.environ("POST", path, CONTENT_LENGTH="1000")
    request["wsgi.input"] = None

    answer = wsgi.ask(app.wsgi_app, request)

    assert answer.status == 401
    answer.close()


@each
def test_unknown_fields_are_no_mistake(post, path, body):
    assert (
        post(path, {**body, "anything": {"deep": [1]}, "user_id": "u", "top_p": None}).status_code
        == 200
    )


@pytest.mark.parametrize("stream", [False, True])
def test_an_early_failure_of_the_upstream_is_a_real_error_also_for_a_stream(post, stream):
    body = {"model": "mock/status=500", "messages": MESSAGES, "stream": stream}

    answer = post("/v1/chat/completions", body)

    assert answer.status_code == 502
    assert answer.content_type == "application/json"
    assert answer.json["error"]["details"]["attempts"] == [
        {"upstream": "mock", "code": "upstream_error"}
    ]
