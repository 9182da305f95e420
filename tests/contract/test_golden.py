"""Each quirk of a real server, replayed; what our client receives is compared byte for byte.

``UPDATE_GOLDEN=1`` writes the client's files anew; the change is then to be read, not trusted.
"""

import os
import re

import openai
import pytest

from tests.contract.flavours import Flavour
from tests.contract.quirks import QUIRKS, Quirk
from tests.contract.running import Gateway
from tests.contract.strict import read_broken, read_stream
from tests.contract.wire import Answer

REQUEST_ID = "golden-1"
ENDING_WELL = [quirk for quirk in QUIRKS if quirk.ends == "done"]
CUT = [quirk for quirk in QUIRKS if quirk.ends == "cut"]
REFUSED = [quirk for quirk in QUIRKS if quirk.ends == "error"]
MINTED = re.compile(rb'"(call)-[0-9a-f]{24}"')
"""Ids that the gateway made because the upstream gave none."""
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))  # noqa: TID251  # a switch of the tests


def every(quirks: tuple[Quirk, ...] | list[Quirk]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("quirk", quirks, ids=lambda quirk: quirk.name)


def replay(gateway: Gateway, quirk: Quirk) -> Answer:
    with gateway.connect() as connection:
        return connection.ask("POST", quirk.path, quirk.request(), {"x-request-id": REQUEST_ID})


@every(QUIRKS)
def test_what_the_client_receives_is_the_golden_file(fake_gateway: Gateway, quirk: Quirk) -> None:
    """Byte for byte, with the right status, and with a clean end only when the answer is whole."""
    answer = replay(fake_gateway, quirk)

    got = MINTED.sub(rb'"\1-minted"', answer.body)
    if UPDATE:
        quirk.client_file().write_bytes(got)
        pytest.fail(f"{quirk.client_file().name} was written anew; read the change")
    assert got == quirk.client_file().read_bytes()
    assert answer.status == quirk.client_status
    assert answer.complete == (quirk.ends != "cut")


@pytest.mark.parametrize("name", ["openai-text-usage", "reply-openai", "openai-tools-parallel"])
def test_bytes_that_conform_are_not_touched(name: str) -> None:
    """The golden files themselves: what a conforming server sent is what the client got."""
    quirk = next(quirk for quirk in QUIRKS if quirk.name == name)

    sent, got = quirk.upstream_bytes(), quirk.client_file().read_bytes()

    if not quirk.stream or quirk.wants_usage:
        assert got == sent
    else:
        assert got == b"".join(
            event + b"\n\n" for event in sent.split(b"\n\n")[:-1] if b'"choices":[]' not in event
        )


@every(ENDING_WELL)
def test_a_repaired_stream_passes_the_strict_reader(fake_gateway: Gateway, quirk: Quirk) -> None:
    """One role, dense tool indexes, one finish, usage last and only if asked, one [DONE]."""
    answer = replay(fake_gateway, quirk)

    transcript = read_stream(answer.body, usage=quirk.wants_usage, object_name=quirk.object_name)
    assert transcript.events > 1


@every(CUT)
def test_a_broken_stream_ends_with_an_error_event(fake_gateway: Gateway, quirk: Quirk) -> None:
    """The error carries its code and our request id; no [DONE] follows."""
    answer = replay(fake_gateway, quirk)

    error = read_broken(answer.body).error
    assert error is not None
    assert error["code"] == quirk.error
    assert error["request_id"] == REQUEST_ID


@every(REFUSED)
def test_a_failure_before_any_content_is_a_real_http_error(
    fake_gateway: Gateway, quirk: Quirk
) -> None:
    """In our envelope, with the upstream's meaning and without its addresses, paths and inputs."""
    answer = replay(fake_gateway, quirk)

    assert answer.error()["code"] == quirk.error
    for secret in (b"10.0.0.9", b"127.0.0.1", b"/usr/lib", b"hot secret", b"<html"):
        assert secret not in answer.body


@every([quirk for quirk in ENDING_WELL if quirk.object_name == "chat.completion.chunk"])
def test_the_stream_helper_of_the_official_client_assembles_every_quirk(
    fake_gateway: Gateway, flavour: type[Flavour], quirk: Quirk
) -> None:
    """The helper asserts on missing names, joins repeated roles and trips over tool indexes."""
    request = quirk.request()
    request.pop("stream")

    with flavour(fake_gateway) as client:
        final = client.assembled(lambda c: c.chat.completions.stream(**request))

    for choice in final.choices:
        assert choice.message.role == "assistant"
        assert choice.finish_reason in {"stop", "length", "tool_calls"}
        for call in choice.message.tool_calls or ():
            assert call.function.name in {"get_weather", "get_time"}
    assert (final.usage is not None) == quirk.wants_usage


@every(CUT)
def test_a_broken_stream_raises_in_the_official_client(
    fake_gateway: Gateway, flavour: type[Flavour], quirk: Quirk
) -> None:
    """The text so far arrives, then an APIError with our code: never a quiet, shorter answer."""
    got: list = []

    with flavour(fake_gateway) as client, pytest.raises(openai.APIError) as caught:
        client.taken(lambda c: c.chat.completions.create(**quirk.request()), got)

    assert caught.value.code == quirk.error
    assert any(chunk.choices[0].delta.content for chunk in got)
