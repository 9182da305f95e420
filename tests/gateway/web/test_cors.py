"""Browsers of other sites: off unless listed, and never more than listed."""

import pytest

from gateway.web.cors import EXPOSED, Cors
from gateway.web.settings import WebSettings
from tests.fakes import wsgi

ALLOW = "Access-Control-Allow-Origin"
SITE = "https://app.example"


def told(origin: str, **settings: object) -> dict[str, str]:
    """Return the headers of an answer to a request from an origin."""
    cors = Cors(WebSettings(**settings))
    return dict(cors.headers(wsgi.environ(HTTP_ORIGIN=origin)))


def test_without_a_list_it_is_off():
    assert not Cors(WebSettings()).enabled


def test_a_listed_origin_is_named_back_and_may_read_our_headers():
    headers = told(SITE, allowed_origins=(SITE, "https://other.example"))

    assert headers[ALLOW] == SITE
    assert headers["Access-Control-Expose-Headers"] == EXPOSED
    assert "x-request-id" in EXPOSED
    assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "https://app.example.evil.com", "http://app.example", "null", ""],
)
def test_any_other_origin_gets_no_permission(origin: str):
    assert told(origin, allowed_origins=(SITE,), cors_credentials=True) == {"Vary": "Origin"}


def test_answers_differ_by_origin_and_say_so_to_caches():
    assert told(SITE, allowed_origins=(SITE,))["Vary"] == "Origin"


def test_a_star_lets_everyone_read():
    assert told("https://any.example", allowed_origins=("*",))[ALLOW] == "*"


def test_credentials_are_allowed_only_when_asked_for():
    headers = told(SITE, allowed_origins=(SITE,), cors_credentials=True)

    assert headers["Access-Control-Allow-Credentials"] == "true"


def preflight(app, origin: str, **headers: str):
    """Return the answer to a browser's question before a request."""
    return app.test_client().options("/v1/chat/completions", headers={"Origin": origin, **headers})


def test_a_preflight_needs_no_key_and_grants_what_was_asked(make_app):
    app = make_app(ALLOWED_ORIGINS=SITE)

    answer = preflight(app, SITE, **{"Access-Control-Request-Headers": "authorization, x-foo"})

    assert answer.status_code == 204
    assert answer.headers[ALLOW] == SITE
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, x-foo"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.data == b""
    assert "Content-Length" not in answer.headers


def test_a_preflight_of_another_origin_is_answered_without_permission(make_app):
    answer = preflight(make_app(ALLOWED_ORIGINS=SITE), "https://evil.example")

    assert answer.status_code == 204
    assert ALLOW not in answer.headers


def test_header_names_that_do_not_belong_there_are_not_repeated(make_app):
    request = wsgi.environ(
        "OPTIONS", HTTP_ORIGIN=SITE, HTTP_ACCESS_CONTROL_REQUEST_HEADERS="a\x00é"
    )

    answer = wsgi.ask(make_app(ALLOWED_ORIGINS=SITE).wsgi_app, request)

    assert answer.header("Access-Control-Allow-Headers") is None
    assert answer.read() == b""


def test_errors_can_be_read_by_the_browser_too(make_app):
    answer = (
        make_app(ALLOWED_ORIGINS=SITE).test_client().get("/v1/models", headers={"Origin": SITE})
    )

    assert answer.status_code == 401
    assert answer.headers[ALLOW] == SITE


def test_when_it_is_off_a_preflight_is_an_unknown_method(client):
    answer = preflight(client.application, SITE)

    assert answer.status_code == 405
    assert ALLOW not in answer.headers
