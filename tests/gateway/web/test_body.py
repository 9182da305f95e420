"""Bodies: read under our limits, checked as JSON, handed on as they came (T04, T05)."""

import json
import time
from io import BytesIO

import gevent
import gevent.socket
import msgspec
import orjson
import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import INCLUDE, Schema, fields

from gateway.kernel.errors import BodyTooLarge, ClientGone, GatewayError, InvalidRequest
from gateway.web.body import DEPTH_LIMIT, STRUCTURE_LIMIT, parse, read_body
from gateway.web.settings import WebSettings
from tests.fakes import wsgi
from tests.fakes.sockets import connection

LIMIT = 1_000
SETTINGS = WebSettings(max_request_bytes=LIMIT, body_timeout_s=0.2)


class Small(msgspec.Struct):
    """What a room looks at."""

    model: str
    n: int | None = None
    items: list[dict[str, object]] | None = None


class SmallRequest(Schema):
    """The same rules, in words."""

    class Meta:
        """marshmallow's own switch."""

        unknown = INCLUDE

    model = fields.String(required=True)
    n = fields.Integer(strict=True, allow_none=True)
    items = fields.List(fields.Dict(), allow_none=True)


decoder = msgspec.json.Decoder(Small)


def parsed(body: bytes) -> tuple[Small, dict[str, msgspec.Raw]]:
    """Return what the small room sees of a body."""
    return parse(body, decoder, SmallRequest)


def refusal_of(body: bytes) -> GatewayError:
    """Return the error that a body is refused with."""
    with pytest.raises(GatewayError) as caught:
        parsed(body)
    return caught.value


def with_member(value: bytes) -> bytes:
    """Return a valid body with one more member that nobody looks at."""
    return b'{"model":"m","x":%b}' % value


# --- reading -------------------------------------------------------------------------------------


def read_over(server: gevent.socket.socket) -> bytes:
    """Return the body of the request that waits on a connection, read by gunicorn's own parser."""
    request = next(RequestParser(Config(), server, ("127.0.0.1", 1)))
    headers = {name.replace("-", "_"): value for name, value in request.headers}
    incoming = wsgi.incoming(
        "POST", "/", CONTENT_LENGTH=headers.get("CONTENT_LENGTH", ""),
        **{"wsgi.input": request.body, "gunicorn.socket": server},
    )  # fmt: skip
    return read_body(incoming, SETTINGS)


