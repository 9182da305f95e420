"""The configured upstreams: the seeds' grammar, and every mistake told at once."""

import pytest

from gateway.backends.base import Upstream
from gateway.backends.settings import BackendSettings
from gateway.kernel.registry import load_folder
from gateway.kernel.settings import load
from gateway.routing.settings import RoutingSettings
from gateway.routing.upstreams import DEMO_MODELS, configured

load_folder("gateway.backends")


def read(*, production: bool = False, **environ: str) -> tuple[dict[str, Upstream], list[str]]:
    """Return the upstreams that these variables describe, by name, and what is wrong."""
    problems: list[str] = []
    routing = load(RoutingSettings, environ, problems)
    backends = load(BackendSettings, environ, problems)
    found = configured(routing, backends, production=production, problems=problems)
    return {upstream.name: upstream for upstream in found}, problems


def urls(**environ: str) -> dict[str, str]:
    """Return the addresses of upstreams without any mistake."""
    found, problems = read(**environ)
    assert problems == []
    return {name: upstream.url for name, upstream in found.items()}


# --- the grammar ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a=http://h1:1;b=http://h2:2", "a=http://h1:1,b=http://h2:2",
        " a = http://h1:1 ; b = http://h2:2 ;", ";;a=http://h1:1;,;b=http://h2:2,",
    ],
)  # fmt: skip
def test_upstreams_are_named_and_parted_by_either_sign(text):
    assert urls(GATEWAY_UPSTREAMS=text) == {"a": "http://h1:1", "b": "http://h2:2"}


def test_their_order_is_the_order_of_preference():
    assert list(urls(GATEWAY_UPSTREAMS="z=http://h:1;a=http://h:2;m=http://h:3")) == ["z", "a", "m"]


@pytest.mark.parametrize(
    "url",
    ["http://h", "https://h/v1", "mlx://h:1/v1", "ollama://h:1", "ollama+https://h", "mock://x",
     "http://[::1]:8000/v1"],
)  # fmt: skip
def test_every_scheme_of_a_backend_is_taken(url):
    assert urls(GATEWAY_UPSTREAMS=f"a={url}")["a"] == url


@pytest.mark.parametrize(
    ("scheme", "taken"),
    [("HTTP", "http"), ("HTTPS", "https"), ("Ollama+HTTPS", "ollama+https"), ("MLX", "mlx")],
)
def test_the_case_of_a_scheme_does_not_matter(scheme, taken):
    """HTTPS taken for HTTP would send keys in the clear."""
    assert urls(GATEWAY_UPSTREAMS=f"a={scheme}://Host/V1")["a"] == f"{taken}://Host/V1"


def test_a_value_may_hold_equal_signs():
    assert urls(GATEWAY_UPSTREAMS="a=http://h/v1?x=y")["a"] == "http://h/v1?x=y"


def test_keys_go_to_their_upstreams():
    found, problems = read(
        GATEWAY_UPSTREAMS="a=http://h:1;b=http://h:2", GATEWAY_UPSTREAM_API_KEYS="b=sk-1,=;"
    )

    assert problems == []
    assert (found["a"].api_key, found["b"].api_key) == ("", "sk-1,=")


def test_keys_may_stand_one_on_a_line():
    """As a secret's file has them; inside a header a line break would begin another one."""
    found, problems = read(
        GATEWAY_UPSTREAMS="a=http://h:1;b=http://h:2",
        GATEWAY_UPSTREAM_API_KEYS="a=key-of-a\r\nb=key-of-b\n",
    )

    assert problems == []
    assert (found["a"].api_key, found["b"].api_key) == ("key-of-a", "key-of-b")


def test_limits_come_from_the_settings():
    found, _ = read(
        GATEWAY_UPSTREAMS="a=http://h:1", GATEWAY_CONNECT_TIMEOUT_SECONDS="1",
        GATEWAY_MAX_RESPONSE_BYTES="2048",
    )  # fmt: skip

    assert found["a"].timeouts.connect_s == 1.0
    assert found["a"].max_response_bytes == 2048


# --- the seeds' own variables --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "name", "url"),
    [
        ("OLLAMA_BASE_URL", "http://h:11434", "ollama", "ollama://h:11434"),
        ("OLLAMA_BASE_URL", "https://h", "ollama", "ollama+https://h"),
        ("OLLAMA_BASE_URL", "HTTPS://h", "ollama", "ollama+https://h"),
        ("OLLAMA_BASE_URL", "h:11434", "ollama", "ollama://h:11434"),
        ("OLLAMA_BASE_URL", "http://h:11434/v1", "ollama", "ollama://h:11434/v1"),
        ("MLX_BASE_URL", "http://h:10240/v1", "mlx", "mlx://h:10240/v1"),
        ("MLX_BASE_URL", "h:10240", "mlx", "mlx://h:10240"),
        ("MLX_BASE_URL", "https://h/v1", "mlx", "https://h/v1"),
        ("MLX_BASE_URL", "HTTPS://h/v1", "mlx", "https://h/v1"),
        ("DEFAULT_BACKEND", "ollama", "ollama", "ollama://127.0.0.1:11434"),
        ("GATEWAY_DEFAULT_UPSTREAM", "mlx", "mlx", "mlx://127.0.0.1:10240/v1"),
    ],
)
def test_a_variable_of_its_own_names_its_backend(variable, value, name, url):
    assert urls(**{variable: value}) == {name: url}


