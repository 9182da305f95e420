"""One credential is found, however it was sent."""

import pytest

from gateway.auth.credentials import credential_of
from gateway.kernel.errors import AuthError, InvalidRequest
from tests.fakes import wsgi


def found(**headers):
    """Return the credential in a request with these headers."""
    return credential_of(wsgi.incoming(**{f"HTTP_{name}": text for name, text in headers.items()}))


@pytest.mark.parametrize("text", ["Bearer k1", "bearer k1", "BEARER   k1", "  Bearer k1  "])
def test_a_bearer_token_is_found_however_it_is_spelt(text):
    assert found(AUTHORIZATION=text) == "k1"


def test_a_key_of_its_own_header_is_found():
    assert found(X_API_KEY=" k1 ") == "k1"


def test_the_same_credential_twice_is_one():
    assert found(AUTHORIZATION="Bearer k1", X_API_KEY="k1") == "k1"


@pytest.mark.T(37)
def test_two_different_credentials_are_refused_not_guessed():
    with pytest.raises(InvalidRequest) as caught:
        found(AUTHORIZATION="Bearer k1", X_API_KEY="k2")

    assert caught.value.code == "two_credentials"
    assert "k1" not in caught.value.message


@pytest.mark.parametrize(
    "headers",
    [{}, {"AUTHORIZATION": ""}, {"AUTHORIZATION": "Bearer"}, {"AUTHORIZATION": "Bearer  "},
     {"AUTHORIZATION": "Basic azE6"}, {"AUTHORIZATION": "k1"}, {"X_API_KEY": " "}],
)  # fmt: skip
def test_without_a_credential_the_caller_is_told_how_to_send_one(headers):
    with pytest.raises(AuthError) as caught:
        found(**headers)

    assert caught.value.code == "missing_api_key"
    assert "Authorization: Bearer <key>" in caught.value.message


def test_another_scheme_does_not_hide_the_key():
    assert found(AUTHORIZATION="Basic azE6", X_API_KEY="k1") == "k1"


def test_a_key_with_spaces_inside_stays_whole():
    assert found(AUTHORIZATION="Bearer a b") == "a b"


@pytest.mark.parametrize("key", ["schlüssel", "键", "😀"])
def test_a_key_of_other_letters_is_read_as_the_environment_would(key):
    as_wsgi_has_it = key.encode().decode("latin-1")

    assert found(AUTHORIZATION=f"Bearer {as_wsgi_has_it}") == key


def test_bytes_that_are_no_text_are_kept_apart_not_replaced():
    assert found(X_API_KEY="\xff\xfe") == "\udcff\udcfe"
