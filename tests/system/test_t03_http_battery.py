"""T03: what two servers could read in two ways is refused, in one answer, in our envelope."""

import json
import re

import pytest

from tests.fakes.rawclient import RawClient, chat, request
from tests.system.servers import KEY, Gateway, Upstream, get, post

BODY = json.dumps(chat("ok")).encode()
SMUGGLED = (
    b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n\r\n"
)
HOST = b"Host: gateway.test\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def _post(
    *headers: bytes,
    body: bytes = BODY,
    first: bytes = b"POST /v1/chat/completions HTTP/1.1",
    host: bytes = HOST,
) -> bytes:
    common = b"Authorization: Bearer %s\r\nContent-Type: application/json\r\n" % KEY.encode()
    return first + b"\r\n" + host + common + b"".join(headers) + b"\r\n" + body


def _get(line: bytes, *headers: bytes) -> bytes:
    return line + b"\r\n" + b"".join(headers) + b"\r\n"


FRAMING = {
    "length and chunks": _post(LENGTH, CHUNKED, body=CHUNKS),
    "chunks and a length that hides a request": _post(
        CHUNKED, b"Content-Length: 4\r\n", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "the same length twice": _post(LENGTH, LENGTH),
    "two lengths": _post(LENGTH, b"Content-Length: 3\r\n"),
    "a list of lengths": _post(b"Content-Length: %d, %d\r\n" % (len(BODY), len(BODY))),
    "a length with a plus": _post(b"Content-Length: +%d\r\n" % len(BODY)),
    "a negative length": _post(b"Content-Length: -1\r\n"),
    "a length in hexadecimal": _post(b"Content-Length: 0x20\r\n"),
    "a length with a space inside": _post(b"Content-Length: 1 1\r\n"),
    "a length in other digits": _post("Content-Length: ٣\r\n".encode()),
    "an empty length": _post(b"Content-Length:\r\n"),
    "a length beyond all bounds": _post(b"Content-Length: 99999999999999999999\r\n"),
    "an unknown coding": _post(b"Transfer-Encoding: xchunked\r\n", body=CHUNKS),
    "identity after chunked": _post(b"Transfer-Encoding: chunked, identity\r\n", body=CHUNKS),
    "chunked twice in one line": _post(b"Transfer-Encoding: chunked, chunked\r\n", body=CHUNKS),
    "chunked in two lines": _post(CHUNKED, CHUNKED, body=CHUNKS),
    "a vertical tab before chunked": _post(b"Transfer-Encoding: \x0bchunked\r\n", body=CHUNKS),
    "chunked in quotes": _post(b'Transfer-Encoding: "chunked"\r\n', body=CHUNKS),
    "gzip under the chunks": _post(b"Transfer-Encoding: gzip, chunked\r\n", body=CHUNKS),
    "chunks in HTTP/1.0": _post(CHUNKED, body=CHUNKS, first=b"POST /v1/chat/completions HTTP/1.0"),
    "a space before the colon of the coding": _post(
        b"Transfer-Encoding : chunked\r\n", body=CHUNKS
    ),
    "a space before the colon of the length": _post(b"Content-Length : %d\r\n" % len(BODY)),
    "a folded header": _post(LENGTH, b"X-Note: one\r\n two\r\n"),
    "a folded coding": _post(b"Transfer-Encoding:\r\n chunked\r\n", body=CHUNKS),
    "bare line feeds": _post(LENGTH).replace(b"\r\n", b"\n"),
    "one bare line feed": _post(LENGTH, b"X-Note: one\nX-Other: two\r\n"),
    "a bare carriage return": _post(LENGTH, b"X-Note: one\rtwo\r\n"),
    "a NUL in a header": _post(LENGTH, b"X-Note: o\x00ne\r\n"),
    "a NUL in the address": _get(b"GET /health\x00 HTTP/1.1", HOST),
    "two hosts": _post(LENGTH, b"Host: evil.test\r\n"),
    "no host": _post(LENGTH, host=b""),
    "a header without a colon": _post(LENGTH, b"nothing here\r\n"),
    "a header without a name": _post(LENGTH, b": value\r\n"),
    "a space in a header's name": _post(LENGTH, b"X Note: 1\r\n"),
    "a space before the first header": _get(b"GET /health HTTP/1.1", b" X-Note: 1\r\n", HOST),
}
"""Requests whose head alone condemns them."""

CHUNK_TRICKS = {
    "letters that are no digits": b"zz\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "a space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "an underscore in the size": b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n",
    "an empty size": b"\r\nhello\r\n0\r\n\r\n",
    "a line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a carriage return in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "no line end behind the data": b"5\r\nhello0\r\n\r\n",
    "more data than said": b"3\r\nhello\r\n0\r\n\r\n",
    "a size line without end": b"1" * 20_000,
    "a bare line feed behind the size": b"5\nhello\r\n0\r\n\r\n",
    "a broken trailer": b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
    "a trailer that frames": b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
    "a trailer with a bare line feed": b"5\r\nhello\r\n0\r\nA: b\nC: d\r\n\r\n",
}
"""Bodies whose framing breaks while they are read."""

ODD = {
    "HTTP/2's preface": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        {400, 505},
    ),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", {400}),
    "no version": (b"GET /health\r\n\r\n", {400}),
    "version 1.9x": (b"GET /health HTTP/1.9x\r\n" + HOST + b"\r\n", {400}),
    "version 3.0": (_get(b"GET /health HTTP/3.0", HOST), {400, 505}),
    "a method in small letters": (_get(b"get /health HTTP/1.1", HOST), {400, 405, 501}),
    "an unknown method": (
        _get(b"BREW /health HTTP/1.1", HOST, b"Connection: close\r\n"),
        {400, 405, 501},
    ),
    "TRACE": (_get(b"TRACE /health HTTP/1.1", HOST, b"Connection: close\r\n"), {405}),
    "CONNECT": (
        _get(b"CONNECT evil.test:443 HTTP/1.1", HOST, b"Connection: close\r\n"),
        {400, 404, 405},
    ),
    "an asterisk": (_get(b"GET * HTTP/1.1", HOST, b"Connection: close\r\n"), {400, 404}),
    "an address of another host": (
        _get(b"GET http://evil.test/nowhere HTTP/1.1", HOST, b"Connection: close\r\n"),
        {400, 404},
    ),
    "an address over 4 KB": (_get(b"GET /" + b"a" * 5000 + b" HTTP/1.1", HOST), {414}),
    "a hundred and one headers": (
        _get(b"GET /health HTTP/1.1", HOST, *[b"X-%d: 1\r\n" % n for n in range(101)]),
        {431},
    ),
    "a header over 8 KB": (
        _get(b"GET /health HTTP/1.1", HOST, b"X-Big: " + b"a" * 9000 + b"\r\n"),
        {431},
    ),
    "a head without end": (b"GET /health HTTP/1.1\r\n" + b"X-A: b\r\n" * 200_000, {400, 431}),
    "an unknown expectation": (_post(LENGTH, b"Expect: wonders\r\n"), {417}),
    "raw bytes in the address": (
        _get("GET /vé\u2028 HTTP/1.1".encode(), HOST, b"Connection: close\r\n"),
        {400, 404},
    ),
    "an address out of the root": (
        _get(b"GET /../../etc/passwd HTTP/1.1", HOST, b"Connection: close\r\n"),
        {400, 404},
    ),
    "a half escape": (
        _get(b"GET /v1/models/%zz%00 HTTP/1.1", HOST, b"Connection: close\r\n"),
        {400, 401, 404},
    ),
}


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    return crew.gateway(
        {"up": upstream}, GATEWAY_DEFAULT_UPSTREAM="up", GATEWAY_BODY_TIMEOUT_SECONDS=1
    )


