"""Chat completions through the official client, in both kinds, before every upstream."""

import json
from typing import Any

import pytest

from tests.contract.flavours import Flavour
from tests.contract.sites import (
    DEVELOPER,
    JSON_ANSWER,
    MESSAGES,
    PICTURE,
    TIME,
    UNKNOWN,
    WEATHER,
    Site,
)
from tests.contract.strict import FINISH_REASONS, Transcript, read_stream

INCLUDE_USAGE = {"include_usage": True}


def request_for(site: Site, **more: Any) -> dict[str, Any]:
    """Return a small chat request that the site's upstream can answer."""
    return {"model": site.model, "messages": MESSAGES, **site.limits, **more}


def strictly(site: Site, **more: Any) -> Transcript:
    """Stream an answer over a bare socket and read it by the strictest rules."""
    request = request_for(site, stream=True, **more)
    with site.gateway.connect() as connection:
        answer = connection.ask("POST", "/v1/chat/completions", request)
    assert answer.status == 200
    assert answer.complete
    return read_stream(answer.body, usage="stream_options" in more)


def assert_whole(completion: Any, choices: int = 1) -> None:
    """Check every field that clients rely on."""
    assert completion.id
    assert completion.object == "chat.completion"
    assert type(completion.created) is int
    assert completion.model
    assert [choice.index for choice in completion.choices] == list(range(choices))
    for choice in completion.choices:
        assert choice.message.role == "assistant"
        assert choice.finish_reason in FINISH_REASONS
    usage = completion.usage
    assert usage.prompt_tokens >= 0
    assert usage.completion_tokens >= 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_an_answer_in_one_piece_is_whole(site: Site, flavour: type[Flavour]) -> None:
    """Every field of a chat.completion is there, whatever the upstream leaves out."""
    with flavour(site.gateway) as client:
        completion = client.ask(lambda c: c.chat.completions.create(**request_for(site)))

    assert_whole(completion)
    assert isinstance(completion.choices[0].message.content, str)
    assert site.said in {None, completion.choices[0].message.content}


def test_a_streamed_answer_says_the_same_in_pieces(site: Site, flavour: type[Flavour]) -> None:
    """One id and model, one role, one finish; no usage that was not asked for."""
    with flavour(site.gateway) as client:
        chunks = client.chunks(
            lambda c: c.chat.completions.create(**request_for(site), stream=True)
        )

    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert [delta.role for delta in deltas if delta.role] == ["assistant"]
    assert deltas[0].role == "assistant"
    finishes = [chunk.choices[0].finish_reason for chunk in chunks]
    assert finishes[-1] in FINISH_REASONS
    assert not any(finishes[:-1])
    assert all(chunk.usage is None for chunk in chunks)
    assert site.said in {None, "".join(delta.content or "" for delta in deltas)}


def test_a_stream_passes_the_strict_reader(site: Site) -> None:
    """The bytes on the socket, not what a forgiving client makes of them."""
    transcript = strictly(site)

    assert list(transcript.choices) == [0]
    assert transcript.events >= 2
    assert site.said in {None, transcript.choices[0].text}


def test_usage_comes_last_and_only_when_asked_for(site: Site, flavour: type[Flavour]) -> None:
    """One more chunk, without choices, before [DONE]; the strict reader checks the order."""
    request = request_for(site, stream=True, stream_options=INCLUDE_USAGE)

    transcript = strictly(site, stream_options=INCLUDE_USAGE)
    with flavour(site.gateway) as client:
        chunks = client.chunks(lambda c: c.chat.completions.create(**request))

    assert transcript.usage is not None
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None and chunk.choices for chunk in chunks[:-1])


def test_usage_that_is_explicitly_refused_does_not_come(site: Site) -> None:
    """The gateway asks the upstream for its own accounts and keeps the answer to itself."""
    request = request_for(site, stream=True, stream_options={"include_usage": False})

    with site.gateway.connect() as connection:
        answer = connection.ask("POST", "/v1/chat/completions", request)

    assert read_stream(answer.body, usage=False).usage is None


def test_the_stream_helper_assembles_the_answer(site: Site, flavour: type[Flavour]) -> None:
    """``.stream()`` asserts on missing names and doubles a repeated role."""
    request = request_for(site, stream_options=INCLUDE_USAGE)

    with flavour(site.gateway) as client:
        final = client.assembled(lambda c: c.chat.completions.stream(**request))

    assert_whole(final)
    assert site.said in {None, final.choices[0].message.content}


def test_the_headers_say_who_answered(site: Site, flavour: type[Flavour]) -> None:
    """Request id, upstream, model and the router's reason, on plain answers and on streams."""
    for streamed in (False, True):
        with flavour(site.gateway) as client:
            request = request_for(site, stream=streamed)
            raw = client.ask(lambda c, r=request: c.chat.completions.with_raw_response.create(**r))

        assert raw.headers["x-backend-used"] == site.upstream
        assert raw.headers["x-model-used"] == site.model
        assert raw.headers["x-router-reason"].startswith("direct:")
        assert raw.headers["x-request-id"].startswith("req-")
        assert raw.request_id == raw.headers["x-request-id"]


def test_the_request_id_reaches_the_clients_object(site: Site, flavour: type[Flavour]) -> None:
    """``._request_id`` is the header; a sane id of the caller's is kept."""
    mine = {"x-request-id": "my-own.id:42"}

    with flavour(site.gateway) as client:
        minted = client.ask(lambda c: c.chat.completions.create(**request_for(site)))
        kept = client.ask(
            lambda c: c.chat.completions.create(**request_for(site), extra_headers=mine)
        )

    assert minted._request_id.startswith("req-")
    assert kept._request_id == "my-own.id:42"


