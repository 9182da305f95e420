"""API keys: made, named, found, and called weak when they are."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.keys import (
    ADMIN_SCOPES,
    KNOWN_DEMO_KEYS,
    LEAST_VARIETY,
    SCOPES,
    digest_of,
    from_environment,
    is_well_formed,
    key_ring,
    new_key,
    public_id,
    weak_keys,
)
from gateway.auth.settings import AuthSettings

STRONG = "nxs-test-0123456789abcdef0123456789"


def test_a_new_key_has_our_form_and_is_never_the_same():
    keys = {new_key() for _ in range(200)}

    assert len(keys) == 200
    assert all(is_well_formed(key) and key.startswith("nxs_") for key in keys)
    assert not weak_keys(keys)


@given(st.integers(0, 51), st.characters(codec="ascii", categories=["L", "N"]))
def test_one_wrong_character_breaks_the_checksum(place, letter):
    key = new_key()
    place %= len(key)
    changed = key[:place] + letter + key[place + 1 :]

    assert is_well_formed(changed) is (changed == key)


@pytest.mark.parametrize("text", ["", "nxs", "nxs_a_b_c", "nxs____", "sk-123", "_" * 9, "é_ü_ß_ø"])
def test_anything_else_is_not_well_formed(text):
    assert not is_well_formed(text)


def test_a_key_is_named_by_its_public_part_and_a_foreign_one_by_its_digest():
    key = new_key()

    assert public_id(key) == key.split("_")[1]
    assert public_id("sk-foreign") == f"env-{digest_of('sk-foreign').hex()[:8]}"


@pytest.mark.parametrize("key", [STRONG, "sk-test-key-123"])
def test_a_name_gives_nothing_of_a_foreign_key_away(key):
    assert key[:4] not in public_id(key)


def test_the_ring_finds_who_holds_a_key_and_nobody_else():
    ring = key_ring([STRONG, "k2"], {})

    assert len(ring) == 2
    assert ring.find(STRONG).key_id == public_id(STRONG)
    assert ring.find(STRONG[:-1]) is None
    assert ring.find(STRONG + "x") is None
    assert ring.find("") is None


@pytest.mark.T(29)
def test_keys_that_begin_alike_are_two_callers():
    ring = key_ring([STRONG + "a", STRONG + "b"], {})

    assert ring.find(STRONG + "a").key_id != ring.find(STRONG + "b").key_id


def test_keys_of_the_environment_may_use_the_api_and_stored_ones_may_administer():
    admin = new_key()
    ring = key_ring([STRONG], {public_id(admin): digest_of(admin).hex()})

    assert ring.find(STRONG).scopes == SCOPES
    assert ring.find(admin).scopes == ADMIN_SCOPES
    assert "admin" not in SCOPES


def test_a_key_that_is_also_stored_keeps_its_higher_rank():
    admin = new_key()

    ring = key_ring([admin], {public_id(admin): digest_of(admin).hex()})

    assert ring.find(admin).may("admin")


def test_a_key_with_bytes_that_are_no_text_is_found_again():
    key = os.fsdecode(b"\xff\xfe" + b"x" * 32)

    assert key_ring([key], {}).find(key) is not None


def test_all_four_variables_name_keys_once_each_in_order():
    settings = AuthSettings(
        bearer_token="a", bearer_tokens="b, c", gateway_api_keys="a;d", api_keys="e,b"
    )

    assert from_environment(settings) == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('["a", " b ", ""]', ("a", "b")),
        ("[]", ()),
        ('["a", 1, null]', ("a",)),
        (" , ;,", ()),
        ("a;b,c", ("a", "b", "c")),
        ("a\nb\r\n\nc\n", ("a", "b", "c")),
        ("one", ("one",)),
    ],
)
def test_keys_come_as_a_json_list_or_separated(text, keys):
    assert from_environment(AuthSettings(gateway_api_keys=text)) == keys


@pytest.mark.T(39)
@pytest.mark.parametrize("key", sorted(KNOWN_DEMO_KEYS))
def test_a_key_of_a_public_readme_is_weak(key):
    [line] = weak_keys([key])

    assert "stands in a public README" in line
    assert public_id(key) in line


@pytest.mark.T(39)
@pytest.mark.parametrize("key", ["dev-key", "sk-test-key-123"])
def test_the_demo_keys_that_everybody_has_seen_are_known(key):
    assert key in KNOWN_DEMO_KEYS


@pytest.mark.parametrize(("length", "lines"), [(1, 1), (31, 1), (32, 0), (64, 0)])
def test_a_short_key_is_weak(length, lines):
    assert len(weak_keys([("0123456789abcdef" * 4)[:length]])) == lines


@pytest.mark.T(39)
@pytest.mark.parametrize(("letters", "lines"), [(1, 1), (LEAST_VARIETY - 1, 1), (LEAST_VARIETY, 0)])
def test_a_long_key_of_few_different_characters_is_weak(letters, lines):
    key = ("0123456789abcdef"[:letters] * 40)[:40]

    found = weak_keys([key])

    assert len(found) == lines
    assert all("repeats a few characters" in line and key not in line for line in found)


def test_random_hexadecimal_digits_are_not_called_weak():
    """What ``openssl rand -hex 16`` prints; one in a million such keys may be."""
    keys = [os.urandom(16).hex() for _ in range(1000)]

    assert weak_keys(keys) == []


def test_a_json_list_that_is_none_is_pointed_out_and_read_as_it_stands():
    keys = from_environment(AuthSettings(gateway_api_keys=f'["{STRONG}", "{STRONG}"'))

    assert keys[0] == f'["{STRONG}"'
    assert "was a JSON list meant?" in weak_keys(keys)[0]


def test_every_weak_key_has_its_line_and_no_line_holds_a_key():
    keys = ["short-key", "dev-key", STRONG]

    lines = weak_keys(keys)

    assert len(lines) == 2
    assert not any(key in line for key in keys for line in lines)
