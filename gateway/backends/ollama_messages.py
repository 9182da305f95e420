"""OpenAI's requests in Ollama's words: messages, options, formats."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.kernel.errors import InvalidRequest

_OPTIONS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
    "seed": "seed", "stop": "stop",
    "frequency_penalty": "frequency_penalty", "presence_penalty": "presence_penalty",
    "max_tokens": "num_predict", "max_completion_tokens": "num_predict",
}  # fmt: skip
_EFFORTS = {"none": False, "minimal": False, "low": "low", "medium": "medium", "high": "high"}


def chat_request(body: Mapping[str, Any], model: str, *, stream: bool) -> dict[str, Any]:
    """Return the body of ``POST /api/chat``.

    Raises:
        InvalidRequest: An image is given by address; Ollama takes data URLs, and we fetch nothing.
    """
    messages = body.get("messages") or []
    names = _tool_names(messages)
    request: dict[str, Any] = {
        "model": model,
        "messages": [_message(message, names) for message in messages],
        "stream": stream,
    }
    if body.get("tools") and body.get("tool_choice") != "none":
        request["tools"] = body["tools"]
    return request | _common(body)


def generate_request(body: Mapping[str, Any], model: str, *, stream: bool) -> dict[str, Any]:
    """Return the body of ``POST /api/generate``.

    Raises:
        InvalidRequest: More than one prompt, or tokens; Ollama takes one text.
    """
    prompt = body.get("prompt") or ""
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise InvalidRequest("This model's server takes one prompt, as text.", param="prompt")
    request: dict[str, Any] = {"model": model, "prompt": prompt, "stream": stream}
    if isinstance(body.get("suffix"), str):
        request["suffix"] = body["suffix"]
    return request | _common(body)


def embed_request(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the body of ``POST /api/embed``.

    Raises:
        InvalidRequest: Tokens instead of texts.
    """
    texts = body.get("input")
    given = texts if isinstance(texts, list) else [texts]
    if not all(isinstance(text, str) for text in given):
        raise InvalidRequest("This model's server takes texts, not tokens.", param="input")
    request: dict[str, Any] = {"model": model, "input": given}
    if isinstance(body.get("dimensions"), int):
        request["dimensions"] = body["dimensions"]
    return request


def object_in(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a member that should be an object; an empty one when it is anything else."""
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def objects_in(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects of a member that should be a list of them."""
    items = document.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _common(body: Mapping[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] = {}
    options = {
        ours: body[theirs] for theirs, ours in _OPTIONS.items() if body.get(theirs) is not None
    }
    if options:
        request["options"] = options
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_object":
        request["format"] = "json"
    elif isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        request["format"] = object_in(wanted, "json_schema").get("schema") or "json"
    effort = body.get("reasoning_effort")
    if isinstance(effort, str) and effort in _EFFORTS:
        request["think"] = _EFFORTS[effort]
    for name in ("keep_alive", "think"):
        if body.get(name) is not None:
            request[name] = body[name]
    return request


def _tool_names(messages: list[Any]) -> dict[str, str]:
    """Return the function's name for each tool call's id; Ollama knows results by name only."""
    return {
        call["id"]: object_in(call, "function").get("name", "")
        for message in messages
        for call in objects_in(message, "tool_calls")
        if isinstance(call.get("id"), str)
    }


def _message(message: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    text, images = _content(message.get("content"))
    role = message.get("role")
    said: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": text}
    if images:
        said["images"] = images
    calls = [_tool_call(call) for call in objects_in(message, "tool_calls")]
    if calls:
        said["tool_calls"] = calls
    if role == "tool":
        name = message.get("name") or names.get(str(message.get("tool_call_id")))
        if name:
            said["tool_name"] = name
    return said


def _content(content: Any) -> tuple[str, list[str]]:
    if not isinstance(content, list):
        return (content if isinstance(content, str) else ""), []
    texts, images = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(str(part.get("text", "")))
        elif kind == "image_url":
            images.append(_image(part.get("image_url")))
        else:
            raise InvalidRequest(
                f"This model's server does not take content of type {kind!r}.", param="messages"
            )
    return "\n".join(texts), images


def _image(source: Any) -> str:
    url = source.get("url") if isinstance(source, dict) else source
    if not isinstance(url, str) or not url.startswith("data:") or ";base64," not in url:
        raise InvalidRequest(
            "Images for this model must be base64 data URLs; the gateway fetches no addresses.",
            param="messages",
        )
    return url.partition(";base64,")[2]


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = object_in(call, "function")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = orjson.loads(arguments or b"{}")
        except orjson.JSONDecodeError:
            arguments = {"arguments": arguments}
    return {"function": {"name": function.get("name", ""), "arguments": arguments or {}}}