def _answers(gateway: Gateway, sent: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Return every answer that a connection gives to these bytes before it is closed."""
    with RawClient(gateway.port, timeout_s=12) as client:
        try:
            client.send(sent)
        except OSError:
            assert len(sent) > 100_000, (
                "only what is too long may be refused while it is being sent"
            )
        said = client.rest()
    answers = []
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        assert re.fullmatch(r"HTTP/1\.1 \d{3} [ -~]*", lines[0]), lines[0]
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = int(headers.get("content-length", len(rest)))
        answers.append((int(lines[0].split(" ")[1]), headers, rest[:length]))
        said = rest[length:]
    return answers


def _assert_one_refusal(answers: list, statuses: set[int], connection: str = "close") -> None:
    assert len(answers) == 1, answers
    status, headers, body = answers[0]
    assert status in statuses, answers
    error = json.loads(body)["error"]
    assert set(error) >= {"message", "type", "param", "code", "request_id"}
    assert error["request_id"] == headers["x-request-id"]
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == connection


@pytest.mark.parametrize("name", FRAMING)
def test_t03_ambiguous_framing_is_refused_once(gateway, upstream, name):
    calls = len(upstream.seen_all())

    answers = _answers(gateway, FRAMING[name] + SMUGGLED)

    _assert_one_refusal(answers, {400, 411, 413, 501})
    assert len(upstream.seen_all()) == calls


@pytest.mark.parametrize("key", [KEY, ""], ids=["with a key", "without a key"])
@pytest.mark.parametrize("name", CHUNK_TRICKS)
def test_t03_broken_chunks_are_refused_once(gateway, upstream, name, key):
    """Also where the body is never asked for, because the caller is not known."""
    calls = len(upstream.seen_all())
    head = _post(CHUNKED, body=CHUNK_TRICKS[name]).replace(KEY.encode(), key.encode() or b"wrong")

    answers = _answers(gateway, head + SMUGGLED)

    if key:
        _assert_one_refusal(answers, {400})
    else:
        _assert_one_refusal(answers, {401}, connection="keep-alive")
    assert len(upstream.seen_all()) == calls


@pytest.mark.parametrize("name", ODD)
def test_t03_odd_requests_get_one_clear_answer(gateway, name):
    sent, statuses = ODD[name]

    answers = _answers(gateway, sent)

    _assert_one_refusal(answers, statuses)


def test_t03_a_body_that_is_longer_than_said_is_not_the_next_request(gateway):
    answers = _answers(gateway, _post(LENGTH, b"Connection: close\r\n", body=BODY + SMUGGLED))

    assert [status for status, _, _ in answers] == [200]


def test_t03_two_good_requests_in_one_packet_get_two_answers_in_order(gateway):
    first = post(chat("ok"))
    second = get("/health")

    answers = _answers(gateway, first + second)

    assert [status for status, _, _ in answers] == [200, 200]
    assert json.loads(answers[0][2])["object"] == "chat.completion"
    assert json.loads(answers[1][2])["ok"] is True


def test_t03_trailers_are_read_and_mean_nothing(gateway):
    body = CHUNKS[:-2] + b"X-Api-Key: other\r\nX-Backend: nowhere\r\n\r\n"

    answers = _answers(gateway, _post(CHUNKED, b"Connection: close\r\n", body=body))

    assert [status for status, _, _ in answers] == [200]


def test_t03_a_client_that_asks_first_is_told_to_continue(gateway):
    head, _, body = request(
        "POST", "/v1/chat/completions", key=KEY, body=chat("ok"), headers={"Expect": "100-continue"}
    ).partition(b"\r\n\r\n")
    with RawClient(gateway.port) as client:
        client.send(head + b"\r\n\r\n")

        said = client.sock.recv(1000)
        client.send(body)

        assert said == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.answer().status == 200


def test_t03_an_unknown_caller_with_a_large_body_is_refused_before_it_is_sent(gateway):
    with RawClient(gateway.port) as client:
        client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"
        )

        answer = client.answer()

    assert (answer.status, answer.error()["code"]) == (401, "missing_api_key")


def test_t03_underscored_twins_of_headers_are_not_headers(gateway):
    answers = _answers(gateway, _post(LENGTH, b"Content_Length: 3\r\nConnection: close\r\n"))

    assert [status for status, _, _ in answers] == [200]


def test_t03_the_observability_port_is_as_strict(gateway):
    with RawClient(gateway.observability_port) as client:
        client.send(b"GET /health HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n")

        said = client.rest()

    assert said.startswith(b"HTTP/1.1 400 ")
