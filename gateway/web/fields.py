"""marshmallow fields as strict as JSON: no words for booleans, no digits in quotes for numbers."""

from typing import Any

from marshmallow import fields, validate


class Flag(fields.Boolean):
    """``true``, ``false`` or ``null``."""

    def _deserialize(
        self,
        value: Any,
        attr: str | None,  # noqa: ARG002  # marshmallow's signature
        data: Any,  # noqa: ARG002  # marshmallow's signature
        **options: Any,  # noqa: ARG002  # marshmallow's signature
    ) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


def flag(description: str) -> Flag:
    """Return an optional boolean field."""
    return Flag(allow_none=True, metadata={"description": description})


def whole(description: str, *, least: int, most: int | None = None) -> fields.Integer:
    """Return an optional integer field within bounds."""
    return fields.Integer(
        strict=True, allow_none=True, validate=validate.Range(min=least, max=most),
        metadata={"description": description},
    )  # fmt: skip


def model_name() -> fields.String:
    """Return the field that names a model."""
    return fields.String(
        required=True, validate=validate.Length(min=1, max=512),
        metadata={"description": "A name from GET /v1/models.", "example": "llama3.1:8b"},
    )  # fmt: skip
