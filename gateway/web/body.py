"""Request bodies: read under our own limits, checked as JSON, handed on as the caller wrote them.

Flask's MAX_CONTENT_LENGTH silently cuts a chunked body, so the reading is ours.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec
import orjson
from gunicorn.http.errors import ParseException
from marshmallow import Schema

from gateway.kernel.errors import BodyTooLarge, ClientGone, GatewayError, InvalidRequest
from gateway.web.incoming import Incoming
from gateway.web.settings import WebSettings
from gateway.web.wait import Arrival

DEPTH_LIMIT = 64
STRUCTURE_LIMIT = 100_000
"""Objects and lists a body may have: 10 MB of small ones would hold the hub for 0.7 s."""
COLON_LIMIT = 100_000
"""Every key has one; 250,000 keys in one object hold the hub for 0.1 s."""
COMMA_LIMIT = 1_000_000
"""Texts and token arrays have many, and cost less: a million integers are read in some 20 ms."""
_EXPLAINED_BYTES = 65_536
_PLACE = re.compile(r"at `\$\.?([^`]+)`")
_NULL = b"null"
_READ_BYTES = 262_144
_WHITESPACE = b" \t\r\n"

F = TypeVar("F")
F_co = TypeVar("F_co", covariant=True)
Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(Members)


class Typed(Protocol[F_co]):
    """A msgspec decoder of the fields that a room routes, limits or bills on."""

    def decode(self, buf: bytes) -> F_co:
        """Return the fields, or raise what is wrong."""


def read_body(incoming: Incoming, settings: WebSettings) -> bytes:
    """Return the whole request body.

    Raises:
        BodyTooLarge: Longer than ``MAX_REQUEST_BYTES``, by its declared or its real length.
        InvalidRequest: Broken chunks, or too slow.
        ClientGone: The connection ended inside the body.
    """
    environ, limit = incoming.environ, settings.max_request_bytes
    declared = environ.get("CONTENT_LENGTH") or "0"
    if not declared.isdecimal() or int(declared) > limit:
        incoming.hang_up()
        raise _too_large(limit)
    if environ.get("HTTP_TRANSFER_ENCODING", "chunked").lower() != "chunked":
        incoming.hang_up()
        raise InvalidRequest("Of transfer codings only 'chunked' is understood.", code="bad_chunks")
    with Arrival(environ.get("gunicorn.socket"), settings.body_timeout_s) as arrival:
        try:
            if "gateway.continue" in environ:
                environ["gateway.continue"]()
            body = _read_all(environ["wsgi.input"], limit)
        except OSError as error:
            incoming.hang_up()
            raise _unread(arrival, settings) from error
        except ParseException as error:
            incoming.hang_up()
            if arrival.late:  # it was cut inside a chunk
                raise _unread(arrival, settings) from error
            raise InvalidRequest(
                "The request body's chunked encoding is broken.", code="bad_chunks"
            ) from error
    if len(body) > limit:
        incoming.hang_up()
        raise _too_large(limit)
    if len(body) < int(declared) or arrival.late:
        incoming.hang_up()
        raise _unread(arrival, settings)
    return body


def _unread(arrival: Arrival, settings: WebSettings) -> GatewayError:
    if arrival.late:
        return InvalidRequest(
            f"The request body did not arrive within {settings.body_timeout_s:g} s.",
            code="request_timeout",
        )
    return ClientGone("The client closed the connection.")


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes (MAX_REQUEST_BYTES).")


def _read_all(stream: Any, limit: int) -> bytes:
    first: bytes = stream.read(min(limit + 1, _READ_BYTES))
    blocks, size = [first], len(first)
    # One byte past the limit is read on purpose: a body that is exactly full is not too large.
    while blocks[-1] and size <= limit:
        blocks.append(stream.read(min(limit + 1 - size, _READ_BYTES)))
        size += len(blocks[-1])
    return first if len(blocks) == 2 else b"".join(blocks)  # noqa: PLR2004  # first and the empty last


def parse(body: bytes, typed: Typed[F], schema: type[Schema]) -> tuple[F, Members]:
    """Return the fields a room works with, and all top-level members in the caller's own text.

    Members whose value is ``null`` are left out: several servers refuse explicit nulls.

    Args:
        schema: The same rules as ``typed``, used only to explain what was wrong.

    Raises:
        InvalidRequest: Not one JSON object of sane depth with unique keys and the right types.
        BodyTooLarge: Too many brackets or commas.
    """
    if len(body) > STRUCTURE_LIMIT:
        _check_structure(body)
    try:
        members = _members.decode(body)
        fields = typed.decode(body)
        # The members above were only skimmed: this also reads the numbers and texts inside them,
        # so that what passes here is JSON to every upstream.
        document = orjson.loads(body)
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8.", code="invalid_json") from None
    except msgspec.ValidationError as error:
        raise _explained(body, schema, str(error)) from None
    except (msgspec.DecodeError, orjson.JSONDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    if body.count(b"[") + body.count(b"{") > DEPTH_LIMIT and not within_depth(document):
        raise _too_deep()
    if not _has_unique_keys(body, members):
        raise InvalidRequest(
            "The body names a top-level field twice; send each once.", code="duplicate_field"
        )
    return fields, {
        name: raw for name, raw in members.items() if len(raw) != len(_NULL) or bytes(raw) != _NULL
    }


def _check_structure(body: bytes) -> None:
    if body.count(b"{") + body.count(b"[") > STRUCTURE_LIMIT:
        raise BodyTooLarge(f"The JSON has more than {STRUCTURE_LIMIT} objects and lists.")
    if body.count(b":") > COLON_LIMIT:
        raise BodyTooLarge(f"The JSON has more than {COLON_LIMIT} colons.")
    if body.count(b",") > COMMA_LIMIT:
        raise BodyTooLarge(f"The JSON has more than {COMMA_LIMIT} commas.")


def _too_deep() -> InvalidRequest:
    return InvalidRequest(
        f"The JSON is nested deeper than {DEPTH_LIMIT} levels.", code="invalid_json"
    )


def within_depth(document: dict[str, Any]) -> bool:
    """Tell whether a JSON object has at most 64 levels of brackets, its own included."""
    layer: list[Any] = [document]
    for _ in range(DEPTH_LIMIT):
        layer = [
            child
            for node in layer
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not layer:
            return True
    return False


def _has_unique_keys(body: bytes, members: Mapping[str, msgspec.Raw]) -> bool:
    """Tell whether the top level repeats no key.

    The decoder keeps the last of two equal keys, so a repeated one makes the text longer than its
    members add up to (each with two quotes, a colon and a comma). White space is left out on both
    sides; only a key written with escapes needs the exact, slow look.
    """
    expected = 1 + 4 * len(members)
    for name, raw in members.items():
        expected += len(name) + len(raw)
    if expected == len(body):
        return True
    expected = 1 + 4 * len(members)
    for name, raw in members.items():
        expected += len(name.encode().translate(None, _WHITESPACE))
        expected += len(bytes(raw).translate(None, _WHITESPACE))
    if expected == len(body.translate(None, _WHITESPACE)):
        return True
    names: list[str] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        names[:] = [name for name, _ in pairs]

    json.loads(body, object_pairs_hook=keep)
    return len(names) == len(set(names))


def _explained(body: bytes, schema: type[Schema], reason: str) -> InvalidRequest:
    """Return the refusal in the words of the documented schema."""
    if len(body) > _EXPLAINED_BYTES:
        # The schema would look at every message to report one: most of a second for 150 KB.
        where = _PLACE.search(reason)
        return InvalidRequest(
            f"The body is not valid: {reason}.", param=where.group(1) if where else None
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return InvalidRequest(f"The body is not valid: {reason}.", code="invalid_json")
    if not isinstance(document, dict):
        return InvalidRequest("The body must be one JSON object.", code="invalid_json")
    path, message = _first_mistake(schema().validate(document))
    if not path:
        return InvalidRequest(f"The body is not valid: {reason}.")
    return InvalidRequest(f"{path}: {message}", param=path)


def _first_mistake(mistakes: Any, path: str = "") -> tuple[str, str]:
    """Return where the first mistake of a marshmallow report lies, and its sentence."""
    while isinstance(mistakes, dict) and mistakes:
        key, mistakes = next(iter(mistakes.items()))
        if key != "_schema":
            path = f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}".lstrip(".")
    text = mistakes[0] if isinstance(mistakes, list) and mistakes else ""
    return path, str(text)
