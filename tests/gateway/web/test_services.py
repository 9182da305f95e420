"""The parts of one application, found by their type."""

from typing import Protocol

import pytest
from flask import Flask

from gateway.web.services import part_of, parts_of, provide


class Lamp(Protocol):
    """Something that shines."""


class Bulb:
    """One kind of lamp."""


def test_a_part_is_found_by_its_type():
    app, bulb = Flask("a"), Bulb()

    provide(app, bulb)

    assert part_of(app, Bulb) is bulb


def test_a_part_can_be_filed_under_what_it_stands_for():
    app, bulb = Flask("a"), Bulb()

    provide(app, bulb, Lamp)

    assert part_of(app, Lamp) is bulb
    assert Bulb not in parts_of(app)


def test_a_later_part_takes_the_place_of_an_earlier_one():
    app, second = Flask("a"), Bulb()

    provide(app, Bulb())
    provide(app, second)

    assert part_of(app, Bulb) is second


def test_two_applications_share_no_parts():
    one, other = Flask("a"), Flask("b")

    provide(one, Bulb())

    with pytest.raises(KeyError):
        part_of(other, Bulb)
