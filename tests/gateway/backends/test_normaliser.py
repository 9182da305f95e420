"""Streams are made to conform: one test a rule. Whole streams: test_normaliser_golden.py."""

import orjson
import pytest

from gateway.backends.normaliser import usage_of
from gateway.kernel.call import Kind, Usage
from gateway.kernel.errors import UpstreamCut
from gateway.kernel.sse import DONE
from tests.gateway.backends.streams import (
    CALL_A,
    NAMES,
    ROLE,
    USAGE,
    calls,
    deltas,
    event,
    events,
    finishes,
    frame,
    heard,
    normaliser,
    says,
)

# --- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"data:" + says("a")[6:], id="no space after the colon"),
        pytest.param(says("a").replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(says("a").replace(b"\n", b"\r"), id="CR"),
        pytest.param(b"id: 4\n" + says("a"), id="an id line"),
        pytest.param(b"retry: 3000\n\n" + says("a"), id="a retry block"),
        pytest.param(b"event: message\n" + says("a"), id="an event line"),
        pytest.param(b": keepalive\n\n" + says("a"), id="a comment"),
        pytest.param(b"event: ping\ndata: {}\n\n" + says("a"), id="a ping with data"),
    ],
)
def test_frames_come_out_in_the_canonical_form(sent):
    out = heard(event(ROLE), sent, event({}, "stop"), DONE)

    assert out == event(ROLE) + says("a") + event({}, "stop") + DONE


def test_a_ping_before_the_first_chunk_names_nothing():
    out = heard(b"event: ping\ndata: {}\n\n", event(ROLE), says("a"), event({}, "stop"), DONE)

    assert out == event(ROLE) + says("a") + event({}, "stop") + DONE


def test_an_event_of_several_data_lines_is_put_on_one():
    head, tail = says("a").split(b",", 1)

    out = heard(event(ROLE), head + b",\ndata: " + tail, event({}, "stop"), DONE)

    assert out.count(b"\n") == 8
    assert deltas(out) == [ROLE, {"content": "a"}, {}]


def test_empty_data_is_no_event():
    assert heard(event(ROLE), b"data:\n\n", says("a", "stop")) == heard(
        event(ROLE), says("a", "stop")
    )


def test_the_last_frame_may_lack_its_blank_line():
    out = heard(event(ROLE), says("a"), event({}, "stop"), b"data: [DONE]")

    assert out == event(ROLE) + says("a") + event({}, "stop") + DONE


def test_line_separators_and_control_characters_inside_a_text_are_left_alone():
    odd = says("a\u2028b\u2029c\x85d\u001c\ufffd\x00")

    assert odd in heard(event(ROLE), odd, event({}, "stop"), DONE)


# --- names ---------------------------------------------------------------------------------------


def test_every_event_has_the_first_ones_id_object_created_and_model():
    later = {"id": "chatcmpl-2", "object": "chat.completion", "created": 8, "model": "other"}
    wild = says("b", **later)

    out = heard(event(ROLE), wild, event({}, "stop", **later), DONE)

    assert {tuple(one[name] for name in NAMES) for one in events(out)} == {tuple(NAMES.values())}


@pytest.mark.parametrize(
    "later", [{"id": "x"}, {"object": "x"}, {"created": 8}, {"model": "x"}, {"created": 7.0}]
)
def test_a_text_under_another_name_gets_the_first_ones(later):
    assert says("b") in heard(event(ROLE), says("b", **later), event({}, "stop"), DONE)


@pytest.mark.parametrize(
    "broken",
    [
        {"created": 0},
        {"created": 1e30},
        {},
        dict.fromkeys(NAMES),
        dict.fromkeys(NAMES, ""),
        {"id": 5},
    ],
)
def test_missing_names_are_made_up_once(broken):
    sent = [frame({**broken, "choices": orjson.loads(one[6:])["choices"]})
            for one in (event(ROLE), says("a"), event({}, "stop"))]  # fmt: skip

    out = heard(*sent, DONE)

    named = {(one["id"], one["object"], one["created"], one["model"]) for one in events(out)}
    assert len(named) == 1
    made_id, kind, created, model = named.pop()
    assert made_id.startswith("chatcmpl-")
    assert kind == "chat.completion.chunk"
    assert isinstance(created, int)
    assert created > 1_700_000_000
    assert model == "m"


