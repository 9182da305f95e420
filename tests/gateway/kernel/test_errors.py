"""The error tree: what each class promises a client, and the one envelope."""

import inspect
from collections.abc import Iterator

import orjson
import pytest

from gateway.kernel import errors
from gateway.kernel.errors import (
    GatewayError,
    InvalidRequest,
    Refused,
    UpstreamError,
    UpstreamRejected,
)

TABLE = {
    # class: (status, code, type, x-should-retry, falls back)
    "GatewayError": (500, "internal_error", "server_error", None, False),
    "InvalidRequest": (400, "invalid_request", "invalid_request_error", False, False),
    "UnknownModel": (404, "model_not_found", "invalid_request_error", False, False),
    "BodyTooLarge": (413, "request_too_large", "invalid_request_error", False, False),
    "AuthError": (401, "invalid_api_key", "authentication_error", False, False),
    "NotAllowed": (403, "not_allowed", "permission_error", False, False),
    "NotFound": (404, "not_found", "invalid_request_error", False, False),
    "MethodNotAllowed": (405, "method_not_allowed", "invalid_request_error", False, False),
    "Refused": (429, "rate_limit_exceeded", "rate_limit_error", None, False),
    "Overloaded": (503, "overloaded", "server_error", None, False),
    "UpstreamError": (502, "upstream_error", "upstream_error", None, True),
    "UpstreamUnreachable": (503, "upstream_unavailable", "upstream_error", None, True),
    "UpstreamReset": (502, "upstream_reset", "upstream_error", False, True),
    "UpstreamTimeout": (504, "upstream_timeout", "upstream_error", False, True),
    "UpstreamInvalid": (502, "upstream_invalid_response", "upstream_error", False, True),
    "UpstreamCredential": (502, "upstream_auth", "upstream_error", False, True),
    "UpstreamBusy": (429, "upstream_busy", "rate_limit_error", None, True),
    "UpstreamRejected": (400, "upstream_rejected", "invalid_request_error", False, False),
    "UpstreamCut": (502, "upstream_truncated", "upstream_error", False, True),
    "NoBackend": (503, "no_backend", "upstream_error", None, False),
    "ClientGone": (499, "client_gone", "client_error", False, False),
    "Draining": (503, "server_draining", "server_error", None, False),
    "SettingsError": (500, "invalid_settings", "server_error", None, False),
}


def classes() -> Iterator[type[GatewayError]]:
    for _, found in inspect.getmembers(errors, inspect.isclass):
        if issubclass(found, GatewayError):
            yield found


def test_every_error_has_the_status_code_type_and_retry_rule_of_this_table():
    found = {
        kind.__name__: (kind.status, kind.code, kind.type, kind.should_retry, kind.falls_back)
        for kind in classes()
    }

    assert found == TABLE


def test_the_drawing_at_the_top_of_the_module_names_every_class_and_code():
    drawing = errors.__doc__ or ""

    for kind in classes():
        line = next(line for line in drawing.splitlines() if f" {kind.__name__} " in f" {line} ")
        told = "passed through" if kind is UpstreamRejected else kind.code
        assert told in line or kind.__name__ == "SettingsError", line


def test_two_classes_share_no_code():
    codes = [kind.code for kind in classes()]

    assert len(codes) == len(set(codes))


def test_the_envelope_has_openais_four_members_and_the_request_id():
    error = InvalidRequest("Too long.", param="messages", code="too_long")

    assert error.envelope("req-1") == {
        "error": {
            "message": "Too long.", "type": "invalid_request_error", "param": "messages",
            "code": "too_long", "request_id": "req-1",
        }
    }  # fmt: skip


def test_the_envelope_carries_details_only_when_there_are_any():
    plain = UpstreamError("Broken.", details={})
    detailed = UpstreamError("Broken.", details={"upstream_status": 500})

    assert "details" not in plain.envelope(None)["error"]
    assert detailed.envelope(None)["error"]["details"] == {"upstream_status": 500}


def test_the_envelope_of_every_class_can_be_encoded():
    for kind in classes():
        extra = {"status": 418} if kind is UpstreamRejected else {}
        body = orjson.loads(orjson.dumps(kind("Wörter.", **extra).envelope("req-1")))
        assert body["error"]["message"] == "Wörter."


def test_a_code_given_to_one_error_does_not_stick_to_its_class():
    Refused("No.", code="budget_spent")

    assert Refused("No.").code == "rate_limit_exceeded"


def test_a_rejection_passes_the_upstreams_status_on():
    assert UpstreamRejected("No.", status=422).status == 422
    assert UpstreamRejected.status == 400


def test_details_are_copied_so_that_later_changes_do_not_reach_the_caller():
    given = {"a": 1}

    error = GatewayError("x", details=given)
    given["b"] = 2

    assert error.details == {"a": 1}


@pytest.mark.parametrize("kind", [kind for kind in classes() if kind.status == 429])
def test_a_429_may_be_tried_again(kind: type[GatewayError]):
    assert kind.should_retry is None


def test_a_secret_is_hidden_wherever_it_was_quoted():
    error = GatewayError("bad my-key-1!", param="h.my-key-1", code="no my-key-1")

    error.hide("my-key-1")

    assert (error.message, error.param, error.code) == (
        "bad [secret]!", "h.[secret]", "no [secret]")  # fmt: skip


@pytest.mark.parametrize("key", ["", "EMPTY", "ollama"])
def test_a_placeholder_for_a_key_is_no_secret(key):
    error = GatewayError("ollama said EMPTY")

    error.hide(key)

    assert (error.message, error.param) == ("ollama said EMPTY", None)
