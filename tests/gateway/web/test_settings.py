"""The edge's settings, and what is wrong with them taken together."""

from dataclasses import replace

import pytest

from gateway.web.settings import WebSettings, address_of, problems_of

GOOD = WebSettings()


def test_the_defaults_serve_this_machine_only_and_have_no_problems():
    assert (GOOD.host, GOOD.port) == ("127.0.0.1", 8800)
    assert (GOOD.observability_host, GOOD.observability_port) == ("127.0.0.1", 8801)
    assert problems_of(GOOD) == []


@pytest.mark.T(39)
def test_any_site_with_credentials_is_refused():
    [problem] = problems_of(replace(GOOD, allowed_origins=("*",), cors_credentials=True))

    assert "any site could act for a user" in problem


@pytest.mark.parametrize(
    ("origins", "credentials"), [(("*",), False), (("https://a.example",), True)]
)
def test_each_of_the_two_alone_is_fine(origins, credentials):
    assert problems_of(replace(GOOD, allowed_origins=origins, cors_credentials=credentials)) == []


def test_a_full_worker_must_be_able_to_say_so():
    [problem] = problems_of(replace(GOOD, max_in_flight=2000, worker_connections=2000))

    assert "GATEWAY_MAX_IN_FLIGHT" in problem


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1"])
def test_the_two_ports_differ_even_on_two_addresses(host):
    """A request's port alone tells whether it came for observation."""
    [problem] = problems_of(replace(GOOD, observability_port=8800, observability_host=host))

    assert "GATEWAY_PORT and OBSERVABILITY_PORT" in problem


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("gateway.local", "gateway.local:80"),
        ("::1", "[::1]:80"),
        ("[::1]", "[::1]:80"),
    ],
)
def test_an_address_of_the_new_internet_gets_its_brackets_once(host, address):
    assert address_of(host, 80) == address