def test_a_created_time_with_fractions_becomes_whole():
    out = heard(event(ROLE, created=7.9), event({}, "stop", created=7.9), DONE)

    assert [one["created"] for one in events(out)] == [7, 7]
    assert b"7.0" not in out


def test_the_model_is_mapped_back_and_nothing_else_is_touched():
    sent = event(ROLE) + says('the "m" of "model":"m"') + event({}, "stop")
    upstreams = sent.replace(b'"model":"m"', b'"model":"org/long-name"')

    assert heard(upstreams, DONE, at_upstream="org/long-name") == sent + DONE


def test_the_model_is_mapped_back_in_spaced_json_too():
    sent = (event(ROLE) + says("a") + event({}, "stop")).replace(b'"model":"m"', b'"model": "x"')

    out = heard(sent, DONE, at_upstream="x")

    assert [one["model"] for one in events(out)] == ["m", "m", "m"]


def test_a_variant_of_the_models_name_that_the_upstream_chose_is_passed_on():
    out = heard(event(ROLE, model="m@main"), says("a", model="m@main"),
                event({}, "stop", model="m@main"), DONE)  # fmt: skip

    assert {one["model"] for one in events(out)} == {"m@main"}


# --- roles ---------------------------------------------------------------------------------------


def test_the_role_is_said_once_a_choice():
    sent = [event({"role": "assistant", "content": text}, index=index)
            for text in "ab" for index in (0, 1)]  # fmt: skip

    out = heard(*sent, event({}, "stop"), event({}, "stop", index=1), DONE)

    assert ["role" in delta for delta in deltas(out)] == [True, True, False, False, False, False]


@pytest.mark.parametrize("first", [{}, {"role": None}, {"role": ""}, {"role": "model"}])
def test_a_first_chunk_without_the_role_gets_it(first):
    out = heard(event({**first, "content": "a"}), event({}, "stop"), DONE)

    assert deltas(out) == [{"role": "assistant", "content": "a"}, {}]


def test_a_first_chunk_that_says_nothing_says_the_role():
    assert deltas(heard(event({}), says("a"), event({}, "stop"), DONE))[0] == ROLE


@pytest.mark.parametrize("delta", [None, "text", []])
def test_a_delta_that_is_no_object_becomes_one(delta):
    choice = {"index": 0, "delta": delta, "finish_reason": None}

    out = heard(event(ROLE), frame({**NAMES, "choices": [choice]}), event({}, "stop"), DONE)

    assert deltas(out) == [ROLE, {}, {}]


def test_what_is_no_choice_is_left_out():
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}

    out = heard(
        event(ROLE), frame({**NAMES, "choices": [5, None, choice]}), event({}, "stop"), DONE
    )

    assert deltas(out) == [ROLE, {"content": "a"}, {}]


@pytest.mark.parametrize("index", [None, "0", True, 0.0])
def test_a_choice_without_a_whole_index_gets_its_place(index):
    out = heard(event(ROLE, index=index), says("a", index=index), event({}, "stop", index), DONE)

    assert [one["choices"][0]["index"] for one in events(out)] == [0, 0, 0]
    assert all(one["choices"][0]["index"] is not False for one in events(out))


# --- tool calls ----------------------------------------------------------------------------------


def tool_deltas(*sent: bytes) -> list[dict]:
    out = heard(event(ROLE), *sent, event({}, "tool_calls"), DONE)
    return [call for delta in deltas(out) for call in delta.get("tool_calls") or ()]


def test_id_type_and_name_of_a_tool_call_are_said_once():
    more = {**CALL_A, "function": {"name": "f", "arguments": "{}"}}

    assert tool_deltas(calls(CALL_A), calls(more)) == [
        CALL_A, {"index": 0, "function": {"arguments": "{}"}}]  # fmt: skip


def test_an_empty_id_and_name_of_a_continued_call_are_left_out():
    more = {"index": 0, "id": "", "function": {"name": "", "arguments": "{}"}}

    assert tool_deltas(calls(CALL_A), calls(more))[1] == {
        "index": 0, "function": {"arguments": "{}"}}  # fmt: skip


