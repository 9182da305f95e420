"""``POST /v1/chat/completions`` and ``POST /v1/completions``."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint

from gateway.chat.schemas import (
    ChatFields,
    ChatReply,
    ChatRequest,
    CompletionFields,
    CompletionReply,
    CompletionRequest,
    chat_fields,
    check_messages,
    completion_fields,
)
from gateway.kernel.call import Call, Kind
from gateway.pipeline.pipeline import Pipeline
from gateway.web.body import parse, read_body
from gateway.web.endpoint import endpoint
from gateway.web.incoming import Incoming, Outgoing
from gateway.web.settings import WebSettings

blueprint = Blueprint("chat", __name__)


@endpoint(blueprint, "POST", "/v1/chat/completions", scope="chat", hot=True,
          operation_id="chat.completions.create", body=ChatRequest, reply=ChatReply)  # fmt: skip
def create_chat_completion(incoming: Incoming) -> Outgoing:
    """Answer a conversation, in one piece or streamed."""
    body = read_body(incoming, incoming.part(WebSettings))
    wanted, members = parse(body, chat_fields, ChatRequest)
    check_messages(wanted.messages)
    return _open(incoming, Kind.CHAT, wanted, members, body)


@endpoint(blueprint, "POST", "/v1/completions", scope="chat", hot=True,
          operation_id="completions.create",
          body=CompletionRequest, reply=CompletionReply)  # fmt: skip
def create_completion(incoming: Incoming) -> Outgoing:
    """Continue a text, in one piece or streamed."""
    body = read_body(incoming, incoming.part(WebSettings))
    wanted, members = parse(body, completion_fields, CompletionRequest)
    return _open(incoming, Kind.COMPLETION, wanted, members, body)


def _open(
    incoming: Incoming,
    kind: Kind,
    wanted: ChatFields | CompletionFields,
    members: Mapping[str, Any],
    body: bytes,
) -> Outgoing:
    pipeline, stream = incoming.part(Pipeline), bool(wanted.stream)
    options = wanted.stream_options
    call = Call(
        kind=kind, model=wanted.model, stream=stream, members=members, body=body,
        request_id=incoming.request_id, principal=incoming.caller(),
        deadline=pipeline.deadline(incoming, stream=stream),
        pinned=incoming.header("HTTP_X_BACKEND"),
        include_usage=bool(options and options.include_usage),
    )  # fmt: skip
    return pipeline.open(call, incoming)
