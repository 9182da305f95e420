"""What the benchmark's tests share: a fake upstream and a scripted server, each in a thread."""

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from loadtests.bench import models
from loadtests.bench.fake_upstream import FakeUpstream
from loadtests.bench.jobs import ClosedLoop, Endpoint
from loadtests.bench.systems import CHAT_PATH

Serve = Callable[[list[bytes]], int]


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """A fake upstream that serves on loopback."""
    server = FakeUpstream((models.PLAIN, models.burst(3)))
    stop_reader, stop_writer = os.pipe()
    thread = threading.Thread(target=server.serve, args=(stop_reader,))
    thread.start()
    yield server
    os.close(stop_writer)
    thread.join()
    os.close(stop_reader)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A function that serves one connection with scripted replies; returns its port."""
    threads = []

    def answer(listener: socket.socket, replies: list[bytes]) -> None:
        with listener, listener.accept()[0] as sock:
            for reply in replies:
                if not sock.recv(65536):
                    return
                sock.sendall(reply)

    def start(replies: list[bytes]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
        thread = threading.Thread(target=answer, args=(listener, replies))
        thread.start()
        threads.append(thread)
        return port

    yield start
    for thread in threads:
        thread.join()


@pytest.fixture
def closed_loop() -> Callable[..., ClosedLoop]:
    """A function that makes a small closed loop against a port."""

    def make(port: int, model: str = models.PLAIN, *, stream: bool = False) -> ClosedLoop:
        return ClosedLoop(
            endpoint=Endpoint(port, CHAT_PATH, {}),
            model=model,
            stream=stream,
            connections=1,
            max_requests=2,
            max_s=5.0,
            deferred_s=0.0,
            limit_s=5.0,
        )

    return make