def test_tool_calls_are_numbered_densely_from_zero():
    sent = [calls({**CALL_A, "index": index, "id": f"call_{index}"}) for index in (1, 4, 9)]

    assert [call["index"] for call in tool_deltas(*sent)] == [0, 1, 2]


def test_tool_calls_without_an_index_are_told_apart_by_their_ids():
    first, second = ({k: v for k, v in CALL_A.items() if k != "index"} | {"id": f"call_{name}"}
                     for name in "ab")  # fmt: skip

    found = tool_deltas(calls(first, second))

    assert [(call["index"], call["id"]) for call in found] == [(0, "call_a"), (1, "call_b")]


def test_a_piece_of_arguments_without_index_and_id_belongs_to_the_last_call():
    first = {k: v for k, v in CALL_A.items() if k != "index"}

    found = tool_deltas(calls(first), calls({"function": {"arguments": "{}"}}))

    assert found[1] == {"index": 0, "function": {"arguments": "{}"}}


def test_calls_that_are_all_numbered_zero_are_told_apart_by_id_and_name():
    sent = [calls({**CALL_A, "id": f"call_{name}", "function": {"name": name}}) for name in "fg"]

    found = tool_deltas(*sent, calls({"index": 0, "function": {"arguments": "{}"}}))

    assert [(call["index"], call.get("id")) for call in found] == [
        (0, "call_f"), (1, "call_g"), (1, None)]  # fmt: skip


def test_a_new_id_alone_opens_no_call():
    more = {"index": 0, "id": "call_b", "function": {"arguments": "{}"}}

    assert tool_deltas(calls(CALL_A), calls(more))[1] == {
        "index": 0, "function": {"arguments": "{}"}}  # fmt: skip


def test_an_id_may_stand_in_for_an_index_that_is_only_said_once():
    found = tool_deltas(calls(CALL_A), calls({"id": "call_a", "function": {"arguments": "{}"}}))

    assert found[1] == {"index": 0, "function": {"arguments": "{}"}}


def test_arguments_given_as_an_object_become_text():
    sent = {**CALL_A, "function": {"name": "f", "arguments": {"city": "Oslo"}}}

    assert tool_deltas(calls(sent))[0]["function"]["arguments"] == '{"city":"Oslo"}'


@pytest.mark.parametrize("name", [None, "", 5, ["x"]])
def test_a_tool_call_without_a_proper_id_gets_one(name):
    found = tool_deltas(calls({**CALL_A, "id": name}))

    assert found[0]["id"].startswith("call-")
    assert found[0]["type"] == "function"


def test_a_tool_call_beside_a_text_is_put_in_order_too():
    both = {"content": "a", "tool_calls": [{**CALL_A, "index": 5}]}

    found = tool_deltas(event(both))

    assert found == [CALL_A]


def test_the_old_function_call_beside_a_tool_call_is_left_out():
    both = {"tool_calls": [CALL_A], "function_call": {"name": "f", "arguments": ""}}

    out = heard(event(ROLE), event(both), event({}, "tool_calls"), DONE)

    assert "function_call" not in deltas(out)[1]


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"),
        ("end_turn", "stop"), ("EOS", "stop"), ("eos_token", "stop"), ("stop_sequence", "stop"),
        ("max_tokens", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
        ("safety", "content_filter"), ("anything", "stop"),
        (1, "stop"), (["stop"], "stop"), ({"why": "stop"}, "stop"), (True, "stop"),
    ],
)  # fmt: skip
def test_a_finish_reason_comes_from_the_closed_list(said, meant):
    assert finishes(heard(event(ROLE), says("a"), event({}, said), DONE)) == [(0, meant)]


@pytest.mark.parametrize("said", ["error", "abort", "Cancelled"])
def test_a_model_that_broke_off_has_not_finished(said):
    with pytest.raises(UpstreamCut):
        heard(event(ROLE), says("a"), event({}, said), DONE)


@pytest.mark.parametrize("said", ["stop", "end_turn", "tool_use", "tool_calls"])
def test_a_choice_that_called_tools_finishes_with_tool_calls(said):
    assert finishes(heard(event(ROLE), calls(CALL_A), event({}, said), DONE)) == [(0, "tool_calls")]


