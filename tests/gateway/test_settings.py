"""The whole configuration: read in one go, every mistake told at once, weak ones refused."""

import pytest

from gateway.kernel.errors import SettingsError
from gateway.settings import (
    ROOMS,
    _in_force,
    accept_settings,
    read_settings,
    settings_in_force,
)

STRONG = "nxs-test-0123456789abcdef0123456789"
PRODUCTION = {"GATEWAY_ENV": "production", "OLLAMA_BASE_URL": "http://gpu1:11434"}


def mistakes(**environ):
    """Return the lines that stop a start with these variables."""
    with pytest.raises(SettingsError) as caught:
        read_settings(environ)
    return caught.value.message.splitlines()


@pytest.fixture
def nothing_accepted():
    """A process that has accepted no configuration yet."""
    before = list(_in_force)
    _in_force.clear()
    yield
    _in_force[:] = before


def test_nothing_configured_is_a_demo_that_starts():
    settings = read_settings({})

    assert [upstream.name for upstream in settings.upstreams] == ["ollama", "mock"]
    assert settings.keys == ()
    assert settings.warnings == ()


def test_every_room_is_read_and_every_setting_has_a_row():
    settings = read_settings({"GATEWAY_PORT": "9000", "METRICS_ENABLED": "off"})

    assert settings.web.port == 9000
    assert settings.usage.metrics_enabled is False
    assert len(settings.rows) == sum(len(room.__dataclass_fields__) for room in ROOMS)


