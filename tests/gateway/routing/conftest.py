"""What the tests of routing share."""

from collections.abc import Callable

import pytest

from gateway.backends.base import Backend
from gateway.kernel.registry import load_folder
from gateway.routing.catalog import Catalog
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings
from tests.fakes.clock import FakeClock

load_folder("gateway.routing.policies")


@pytest.fixture
def catalog_of(clock: FakeClock) -> Callable[..., Catalog]:
    """A function that makes a catalog of backends, on the test's clock."""

    def make(*backends: Backend) -> Catalog:
        return Catalog(backends, clock)

    return make


@pytest.fixture
def router_of() -> Callable[..., Router]:
    """A function that makes a router over a catalog."""

    def make(catalog: Catalog, **settings: str) -> Router:
        return Router(catalog, RoutingSettings(**settings))

    return make
