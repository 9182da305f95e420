"""What we look at in chat requests: fields routed on, limited or billed; the rest is relayed.

Each shape stands twice: as a msgspec struct that decides, in microseconds, and as a marshmallow
schema that documents and explains. A property test holds the two equal.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from marshmallow import INCLUDE, Schema, ValidationError, fields, validate

from gateway.kernel.errors import InvalidRequest
from gateway.web.fields import flag, model_name, whole

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MOST_CHOICES = 128
_INT64 = 2**63 - 1
_Positive = Annotated[int, msgspec.Meta(ge=1, le=_INT64)]
_Choices = Annotated[int, msgspec.Meta(ge=1, le=_MOST_CHOICES)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class StreamOptions(msgspec.Struct, gc=False):
    """What a caller wants of a stream beside the text."""

    include_usage: bool | None = None


class ChatFields(msgspec.Struct, gc=False):
    """The chat fields that decide something here."""

    model: _Name
    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Positive | None = None
    max_completion_tokens: _Positive | None = None
    n: _Choices | None = None
    tools: list[dict[str, Any]] | None = None


class CompletionFields(msgspec.Struct, gc=False):
    """The legacy completion fields that decide something here."""

    model: _Name
    prompt: str | list[str | int | list[int]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: _Positive | None = None
    n: _Choices | None = None


chat_fields = msgspec.json.Decoder(ChatFields)
completion_fields = msgspec.json.Decoder(CompletionFields)


def check_messages(messages: list[dict[str, Any]]) -> None:
    """Check what the typed decoding leaves open: roles and the form of contents.

    Raises:
        InvalidRequest: Names the message and what is allowed.
    """
    for place, message in enumerate(messages):
        if message.get("role") not in ROLES:
            raise InvalidRequest(
                f"messages[{place}].role must be one of {', '.join(ROLES)}.",
                param=f"messages[{place}].role",
            )
        content = message.get("content")
        if not (content is None or isinstance(content, str) or _is_parts(content)):
            raise InvalidRequest(
                f"messages[{place}].content must be a text, a list of parts or null.",
                param=f"messages[{place}].content",
            )


def _is_parts(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(part, Mapping) for part in content)


def _check_content(content: Any) -> None:
    if not (isinstance(content, str) or _is_parts(content)):
        raise ValidationError("Must be a text, a list of parts or null.")


def _check_prompt(prompt: Any) -> None:
    if isinstance(prompt, str):
        return
    if not isinstance(prompt, list) or not all(_is_prompt_item(item) for item in prompt):
        raise ValidationError("Must be a text, a list of texts, or tokens.")


def _is_prompt_item(item: Any) -> bool:
    if isinstance(item, list):
        return all(isinstance(token, int) and not isinstance(token, bool) for token in item)
    return isinstance(item, (str, int)) and not isinstance(item, bool)


class _Open(Schema):
    """Accepts fields it does not know: they are relayed to the upstream as they came."""

    class Meta:
        """marshmallow's own switch."""

        unknown = INCLUDE


class Message(_Open):
    """One turn of a conversation."""

    role = fields.String(required=True, validate=validate.OneOf(ROLES))
    content = fields.Raw(
        allow_none=True, validate=_check_content,
        metadata={"description": "Text, or a list of parts with text, images or audio."},
    )  # fmt: skip


class StreamOptionsSchema(_Open):
    """What a caller wants of a stream beside the text."""

    include_usage = flag("Send one more chunk with the tokens used.")


class ChatRequest(_Open):
    """``POST /v1/chat/completions``; every other OpenAI field is relayed untouched."""

    model = model_name()
    messages = fields.List(fields.Nested(Message), required=True, validate=validate.Length(min=1))
    stream = flag("Answer as server-sent events.")
    stream_options = fields.Nested(StreamOptionsSchema, allow_none=True)
    max_tokens = whole("Most tokens of the answer (older name).", least=1, most=_INT64)
    max_completion_tokens = whole("Most tokens of the answer.", least=1, most=_INT64)
    n = whole("Answers wanted.", least=1, most=_MOST_CHOICES)
    tools = fields.List(fields.Dict(keys=fields.String()), allow_none=True)


class CompletionRequest(_Open):
    """``POST /v1/completions``; every other OpenAI field is relayed untouched."""

    model = model_name()
    prompt = fields.Raw(
        allow_none=True, validate=_check_prompt,
        metadata={"description": "A text, a list of texts, or tokens."},
    )  # fmt: skip
    stream = flag("Answer as server-sent events.")
    stream_options = fields.Nested(StreamOptionsSchema, allow_none=True)
    max_tokens = whole("Most tokens of the answer.", least=1, most=_INT64)
    n = whole("Answers wanted.", least=1, most=_MOST_CHOICES)


class ChatReply(Schema):
    """``chat.completion``; streamed, a series of ``chat.completion.chunk``."""

    id = fields.String(required=True)
    object = fields.String(required=True)
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    choices = fields.List(fields.Dict(), required=True)
    usage = fields.Dict()


class CompletionReply(ChatReply):
    """``text_completion``."""