def test_no_two_settings_share_a_variable():
    names = [name for row in read_settings({}).rows for name in (row.env, *row.also)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", read_settings({}).rows, ids=lambda row: row.env)
def test_every_setting_is_documented_in_a_sentence(row):
    assert row.help.endswith(".")
    assert row.help[0].isupper() or not row.help[0].isalpha()


def test_mistakes_of_all_rooms_are_told_at_once():
    lines = mistakes(
        GATEWAY_PORT="x", GATEWAY_UPSTREAMS="a=ftp://x;b", BACKEND_VERIFY_TLS="perhaps",
        GATEWAY_DEFAULT_UPSTREAM="nobody", GATEWAY_MAX_IN_FLIGHT="9999",
    )  # fmt: skip

    text = "\n".join(lines)
    for name in (
        "GATEWAY_PORT=", "GATEWAY_UPSTREAMS: a:", "entry 2", "BACKEND_VERIFY_TLS", "nobody",
        "GATEWAY_MAX_IN_FLIGHT",
    ):  # fmt: skip
        assert name in text
    assert len(lines) == 6


def test_a_typo_is_a_warning_with_the_nearest_name():
    [warning] = read_settings({"GATEWAY_UPSTREAM": "x"}).warnings

    assert warning == "GATEWAY_UPSTREAM is not a setting; did you mean GATEWAY_UPSTREAMS?"


def test_a_file_variant_of_what_is_no_secret_is_a_warning_too():
    """It would be ignored, and its owner would not know."""
    assert len(read_settings({"GATEWAY_HOST_FILE": "/x"}).warnings) == 1


def test_secrets_may_come_from_files(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"{STRONG};{STRONG}2\n", encoding="utf-8")

    settings = read_settings({"GATEWAY_API_KEYS_FILE": str(path)})

    assert settings.keys == (STRONG, STRONG + "2")
    assert settings.warnings == ()


@pytest.mark.parametrize(
    "variable", ["GATEWAY_BEARER_TOKEN", "GATEWAY_BEARER_TOKENS", "GATEWAY_API_KEYS", "API_KEYS"]
)
def test_every_variable_of_the_older_installs_still_names_keys(variable):
    assert read_settings({variable: STRONG}).keys == (STRONG,)


@pytest.mark.T(39)
def test_weak_keys_work_in_development_with_a_warning_each():
    settings = read_settings({"GATEWAY_API_KEYS": f"dev-key,short,{STRONG}"})

    assert len(settings.keys) == 3
    assert len(settings.warnings) == 2


@pytest.mark.T(39)
def test_a_long_key_that_repeats_a_few_characters_is_a_warning_and_refused_in_production():
    weak = {"GATEWAY_API_KEYS": "k" * 40}

    [warning] = read_settings(weak).warnings
    [line] = mistakes(**PRODUCTION, **weak)

    assert "repeats a few characters" in warning
    assert "repeats a few characters" in line


@pytest.mark.T(39)
@pytest.mark.parametrize(
    "mock", [{"GATEWAY_MOCK": "on"}, {"GATEWAY_UPSTREAMS": "canned=mock://local"}]
)
def test_production_refuses_a_mock_that_would_answer_callers(mock):
    lines = mistakes(**PRODUCTION, **mock, GATEWAY_API_KEYS=STRONG)

    assert lines == [
        "GATEWAY_ENV=production: a mock upstream is configured (GATEWAY_MOCK, GATEWAY_UPSTREAMS)"
    ]


def test_a_mock_is_no_weakness_elsewhere():
    settings = read_settings({"GATEWAY_MOCK": "on", "GATEWAY_UPSTREAMS": "canned=mock://local"})

    assert settings.warnings == ()


@pytest.mark.parametrize("environment", ["development", "production"])
def test_a_gateway_without_any_upstream_starts_and_is_warned_of(environment):
    """Its models can be none; a typo in a name would look just like this."""
    settings = read_settings(
        {"GATEWAY_ENV": environment, "GATEWAY_MOCK": "off", "GATEWAY_API_KEYS": STRONG}
    )

    assert settings.warnings == (
        "no upstream is configured, so no model is served; set GATEWAY_UPSTREAMS",
    )


@pytest.mark.parametrize("variable", ["BACKEND_CA_BUNDLE", "BACKEND_CLIENT_CERT"])
def test_a_certificate_file_that_cannot_be_used_is_found_before_the_first_call(variable, tmp_path):
    lines = mistakes(**{variable: str(tmp_path / "none.pem")}, GATEWAY_PORT="x")

    assert [line.partition("=")[0] for line in lines[:1]] == ["GATEWAY_PORT"]
    [found] = lines[1:]
    assert found.startswith("BACKEND_CA_BUNDLE or BACKEND_CLIENT_CERT: a file cannot be used")
    assert "(No such file or directory)" in found


@pytest.mark.T(39)
def test_production_refuses_every_weak_setting_with_one_line_each():
    lines = mistakes(
        **PRODUCTION, GATEWAY_API_KEYS="dev-key,short", BACKEND_VERIFY_TLS="false",
        ALLOWED_ORIGINS="*", GATEWAY_CORS_ALLOW_CREDENTIALS="true",
    )  # fmt: skip

    assert len(lines) == 4
    assert sum("public README" in line for line in lines) == 1
    assert sum("fewer than 32 characters" in line for line in lines) == 1
    assert sum("BACKEND_VERIFY_TLS=false" in line for line in lines) == 1
    assert sum("any site could act for a user" in line for line in lines) == 1
    assert not any("dev-key" in line or "short" in line.split() for line in lines)


@pytest.mark.T(39)
def test_production_refuses_to_start_without_a_key():
    [line] = mistakes(**PRODUCTION)

    assert line.startswith("GATEWAY_ENV=production: no API key is configured; set GATEWAY_API_KEYS")


@pytest.mark.T(39)
def test_production_refuses_a_secret_that_is_empty(tmp_path):
    (tmp_path / "empty").write_text(" \n", encoding="utf-8")

    assert len(mistakes(**PRODUCTION, GATEWAY_API_KEYS=" , ; ")) == 1
    assert len(mistakes(**PRODUCTION, GATEWAY_API_KEYS_FILE=str(tmp_path / "empty"))) == 1


def test_production_with_a_strong_key_starts_and_knows_no_mock():
    settings = read_settings({**PRODUCTION, "GATEWAY_API_KEYS": STRONG})

    assert [upstream.name for upstream in settings.upstreams] == ["ollama"]


@pytest.mark.T(39)
@pytest.mark.parametrize("environment", ["development", "production"])
def test_any_origin_with_credentials_is_refused_everywhere(environment):
    lines = mistakes(
        GATEWAY_ENV=environment, OLLAMA_BASE_URL="http://x", GATEWAY_API_KEYS=STRONG,
        ALLOWED_ORIGINS="https://a.example, *", GATEWAY_CORS_ALLOW_CREDENTIALS="true",
    )  # fmt: skip

    assert len(lines) == 1


def test_no_mistake_repeats_a_secret():
    secret = "sk-canary-1234567890"
    lines = mistakes(
        **PRODUCTION, GATEWAY_API_KEYS=secret,
        GATEWAY_UPSTREAM_API_KEYS=f"nobody={secret};{secret};{secret}==",
    )  # fmt: skip

    assert len(lines) == 4
    assert secret not in "\n".join(lines)


def test_the_configuration_cannot_be_changed():
    with pytest.raises(AttributeError):
        read_settings({}).keys = ("x",)


# --- what is in force ----------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_accepted")
def test_nothing_is_in_force_until_something_was_accepted():
    read_settings({})

    assert settings_in_force() is None


@pytest.mark.usefixtures("nothing_accepted")
def test_a_configuration_that_was_accepted_is_in_force_until_the_next_one_is():
    first = accept_settings({"GATEWAY_PORT": "9000"})
    assert settings_in_force() is first

    second = accept_settings({"GATEWAY_PORT": "9010"})

    assert settings_in_force() is second
    assert second.web.port == 9010


@pytest.mark.usefixtures("nothing_accepted")
def test_a_wrong_configuration_leaves_the_one_before_in_force(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(STRONG, encoding="utf-8")
    before = accept_settings({"GATEWAY_API_KEYS_FILE": str(keys)})
    keys.unlink()

    with pytest.raises(SettingsError, match="GATEWAY_API_KEYS_FILE"):
        accept_settings({"GATEWAY_API_KEYS_FILE": str(keys)})

    assert settings_in_force() is before
    assert before.keys == (STRONG,)
