"""Options of the test run; pytest takes them only from the root. No fixtures belong here."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the contract tests run against a real model server."""
    group = parser.getgroup("gateway")
    group.addoption(
        "--backend-url",
        metavar="URL",
        help="Run the contract tests with the gateway in front of this server: "
        "http(s):// for OpenAI-compatible ones, or ollama://, mlx://.",
    )
    group.addoption(
        "--backend-model",
        metavar="NAME",
        help="The model to ask at --backend-url; by default the first one it lists.",
    )
