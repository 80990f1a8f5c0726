"""The official OpenAI client, unmodified, reading streams through the gateway."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.core.money import parse_usd
from tests.harness import Running, running
from tests.pipeline.helpers import charges, in_order, sandbox, until

pytestmark = pytest.mark.system

#: 1000 tokens in and 100 out: 0.00175 + 0.0014.
USED = sandbox(input_tokens=1000, output_tokens=100)
PRICE = parse_usd("0.00315")


@asynccontextmanager
async def client_of(gw: Running, account: str, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client with an account's key."""
    key = await gw.open_account(account, **{"credit": "10", **options})
    async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key=key, max_retries=0) as client:
        yield client


def ask(client: Any, **options: Any) -> Any:
    """A streamed completion."""
    return client.chat.completions.create(
        model="gpt-5.2", messages=[{"role": "user", "content": "Hello"}], stream=True,
        **{"extra_headers": USED, **options},
    )  # fmt: skip


async def all_of(stream: Any) -> list[Any]:
    """Every chunk."""
    return [chunk async for chunk in stream]


async def charged(gw: Running, count: int = 1) -> list[int]:
    """The amounts of so many charges, once they are made."""

    async def there() -> bool:
        return len(await charges(gw, "a")) >= count and not (await gw.ledger.account("a")).open_holds

    assert await until(there)
    return [charge["amount"] for charge in await charges(gw, "a")]


async def test_a_stream_without_usage(gw: Running) -> None:
    """The client that did not ask sees chunks with content only, and is charged to the nano."""
    async with client_of(gw, "a") as client:
        chunks = await all_of(await ask(client))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).startswith("This is a reply")
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert all(chunk.usage is None for chunk in chunks)
        assert await charged(gw) == [PRICE]
        await in_order(gw, "a", balance=parse_usd("9.99685"))


async def test_a_stream_with_usage(gw: Running) -> None:
    """The client that asked gets its usage in the last chunk, as the service sent it."""
    async with client_of(gw, "a") as client:
        chunks = await all_of(await ask(client, stream_options={"include_usage": True}))
        assert chunks[-1].choices == []
        assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (1000, 100)
        assert await charged(gw) == [PRICE]


async def test_the_blocking_client(gw: Running) -> None:
    """The same by threads, one connection after another stream."""
    key = await gw.open_account("a", credit="10")

    def work() -> list[str]:
        with openai.OpenAI(base_url=f"{gw.url}/v1", api_key=key, max_retries=0) as client:
            return ["".join(chunk.choices[0].delta.content or "" for chunk in ask(client)) for _ in range(3)]

    texts = await asyncio.to_thread(work)
    assert len(texts) == 3 and len(set(texts)) == 1
    assert await charged(gw, 3) == [PRICE] * 3


@pytest.mark.parametrize("lines", ["lf", "crlf", "cr"])
async def test_the_comment_with_the_charge_breaks_no_client(tmp_path: Path, empty_redis: str, lines: str) -> None:
    """With it on, the client reads the same chunks; comments of the service are no trouble either."""

    def change(data: dict[str, Any]) -> None:
        data["routes"][0]["stream"]["charge_comment"] = True

    async with (
        running(tmp_path, empty_redis, changes={"config/products/llm-gateway.yaml": change}) as gw,
        client_of(gw, "a") as client,
    ):
        headers = {**USED, **sandbox(event_comments="true", event_lines=lines)}
        for options in ({}, {"stream_options": {"include_usage": True}}):
            chunks = await all_of(await ask(client, extra_headers=headers, **options))
            assert chunks[-1].usage is None if not options else chunks[-1].usage.total_tokens == 1100
        assert await charged(gw, 2) == [PRICE] * 2


async def test_a_client_that_breaks_off_is_charged(gw: Running) -> None:
    """Closing after the first chunk does not save a token."""
    async with client_of(gw, "a") as client:
        stream = await ask(client, extra_headers={**USED, **sandbox(event_seconds=0.01)})
        async for _ in stream:
            break
        await stream.close()
        assert await charged(gw) == [PRICE]


async def test_a_stream_that_breaks_is_an_exception(gw: Running) -> None:
    """Nothing that was cut looks complete; an error event is an error, and costs nothing where it comes first."""
    async with client_of(gw, "a") as client:
        with pytest.raises(openai.APIConnectionError):
            await all_of(await ask(client, extra_headers={**USED, **sandbox(events_max=3)}))
        (amount,) = await charged(gw)
        assert (await charges(gw, "a"))[0]["basis"] == "estimated" and amount > 0
        with pytest.raises(openai.APIError, match="the model failed"):
            await all_of(await ask(client, extra_headers={**USED, **sandbox(event_error=0)}))
        assert await charged(gw) == [amount]


async def test_refusals_come_before_the_stream(gw: Running) -> None:
    """A status and a body in the client's dialect, as without a stream: its own exception classes."""
    refused: list[tuple[dict[str, Any], Callable[..., Any]]] = [
        ({"credit": "0"}, openai.BadRequestError),
        ({"tier": "free"}, openai.PermissionDeniedError),
    ]
    for number, (options, error) in enumerate(refused):
        async with client_of(gw, f"r{number}", **options) as client:
            with pytest.raises(error):  # type: ignore[call-overload]
                await ask(client)
    assert not await gw.seen()
