"""The settings of the way to the upstreams."""

import pytest

from gateway.backends.settings import BackendSettings
from gateway.kernel.settings import load


def read(**environ: str) -> tuple[BackendSettings, list[str]]:
    problems: list[str] = []
    return load(BackendSettings, environ, problems), problems


def test_every_clock_has_a_default():
    settings, _ = read()

    assert (settings.connect_timeout_s, settings.first_byte_timeout_s) == (2.0, 60.0)
    assert (settings.idle_timeout_s, settings.total_timeout_s) == (30.0, 600.0)


def test_the_total_time_is_also_read_under_its_older_name():
    assert read(TIMEOUT_SECONDS="45")[0].total_timeout_s == 45.0


@pytest.mark.parametrize(
    "name",
    ["GATEWAY_CONNECT_TIMEOUT_SECONDS", "GATEWAY_FIRST_BYTE_TIMEOUT_SECONDS",
     "GATEWAY_IDLE_TIMEOUT_SECONDS", "GATEWAY_REQUEST_TIMEOUT_SECONDS"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf"])
def test_a_clock_that_cannot_be_is_a_problem(name, value):
    _, problems = read(**{name: value})

    assert len(problems) == 1
    assert problems[0].startswith(f"{name}=")


def test_certificates_are_checked_unless_told_otherwise():
    assert read()[0].verify_tls is True
    assert read(BACKEND_VERIFY_TLS="off")[0].verify_tls is False
