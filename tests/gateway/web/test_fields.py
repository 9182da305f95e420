"""marshmallow fields as strict as JSON."""

import pytest
from marshmallow import Schema, ValidationError

from gateway.web.fields import flag, model_name, whole


class Sample(Schema):
    """One field of each kind."""

    open = flag("A door.")
    count = whole("A number.", least=1, most=9)
    many = whole("A number without an upper end.", least=0)


def load(**given):
    """Return what the schema reads."""
    return Sample().load(given)


@pytest.mark.parametrize("value", [True, False, None])
def test_a_flag_is_true_false_or_null(value):
    assert load(open=value) == {"open": value}


@pytest.mark.parametrize("value", ["true", "on", 1, 0, "", [], {}])
def test_no_word_and_no_number_is_a_flag(value):
    with pytest.raises(ValidationError, match="Not a valid boolean"):
        load(open=value)


@pytest.mark.parametrize("value", [1, 9, None])
def test_a_whole_number_lies_within_its_bounds(value):
    assert load(count=value) == {"count": value}


@pytest.mark.parametrize("value", [0, 10, -1, 1.0, 1.5, "1", True, [1]])
def test_anything_else_is_no_whole_number(value):
    with pytest.raises(ValidationError):
        load(count=value)


def test_without_an_upper_bound_any_size_goes():
    assert load(many=10**30) == {"many": 10**30}


@pytest.mark.parametrize(
    ("name", "passes"), [("m", True), ("x" * 512, True), ("", False), ("x" * 513, False)]
)
def test_a_models_name_has_1_to_512_characters(name, passes):
    schema = Schema.from_dict({"model": model_name()})()

    assert (schema.validate({"model": name}) == {}) is passes


def test_a_model_must_be_named():
    assert Schema.from_dict({"model": model_name()})().validate({})
