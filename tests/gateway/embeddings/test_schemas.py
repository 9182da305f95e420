"""The embeddings shape: what decides and what explains must be one rule."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.embeddings.schemas import EmbeddingsRequest, embedding_fields

EDGES = [
    None, True, False, 0, 1, -1, 65_536, 65_537, 2**63, 1.0, 1.5, "", "a", "x" * 512, "x" * 513,
    "float", "base64", "Float", [], ["a"], [""], ["a", ""], [1], [-1], [2**63], [2**64], [2**70],
    [1.0], [True], [None], [[1]], [[]], [[], [1]], [["a"]], [[True]], [[1.5]], [[[1]]],
    ["a", 1, [1]], {}, [{}], ["a"] * 4_096, ["a"] * 4_097, [1] * 4_096, [1] * 4_097,
]  # fmt: skip
anything = st.sampled_from(EDGES) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
bodies = st.fixed_dictionaries(
    {"model": st.text(min_size=1, max_size=5) | anything, "input": anything},
    optional={"encoding_format": anything, "dimensions": anything, "user": anything},
)


def passes(document: object) -> bool:
    """Tell whether the deciding side takes a body."""
    try:
        embedding_fields.decode(msgspec.json.encode(document))
    except msgspec.ValidationError:
        return False
    return True


@hypothesis_settings(max_examples=300)
@given(bodies | anything)
def test_the_deciding_and_the_explaining_side_agree_on_every_body(document: object):
    explained = (
        EmbeddingsRequest().validate(document) if isinstance(document, dict) else {"": "no object"}
    )

    assert passes(document) == (not explained), explained


@pytest.mark.parametrize("field", ["model", "input", "encoding_format", "dimensions", "other"])
def test_both_sides_agree_at_every_border_of_every_field(field: str):
    documents = [{"model": "m", "input": "x", field: value} for value in EDGES]

    passing = [passes(document) for document in documents]

    assert passing == [not EmbeddingsRequest().validate(document) for document in documents]
    assert True in passing


@pytest.mark.parametrize(
    "given_input",
    ["text", ["a", "b"], [1, 2], [[1, 2], [3]], ["a"] * 4_096],
    ids=lambda x: str(x)[:20],
)
@pytest.mark.parametrize("encoding_format", [None, "float", "base64"])
def test_every_form_of_input_that_openai_takes_passes(
    given_input: object, encoding_format: str | None
):
    assert passes({"model": "m", "input": given_input, "encoding_format": encoding_format})


@pytest.mark.parametrize("nothing", ["", [], [""], [[]]], ids=repr)
def test_nothing_cannot_be_embedded(nothing: object):
    assert not passes({"model": "m", "input": nothing})
    assert "input" in EmbeddingsRequest().validate({"model": "m", "input": nothing})
