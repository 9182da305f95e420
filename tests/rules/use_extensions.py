"""Uses the examples of docs/extending.md inside a copy of the repository that they were added to.

Started by test_extending.py in a process of its own, so that no other test meets their backends;
prints what they answered as one JSON document.
"""

import json
import sys
from importlib import import_module
from typing import Any

from flask.testing import FlaskClient
from msgspec import Raw

from docs.generate import endpoints_page, errors_page, metrics_page
from gateway.app import Parts, create_app
from gateway.backends.openai_compatible import OpenAICompatible
from gateway.kernel.call import Call, Kind, Principal
from gateway.kernel.deadline import Deadline
from gateway.kernel.logs import Log
from gateway.kernel.settings import Row, load
from gateway.routing.catalog import Catalog
from gateway.settings import read_settings
from gateway.web.services import part_of

KEY = "extending-0123456789abcdef0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}"}


def answered(client: FlaskClient, method: str, path: str, **request: Any) -> dict[str, Any]:
    """Return what matters of an answer."""
    request.setdefault("headers", HEADERS)
    with client.open(path, method=method, **request) as answer:
        found = {"status": answer.status_code, "text": answer.get_data(as_text=True)}
        return found | {"reason": answer.headers.get("X-Router-Reason")}


def chat(client: FlaskClient, model: str, *, stream: bool = False) -> dict[str, Any]:
    """Return the answer to a conversation."""
    said = [{"role": "user", "content": "hello there"}]
    body = {"model": model, "messages": said, "stream": stream}
    return answered(client, "POST", "/v1/chat/completions", json=body)


def body_of_acme(acme: OpenAICompatible) -> Any:
    """Return what Acme's server would be sent."""
    members = {
        "model": Raw(b'"m"'),
        "messages": Raw(b'[{"role":"developer","content":"Be brief."}]'),
        "logit_bias": Raw(b'{"1":2}'),
        "max_completion_tokens": Raw(b"7"),
        "top_k": Raw(b"3"),
    }
    call = Call(
        kind=Kind.CHAT, model="m", stream=False, members=members, body=b"", request_id="r",
        principal=Principal("p", frozenset()), deadline=Deadline.after(1),
    )  # fmt: skip
    return json.loads(acme.body_for(call, "m"))


def main(data_dir: str) -> dict[str, Any]:
    """Return everything that the tests look at."""
    upstreams = "shout=shout://local;acme=acme://127.0.0.1:1/v1"
    settings = read_settings(
        {"GATEWAY_UPSTREAMS": upstreams, "GATEWAY_API_KEYS": KEY, "DATA_DIR": data_dir}
    )
    app = create_app(settings, Parts(log=Log("INFO", len)))
    client = app.test_client()
    acme = part_of(app, Catalog).snapshot.backends["acme"]
    rows: list[Row] = []
    problems: list[str] = []
    declared = import_module("gateway.quotes.settings").QuoteSettings
    read = load(declared, {"GATEWAY_QUOTES_LONGEST": "9"}, problems, rows)
    load(declared, {"GATEWAY_QUOTES_LONGEST": "0"}, problems)
    return {
        "shout": chat(client, "shout"),
        "shout_streamed": chat(client, "shout", stream=True),
        "surprise": chat(client, "surprise"),
        "acme_body": body_of_acme(acme),
        "acme_probe": acme.probe().url,
        "quote": answered(client, "GET", "/v1/quotes/hopper"),
        "quote_unknown": answered(client, "GET", "/v1/quotes/nobody"),
        "quote_without_key": answered(client, "GET", "/v1/quotes/hopper", headers={}),
        "judged": answered(client, "POST", "/v1/quotes", json={"text": "fine"}),
        "judged_rude": answered(client, "POST", "/v1/quotes", json={"text": "darn it"}),
        "judged_wrong_type": answered(client, "POST", "/v1/quotes", json={"text": 7}),
        "metadata": answered(client, "GET", "/v1/metadata")["text"],
        "metrics": answered(client, "GET", "/metrics")["text"],
        "setting": read.longest,
        "setting_row": [rows[0].room, rows[0].env, rows[0].unit],
        "problems": problems,
        "pages": endpoints_page() + errors_page() + metrics_page(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
