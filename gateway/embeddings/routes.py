"""``POST /v1/embeddings``."""

from flask import Blueprint

from gateway.embeddings.schemas import EmbeddingsReply, EmbeddingsRequest, embedding_fields
from gateway.kernel.call import Call, Kind
from gateway.pipeline.pipeline import Pipeline
from gateway.web.body import parse, read_body
from gateway.web.endpoint import endpoint
from gateway.web.incoming import Incoming, Outgoing
from gateway.web.settings import WebSettings

blueprint = Blueprint("embeddings", __name__)


@endpoint(blueprint, "POST", "/v1/embeddings", scope="embeddings", hot=True,
          operation_id="embeddings.create",
          body=EmbeddingsRequest, reply=EmbeddingsReply)  # fmt: skip
def create_embeddings(incoming: Incoming) -> Outgoing:
    """Turn texts or tokens into vectors."""
    body = read_body(incoming, incoming.part(WebSettings))
    wanted, members = parse(body, embedding_fields, EmbeddingsRequest)
    pipeline = incoming.part(Pipeline)
    call = Call(
        kind=Kind.EMBEDDINGS, model=wanted.model, stream=False, members=members, body=body,
        request_id=incoming.request_id, principal=incoming.caller(),
        deadline=pipeline.deadline(incoming, stream=False),
        pinned=incoming.header("HTTP_X_BACKEND"),
    )  # fmt: skip
    return pipeline.open(call, incoming)
