"""What the fault upstream does to a request: one function a scenario, parameters after its name.

``stall_after_3`` is ``stall_after`` with 3; ``ttft_1.5`` is ``ttft`` with 1.5. A name that stands
for no scenario behaves well.
"""

import gzip
import json
from collections.abc import Callable

from gateway.kernel.clock import monotonic
from tests.fakes.fault_exchange import Exchange

FOREVER_S = 60.0
"""How long a scenario that hangs hangs; bounded so that no process outlives its test for long."""
HOSTILE = (
    "Set-Cookie: sid=stolen; Path=/",
    "Location: http://evil.test/",
    "Keep-Alive: timeout=999",
    "Upgrade: websocket",
    "Proxy-Authenticate: Basic",
    "Trailer: x-evil",
    "X-Evil: 1",
    "Access-Control-Allow-Origin: *",
    "Content-Security-Policy: none",
    "Server: evil/1.0",
)
_SECRETS = b"out of memory at /opt/models/x.bin on 10.0.0.7:8001 with sk-secret12345"
_BAD_JSON = b'data: {"id": "x", "choices": [\n\n'
SCENARIOS: dict[str, Callable[..., None]] = {}


def scenario(play: Callable[..., None]) -> Callable[..., None]:
    """File a function under its name."""
    SCENARIOS[play.__name__.removeprefix("play_")] = play
    return play


def scenario_of(model: str) -> tuple[Callable[..., None], list[float]]:
    """Return the scenario that a model name stands for, and its numbers."""
    words, numbers = model.split("_"), []
    while words and _is_number(words[-1]) and "_".join(words) not in SCENARIOS:
        numbers.insert(0, float(words.pop()))
    return SCENARIOS.get("_".join(words), play_ok), numbers


def _is_number(word: str) -> bool:
    return word.isascii() and word.replace(".", "", 1).isdigit()


def _stream(exchange: Exchange, events: list[bytes]) -> None:
    exchange.head()
    for event in events:
        exchange.chunk(event)
    exchange.end()


def _stream_that_breaks(exchange: Exchange, words: float, *broken: bytes) -> None:
    """Send so many words, and what is wrong in a packet of its own."""
    exchange.head()
    if words:
        for event in exchange.words(int(words)):
            exchange.chunk(event)
        exchange.pause(0.05)
    for event in broken:
        exchange.chunk(event)
    for event in exchange.goodbye():
        exchange.chunk(event)
    exchange.end()