def test_a_finish_on_the_last_content_is_split_from_it():
    out = heard(event(ROLE), says("a", "stop"), DONE)

    assert out == event(ROLE) + says("a") + event({}, "stop") + DONE


def test_an_empty_text_beside_the_finish_is_no_content():
    sent = event(ROLE) + says("a") + says("", "stop") + DONE

    assert heard(sent) == sent


def test_an_answer_in_one_single_event_is_split():
    out = heard(event({"role": "assistant", "content": "a"}, "stop"), DONE)

    assert out == event({"role": "assistant", "content": "a"}) + event({}, "stop") + DONE


def test_nothing_of_a_choice_follows_its_finish():
    late = [says("b"), event({}, "length"), event({"role": "assistant"})]

    out = heard(event(ROLE), says("a"), event({}, "stop"), *late, DONE)

    assert out == event(ROLE) + says("a") + event({}, "stop") + DONE


def test_done_is_said_once_and_nothing_follows_it():
    stream = normaliser()
    whole = event(ROLE) + says("a") + event({}, "stop") + DONE

    out = stream.feed(whole + says("b") + DONE)
    after = stream.feed(says("c") + b"data: garbage\n\n") + stream.finish()

    assert (out, after) == (whole, b"")
    assert stream.done


def test_a_missing_done_is_added():
    assert heard(event(ROLE), says("a"), event({}, "stop")).endswith(DONE)


@pytest.mark.parametrize(
    "sent",
    [b"", DONE, event(ROLE), event(ROLE) + DONE, event(ROLE) + says("a"),
     event(ROLE) + says("a") + DONE,
     event(ROLE) + event(ROLE, index=1) + event({}, "stop") + DONE],
    ids=["nothing", "only [DONE]", "only a role", "a role and [DONE]", "text, then the end",
         "text and [DONE]", "one choice of two"],
)  # fmt: skip
def test_a_stream_without_a_finish_reason_is_cut(sent):
    with pytest.raises(UpstreamCut) as caught:
        heard(sent)

    assert caught.value.code == "upstream_truncated"


# --- usage ---------------------------------------------------------------------------------------

BODY = (event(ROLE), says("a"), event({}, "stop"))
LAST = frame({**NAMES, "choices": [], "usage": USAGE})


def test_usage_that_was_not_asked_for_is_left_out_and_kept():
    stream = normaliser()

    out = b"".join(map(stream.feed, (*BODY, LAST, DONE)))

    assert out == b"".join(BODY) + DONE
    assert stream.usage == stream.settled_usage() == Usage(9, 2)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param((event(ROLE), says("a"), event({}, "stop", usage=USAGE)), id="on the finish"),
        pytest.param((event(ROLE), says("a", usage=USAGE), event({}, "stop")), id="on a text"),
        pytest.param((LAST, *BODY), id="first"),
        pytest.param((*BODY, event({}, usage=USAGE)), id="beside an empty choice"),
        pytest.param((*BODY, LAST.replace(b"completion.chunk", b"completion")), id="other object"),
        pytest.param((*BODY, LAST.replace(b"[]", b"null")), id="without choices"),
        pytest.param((*BODY, LAST, LAST), id="twice"),
    ],
)
def test_usage_comes_last_and_without_choices_wherever_it_was(sent):
    out = heard(*sent, DONE, usage=True)

    *body, last = events(out)
    assert last == {**NAMES, "choices": [], "usage": USAGE}
    assert all("usage" not in one for one in body)
    assert finishes(out) == [(0, "stop")]


def test_usage_keeps_its_details_and_gets_its_total():
    partial = {"prompt_tokens": 9, "completion_tokens": 2, "cost": 0.5, "total_tokens": None,
               "prompt_tokens_details": {"cached_tokens": 4}}  # fmt: skip

    out = heard(event(ROLE), says("a"), event({}, "stop", usage=partial), DONE, usage=True)

    assert events(out)[-1]["usage"] == partial | {"total_tokens": 11}