def chunked(*blocks: bytes) -> bytes:
    """Return a whole request with a chunked body."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks)
    return b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def sized(declared: int, body: bytes) -> bytes:
    """Return a request that declares a length, with whatever body."""
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (declared, body)


@pytest.mark.T(4)
@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
def test_a_body_up_to_the_limit_is_read_whole_chunked_or_not(size: int):
    body = bytes(range(256)) * 4
    body = body[:size]

    for request in (sized(size, body), chunked(*(body[i : i + 7] for i in range(0, size, 7)))):
        with connection() as (server, client):
            client.sendall(request)
            assert read_over(server) == body


@pytest.mark.T(4)
@pytest.mark.parametrize("size", [LIMIT + 1, 3 * LIMIT, 300 * LIMIT])
def test_a_chunked_body_beyond_the_limit_is_refused_and_never_cut(size: int):
    with connection() as (server, client):
        gevent.spawn(client.sendall, chunked(b"x" * size))
        client.settimeout(5)

        with pytest.raises(BodyTooLarge, match="larger than 1000 bytes"):
            gevent.spawn(read_over, server).get(timeout=5)


@pytest.mark.T(4)
def test_a_declared_length_beyond_the_limit_is_refused_before_anything_is_read():
    incoming = wsgi.incoming("POST", body=b"", CONTENT_LENGTH=str(LIMIT + 1))
    incoming.environ["wsgi.input"] = None

    with pytest.raises(BodyTooLarge):
        read_body(incoming, SETTINGS)


def test_a_refused_body_closes_the_connection_after_the_answer():
    closed = []
    incoming = wsgi.incoming("POST", CONTENT_LENGTH=str(LIMIT + 1))
    incoming.environ["gateway.force_close"] = lambda: closed.append(True)

    with pytest.raises(BodyTooLarge):
        read_body(incoming, SETTINGS)

    assert closed == [True]


@pytest.mark.parametrize(
    "broken",
    [b"zz\r\nabc\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"-1\r\n\r\n", b"3\r\nabc\r\n0\r\nbad\r\n\r\n"],
)
def test_broken_chunks_are_the_callers_mistake(broken: bytes):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    with connection() as (server, client):
        client.sendall(head + broken)
        with pytest.raises(InvalidRequest) as caught:
            read_over(server)

    assert caught.value.code == "bad_chunks"


@pytest.mark.parametrize(
    "request_bytes", [sized(10, b"12345"), chunked(b"x" * 50)[:-20]], ids=["sized", "chunked"]
)
def test_a_client_that_leaves_inside_its_body_is_gone(request_bytes: bytes):
    with connection() as (server, client):
        client.sendall(request_bytes)
        client.close()

        with pytest.raises(ClientGone):
            read_over(server)


@pytest.mark.T(6)
def test_a_body_that_drips_is_ended_at_its_deadline_however_steadily_it_comes():
    with connection() as (server, client):
        client.sendall(sized(500, b""))
        drip = gevent.spawn(lambda: [(client.send(b"x"), gevent.sleep(0.02)) for _ in range(500)])
        began = time.perf_counter()

        with pytest.raises(InvalidRequest) as caught:
            gevent.spawn(read_over, server).get(timeout=5)
        took = time.perf_counter() - began
        drip.kill()

    assert caught.value.code == "request_timeout"
    assert 0.2 <= took < 2


@pytest.mark.T(3)
@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked, gzip", "identity", ""])
def test_a_body_in_another_coding_is_refused_and_its_connection_closed(coding):
    closed = []
    incoming = wsgi.incoming("POST", body=b"abc", HTTP_TRANSFER_ENCODING=coding)
    incoming.environ["gateway.force_close"] = lambda: closed.append(True)

    with pytest.raises(InvalidRequest) as caught:
        read_body(incoming, SETTINGS)

    assert caught.value.code == "bad_chunks"
    assert closed == [True]


def test_without_gunicorn_a_body_is_read_too():
    incoming = wsgi.incoming("POST", body=b"abc")

    assert read_body(incoming, SETTINGS) == b"abc"


def test_a_large_body_is_put_together_from_several_reads():
    body = bytes(range(256)) * 4_096
    incoming = wsgi.incoming("POST", body=body)

    assert read_body(incoming, WebSettings(max_request_bytes=len(body))) == body


def test_a_body_shorter_than_declared_means_that_the_client_left():
    incoming = wsgi.incoming("POST", CONTENT_LENGTH="10")
    incoming.environ["wsgi.input"] = BytesIO(b"12345")

    with pytest.raises(ClientGone):
        read_body(incoming, SETTINGS)


# --- parsing -------------------------------------------------------------------------------------


def test_fields_are_typed_and_members_stay_as_the_caller_wrote_them():
    wanted, members = parsed(b'{"model": "m", "n": 2, "x": [1,  2.50, "\\u00e9"]}')

    assert (wanted.model, wanted.n) == ("m", 2)
    assert bytes(members["x"]) == b'[1,  2.50, "\\u00e9"]'


def test_explicit_nulls_are_left_out():
    _, members = parsed(b'{"model":"m","n":null,"x": null ,"y":"null","z":[null]}')

    assert list(members) == ["model", "y", "z"]


def test_a_wrong_type_is_told_by_field_in_the_words_of_the_schema():
    error = refusal_of(b'{"model":"m","n":"two"}')

    assert (error.status, error.param) == (400, "n")
    assert error.message == "n: Not a valid integer."


def test_a_mistake_inside_a_list_is_told_with_its_place():
    error = refusal_of(b'{"model":"m","items":[{}, 7]}')

    assert error.param == "items[1]"


def test_a_missing_field_is_named():
    assert refusal_of(b'{"n":1}').param == "model"


LONE = b"\\ud800"
BOMBS = {
    "nothing": b"",
    "no JSON": b"hello",
    "cut": b'{"model":"m"',
    "two values": b'{"model":"m"}{}',
    "trailing comma": b'{"model":"m",}',
    "a list": b"[]",
    "a text": b'"model"',
    "a number": b"1",
    "null": b"null",
    "NaN": with_member(b"NaN"),
    "Infinity": with_member(b"-Infinity"),
    "BOM": b'\xef\xbb\xbf{"model":"m"}',
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "UTF-16 without BOM": '{"model":"m"}'.encode("utf-16-le"),
    "UTF-32": '{"model":"m"}'.encode("utf-32"),
    "invalid UTF-8 in a field": b'{"model":"\xff"}',
    "invalid UTF-8 elsewhere": with_member(b'"\xc3("'),
    "invalid UTF-8 in a key": b'{"model":"m","\xff":1}',
    "overlong UTF-8": with_member(b'"\xc0\xaf"'),
    "UTF-8 surrogate": with_member(b'"\xed\xa0\x80"'),
    "lone surrogate in a field": b'{"model":"%b"}' % LONE,
    "lone surrogate elsewhere": with_member(b'"%b"' % LONE),
    "lone surrogate in a list": b'{"model":"m","items":[{"a":"%b"}]}' % LONE,
    "NUL": with_member(b'"\x00"'),
    "line break in a text": with_member(b'"a\nb"'),
    "5,000 digits in a field": b'{"model":"m","n":%b}' % (b"9" * 5_000),
    "5,000 digits elsewhere": with_member(b"9" * 5_000),
    "5,000 digits and an escaped key": b'{"model":"m","\\u0078":1,"y":%b}' % (b"9" * 5_000),
    "400 digits in a list": b'{"model":"m","items":[{"a":%b}]}' % (b"9" * 400),
    "1e400 in a field": b'{"model":"m","n":1e400}',
    "1e400 elsewhere": with_member(b"1e400"),
    "1e400 among many brackets": with_member(b"[1e400" + b",[]" * 70 + b"]"),
    "depth 65, empty inside": with_member(b"[" * 64 + b"]" * 64),
    "depth 65": with_member(b"[" * 64 + b"1" + b"]" * 64),
    "depth 65 of objects": with_member(b'{"a":' * 64 + b"1" + b"}" * 64),
    "depth 5,000": with_member(b"[" * 5_000 + b"]" * 5_000),
    "depth 5,000, never closed": with_member(b"[" * 5_000),
    "depth 99,000": with_member(b"[" * 49_500 + b"]" * 49_500),
    "depth 99,000 of objects": b'{"a":' * 99_000,
    "a key twice": b'{"model":"m","model":"n"}',
    "a key twice with the same value": b'{"model":"m","model":"m"}',
    "a key twice with white space": b' { "model" : "m" ,\r\n\t"x": 1, "x" : 2 } ',
    "a key twice, once with escapes": b'{"model":"m","\\u006dodel":"n"}',
    "a key twice, both with escapes": b'{"model":"m","\\u0078":1,"\\u0078":2}',
}


@pytest.mark.T(5)
@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_a_json_bomb_is_a_400_in_less_than_50_milliseconds(body: bytes):
    # Processor time of this thread: what the hub would stand still, whatever else the box does.
    began = time.thread_time()
    error = refusal_of(body)
    took = time.thread_time() - began

    assert error.status == 400
    assert took < 0.05


@pytest.mark.T(5)
@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b"[%b{}]" % (b"{}," * 1_000_000),
        b"[%b1]" % (b"1," * 1_100_000),
    ],
    ids=["depth 100,000", "a million objects", "1,100,000 numbers"],
)
def test_too_much_structure_is_refused_unread_in_less_than_50_milliseconds(bomb: bytes):
    body = with_member(bomb)
    # Processor time of this thread: what the hub would stand still, whatever else the box does.
    began = time.thread_time()
    error = refusal_of(body)
    took = time.thread_time() - began

    assert isinstance(error, BodyTooLarge)
    assert took < 0.05


@pytest.mark.T(5)
def test_structure_up_to_its_limit_passes():
    lists = STRUCTURE_LIMIT - len(b"{[")
    body = with_member(b"[" + b"[]," * lists + b"1]")

    assert body.count(b"{") + body.count(b"[") == STRUCTURE_LIMIT
    assert parsed(body)[0].model == "m"
    assert isinstance(refusal_of(body.replace(b"[", b"[[],", 1)), BodyTooLarge)


@pytest.mark.parametrize(
    "value",
    [b'"%b"' % (b"a,b;" * 200_000), b"[%b1]" % (b"101," * 300_000)],
    ids=["a table as text", "many tokens"],
)
def test_texts_and_tokens_may_have_many_commas(value: bytes):
    assert parsed(with_member(value))[0].model == "m"


def test_a_large_wrong_body_is_explained_without_holding_the_hub():
    messages = b",".join([b"{}"] * 49_000)
    body = b'{"model":"m","n":"x","messages":[%b]}' % messages
    began = time.thread_time()
    error = refusal_of(body)
    took = time.thread_time() - began

    assert (error.status, error.param) == (400, "n")
    assert took < 0.1


@pytest.mark.T(5)
@pytest.mark.parametrize(
    "value",
    [b"[" * 63 + b"]" * 63, b"[" * 63 + b"1" + b"]" * 63, b"[%b]" % b",".join([b"[[]]"] * 500)],
    ids=["64 levels, empty inside", "64 levels", "many brackets, shallow"],
)
def test_64_levels_pass(value: bytes):
    assert parsed(with_member(value))[0].model == "m"


def test_brackets_inside_texts_are_no_levels():
    body = with_member(json.dumps("[" * 5_000).encode())

    assert parsed(body)[0].model == "m"


@pytest.mark.parametrize(
    "value",
    [b"1e308", b"-1.5e-400", b"1" * 300, b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\xe2\x80\xa8"'],
)
def test_unusual_but_valid_json_passes(value: bytes):
    _, members = parsed(with_member(value))

    assert bytes(members["x"]) == value


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","x":{"a":1,"a":2}}',
        b'{"model":"m","\\u0078":{"model":1}}',
        b'{ "model" : "m" , "a b" : 1 , "ab" : "x  y" }',
        '{"model":"m","schlüssel":1,"模型":"é"}'.encode(),
        b'{"model":"m","a\\tb":1,"a\\"b":2,"a\\\\":3}',
        b'{"model":"m","":1}',
        b'{"model":"m","MODEL":"n"}',
    ],
)
def test_keys_that_only_look_alike_are_not_doubled(body: bytes):
    assert parsed(body)[0].model == "m"


keys = st.sampled_from(["model", "a", "b", "é", "a b", "a\tb", '"', "\\", "\u2028", "😀", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(keys.filter(lambda key: key != "model"), values), max_size=6), st.data())
def test_a_repeated_key_is_found_however_the_object_is_written(
    members: list[tuple[str, object]], data: st.DataObject
):
    """Escapes, white space and nesting are chosen freely; only a repeated top-level key counts."""
    blank = st.sampled_from(["", " ", "\n", "\t \r"])
    written = []
    for name, value in [("model", "m"), *members]:
        escaped = data.draw(st.booleans())
        key = "".join(f"\\u{ord(c):04x}" for c in name) if escaped and name.isascii() else name
        text = f'"{key}"' if escaped and name.isascii() else json.dumps(name, ensure_ascii=False)
        spaced = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
        written.append(f"{data.draw(blank)}{text}{data.draw(blank)}:{data.draw(blank)}{spaced}")
    body = ("{" + f"{data.draw(blank)},".join(written) + "}").encode()
    names = ["model", *(name for name, _ in members)]

    if len(names) != len(set(names)):
        assert refusal_of(body).code == "duplicate_field"
    else:
        kept = {name for name, value in [("model", "m"), *members] if value is not None}
        assert set(parsed(body)[1]) == kept


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_no_bytes_at_all_bring_the_parser_down(body: bytes):
    status, document = 200, None
    try:
        document = parsed(body)[1]
    except GatewayError as error:
        status = error.status

    assert status == 400 or document == msgspec.json.decode(body, type=dict[str, msgspec.Raw])


@given(values)
def test_what_passes_is_json_to_every_other_reader(value: object):
    body = json.dumps({"model": "m", "x": value}).encode()

    try:
        _, members = parsed(body)
    except GatewayError:
        return
    document = orjson.loads(body)
    assert {name: orjson.loads(bytes(raw)) for name, raw in members.items()} == {
        name: inner for name, inner in document.items() if inner is not None
    }


def test_the_depth_limit_is_the_documented_one():
    assert DEPTH_LIMIT == 64
    assert "64 levels" in refusal_of(BOMBS["depth 65"]).message