def test_nulls_and_newer_parameters_are_taken(site: Site, flavour: type[Flavour]) -> None:
    """Several servers refuse explicit nulls; what is null counts as not sent."""
    request = request_for(site, top_p=None, stop=None, seed=None, tools=None)

    with flavour(site.gateway) as client:
        completion = client.ask(lambda c: c.chat.completions.create(**request))

    assert_whole(completion)


def test_max_completion_tokens_bounds_the_answer(site: Site, flavour: type[Flavour]) -> None:
    """Under its new name, also before servers that know only the old one."""
    request = {"model": site.model, "messages": MESSAGES, "max_completion_tokens": 3}

    with flavour(site.gateway) as client:
        completion = client.ask(lambda c: c.chat.completions.create(**request))

    assert_whole(completion)
    assert site.name == "fake" or completion.usage.completion_tokens <= 3


@pytest.mark.needs("developer")
def test_the_developer_role_is_taken(site: Site, flavour: type[Flavour]) -> None:
    with flavour(site.gateway) as client:
        completion = client.ask(
            lambda c: c.chat.completions.create(**request_for(site, messages=DEVELOPER))
        )

    assert_whole(completion)


@pytest.mark.needs("pictures")
def test_a_picture_as_a_data_url_is_taken(site: Site, flavour: type[Flavour]) -> None:
    with flavour(site.gateway) as client:
        completion = client.ask(
            lambda c: c.chat.completions.create(**request_for(site, messages=PICTURE))
        )

    assert_whole(completion)


@pytest.mark.needs("json")
def test_a_response_format_is_taken(site: Site, flavour: type[Flavour]) -> None:
    with flavour(site.gateway) as client:
        completion = client.ask(
            lambda c: c.chat.completions.create(**request_for(site, response_format=JSON_ANSWER))
        )

    assert_whole(completion)


@pytest.mark.needs("extra")
def test_fields_that_nobody_knows_do_no_harm(site: Site, flavour: type[Flavour]) -> None:
    with flavour(site.gateway) as client:
        completion = client.ask(
            lambda c: c.chat.completions.create(**request_for(site), extra_body=UNKNOWN)
        )

    assert_whole(completion)


@pytest.mark.needs("n")
def test_two_choices_come_back_as_two(site: Site, flavour: type[Flavour]) -> None:
    """In one piece, streamed, and put together by the helper."""
    with flavour(site.gateway) as client:
        whole = client.ask(lambda c: c.chat.completions.create(**request_for(site, n=2)))
        final = client.assembled(lambda c: c.chat.completions.stream(**request_for(site, n=2)))

    assert_whole(whole, choices=2)
    assert len(final.choices) == 2
    assert set(strictly(site, n=2).choices) == {0, 1}


@pytest.mark.needs("tools")
def test_a_tool_call_arrives_whole(site: Site, flavour: type[Flavour]) -> None:
    """Id, type, name and arguments that are JSON, in one piece and streamed."""
    request = request_for(site, model=site.tools_model, tools=[WEATHER])
    request["max_tokens"] = 64

    with flavour(site.gateway) as client:
        whole = client.ask(lambda c: c.chat.completions.create(**request))
        final = client.assembled(lambda c: c.chat.completions.stream(**request))

    assert_whole(whole)
    for choice in (whole.choices[0], final.choices[0]):
        call = choice.message.tool_calls[0]
        assert choice.finish_reason == "tool_calls"
        assert call.id
        assert call.type == "function"
        assert call.function.name == "get_weather"
        assert isinstance(json.loads(call.function.arguments), dict)


@pytest.mark.needs("tools")
def test_streamed_tool_calls_are_dense_and_name_themselves_once(site: Site) -> None:
    """The strict reader refuses a repeated id, a repeated name and an index that jumps."""
    transcript = strictly(site, model=site.tools_model, tools=[WEATHER], max_tokens=64)

    choice = transcript.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [call["name"] for call in choice.tool_calls] == ["get_weather"]
    assert isinstance(json.loads(choice.tool_calls[0]["arguments"]), dict)


@pytest.mark.needs("parallel_tools")
def test_parallel_tool_calls_stay_apart(site: Site, flavour: type[Flavour]) -> None:
    """Two tools, two calls, each with its own id and its own arguments."""
    request = request_for(site, model=site.tools_model, tools=[WEATHER, TIME])
    request["max_tokens"] = 96

    with flavour(site.gateway) as client:
        whole = client.ask(lambda c: c.chat.completions.create(**request))
        final = client.assembled(lambda c: c.chat.completions.stream(**request))
    transcript = strictly(site, model=site.tools_model, tools=[WEATHER, TIME], max_tokens=96)

    for choice in (whole.choices[0], final.choices[0]):
        calls = choice.message.tool_calls
        assert [call.function.name for call in calls] == ["get_weather", "get_time"]
        assert len({call.id for call in calls}) == 2
        assert all(json.loads(call.function.arguments) for call in calls)
    assert [call["name"] for call in transcript.choices[0].tool_calls] == [
        "get_weather",
        "get_time",
    ]


@pytest.mark.needs("tools")
def test_a_tools_result_continues_the_conversation(site: Site, flavour: type[Flavour]) -> None:
    """The assistant's turn has content null and tool calls, the next turn the role tool."""
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    turns = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
    ]

    with flavour(site.gateway) as client:
        completion = client.ask(
            lambda c: c.chat.completions.create(**request_for(site, messages=turns))
        )

    assert_whole(completion)
