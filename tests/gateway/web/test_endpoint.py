"""The declaration of an endpoint: closed unless said otherwise, and everything follows from it."""

import pytest
from flask import Blueprint, Flask

from gateway.kernel.call import Principal
from gateway.kernel.errors import NotAllowed
from gateway.web.endpoint import INCOMING, PUBLIC, Endpoint, Guard, endpoint, endpoints_of
from gateway.web.incoming import Incoming, json_answer
from gateway.web.services import provide
from tests.fakes import wsgi


class Doorman:
    """Admits callers who hold one scope; remembers what it was asked."""

    def __init__(self, *scopes):
        self.principal = Principal("key-1", frozenset(scopes))
        self.asked = []

    def admit(self, incoming, scope):
        self.asked.append(scope)
        if not self.principal.may(scope):
            raise NotAllowed("no")
        incoming.principal = self.principal


def view(incoming, **arguments):
    """Do the work.

    At length.
    """
    return json_answer(arguments)


def declared(scope):
    """Return an endpoint."""
    return Endpoint("GET", "/it", scope, "it.get", "Do the work.", view)


def incoming_for(guard=None):
    """Return a request to an application with this guard, or with none."""
    parts = {} if guard is None else {Guard: guard}
    return Incoming(wsgi.environ(), parts)


def test_the_guard_is_asked_for_the_scope_before_the_view_runs():
    guard = Doorman("chat")
    incoming = incoming_for(guard)

    answer = declared("chat").run(incoming, a=1)

    assert guard.asked == ["chat"]
    assert incoming.caller() is guard.principal
    assert answer.body == (b'{"a":1}',)


def test_a_caller_without_the_scope_never_reaches_the_view():
    ran = []
    item = Endpoint("GET", "/it", "admin", "it.get", "", lambda incoming: ran.append(True))

    with pytest.raises(NotAllowed):
        item.run(incoming_for(Doorman("chat")))

    assert ran == []


def test_without_a_guard_nothing_but_public_endpoints_runs():
    with pytest.raises(KeyError):
        declared("chat").run(incoming_for())

    assert declared(PUBLIC).run(incoming_for()).status == 200


def test_a_public_endpoint_asks_nobody():
    guard = Doorman()

    declared(PUBLIC).run(incoming_for(guard))

    assert guard.asked == []


def test_an_endpoint_without_a_scope_cannot_be_declared():
    with pytest.raises(TypeError, match="scope"):
        endpoint(Blueprint("room", __name__), "GET", "/it", operation_id="it")


@pytest.fixture
def small_app():
    """An application with two rooms, one of them used before the other was declared."""
    app = Flask("small")
    first, second = Blueprint("first", __name__), Blueprint("second", __name__)
    endpoint(second, "POST", "/b", scope="chat", operation_id="b.post", hot=True)(view)
    endpoint(second, "GET", "/b", scope=PUBLIC, operation_id="b.get", observed=True)(
        lambda incoming: json_answer({})
    )
    endpoint(first, "GET", "/a/<path:name>", scope=PUBLIC, operation_id="a.get")(view)
    for blueprint in (second, first):
        app.register_blueprint(blueprint)
    return app


def test_all_declarations_of_an_application_are_found_by_address_and_method(small_app):
    found = [(item.method, item.path, item.operation_id) for item in endpoints_of(small_app)]

    assert found == [
        ("GET", "/a/<path:name>", "a.get"),
        ("GET", "/b", "b.get"),
        ("POST", "/b", "b.post"),
    ]


def test_the_summary_is_the_first_line_of_the_docstring(small_app):
    found = {item.operation_id: item.summary for item in endpoints_of(small_app)}

    assert found["b.post"] == "Do the work."


def test_switches_are_off_unless_declared(small_app):
    found = {item.operation_id: (item.hot, item.observed) for item in endpoints_of(small_app)}

    assert found == {"a.get": (False, False), "b.get": (False, True), "b.post": (True, False)}


def test_two_applications_share_no_declarations():
    assert endpoints_of(Flask("empty")) == []


def test_through_flask_the_parts_of_the_address_reach_the_view(small_app):
    request = wsgi.environ(path="/a/x/y")
    request[INCOMING] = Incoming(request, {})

    answer = wsgi.ask(small_app.wsgi_app, request)

    assert answer.read() == b'{"name":"x/y"}'
    assert request[INCOMING].endpoint == "/a/<path:name>"


def test_through_flask_the_guard_is_asked_too(small_app):
    guard = Doorman("chat")
    provide(small_app, guard, Guard)
    request = wsgi.environ("POST", "/b")
    request[INCOMING] = Incoming(request, {Guard: guard})

    answer = wsgi.ask(small_app.wsgi_app, request)

    assert answer.status == 200
    assert guard.asked == ["chat"]
    answer.close()


@pytest.mark.parametrize("path", ["/b", "/b/"])
def test_a_trailing_slash_is_no_redirect(small_app, path):
    request = wsgi.environ(path=path)
    request[INCOMING] = Incoming(request, {})

    answer = wsgi.ask(small_app.wsgi_app, request)

    assert answer.status == 200
    answer.close()