def _begin(exchange: Exchange, count: float) -> None:
    """Send a head and so many words, or the first half of an answer in one piece."""
    if exchange.stream:
        exchange.head()
        for event in exchange.words(int(count)):
            exchange.chunk(event)
    else:
        body = exchange.document()
        exchange.head(f"Content-Length: {len(body)}")
        exchange.send(body[: len(body) // 2])


@scenario
def play_ok(exchange: Exchange, words: float = 2) -> None:
    if exchange.stream:
        _stream(exchange, exchange.words(int(words)) + exchange.goodbye())
    else:
        exchange.whole(exchange.document())


@scenario
def play_echo(exchange: Exchange) -> None:
    """Repeats what it was told last."""
    text = (
        exchange.asked["messages"][-1]["content"]
        if exchange.kind == "chat"
        else exchange.asked["prompt"]
    )
    if exchange.stream:
        _stream(
            exchange, [exchange.event("", first=True), exchange.event(text), *exchange.goodbye()]
        )
    else:
        exchange.whole(exchange.document(text))


@scenario
def play_count(exchange: Exchange) -> None:
    """Answers how many characters it was told last."""
    exchange.whole(exchange.document(str(len(exchange.asked["messages"][-1]["content"]))))


@scenario
def play_ttft(exchange: Exchange, seconds: float = FOREVER_S) -> None:
    """Says nothing at all for a while."""
    exchange.pause(seconds)
    play_ok(exchange)


@scenario
def play_late(exchange: Exchange, seconds: float = FOREVER_S) -> None:
    """Sends its head at once, its body later: servers do while they read a long prompt."""
    exchange.head()
    exchange.pause(seconds)
    body = exchange.words(2) + exchange.goodbye() if exchange.stream else [exchange.document()]
    for block in body:
        exchange.chunk(block)
    exchange.end()


@scenario
def play_drip_head(exchange: Exchange, seconds: float = FOREVER_S) -> None:
    """Keeps every single read short and the head incomplete."""
    exchange.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(int(seconds / 0.2)):
        exchange.send(b"x")
        exchange.pause(0.2)
    exchange.close()


@scenario
def play_stall_after(exchange: Exchange, words: float = 2) -> None:
    _begin(exchange, words)
    exchange.pause(FOREVER_S)
    exchange.close()


@scenario
def play_drip(exchange: Exchange, interval_s: float = 0.1, words: float = 20) -> None:
    """A slow model: one word, or a part of the answer, at a time."""
    if exchange.stream:
        exchange.head()
        for event in exchange.words(int(words)):
            exchange.chunk(event)
            exchange.pause(interval_s)
        for event in exchange.goodbye():
            exchange.chunk(event)
        exchange.end()
        return
    body = exchange.document()
    exchange.head(f"Content-Length: {len(body)}")
    step = max(1, len(body) // int(words))
    for place in range(0, len(body), step):
        exchange.send(body[place : place + step])
        exchange.pause(interval_s)


@scenario
def play_never_ends(exchange: Exchange, interval_s: float = 0.05) -> None:
    exchange.head()
    block = exchange.event("again ") if exchange.stream else b" " * 64
    ends_s = monotonic() + FOREVER_S
    while monotonic() < ends_s:
        exchange.chunk(block)
        exchange.pause(interval_s)
    exchange.close()


@scenario
def play_burst(exchange: Exchange, words: float = 100_000) -> None:
    """Sends as fast as the peer takes it."""
    exchange.head()
    block = exchange.event("x" * 1000)
    for _ in range(int(words)):
        exchange.chunk(block)
    play_end(exchange)


def play_end(exchange: Exchange) -> None:
    for event in exchange.goodbye():
        exchange.chunk(event)
    exchange.end()


@scenario
def play_trunc_chunked(exchange: Exchange, words: float = 2) -> None:
    """A polite FIN where the rest should be."""
    if exchange.stream:
        _begin(exchange, words)
    else:
        exchange.head()
        exchange.chunk(exchange.document()[:40])
    exchange.close()


@scenario
def play_trunc_length(exchange: Exchange) -> None:
    body = exchange.document()
    exchange.head(f"Content-Length: {len(body)}")
    exchange.send(body[:-20])
    exchange.close()


@scenario
def play_trunc_close(exchange: Exchange, words: float = 2) -> None:
    """An unframed body: only its content tells that it was cut."""
    exchange.head("Connection: close")
    exchange.send(
        b"".join(exchange.words(int(words))) if exchange.stream else exchange.document()[:40]
    )
    exchange.close()


@scenario
def play_close_no_cl(exchange: Exchange) -> None:
    """A whole answer whose end is the connection's end."""
    exchange.head("Connection: close")
    body = exchange.words(2) + exchange.goodbye() if exchange.stream else [exchange.document()]
    for block in body:
        exchange.send(block)
        exchange.pause(0.02)
    exchange.close()


@scenario
def play_rst_after(exchange: Exchange, words: float = 2) -> None:
    _begin(exchange, words)
    exchange.pause(0.1)  # a reset drops what the peer has not read yet
    exchange.reset()


@scenario
def play_rst(exchange: Exchange) -> None:
    exchange.reset()


@scenario
def play_nothing(exchange: Exchange) -> None:
    """Takes the request and closes without a word."""
    exchange.close()


@scenario
def play_works_and_closes(exchange: Exchange, seconds: float = 2) -> None:
    """Takes the request, works on it, and closes without a word."""
    exchange.pause(seconds)
    exchange.close()


@scenario
def play_bodiless_refusal(exchange: Exchange, seconds: float = FOREVER_S) -> None:
    """Says 503 and that a body follows, which does not."""
    exchange.head("Content-Length: 10", status="503 Service Unavailable")
    exchange.pause(seconds)


@scenario
def play_half_head(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    exchange.close()


@scenario
def play_not_http(exchange: Exchange) -> None:
    exchange.send(b"220 mail.test ESMTP ready\r\n\r\n")
    exchange.close()


@scenario
def play_500(exchange: Exchange) -> None:
    exchange.whole(b'{"error":{"message":"%s"}}' % _SECRETS, status="500 Internal Server Error")


@scenario
def play_tattle(exchange: Exchange) -> None:
    """A refusal that says too much."""
    exchange.whole(b'{"error":{"message":"%s"}}' % _SECRETS, status="400 Bad Request")


@scenario
def play_503(exchange: Exchange) -> None:
    exchange.whole(b'{"error":"loading"}', status="503 Service Unavailable")


@scenario
def play_429_ra(exchange: Exchange, seconds: float = 7) -> None:
    exchange.whole(
        b'{"error":{"message":"slow down"}}',
        f"Retry-After: {seconds:g}",
        status="429 Too Many Requests",
    )


@scenario
def play_503_ra(exchange: Exchange, seconds: float = 7) -> None:
    exchange.whole(
        b'{"error":{"message":"busy"}}',
        f"Retry-After: {seconds:g}",
        status="503 Service Unavailable",
    )


@scenario
def play_400(exchange: Exchange) -> None:
    exchange.whole(
        b'{"error":{"message":"temperature must be at most 2","type":"invalid_request_error",'
        b'"param":"temperature"}}',
        status="400 Bad Request",
    )


@scenario
def play_context(exchange: Exchange) -> None:
    exchange.whole(
        b'{"error":{"message":"This model\'s maximum context length is 4096 tokens."}}',
        status="400 Bad Request",
    )


@scenario
def play_422(exchange: Exchange) -> None:
    exchange.whole(
        b'{"detail":[{"loc":["body","n"],"msg":"too large"}]}', status="422 Unprocessable Entity"
    )


@scenario
def play_401(exchange: Exchange) -> None:
    exchange.whole(
        b'{"error":{"message":"bad key sk-gateway-secret-9"}}', status="401 Unauthorized"
    )


@scenario
def play_403(exchange: Exchange) -> None:
    exchange.whole(b'{"error":{"message":"no"}}', status="403 Forbidden")


@scenario
def play_404_model(exchange: Exchange) -> None:
    exchange.whole(
        b'{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}',
        status="404 Not Found",
    )


@scenario
def play_302(exchange: Exchange) -> None:
    exchange.whole(b"", "Location: http://evil.test/", status="302 Found")


@scenario
def play_html200(exchange: Exchange) -> None:
    exchange.whole(b"<html><body>Welcome to 10.1.2.3</body></html>", kind="text/html")


@scenario
def play_empty(exchange: Exchange) -> None:
    """A success with nothing in it."""
    exchange.whole(b"", kind="text/event-stream" if exchange.stream else "application/json")


@scenario
def play_error_frame(exchange: Exchange, words: float = 0) -> None:
    """An error told inside a 200."""
    error = {"error": {"message": "the engine died", "type": "server_error", "code": 500}}
    if not exchange.stream:
        exchange.whole(json.dumps(error).encode())
        return
    _stream_that_breaks(exchange, words, exchange.data(error))


@scenario
def play_badjson(exchange: Exchange, words: float = 0) -> None:
    if not exchange.stream:
        exchange.whole(b'{"id": "x", "choices": [')
        return
    _stream_that_breaks(exchange, words, _BAD_JSON)


@scenario
def play_same_read(exchange: Exchange, words: float = 2) -> None:
    """A word and its failure in one packet."""
    exchange.head()
    for event in exchange.words(int(words)):
        exchange.chunk(event)
    exchange.pause(0.05)
    exchange.chunk(exchange.event("last ") + _BAD_JSON)
    exchange.end()


@scenario
def play_broken_tail(exchange: Exchange) -> None:
    """Rubbish in the packet of the finish reason: the answer itself is whole."""
    exchange.head()
    for event in exchange.words(2):
        exchange.chunk(event)
    exchange.pause(0.05)
    exchange.chunk(exchange.event(None, finish="stop") + _BAD_JSON)
    exchange.end()


@scenario
def play_badsse(exchange: Exchange) -> None:
    """Lines that are no events."""
    exchange.head()
    exchange.chunk(b"hello\n\nchoices: []\n\n\x00\x01\xff\n\n" if exchange.stream else b"hello")
    exchange.end()


@scenario
def play_badutf8(exchange: Exchange, words: float = 0) -> None:
    if not exchange.stream:
        exchange.whole(exchange.document().replace(b'"usage"', b'"aside":"\xff\xfe","usage"'))
        return
    _stream_that_breaks(exchange, words, exchange.event("@@").replace(b"@@", b"\xff\xfe"))


@scenario
def play_badutf8_aside(exchange: Exchange, words: float = 1) -> None:
    """Broken text in a member that nobody looks at."""
    bad = exchange.event("fine").replace(b'{"id"', b'{"aside":"\xff\xfe","id"')
    _stream_that_breaks(exchange, words, bad)


@scenario
def play_hugeline(exchange: Exchange, megabytes: float = 2, words: float = 0) -> None:
    exchange.head()
    if words:
        for event in exchange.words(int(words)):
            exchange.chunk(event)
        exchange.pause(0.05)
    exchange.chunk(b"data: ")
    for _ in range(int(megabytes * 16)):
        exchange.chunk(b"x" * 65_536)
    exchange.end()


@scenario
def play_huge_body(exchange: Exchange, megabytes: float = 4) -> None:
    exchange.head()
    for _ in range(int(megabytes * 16)):
        exchange.chunk(b" " * 65_536)
    exchange.chunk(exchange.document())
    exchange.end()


@scenario
def play_gzipbomb(exchange: Exchange, megabytes: float = 64, status: float = 200) -> None:
    """A thousand bytes for each one that is sent."""
    body = gzip.compress(b"\x00" * int(megabytes * 1_048_576))
    line = "200 OK" if status == 200 else f"{status:g} Error"
    kind = "text/event-stream" if exchange.stream else "application/json"
    exchange.whole(body, "Content-Encoding: gzip", status=line, kind=kind)


@scenario
def play_layers(exchange: Exchange) -> None:
    """Eight layers of compression."""
    body = exchange.document()
    for _ in range(8):
        body = gzip.compress(body)
    exchange.whole(body, "Content-Encoding: " + ", ".join(["gzip"] * 8))


@scenario
def play_dup_done(exchange: Exchange) -> None:
    """Talks on after its own end."""
    late = [exchange.event("late "), exchange.event(None, finish="stop"), b"data: [DONE]\n\n"]
    _stream(exchange, exchange.words(2) + exchange.goodbye() + late)


@scenario
def play_open_after_done(exchange: Exchange) -> None:
    """Finishes its text and never its body."""
    exchange.head()
    for event in exchange.words(2) + exchange.goodbye():
        exchange.chunk(event)
    exchange.pause(FOREVER_S)
    exchange.close()


@scenario
def play_no_done(exchange: Exchange) -> None:
    _stream(exchange, exchange.words(2) + exchange.goodbye()[:1])


@scenario
def play_no_finish(exchange: Exchange) -> None:
    _stream(exchange, exchange.words(2))


@scenario
def play_done_only(exchange: Exchange) -> None:
    _stream(exchange, [b"data: [DONE]\n\n"])


@scenario
def play_bigheader(exchange: Exchange, megabytes: float = 10) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nX-Big: ")
    for _ in range(int(megabytes * 16)):
        exchange.send(b"x" * 65_536)
    exchange.send(b"\r\nContent-Length: 0\r\n\r\n")


@scenario
def play_set_cookie(exchange: Exchange) -> None:
    """Headers that are nobody's business."""
    if exchange.stream:
        exchange.head(*HOSTILE)
        play_rest(exchange)
    else:
        exchange.whole(exchange.document(), *HOSTILE)


def play_rest(exchange: Exchange) -> None:
    for event in exchange.words(2) + exchange.goodbye():
        exchange.chunk(event)
    exchange.end()


@scenario
def play_informational(exchange: Exchange) -> None:
    for line in ("100 Continue", "102 Processing", "103 Early Hints"):
        exchange.send(f"HTTP/1.1 {line}\r\nLink: </evil.js>; rel=preload\r\n\r\n".encode())
    play_set_cookie(exchange)


@scenario
def play_event_names(exchange: Exchange) -> None:
    """Events that would do something in a browser."""
    exchange.head()
    exchange.chunk(b"retry: 1\nid: 7\nevent: execute\n: note <script>\n")
    for event in exchange.words(2):
        exchange.chunk(b"id: 8\nevent: execute\nretry: 5\n" + event)
    exchange.chunk(b"event: execute\ndata:\n\n")
    for event in exchange.goodbye():
        exchange.chunk(event)
    exchange.end()


@scenario
def play_late_answer(exchange: Exchange) -> None:
    """Sends an answer that nobody asked for on a connection that rests."""
    play_ok(exchange)
    exchange.pause(0.1)
    exchange.whole(b'{"stolen": true}')


@scenario
def play_second_answer(exchange: Exchange) -> None:
    """Sends somebody else's answer behind the own one."""
    body = exchange.document()
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    exchange.send(head.encode() + body + evil)
    exchange.pause(0.3)
