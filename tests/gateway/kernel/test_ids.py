"""Identifiers are random, and harmless wherever they are printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.ids import header_safe, new_id, request_id_from


def test_new_ids_carry_their_prefix_and_96_random_bits():
    ids = {new_id("req") for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(made.startswith("req-") and len(made) == 28 for made in ids)


@pytest.mark.parametrize("offered", ["req-1", "a", "A.b:c_d-9", "x" * 128])
def test_a_sane_request_id_is_honoured(offered: str):
    assert request_id_from(offered) == offered


@pytest.mark.parametrize(
    "offered",
    [None, "", "x" * 129, "-a", "a b", "a\nb", "a\n", "a\r\nSet-Cookie: x", "é", "<a>", "a,b", "٣"],
)
def test_any_other_request_id_is_replaced_by_our_own(offered: str | None):
    made = request_id_from(offered)

    assert made.startswith("req-")
    assert made != offered


@pytest.mark.parametrize("value", ["", "llama3.1:8b", "/models/tiny llama@main", "a" * 128])
def test_a_harmless_header_value_stays_as_it_is(value: str):
    assert header_safe(value) == value


@pytest.mark.parametrize(
    ("value", "safe"),
    [("modèle", "mod%C3%A8le"), ("a\r\nb", "a%0D%0Ab"), ("\x00", "%00"), ("模", "%E6%A8%A1"),
     ("\ud800", "%ED%A0%80")],
)  # fmt: skip
def test_anything_else_is_percent_encoded(value: str, safe: str):
    assert header_safe(value) == safe


@given(st.text(st.characters(), max_size=300))
def test_no_value_can_leave_the_header_it_stands_in(value: str):
    safe = header_safe(value)

    assert safe.isascii()
    assert safe.isprintable()
    assert len(safe) <= 128