def test_a_listed_upstream_wins_over_a_variable_of_its_own():
    assert urls(GATEWAY_UPSTREAMS="ollama=http://gpu:1", OLLAMA_BASE_URL="http://h:2") == {
        "ollama": "http://gpu:1"}  # fmt: skip


# --- the embedded mock ---------------------------------------------------------------------------


def test_without_any_upstream_the_mock_answers_and_ollama_is_tried():
    found, problems = read()

    assert problems == []
    assert list(found) == ["ollama", "mock"]
    assert found["ollama"].implied
    assert found["mock"].embedded
    assert set(found["mock"].serves) == set(DEMO_MODELS)


def test_beside_a_real_upstream_there_is_no_mock_unless_asked_for():
    assert list(urls(GATEWAY_UPSTREAMS="a=http://h")) == ["a"]
    assert list(urls(GATEWAY_UPSTREAMS="a=http://h", GATEWAY_MOCK="on")) == ["a", "mock"]


def test_beside_a_real_upstream_the_mock_stands_in_for_no_model():
    found, _ = read(GATEWAY_UPSTREAMS="a=http://h", GATEWAY_MOCK="on")

    assert found["mock"].serves == {}


def test_the_mock_can_be_turned_off():
    assert read(GATEWAY_MOCK="off") == ({}, [])


def test_in_production_the_mock_is_off_unless_asked_for():
    assert read(production=True) == ({}, [])
    assert "mock" in read(production=True, GATEWAY_MOCK="on")[0]


def test_a_mock_of_ones_own_is_not_real_and_not_doubled():
    found, _ = read(GATEWAY_UPSTREAMS="mock=mock://fail")

    assert list(found) == ["mock", "ollama"]
    assert not found["mock"].embedded


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", "entry 1"), ("a=", "entry 1"), ("=http://h", "entry 1"), ("http://h:1", "entry 1"),
        ("a b=http://h", "'a b'"), ("-a=http://h", "'-a'"), ("a/b=http://h", "'a/b'"),
        ("a=http://h;a=http://i", "twice"), ("a=h:8000", "needs a scheme"),
        ("a=ftp://h", "ftp://"), ("a=http://me:pw@h", "GATEWAY_UPSTREAM_API_KEYS"),
        ("a=http://h h", "characters"), ("a=http://h\\x", "characters"),
        ("a=http://hé", "characters"), ("a=http://h:0", "port"),
        ("a=http://", "host"), ("a=http://:8000", "host"), ("a=http://h:99999", "port"),
        ("a=http://h:x", "port"), ("a=ollama://h:0x50", "port"), ("a=http://[::1", "host"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_list_is_told(text, told):
    _, problems = read(GATEWAY_UPSTREAMS=text)

    assert len(problems) == 1
    assert problems[0].startswith("GATEWAY_UPSTREAMS")
    assert told in problems[0]


@pytest.mark.parametrize("variable", ["OLLAMA_BASE_URL", "MLX_BASE_URL"])
@pytest.mark.parametrize(
    ("url", "told"),
    [("ftp://h", "ftp"), ("http://me:secret@h", "credentials"), ("http://h h", "characters"),
     ("http://h:99999", "port"), ("http://", "host")],
)  # fmt: skip
def test_a_mistake_in_a_variable_of_its_own_is_told_too(variable, url, told):
    _, problems = read(**{variable: url})

    assert len(problems) == 1
    assert problems[0].startswith(variable)
    assert told in problems[0]
    assert "secret" not in problems[0]


def test_a_key_for_nobody_is_told_without_the_key():
    _, problems = read(GATEWAY_UPSTREAMS="a=http://h", GATEWAY_UPSTREAM_API_KEYS="b=sk-1;sk-2")

    assert len(problems) == 2
    assert all(line.startswith("GATEWAY_UPSTREAM_API_KEYS") for line in problems)
    assert "sk-" not in "".join(problems)


@pytest.mark.parametrize("key", ["ключ", "gehe\u00efm", "a\tb", "a\rb", "a\x00b", "\udcff"])
def test_a_key_that_no_header_may_carry_is_told_without_the_key(key):
    _, problems = read(GATEWAY_UPSTREAMS="a=http://h", GATEWAY_UPSTREAM_API_KEYS=f"a={key}")

    assert problems == [
        "GATEWAY_UPSTREAM_API_KEYS: the key of 'a' has characters that no header may carry"
    ]


def test_a_default_upstream_that_is_none_is_told_with_the_nearest_name():
    _, problems = read(GATEWAY_UPSTREAMS="vllm=http://h", GATEWAY_DEFAULT_UPSTREAM="vlm")

    assert problems == [
        "GATEWAY_DEFAULT_UPSTREAM: unknown upstream 'vlm'; did you mean 'vllm'? (known: vllm)"
    ]


def test_all_mistakes_are_told_at_once():
    _, problems = read(
        GATEWAY_UPSTREAMS="a;b=ftp://h;c d=http://h;e=http://h:1",
        GATEWAY_UPSTREAM_API_KEYS="x=1",
        GATEWAY_DEFAULT_UPSTREAM="nobody",
        HEALTH_CHECK_INTERVAL_SEC="often",
    )

    assert len(problems) == 6
