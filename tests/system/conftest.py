"""What the system tests share: gateways and upstreams, one set a file, and the look afterwards."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.servers import Gateway, Upstream

Start = Callable[..., Gateway]


class Crew:
    """Everything that the tests of one file have started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.gateways: list[Gateway] = []
        self.upstreams: list[Upstream] = []

    def gateway(self, upstreams: dict[str, Any] | None = None, **settings: Any) -> Gateway:
        """Start a gateway in front of some upstreams."""
        gateway = Gateway(self._folder / f"gateway{len(self.gateways)}", upstreams, **settings)
        self.gateways.append(gateway)
        return gateway.start()

    def upstream(self, *arguments: str) -> Upstream:
        """Start a fault upstream."""
        upstream = Upstream(*arguments)
        self.upstreams.append(upstream)
        return upstream.start()

    def stop(self) -> None:
        """Stop everything."""
        for server in (*self.gateways, *self.upstreams):
            server.stop()
        trouble = [line for gateway in self.gateways for line in gateway.trouble()]
        assert not trouble, "\n".join(trouble)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of this folder as slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the figures that tests measured."""
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid.rpartition('/')[2]}: {name} = {value}")


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Starts servers for one file and stops them after it."""
    crew = Crew(tmp_path_factory.mktemp("crew"))
    yield crew
    crew.stop()


@pytest.fixture(autouse=True)
def _nothing_left_behind(crew: Crew) -> Iterator[None]:
    """After each test: no traceback, no error in the log, descriptors back to where they were."""
    yield
    trouble = [line for gateway in crew.gateways for line in gateway.trouble()]
    assert not trouble, "\n".join(trouble)


@pytest.fixture
def new_id() -> str:
    """A request id that nobody else uses."""
    return f"t{os.getpid()}-{uuid.uuid4().hex[:12]}"
