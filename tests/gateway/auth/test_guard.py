"""The guard: who is let in, and that refusals give nothing away."""

import orjson
import pytest

from gateway.auth.guard import KeyGuard
from gateway.auth.keys import ADMIN_SCOPES, KeyRing, digest_of, new_key, public_id
from gateway.kernel.call import Principal
from gateway.kernel.errors import AuthError, InvalidRequest, NotAllowed
from tests.fakes import wsgi

ADMIN, CHAT = new_key(), new_key()
STRANGERS = {
    "well formed": new_key(),
    "one letter off": CHAT[:-1] + "!",
    "nearly our form": "nxs_00000000_00000000000000000000000000000000_000000",
    "foreign": "sk-unknown",
    "long": "x" * 8_000,
    "no text": "\xc3\xa9\xff\x80",
    "SQL": "' OR 1=1; DROP TABLE keys --",
}


@pytest.fixture
def refused():
    """The codes of all refusals, as the metrics get them."""
    return []


@pytest.fixture
def guard(refused):
    """A guard who knows an admin and a caller that may only chat."""
    ring = KeyRing({
        digest_of(ADMIN): Principal(public_id(ADMIN), ADMIN_SCOPES),
        digest_of(CHAT): Principal(public_id(CHAT), frozenset({"chat"})),
    })  # fmt: skip
    return KeyGuard(ring, refused.append)


def caller(key):
    """Return a request with this key."""
    return wsgi.incoming(HTTP_AUTHORIZATION=f"Bearer {key}")


def test_a_known_caller_is_let_in_and_named_in_the_log_line(guard, refused):
    incoming = caller(CHAT)

    guard.admit(incoming, "chat")

    assert incoming.caller().key_id == public_id(CHAT)
    assert incoming.facts == {"principal": public_id(CHAT)}
    assert refused == []


def test_a_caller_without_the_scope_is_known_but_not_let_in(guard, refused):
    incoming = caller(CHAT)

    with pytest.raises(NotAllowed) as caught:
        guard.admit(incoming, "admin")

    assert caught.value.status == 403
    assert incoming.principal is None
    assert refused == ["not_allowed"]


@pytest.mark.parametrize("scope", sorted(ADMIN_SCOPES))
def test_an_admin_may_do_everything(guard, scope):
    incoming = caller(ADMIN)

    guard.admit(incoming, scope)

    assert incoming.caller().may(scope)


@pytest.mark.parametrize("key", STRANGERS.values(), ids=STRANGERS)
def test_a_caller_nobody_knows_is_refused(guard, refused, key):
    with pytest.raises(AuthError) as caught:
        guard.admit(caller(key), "chat")

    assert caught.value.status == 401
    assert key not in caught.value.message
    assert refused == ["invalid_api_key"]


def test_a_caller_without_a_key_is_counted_apart(guard, refused):
    with pytest.raises(AuthError):
        guard.admit(wsgi.incoming(), "chat")

    assert refused == ["missing_api_key"]


def test_two_credentials_are_a_mistake_not_a_refusal(guard, refused):
    incoming = wsgi.incoming(HTTP_AUTHORIZATION=f"Bearer {CHAT}", HTTP_X_API_KEY=ADMIN)

    with pytest.raises(InvalidRequest):
        guard.admit(incoming, "chat")

    assert incoming.principal is None
    assert refused == []


def test_a_new_ring_takes_effect_with_the_next_request(guard):
    guard.ring = KeyRing({})

    with pytest.raises(AuthError):
        guard.admit(caller(CHAT), "chat")


# --- through the whole application ---------------------------------------------------------------


@pytest.mark.T(22)
@pytest.mark.parametrize("key", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("carrier", ["HTTP_AUTHORIZATION", "HTTP_X_API_KEY"])
def test_unknown_and_malformed_keys_get_the_same_answer_to_the_byte(app, key, carrier):
    """Who tries keys must not learn from the answer how near he came."""
    sent = f"Bearer {key}" if carrier == "HTTP_AUTHORIZATION" else key
    request = wsgi.environ(path="/v1/models", HTTP_X_REQUEST_ID="r1", **{carrier: sent})

    answer = wsgi.ask(app.wsgi_app, request)

    assert answer.status == 401
    assert answer.header("WWW-Authenticate") == "Bearer"
    assert answer.header("x-should-retry") == "false"
    assert answer.read() == orjson.dumps({
        "error": {
            "message": "This API key is not valid.", "type": "authentication_error", "param": None,
            "code": "invalid_api_key", "request_id": "r1",
        }
    })  # fmt: skip


@pytest.mark.T(37)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/mock", "/metrics"])
def test_every_carrier_of_the_same_key_gets_the_same_result(client, headers, path):
    key = headers["Authorization"].removeprefix("Bearer ")

    for sent in (headers, {"X-API-Key": key}, {**headers, "X-API-Key": key}):
        assert client.get(path, headers=sent).status_code == 200
    assert client.get(path, headers={**headers, "X-API-Key": "other"}).status_code == 400
