"""What we look at in embedding requests; the rest is relayed."""

from typing import Annotated, Any, Literal

import msgspec
from marshmallow import INCLUDE, Schema, ValidationError, fields, validate

from gateway.web.fields import model_name, whole

_MOST_DIMENSIONS = 65_536
_MOST_INPUTS = 4_096
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
_Dimensions = Annotated[int, msgspec.Meta(ge=1, le=_MOST_DIMENSIONS)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Items = Annotated[
    list[_Text | int | Annotated[list[int], msgspec.Meta(min_length=1)]],
    msgspec.Meta(min_length=1, max_length=_MOST_INPUTS),
]


class EmbeddingFields(msgspec.Struct, gc=False):
    """The embedding fields that decide something here."""

    model: _Name
    input: _Text | _Items
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: _Dimensions | None = None


embedding_fields = msgspec.json.Decoder(EmbeddingFields)


def _check_input(given: Any) -> None:
    if isinstance(given, str) and given:
        return
    if isinstance(given, list) and 1 <= len(given) <= _MOST_INPUTS and all(map(_is_item, given)):
        return
    raise ValidationError(
        f"Must be a text, a list of 1 to {_MOST_INPUTS} texts, or tokens; none of them empty."
    )


def _is_item(item: Any) -> bool:
    if isinstance(item, list):
        return bool(item) and all(
            isinstance(token, int) and not isinstance(token, bool) for token in item
        )
    return (
        bool(item)
        if isinstance(item, str)
        else isinstance(item, int) and not isinstance(item, bool)
    )


class EmbeddingsRequest(Schema):
    """``POST /v1/embeddings``; every other OpenAI field is relayed untouched."""

    class Meta:
        """marshmallow's own switch."""

        unknown = INCLUDE

    model = model_name()
    input = fields.Raw(
        required=True, validate=_check_input,
        metadata={"description": "A text, a list of texts, or tokens.", "example": "Hello"},
    )  # fmt: skip
    encoding_format = fields.String(allow_none=True, validate=validate.OneOf(("float", "base64")))
    dimensions = whole(
        "Length of the vectors, where the model lets one choose.", least=1, most=_MOST_DIMENSIONS
    )


class EmbeddingsReply(Schema):
    """A list of vectors, one for each input."""

    object = fields.String(required=True)
    data = fields.List(fields.Dict(), required=True)
    model = fields.String(required=True)
    usage = fields.Dict(required=True)
