"""The accounts of the benchmarks of scale are accounts: what the ledger's verbs have made, again."""

from typing import Any

import pytest

from benchmarks.ledger import Bench, digest_of
from benchmarks.population import PREFIX, Population, asked, name_of
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import Identity


async def contents(link: SingleLink, key: str) -> Any:
    """What a key holds. The serialized form of a stream tells how it was written, and not only what is in it."""
    if await link.call("TYPE", key) == b"stream":
        return await link.call("XRANGE", key, "-", "+")
    return await link.call("DUMP", key)


async def test_a_copied_account_is_the_one_that_the_verbs_made(redis_server: EmbeddedRedis) -> None:
    """Each key of a copy has the first one's contents and life, all its size; a copy is found, and calls like it."""
    link = SingleLink(LinkSettings(url=redis_server.url))
    await link.open()
    await link.call("FLUSHALL")
    ledger = RedisLedger(link)
    bench = Bench(ledger, redis_server.pid or 0, name_of)
    population = Population(link, bench)
    await population.first()
    await population.grow(1, 4)
    keys = await population.keys_of_first()
    assert {key.partition(":")[0] for key in keys} == {
        *("account", "burn", "end", "grants", "key", "keys", "ledger", "op", "usage")
    }
    sizes = [0, 0]
    for key in keys:
        first, copy = (f"{PREFIX}:{{{name_of(number)}}}:{key}" for number in (0, 3))
        assert await contents(link, first) == await contents(link, copy), key
        sizes = [
            size + await asked(link, "MEMORY", "USAGE", each) for size, each in zip(sizes, (first, copy), strict=True)
        ]
        lives = [await asked(link, "PTTL", each) for each in (first, copy)]
        assert abs(lives[0] - lives[1]) < 1000, key
    assert sizes[1] == pytest.approx(sizes[0], rel=0.03), "the server rounds strings up in another way"
    assert {account async for account in ledger.accounts()} == {name_of(number) for number in range(4)}
    assert await ledger.identify(digest_of(name_of(3))) == Identity(
        account=name_of(3), key_id="key", plan=(await ledger.account(name_of(3))).plan
    )
    calls = [f"fedcba9876543210{number:08x}" for number in (0, 3)]
    await bench.each(bench.admit, calls)
    await bench.each(bench.settle, calls)
    assert [await ledger.verify(name_of(number)) for number in (0, 3)] == [[], []]
    first_now, copy_now = [await ledger.account(name_of(number)) for number in (0, 3)]
    assert first_now.balance == copy_now.balance
    assert first_now.grants == copy_now.grants
    await link.close()
