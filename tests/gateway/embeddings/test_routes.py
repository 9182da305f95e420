"""Embeddings at the door."""

import base64
import struct

import pytest

PATH = "/v1/embeddings"


@pytest.fixture
def post(client, headers):
    """A function that posts a body and returns the answer."""

    def posted(**body):
        return client.post(PATH, json={"model": "mock", **body}, headers=headers)

    return posted


@pytest.mark.parametrize(
    ("given", "count"),
    [("text", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2)],
    ids=str,
)
def test_there_is_one_vector_for_each_input_in_order(post, given, count):
    answer = post(input=given)

    assert answer.status_code == 200
    assert answer.json["object"] == "list"
    assert [item["index"] for item in answer.json["data"]] == list(range(count))
    assert all(item["object"] == "embedding" for item in answer.json["data"])
    assert answer.json["usage"]["total_tokens"] > 0


def test_vectors_come_as_numbers_or_as_the_same_numbers_packed(post):
    numbers = post(input="text", encoding_format="float").json["data"][0]["embedding"]
    packed = base64.b64decode(
        post(input="text", encoding_format="base64").json["data"][0]["embedding"]
    )

    assert struct.unpack(f"<{len(numbers)}f", packed) == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({}, "input"),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "model": 7}, "model"),
    ],
    ids=str,
)
def test_a_wrong_field_is_a_400_that_names_it(post, change, param):
    answer = post(**change)

    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_an_unknown_model_is_not_served(make_app, headers):
    app = make_app(GATEWAY_MOCK="off", GATEWAY_UPSTREAMS="a=mock://x")

    answer = app.test_client().post(PATH, json={"model": "nobody", "input": "x"}, headers=headers)

    assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")


def test_without_a_key_nothing_is_embedded(client):
    assert client.post(PATH, json={"model": "mock", "input": "x"}).status_code == 401


def test_the_answer_tells_who_gave_it(post):
    assert post(input="x").headers["X-Backend-Used"] == "mock"
