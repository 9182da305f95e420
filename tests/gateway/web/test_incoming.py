"""One request and one answer, free of Flask."""

import orjson
import pytest

from gateway.kernel.call import Principal
from gateway.kernel.logs import Log
from gateway.web.incoming import Incoming, json_answer
from tests.fakes import wsgi
from tests.fakes.sockets import connection


def test_a_request_knows_its_headers_and_parts():
    log = Log()
    incoming = Incoming(wsgi.environ(HTTP_X_BACKEND="ollama"), {Log: log})

    assert incoming.header("HTTP_X_BACKEND") == "ollama"
    assert incoming.header("HTTP_X_OTHER") is None
    assert incoming.part(Log) is log


def test_a_request_is_unmatched_and_nobodys_until_told_otherwise():
    incoming = wsgi.incoming()

    assert incoming.endpoint == "unmatched"
    assert incoming.principal is None
    assert (incoming.facts, incoming.answer_headers) == ({}, [])


def test_facts_and_headers_belong_to_one_request():
    first, second = wsgi.incoming(), wsgi.incoming()

    first.facts["code"] = "x"
    first.answer_headers.append(("a", "b"))

    assert (second.facts, second.answer_headers) == ({}, [])


def test_the_caller_is_known_once_the_guard_has_passed_him():
    incoming = wsgi.incoming()

    with pytest.raises(RuntimeError, match="without a principal"):
        incoming.caller()
    incoming.principal = Principal("key-1", frozenset())

    assert incoming.caller().key_id == "key-1"


def test_one_request_sleeps_in_one_place_until_it_is_closed():
    with connection() as (server, _):
        incoming = wsgi.incoming(**{"gunicorn.socket": server})
        wait = incoming.wait()

        assert incoming.wait() is wait
        incoming.close()
        assert wait._client_watcher is None
        incoming.close()


def test_a_request_that_never_slept_closes_too():
    wsgi.incoming().close()


def test_hanging_up_is_left_to_the_server():
    closed = []

    wsgi.incoming(**{"gateway.force_close": lambda: closed.append(True)}).hang_up()
    wsgi.incoming().hang_up()

    assert closed == [True]


def test_a_json_answer_is_kept_by_no_cache():
    answer = json_answer({"a": "é"}, 201, [("X-More", "1")])

    assert answer.status == 201
    assert orjson.loads(answer.body[0]) == {"a": "é"}
    assert answer.headers == [
        ("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("X-More", "1"),
    ]  # fmt: skip


def test_json_that_is_ready_is_sent_as_it_is():
    assert json_answer(b'{"a":  1}').body == (b'{"a":  1}',)
