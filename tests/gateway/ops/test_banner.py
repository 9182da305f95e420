"""What an operator reads when the gateway has started."""

from dataclasses import replace

import pytest

from gateway.auth.first_key import PLAIN
from gateway.ops.banner import banner
from gateway.web.settings import WebSettings

KEY = "nxs_abcdefgh_secret_123456"


@pytest.fixture
def web(tmp_path):
    """Settings with a data folder of the test's own."""
    return WebSettings(data_dir=str(tmp_path), host="10.1.2.3", port=9000, observability_port=9001)


@pytest.fixture
def told(web):
    """A function that returns the text for some circumstances."""

    def text(web=web, **circumstances):
        usual = {"first_key": None, "has_env_keys": False, "on_terminal": True, "model": "mock"}
        return banner(web, **{**usual, **circumstances})

    return text


# --- where it listens ----------------------------------------------------------------------------


def test_it_tells_both_addresses_and_one_line_to_try(told):
    text = told(has_env_keys=True)

    assert "API http://10.1.2.3:9000 " in text
    assert "metrics and health http://127.0.0.1:9001\n" in text
    assert "curl http://10.1.2.3:9000/v1/chat/completions" in text


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "127.0.0.1:9000"),
        ("::", "[::1]:9000"),
        ("[::]", "[::1]:9000"),
        ("::1", "[::1]:9000"),
        ("fe80::7", "[fe80::7]:9000"),
    ],
)
def test_its_addresses_can_be_copied_into_curl_as_they_stand(web, told, host, address):
    """0.0.0.0 is no address to call, and an IPv6 address needs brackets."""
    text = told(replace(web, host=host, observability_host=host))

    assert f"API http://{address} " in text
    assert f"curl http://{address}/v1" in text
    assert f"metrics and health http://{address[:-1]}1\n" in text


# --- the line to try -----------------------------------------------------------------------------


def test_the_line_to_try_asks_a_model_that_surely_answers(told):
    text = told(model="mock")

    assert "/v1/chat/completions" in text
    assert '"model": "mock"' in text


def test_where_no_model_surely_answers_the_line_to_try_asks_for_the_list(told):
    text = told(model="", has_env_keys=True)

    assert 'curl http://10.1.2.3:9000/v1/models -H "Authorization: Bearer $GATEWAY_KEY"' in text
    assert "chat/completions" not in text


# --- the key -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["", "mock"])
def test_a_new_key_is_shown_on_a_terminal_ready_to_use(told, model):
    text = told(first_key=KEY, model=model)

    assert text.count(KEY) == 2
    assert f'"Authorization: Bearer {KEY}"' in text


def test_without_a_terminal_only_the_path_of_the_key_is_told(told, tmp_path):
    """The output of a container is collected and kept."""
    (tmp_path / PLAIN).write_text(KEY, encoding="utf-8")

    text = told(first_key=KEY, on_terminal=False)

    assert KEY not in text
    assert text.count(f"lies in {tmp_path / PLAIN}") == 1
    assert f"$(cat {tmp_path / PLAIN})" in text


def test_a_key_that_still_lies_there_is_pointed_at_again(told, tmp_path):
    (tmp_path / PLAIN).write_text(KEY, encoding="utf-8")

    text = told()

    assert f"lies in {tmp_path / PLAIN}" in text
    assert KEY not in text


def test_keys_of_the_environment_are_not_repeated(told):
    text = told(has_env_keys=True)

    assert "Keys come from the settings; put one of them into $GATEWAY_KEY." in text
    assert '"Authorization: Bearer $GATEWAY_KEY"' in text


def test_beside_keys_of_the_environment_an_old_first_key_is_not_the_one_to_try(told, tmp_path):
    (tmp_path / PLAIN).write_text(KEY, encoding="utf-8")

    assert PLAIN not in told(has_env_keys=True)


def test_a_lost_key_can_be_replaced_and_it_says_how(told, tmp_path):
    assert f"delete {tmp_path}/keys.json" in told()
