"""Real requests, spoilt: members mistyped, missing, doubled, huge or deep; text cut and bent."""

import copy
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.contract.sites import JSON_ANSWER, PICTURE, TIME, WEATHER

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
_TURNS = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "What is the weather in Zürich?"},
]
_CALL = {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
REAL: tuple[tuple[str, dict[str, Any]], ...] = (
    (CHAT, {"model": "mock", "messages": _TURNS, "temperature": 0.7, "max_tokens": 64}),
    (CHAT, {"model": "llama3.1:8b", "messages": _TURNS, "stream": True,
            "stream_options": {"include_usage": True}}),
    (CHAT, {"model": "mock/tool=on", "messages": _TURNS, "stream": True, "n": 1,
            "tools": [WEATHER, TIME], "tool_choice": "auto", "parallel_tool_calls": True}),
    (CHAT, {"model": "mock", "messages": PICTURE, "max_completion_tokens": 9, "seed": 7,
            "response_format": JSON_ANSWER, "metadata": {"run": "1"}, "stop": ["\n"]}),
    (CHAT, {"model": "mock", "user": "u-1", "logit_bias": {"50256": -100.0}, "messages": [
        *_TURNS, {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "12:00"}]}),
    (COMPLETIONS, {"model": "mock", "prompt": "Once upon a time", "max_tokens": 8, "echo": False}),
    (COMPLETIONS, {"model": "mock", "prompt": ["a", "b"], "stream": True, "suffix": "."}),
    (EMBEDDINGS, {"model": "mock", "input": "The tide", "encoding_format": "base64"}),
    (EMBEDDINGS, {"model": "mock", "input": ["a", "b"], "dimensions": 16, "user": "u"}),
    (EMBEDDINGS, {"model": "mock", "input": [[1, 2, 3], [4]], "encoding_format": "float"}),
)  # fmt: skip
"""Bodies as the official client sends them."""


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


_JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 129, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40, 0.0,
    -0.0, 0.5, 1.0, 1e308, float("nan"), float("inf"), "", " ", "null", "true", "1", "\x00",
    "\ud800", "\udfff\ud800", "\u2028", "\ufeff", "é" * 400, "😀", "x" * 600, "x" * 300_000,
    [], {}, [None], [[]], [{}], {"": None}, {"a": {"b": []}}, ["x"] * 300, [0] * 900,
    [0] * 150_000, _deep(30), _deep(80), {f"k{place}": place for place in range(300)},
    "data:image/png;base64,!!!", "user", "mock", "../../etc/passwd", "{{7*7}}",
    "'; DROP TABLE keys; --", "${jndi:ldap://x}", "\r\nX-Evil: 1",
)  # fmt: skip
_SOME = st.sampled_from(_JUNK) | st.integers() | st.floats() | st.text(max_size=20)


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Return every member and item of a document as its container and key."""
    found: list[tuple[Any, Any]] = []
    waiting = [node]
    while waiting:
        here = waiting.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here))
        for key in keys:
            found.append((here, key))
            if isinstance(here[key], (dict, list)) and len(found) < 500:
                waiting.append(here[key])
    return found


def _drop(box: Any, key: Any, _: Any) -> None:
    del box[key]


def _replace(box: Any, key: Any, junk: Any) -> None:
    box[key] = junk


def _rename(box: Any, key: Any, junk: Any) -> None:
    if isinstance(box, dict):
        box[str(junk)[:80]] = box.pop(key)


def _wrap(box: Any, key: Any, _: Any) -> None:
    box[key] = [box[key]]


def _name(box: Any, key: Any, _: Any) -> None:
    box[key] = {"value": box[key]}


def _double(box: Any, key: Any, _: Any) -> None:
    if isinstance(box, list):
        box.append(copy.deepcopy(box[key]))
    else:
        box[f"{key}_"] = copy.deepcopy(box[key])


def _stringify(box: Any, key: Any, _: Any) -> None:
    box[key] = json.dumps(box[key])


def _swap(box: Any, key: Any, _: Any) -> None:
    others = [
        other for other in (box if isinstance(box, dict) else range(len(box))) if other != key
    ]
    if others:
        box[key], box[others[0]] = box[others[0]], box[key]


_CHANGES: tuple[Callable[[Any, Any, Any], None], ...] = (
    _drop, *(_replace,) * 7, _rename, _rename, _wrap, _name, _double, _stringify, _swap,
)  # fmt: skip


def _cut(text: bytes, at: int, _: bytes) -> bytes:
    return text[:at]


def _insert(text: bytes, at: int, some: bytes) -> bytes:
    return text[:at] + some + text[at:]


def _overwrite(text: bytes, at: int, some: bytes) -> bytes:
    return text[:at] + some + text[at + len(some) :]


def _excise(text: bytes, at: int, some: bytes) -> bytes:
    return text[:at] + text[at + 1 + len(some) :]


def _append(text: bytes, _: int, some: bytes) -> bytes:
    return text + some


def _bom(text: bytes, _at: int, _: bytes) -> bytes:
    return b"\xef\xbb\xbf" + text


def _utf16(text: bytes, _at: int, _: bytes) -> bytes:
    return text.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass")


def _zip(text: bytes, _at: int, _: bytes) -> bytes:
    return gzip.compress(text, 1, mtime=0)


def _listed(text: bytes, _at: int, _: bytes) -> bytes:
    return b"[" + text + b"]"


def _repeat_key(text: bytes, _at: int, _: bytes) -> bytes:
    return text.replace(b"{", b'{"model":"mock",', 1)


def _pad(text: bytes, at: int, _: bytes) -> bytes:
    return b" " * at + text + b"\r\n\t" * at


def _nest(text: bytes, _at: int, _: bytes) -> bytes:
    return text[:-1] + b',"deep":' + b"[" * 20_000 + b"]" * 20_000 + b"}"


_BENDS: tuple[Callable[[bytes, int, bytes], bytes], ...] = (
    _cut, _insert, _insert, _overwrite, _overwrite, _excise, _append, _bom, _utf16, _zip, _listed,
    _repeat_key, _pad, _nest,
)  # fmt: skip
_AT = {_cut, _insert, _overwrite, _excise, _pad}
_WITH = {_insert, _overwrite, _excise, _append}
"""Bends that need a place, and bends that need bytes."""
_VISIBLE = st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")
_PLAIN = st.text(_VISIBLE, max_size=40)
_HEADERS: dict[str, tuple[str, ...]] = {
    "Authorization": ("", "Bearer", "Bearer x", "Basic YTpi", "Bearer " + "k" * 3_000, "Token é"),
    "X-API-Key": ("", "dev-key", "nobody", "é"),
    "Content-Type": ("", "text/plain", "multipart/form-data", "application/json; charset=utf-16"),
    "Content-Encoding": ("gzip", "identity", "br"),
    "Accept": ("", "text/event-stream", "image/*;q=2", "application/json, */*"),
    "x-request-id": ("", "mine", "a b", "x" * 500, "é", "<script>"),
    "x-stainless-read-timeout": ("0.5", "nan", "inf", "-inf", "-1", "0", "1e400", "ten", "0x10"),
    "x-stainless-retry-count": ("0", "2", "-1", "many"),
    "X-Backend": ("mock", "nobody", "", "é", "mock:mock", "../mock"),
    "Origin": ("null", "https://evil.example"),
    "X-Forwarded-For": ("127.0.0.1", "::1, x"),
    "Cookie": ("session=1", "=;="),
    "Expect": ("100-continue", "nothing"),
    "Range": ("bytes=0-1",),
    "Upgrade": ("h2c", "websocket"),
    "Max-Forwards": ("0",),
    "X-HTTP-Method-Override": ("DELETE",),
    "traceparent": ("00-0-0-00",),
}  # fmt: skip
_TEXTS = [(path, json.dumps(real)) for path, real in REAL]
_ANY_CHANGE = st.sampled_from(_CHANGES)
_ANY_BEND = st.sampled_from(_BENDS)
_ANY_HEADER = st.sampled_from(sorted(_HEADERS))
_FEW_BYTES = st.binary(max_size=6)
_VALUES = {name: st.sampled_from(values) | _PLAIN for name, values in _HEADERS.items()}


@dataclass
class Request:
    """A spoilt request; the framing is right, or nothing could be said about the answer."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    chunks: int = 0
    method: str = "POST"

    def raw(self, host: str, key: str) -> bytes:
        """Return the bytes to send."""
        fields = {
            "Host": host,
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
        }
        fields.update(self.headers)
        body = self.body
        if self.chunks:
            fields["Transfer-Encoding"] = "chunked"
            body = self._chunked()
        else:
            fields["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{self.method} {self.path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body

    def _chunked(self) -> bytes:
        step = max(1, len(self.body) // self.chunks)
        pieces = [self.body[start : start + step] for start in range(0, len(self.body), step)]
        return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@st.composite
def spoilt_requests(draw: st.DrawFn) -> Request:
    """Spoil one or two members, sometimes the text itself, sometimes a header or two."""
    path, text = _TEXTS[draw(st.integers(0, len(_TEXTS) - 1))]
    shape = draw(st.integers(0, 127))
    bent, with_headers = shape % 4 == 0, shape // 4 % 4 == 0
    document = json.loads(text)
    for _ in range(draw(st.integers(0 if bent else 1, 2))):
        places = _places(document)
        if places:
            box, key = places[draw(st.integers(0, len(places) - 1))]
            change = draw(_ANY_CHANGE)
            change(box, key, _fresh(draw(_SOME)) if change in {_replace, _rename} else None)
    ascii_only = bool(shape // 16 % 2)
    body = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if bent:
        bend = draw(_ANY_BEND)
        at = draw(st.integers(0, len(body))) if bend in _AT else 0
        body = bend(body, at, draw(_FEW_BYTES) if bend in _WITH else b"")
    headers: dict[str, str] = {}
    for _ in range(1 + shape // 64 if with_headers else 0):
        name = draw(_ANY_HEADER)
        headers[name] = draw(_VALUES[name])
    return Request(path, body, headers, chunks=(0, 0, 1, 3)[shape // 32])


def _fresh(junk: Any) -> Any:
    """Return a copy that later changes may spoil in turn."""
    return json.loads(json.dumps(junk)) if isinstance(junk, (list, dict)) else junk
