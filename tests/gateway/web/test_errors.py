"""Whatever fails, a client reads the one envelope and the headers by which it decides."""

import orjson
import pytest
from werkzeug import exceptions
from werkzeug.exceptions import HTTPException, default_exceptions

from gateway.kernel.errors import (
    AuthError,
    GatewayError,
    InvalidRequest,
    NotAllowed,
    Overloaded,
    Refused,
    UpstreamBusy,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.web.errors import encode, headers_of, refusal, translate

SECRET = "sk-canary-1234567890"


@pytest.mark.parametrize("status", sorted(default_exceptions))
def test_every_werkzeug_error_becomes_our_own_with_its_status(status: int):
    error = translate(default_exceptions[status]())

    assert isinstance(error, GatewayError)
    assert error.status == min(500, status)
    assert orjson.loads(encode(error, "req-1"))["error"]["request_id"] == "req-1"
    assert error.message


@pytest.mark.parametrize("status", [status for status in default_exceptions if status < 500])
def test_a_callers_mistake_is_not_to_be_tried_again(status: int):
    assert translate(default_exceptions[status]()).should_retry is False


def test_an_unknown_method_is_told_which_ones_there_are():
    error = translate(exceptions.MethodNotAllowed(valid_methods=["POST", "GET"]))

    assert error.message.endswith("it takes GET, POST.")
    assert dict(headers_of(error))["Allow"] == "GET, POST"


def test_an_http_error_without_a_status_is_ours():
    assert translate(HTTPException("odd")).status == 500


def test_our_own_errors_pass_as_they_are():
    error = UpstreamError("Broken.")

    assert translate(error) is error


def test_an_unexpected_error_tells_nothing_of_itself():
    error = translate(RuntimeError(f"password={SECRET}"))

    assert (error.status, error.code) == (500, "internal_error")
    assert SECRET not in encode(error, "req-1").decode()


def test_an_error_page_of_the_framework_tells_nothing_of_itself():
    error = translate(exceptions.InternalServerError(description=SECRET))

    assert SECRET not in encode(error, "req-1").decode()


@pytest.mark.parametrize(
    ("error", "header"),
    [(InvalidRequest("x"), "false"), (UpstreamTimeout("x"), "false"), (Refused("x"), None)],
    ids=lambda value: type(value).__name__,
)
def test_the_retry_header_says_what_the_class_says(error: GatewayError, header: str | None):
    assert dict(headers_of(error)).get("x-should-retry") == header


@pytest.mark.parametrize(
    ("error", "challenge"), [(AuthError("x"), "Bearer"), (NotAllowed("x"), None)]
)
def test_only_an_unknown_caller_is_challenged(error: GatewayError, challenge: str | None):
    assert dict(headers_of(error)).get("WWW-Authenticate") == challenge


@pytest.mark.parametrize(
    ("seconds", "whole", "exact"),
    [
        (1, "1", "1000"),
        (0.25, "1", "250"),
        (0.0, "1", "0"),
        (1.5, "2", "1500"),
        (120.0, "120", "120000"),
    ],
)
def test_a_wait_is_told_in_whole_seconds_and_exactly(seconds: float, whole: str, exact: str):
    told = dict(headers_of(UpstreamBusy("x", retry_after_s=seconds)))

    assert (told["Retry-After"], told["retry-after-ms"]) == (whole, exact)


def test_without_a_wait_none_is_told():
    assert not {"Retry-After", "retry-after-ms"} & set(dict(headers_of(Overloaded("x"))))


def test_an_error_is_never_cached_and_always_json():
    told = dict(headers_of(GatewayError("x")))

    assert told["Content-Type"] == "application/json"
    assert told["Cache-Control"] == "no-store"


def test_a_refusal_is_a_whole_answer():
    answer = refusal(Refused("Slow down.", retry_after_s=2), "req-1")

    [body] = answer.body
    assert answer.status == 429
    assert orjson.loads(body)["error"] == {
        "message": "Slow down.", "type": "rate_limit_error", "param": None,
        "code": "rate_limit_exceeded", "request_id": "req-1",
    }  # fmt: skip
