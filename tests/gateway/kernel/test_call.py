"""The nouns of a request."""

import dataclasses

import pytest

from gateway.kernel.call import Attempt, Plan, Principal, Target, Usage


def test_a_principal_may_do_what_its_scopes_say_and_nothing_else():
    principal = Principal("key-1", frozenset({"chat"}))

    assert principal.may("chat")
    assert not principal.may("admin")
    assert not principal.may("")


def test_usage_adds_up_as_openai_reports_it():
    assert Usage(3, 4).as_json() == {
        "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
    }  # fmt: skip


def test_usage_that_we_counted_ourselves_says_so():
    assert Usage(3, 4, estimated=True).as_json()["estimated"] is True


@pytest.mark.parametrize(
    "noun",
    [Principal("a", frozenset()), Target("a", "b"), Plan((), "why"), Usage()],
    ids=lambda noun: type(noun).__name__,
)
def test_nouns_that_are_shared_cannot_be_changed(noun: object):
    name = dataclasses.fields(noun)[0].name  # type: ignore[arg-type]

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(noun, name, "other")


def test_an_attempt_begins_as_started():
    assert Attempt(Target("a", "b")).outcome == "started"