def test_usage_that_is_asked_for_and_missing_is_estimated_and_says_so():
    stream = normaliser(usage=True)

    out = stream.feed(event(ROLE) + says("eight by") + event({}, "stop") + DONE)

    usage = events(out)[-1]["usage"]
    assert usage["estimated"] is True
    assert usage["completion_tokens"] == 2
    assert usage["prompt_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + 2
    assert stream.usage is None


@pytest.mark.parametrize(
    ("spoken", "size_bytes"),
    [
        ({"content": "äöü€"}, 9),
        ({"reasoning_content": "abcd"}, 4),
        ({"tool_calls": [{**CALL_A, "function": {"name": "f", "arguments": "{}"}}]}, 3),
    ],
    ids=["UTF-8 bytes, not characters", "reasoning too", "tool calls too"],
)
def test_an_estimate_counts_everything_the_model_wrote(spoken, size_bytes):
    first, second = normaliser(), normaliser()
    first.feed(event(ROLE) + event(spoken) * 4)
    second.feed(event(ROLE) + says("x" * (size_bytes * 4 if "tool_calls" not in spoken else 9)))

    assert first.settled_usage() == second.settled_usage()


def test_an_estimate_counts_a_renamed_event_once():
    spaced = says("x" * 40).replace(b'"model":"m"', b'"model": "up"')
    stream = normaliser(at_upstream="up")
    stream.feed(event(ROLE, model="up") + spaced)

    assert stream.settled_usage().completion_tokens == 10


def test_an_answer_that_breaks_off_is_counted_as_far_as_it_came():
    stream = normaliser()
    stream.feed(event(ROLE) + says("x" * 40))

    assert stream.settled_usage() == Usage(stream.settled_usage().prompt_tokens, 10, estimated=True)


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        (USAGE, Usage(9, 2)), ({"prompt_tokens": 9}, Usage(9, 0)),
        ({"prompt_tokens": None, "completion_tokens": 2}, Usage(0, 2)),
        ({"prompt_tokens": -1, "completion_tokens": 2}, Usage(0, 2)),
        ({"prompt_tokens": 2**64 - 1, "completion_tokens": 2**53 - 1}, Usage(0, 2**53 - 1)),
        (None, None), ({}, None), ([], None), ("9", None), ({"prompt_tokens": "9"}, None),
    ],
)  # fmt: skip
def test_reported_counts_are_read_with_care(reported, usage):
    assert usage_of(reported) == usage


def test_an_absurd_count_does_not_break_the_stream_that_it_ends():
    """No JSON carries the sum of two."""
    stream = normaliser(usage=True)

    out = stream.feed(event(ROLE) + says("a"))
    out += stream.feed(event({}, "stop", usage=dict.fromkeys(USAGE, 2**64 - 1)) + DONE)
    out += stream.finish()

    assert finishes(out) == [(0, "stop")]
    assert stream.settled_usage() == Usage(0, 0)


# --- content -------------------------------------------------------------------------------------


def test_a_stream_that_says_an_empty_finish_reason_all_the_time_is_whole():
    out = heard(
        event(ROLE, ""), says("Hello ", ""), says("world", ""), event({}, "stop"), DONE
    )  # fmt: skip

    assert deltas(out) == [ROLE, {"content": "Hello "}, {"content": "world"}, {}]
    assert finishes(out) == [(0, "stop")]


@pytest.mark.parametrize(
    ("sent", "has_content"),
    [
        (event(ROLE), False), (says(""), False), (LAST, False), (b": comment\n\n", False),
        (says("a"), True), (event({"reasoning_content": "a"}), True), (calls(CALL_A), True),
        (event({"refusal": "No."}), True), (event({}, "stop"), True),
    ],
)  # fmt: skip
def test_only_what_a_reader_would_see_is_content(sent, has_content):
    stream = normaliser()

    stream.feed(sent)

    assert stream.has_content is has_content


def test_a_completion_stream_is_repaired_like_a_chat():
    names = {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m"}
    sent = (
        frame({**names, "choices": [{"index": 0, "text": "a"}]})
        + frame({**names, "choices": [{"text": "b", "finish_reason": "eos"}], "usage": USAGE})
    )  # fmt: skip

    out = heard(sent, kind=Kind.COMPLETION, usage=True)

    first, second, last, usage = events(out)
    assert [one["choices"][0]["text"] for one in (first, second, last)] == ["a", "b", ""]
    assert finishes(out) == [(0, "stop")]
    assert usage["usage"] == USAGE
