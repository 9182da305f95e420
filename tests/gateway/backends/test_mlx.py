"""What mlx_lm.server needs said differently."""

import orjson

from gateway.backends.mlx import Mlx
from tests.fakes.backend import an_upstream
from tests.fakes.calls import make_call


def body_for(**fields) -> dict:
    backend = Mlx(an_upstream("mlx", "mlx://127.0.0.1:10240/v1"), None)
    return orjson.loads(backend.body_for(make_call(**fields), "m"))


def test_the_newer_limit_of_tokens_goes_under_its_older_name():
    body = body_for(max_completion_tokens=7)

    assert body["max_tokens"] == 7
    assert "max_completion_tokens" not in body


def test_developers_speak_as_system():
    body = body_for(messages=[{"role": "developer", "content": "x"}, {"role": "user"}])

    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_everyone_else_speaks_as_they_do():
    messages = [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "42"}]

    assert body_for(messages=messages)["messages"] == messages


def test_its_scheme_means_plain_http():
    assert Mlx.http_url("mlx://mac.local:10240/v1") == "http://mac.local:10240/v1"
