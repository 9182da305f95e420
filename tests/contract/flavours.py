"""The official OpenAI client in both its kinds behind one face: each promise is checked on both."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

from openai import AsyncOpenAI, OpenAI

from tests.contract.running import Gateway

Ask = Callable[[Any], Any]
"""What to do with a client: ``lambda client: client.models.list()``."""


class Flavour:
    """The synchronous client.

    Retries are off unless asked for, so that a test sees the first answer.
    """

    def __init__(self, gateway: Gateway, *, key: str | None = None, max_retries: int = 0) -> None:
        self._options = {
            "base_url": gateway.base_url,
            "api_key": key or gateway.key,
            "max_retries": max_retries,
        }
        self._client = OpenAI(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, question: Ask) -> Any:
        """Return the answer to one question."""
        return question(self._client)

    def chunks(self, question: Ask) -> list[Any]:
        """Return all chunks of a streamed answer."""
        with question(self._client) as stream:
            return list(stream)

    def taken(self, question: Ask, into: list[Any]) -> None:
        """Collect the chunks of a streamed answer as they come, so that they survive an error."""
        with question(self._client) as stream:
            into.extend(stream)

    def assembled(self, question: Ask) -> Any:
        """Return the answer that the ``.stream()`` helper puts together.

        Its snapshot, because the helper's last step refuses answers that end for their length.
        """
        with question(self._client) as stream:
            stream.until_done()
            return stream.current_completion_snapshot


class AsyncFlavour(Flavour):
    """The asynchronous client; each question runs in an event loop of its own."""

    def ask(self, question: Ask) -> Any:
        async def run() -> Any:
            async with AsyncOpenAI(**self._options) as client:
                return await question(client)

        return asyncio.run(run())

    def chunks(self, question: Ask) -> list[Any]:
        chunks: list[Any] = []
        self.taken(question, chunks)
        return chunks

    def taken(self, question: Ask, into: list[Any]) -> None:
        async def run() -> None:
            async with AsyncOpenAI(**self._options) as client, await question(client) as stream:
                async for chunk in stream:
                    into.append(chunk)  # noqa: PERF401  # what came before an error must stay

        asyncio.run(run())

    def assembled(self, question: Ask) -> Any:
        async def run() -> Any:
            async with AsyncOpenAI(**self._options) as client, question(client) as stream:
                await stream.until_done()
                return stream.current_completion_snapshot

        return asyncio.run(run())


FLAVOURS = {"sync": Flavour, "async": AsyncFlavour}
