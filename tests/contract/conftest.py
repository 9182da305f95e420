"""The gateways under test: before the embedded mock, a fake OpenAI, a real server."""

from collections.abc import Iterator

import pytest

from tests.contract import sites
from tests.contract.fake_openai import FakeOpenAI
from tests.contract.flavours import FLAVOURS, Flavour
from tests.contract.running import Gateway, start_gateway
from tests.contract.sites import FIRST_BYTE_LIMIT_S, ORIGIN, SEED_KEYS, Site


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(capability): runs only before upstreams that offer this"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that asks for a site before every upstream that can answer it."""
    if "site" not in metafunc.fixturenames:
        return
    names = ["real"]
    if metafunc.config.getoption("--backend-url") is None:
        marks = metafunc.definition.iter_markers("needs")
        needed = {capability for mark in marks for capability in mark.args}
        names = [name for name, can in sites.ALWAYS.items() if needed <= can]
    metafunc.parametrize("site", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def mock_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with no upstream configured: its embedded mock answers."""
    gateway = start_gateway(tmp_path_factory.mktemp("mock-gateway"), SEED_KEYS)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def upstream() -> Iterator[FakeOpenAI]:
    """The fake OpenAI server."""
    fake = FakeOpenAI()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture(scope="session")
def fake_gateway(
    upstream: FakeOpenAI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway before the fake OpenAI server."""
    settings = {
        "GATEWAY_UPSTREAMS": f"fake=http://127.0.0.1:{upstream.port}/v1",
        "GATEWAY_UPSTREAM_API_KEYS": "fake=the-upstream-credential",
        "GATEWAY_FIRST_BYTE_TIMEOUT_SECONDS": str(FIRST_BYTE_LIMIT_S),
        "ALLOWED_ORIGINS": ORIGIN,
    }
    gateway = start_gateway(tmp_path_factory.mktemp("fake-gateway"), settings)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def real_gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway before the server of ``--backend-url``."""
    url = request.config.getoption("--backend-url")
    folder = tmp_path_factory.mktemp("real-gateway")
    gateway = start_gateway(folder, {"GATEWAY_UPSTREAMS": f"real={url}"})
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Site:
    """A gateway and what its upstream can do; one of the sites, see ``pytest_generate_tests``."""
    gateway = request.getfixturevalue(f"{request.param}_gateway")
    if request.param == "real":
        option = request.config.getoption
        return sites.real_site(gateway, option("--backend-url"), option("--backend-model"))
    return sites.STANDING[request.param](gateway)


@pytest.fixture(autouse=True)
def _able(request: pytest.FixtureRequest) -> None:
    """Skip what the server of ``--backend-url`` itself cannot do, asked without us in between."""
    if "site" not in request.fixturenames or not request.config.getoption("--backend-url"):
        return
    here: Site = request.getfixturevalue("site")
    for mark in request.node.iter_markers("needs"):
        for capability in mark.args:
            reason = here.lacks(capability)
            if reason:
                pytest.skip(f"the server at --backend-url has no {capability}: {reason}")


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> type[Flavour]:
    """The official client: synchronous and asynchronous."""
    return FLAVOURS[request.param]
