"""What the tests of the backends share."""

from collections.abc import Callable, Iterator

import pytest

from gateway.backends.resolver import Resolver
from gateway.backends.transport import Pool, Timeouts
from gateway.kernel.registry import load_folder
from gateway.web.wait import Wait
from tests.fakes.upstream import FakeUpstream

load_folder("gateway.backends")

MakePool = Callable[..., Pool]


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """A raw upstream on a free port."""
    server = FakeUpstream()
    yield server
    server.close()


@pytest.fixture
def wait() -> Iterator[Wait]:
    """The sleeper of a request whose caller stays."""
    sleeper = Wait()
    yield sleeper
    sleeper.close()


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    """A function that makes a pool to an address; all are closed at the end."""
    pools = []

    def make(
        url: str, connect_s: float = 5.0, first_byte_s: float = 5.0, idle_s: float = 5.0, tls=None
    ) -> Pool:
        pool = Pool(url, Timeouts(connect_s, first_byte_s, idle_s), Resolver(), tls)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()
