"""What an operator reads when the gateway has started."""

import pytest

from gateway.auth.first_key import PLAIN
from gateway.ops.banner import banner
from gateway.web.settings import WebSettings

KEY = "nxs_abcdefgh_secret_123456"


@pytest.fixture
def web(tmp_path):
    """Settings with a data folder of the test's own."""
    return WebSettings(data_dir=str(tmp_path), host="0.0.0.0", port=9000, observability_port=9001)


def test_it_tells_both_addresses_and_one_line_to_try(web):
    text = banner(web, first_key=None, has_env_keys=True, on_terminal=True)

    assert "API http://0.0.0.0:9000" in text
    assert "http://127.0.0.1:9001" in text
    assert "curl http://0.0.0.0:9000/v1/chat/completions" in text


def test_a_new_key_is_shown_on_a_terminal_ready_to_use(web):
    text = banner(web, first_key=KEY, has_env_keys=False, on_terminal=True)

    assert text.count(KEY) == 2
    assert f'"Authorization: Bearer {KEY}"' in text


def test_without_a_terminal_only_the_path_of_the_key_is_told(web, tmp_path):
    """The output of a container is collected and kept."""
    text = banner(web, first_key=KEY, has_env_keys=False, on_terminal=False)

    assert KEY not in text
    assert str(tmp_path / PLAIN) in text
    assert f"$(cat {tmp_path / PLAIN})" in text


def test_a_key_that_still_lies_there_is_pointed_at_again(web, tmp_path):
    (tmp_path / PLAIN).write_text(KEY, encoding="utf-8")

    text = banner(web, first_key=None, has_env_keys=False, on_terminal=True)

    assert str(tmp_path / PLAIN) in text
    assert KEY not in text


def test_keys_of_the_environment_are_not_repeated(web):
    text = banner(web, first_key=None, has_env_keys=True, on_terminal=True)

    assert "Put one of your API keys into $GATEWAY_KEY" in text


def test_a_lost_key_can_be_replaced_and_it_says_how(web, tmp_path):
    text = banner(web, first_key=None, has_env_keys=False, on_terminal=True)

    assert f"delete {tmp_path}/keys.json" in text
