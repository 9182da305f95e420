"""What every backend is made of."""

import pytest

from gateway.backends.base import BACKENDS, backend_for, listed, quoted
from gateway.kernel.call import Kind
from gateway.kernel.errors import UpstreamInvalid
from tests.fakes.backend import ScriptedBackend, an_upstream


@pytest.mark.parametrize(
    ("url", "name"),
    [("http://h", "openai_compatible"), ("https://h", "openai_compatible"), ("mlx://h", "mlx"),
     ("ollama://h", "ollama"), ("ollama+https://h", "ollama"), ("mock://x", "mock"),
     ("HTTP://h", "openai_compatible")],
)  # fmt: skip
def test_the_scheme_of_an_address_chooses_the_backend(url, name):
    assert backend_for(url) is BACKENDS.get(name)


@pytest.mark.parametrize("url", ["ftp://h", "h:8000", "", "file:///etc/passwd", "httpx://h"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(url):
    with pytest.raises(LookupError, match=r"known: http, https, mlx, mock, ollama"):
        backend_for(url)


def test_no_two_backends_share_a_scheme():
    schemes = [scheme for name in BACKENDS for scheme in BACKENDS.get(name).schemes]

    assert len(schemes) == len(set(schemes))


def test_every_backend_says_what_it_can():
    assert all(BACKENDS.get(name).can <= frozenset(Kind) for name in BACKENDS)
    assert all(BACKENDS.get(name).can for name in BACKENDS)


def test_a_backend_without_network_has_no_connections():
    with pytest.raises(RuntimeError, match="scripted"):
        _ = ScriptedBackend("scripted").pool


def test_a_backend_without_network_has_nothing_to_weed():
    ScriptedBackend("scripted").weed()


def test_a_backend_weeds_its_connections(upstream, make_pool):
    pool = make_pool(upstream.url())
    backend = BACKENDS.get("openai_compatible")(an_upstream("a", upstream.url()), pool)
    weeded = []
    pool.weed = lambda: weeded.append(True)

    backend.weed()

    assert weeded == [True]


def test_a_key_is_not_shown_with_its_upstream():
    assert "sk-1" not in repr(an_upstream("a", "http://h", api_key="sk-1"))


@pytest.mark.parametrize("document", [None, 5, [], {}, {"models": 5}, {"models": {}}])
def test_a_list_that_is_none_is_refused(document):
    with pytest.raises(UpstreamInvalid):
        listed(document, "models")


def test_of_a_list_only_the_objects_count():
    assert listed({"models": [{"a": 1}, 5, None, "x", {}]}, "models") == [{"a": 1}, {}]


def test_a_name_is_quoted_as_json():
    assert quoted('a"b\u00e9') == '"a\\"b\u00e9"'.encode()
