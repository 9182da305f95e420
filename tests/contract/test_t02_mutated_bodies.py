"""T02: whatever is sent, the answer is 2xx or a 4xx in our envelope, at once."""

import pytest
from hypothesis import HealthCheck, given, settings

from gateway.kernel.clock import monotonic
from tests.contract.mutations import Request, spoilt_requests
from tests.contract.running import Gateway
from tests.contract.strict import read_stream
from tests.contract.wire import Answer, Connection
from tests.system.sizes import FULL, size_of

LIMIT_S = 1.0


@pytest.fixture(scope="module")
def line(mock_gateway: Gateway):
    """One connection for the whole run, opened anew only when the gateway closes it."""
    with Connection(mock_gateway.port) as connection:
        yield connection, mock_gateway


@pytest.mark.T(2)
@settings(
    max_examples=size_of("T02 mutated bodies"),
    # The quick run is always the same; the full one looks elsewhere and prints how to repeat it.
    derandomize=not FULL,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(request=spoilt_requests())
def test_t02_a_spoilt_request_gets_an_answer_of_ours(
    line: tuple[Connection, Gateway], request: Request
) -> None:
    """Never a 5xx, never longer than a second, always with a request id."""
    connection, gateway = line
    raw = request.raw(f"127.0.0.1:{gateway.port}", gateway.key)

    began_s = monotonic()
    answer = connection.exchange(raw)
    took_s = monotonic() - began_s

    assert answer.complete
    assert answer.header("x-request-id")
    assert took_s < LIMIT_S
    if 200 <= answer.status < 300:
        assert_is_an_answer(answer, request)
    else:
        assert 400 <= answer.status < 500
        assert answer.error()["code"]


def assert_is_an_answer(answer: Answer, request: Request) -> None:
    """Check that a 2xx carries what the endpoint promises."""
    if answer.header("content-type") == "application/json":
        assert answer.json()["object"] in {"chat.completion", "text_completion", "list"}
        return
    usage = b'"choices":[],"usage":' in answer.body
    chat = request.path == "/v1/chat/completions"
    name = "chat.completion.chunk" if chat else "text_completion"
    read_stream(answer.body, usage=usage, object_name=name)
