"""Who may call what: every address has a scope; what is open to all is on a reviewed list (T24)."""

import pytest

from gateway.auth.keys import ADMIN_SCOPES
from gateway.web.endpoint import PUBLIC, endpoints_of
from tests.fakes import wsgi

OPEN_TO_ALL = {
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/readyz"),
    ("GET", "/v1/descriptor"),
    ("GET", "/v1/metadata"),
}
"""Read by a person before each change: none of these tells a secret or costs anything."""
OBSERVED = {"/health", "/health/upstreams", "/metrics", "/readyz"}
"""What the observability port serves without a key; it listens on this machine only by default."""


@pytest.mark.T(24)
def test_every_route_was_declared_as_an_endpoint(app):
    declared = {(item.method, item.path) for item in endpoints_of(app)}

    routed = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
    }
    assert routed == declared
    assert len(declared) >= 12


@pytest.mark.T(24)
def test_every_endpoint_asks_for_a_scope_that_exists(app):
    scopes = {item.scope for item in endpoints_of(app)}

    assert scopes <= ADMIN_SCOPES | {PUBLIC}


@pytest.mark.T(24)
def test_only_reviewed_endpoints_are_open_to_all(app):
    found = {(item.method, item.path) for item in endpoints_of(app) if item.scope == PUBLIC}

    assert found == OPEN_TO_ALL


@pytest.mark.T(24)
def test_without_a_key_every_other_endpoint_is_closed(app):
    """Asked for real, on the API's port, with every method and whatever stands in the address."""
    for item in endpoints_of(app):
        path = item.path.replace("<path:model>", "mock")
        answer = wsgi.ask(app.wsgi_app, wsgi.environ(item.method, path))
        answer.close()
        is_open = (item.method, item.path) in OPEN_TO_ALL
        assert (answer.status == 401) is not is_open, item.path


def test_the_observability_port_serves_the_reviewed_endpoints_only(app):
    assert {item.path for item in endpoints_of(app) if item.observed} == OBSERVED
    assert {item.method for item in endpoints_of(app) if item.observed} == {"GET"}


def test_short_cuts_have_a_fixed_address(app):
    """The edge finds them by the exact path, so a variable in one would never match."""
    assert not any("<" in item.path for item in endpoints_of(app) if item.hot)


def test_every_view_says_what_it_does_in_a_sentence(app):
    assert all(item.summary.endswith(".") for item in endpoints_of(app))
