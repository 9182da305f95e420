"""``GET /v1/models`` and ``/v1/models/{id}``: the catalog in OpenAI's form; asks no upstream."""

from flask import Blueprint

from gateway.kernel.clock import unix_seconds
from gateway.kernel.errors import UnknownModel
from gateway.routing.catalog import Catalog, as_json
from gateway.web.endpoint import endpoint
from gateway.web.incoming import Incoming, Outgoing, json_answer

blueprint = Blueprint("models", __name__)
_STARTED_S = unix_seconds()
"""Stands for the creation date of models whose upstream tells none."""


@endpoint(blueprint, "GET", "/v1/models", scope="models", operation_id="models.list", hot=True)
def list_models(incoming: Incoming) -> Outgoing:
    """List every model that can be used."""
    cards = incoming.part(Catalog).snapshot.cards
    data = [as_json(name, cards[name], _STARTED_S) for name in sorted(cards)]
    return json_answer({"object": "list", "data": data})


@endpoint(
    blueprint, "GET", "/v1/models/<path:model>", scope="models", operation_id="models.retrieve"
)
def get_model(incoming: Incoming, model: str) -> Outgoing:
    """Describe one model; its name may contain slashes."""
    card = incoming.part(Catalog).snapshot.cards.get(model)
    if card is None:
        raise UnknownModel(
            "No upstream serves this model; GET /v1/models lists all.", param="model"
        )
    return json_answer(as_json(model, card, _STARTED_S))
