"""What the ledger's server can do, and that neither holds nor grants make it slower.

`python -m benchmarks.ledger [--pairs 4000] [--rounds 5] [--holds 1,10,...] [--grants 1,10,...]`

Calls of one account, the hottest there can be, fifty in flight: an admission and a settlement are a pair. The server's
CPU time is by its own clock, so that no other process counts; a core does a million microseconds of pairs a second.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final

import uvloop

from gateway.core.admission import Rate
from gateway.core.money import ZERO, Nanos, parse_usd
from gateway.core.pricing import Charge, LineItem
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import LinkSettings
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import AdmissionRequest, AdmissionTerms, Admitted, Key, Plan, Settlement

ACCOUNT: Final = "bench"
PLAN: Final = Plan(tier="payg")
RATES: Final = (Rate(name="requests", quota=1_000_000_000, window_seconds=300),)
IN_FLIGHT: Final = 50
LEASE_SECONDS: Final = 3600
ITEMS: Final = tuple(
    LineItem(sku=f"llm.gpt-5.2.{name}", quantity="41", unit="token", unit_price=f"{usd} per_1m_tokens", amount=amount)
    for name, usd, amount in (("input", "1.75", Nanos(71_750)), ("output", "14", Nanos(448_000)))
)
CHARGE: Final = Charge(amount=Nanos(519_750), items=ITEMS, price_version="2026-04-07", rate_card="standard")
TERMS: Final = AdmissionTerms(
    plan=PLAN, product="llm-gateway", entitled=True, metered=True, overdraft=Nanos(0), rates=RATES,
    lease_seconds=LEASE_SECONDS, price_version=CHARGE.price_version,
)  # fmt: skip


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def digest_of(account: str) -> str:
    """As long as the digest of a key."""
    return sha256(account.encode()).hexdigest()


class Bench:
    """A ledger, and the server's time for what is asked of it. Calls are of one account, or by turns of `accounts`."""

    def __init__(self, ledger: RedisLedger, pid: int, accounts: Callable[[int], str] = lambda _: ACCOUNT) -> None:
        self.ledger = ledger
        self.pid = pid
        self.numbers: Iterator[int] = count()
        self.accounts = accounts

    def account_of(self, call_id: str) -> str:
        """Whose call it is, by its number."""
        return self.accounts(int(call_id[16:], 16))

    async def open(self, account: str = ACCOUNT, *, signup: Nanos = ZERO) -> None:
        """An account, its key and its credit."""
        ledger = self.ledger
        await ledger.open_account(operation="open", account=account, plan=PLAN, signup=signup)
        await ledger.put_key(operation="key", key=Key(id="key", account=account), digest=digest_of(account))
        await ledger.grant(operation="g1", account=account, kind="purchase", amount=parse_usd("5000000"))

    async def grant(self, number: int, amount: Nanos) -> None:
        await self.ledger.grant(operation=f"g{number}", account=ACCOUNT, kind="purchase", amount=amount)

    async def admit(self, call_id: str) -> None:
        answer = await self.ledger.admit(
            AdmissionRequest(
                account=self.account_of(call_id), key_id="key", terms=TERMS, hold_id=call_id, estimate=Nanos(1_234_567)
            )
        )
        assert isinstance(answer, Admitted), answer

    async def settle(self, call_id: str) -> None:
        receipt = await self.ledger.settle(
            Settlement(
                account=self.account_of(call_id), hold_id=call_id, key_id="key", product="llm-gateway",
                route="chat.completions", call_id=call_id, charge=CHARGE, upstream_id="chatcmpl-bench",
            )
        )  # fmt: skip
        assert not receipt.late, receipt

    async def each(self, verb: Callable[[str], Awaitable[None]], ids: list[str]) -> None:
        for begin in range(0, len(ids), IN_FLIGHT):
            await asyncio.gather(*map(verb, ids[begin : begin + IN_FLIGHT]))

    def ids(self, number: int) -> list[str]:
        return [f"0123456789abcdef{next(self.numbers):08x}" for _ in range(number)]

    async def pair(self, pairs: int, rounds: int) -> tuple[float, float]:
        """Microseconds of the server for an admission and for a settlement: medians over rounds."""
        admits, settles = [], []
        for _ in range(rounds):
            admitted = settled = 0.0
            for _ in range(max(1, pairs // rounds // IN_FLIGHT)):
                ids = self.ids(IN_FLIGHT)
                began = cpu_seconds(self.pid)
                await self.each(self.admit, ids)
                middle = cpu_seconds(self.pid)
                await self.each(self.settle, ids)
                admitted, settled = admitted + middle - began, settled + cpu_seconds(self.pid) - middle
            each = max(1, pairs // rounds // IN_FLIGHT) * IN_FLIGHT / 1e6
            admits.append(admitted / each)
            settles.append(settled / each)
        return statistics.median(admits), statistics.median(settles)


async def measure(directory: Path, options: argparse.Namespace) -> None:
    """Both tables."""
    print("| open holds | grants | admit us | settle us | pairs/s of a core |\n|---:|---:|---:|---:|---:|")
    for name, sizes in (("holds", options.holds), ("grants", options.grants)):
        async with EmbeddedRedis(directory / name, appendonly=False) as redis:
            link = SingleLink(LinkSettings(url=redis.url, command_seconds_max=60.0))
            await link.open()
            bench = Bench(RedisLedger(link), redis.pid or 0)
            await bench.open()
            await bench.pair(options.pairs // 4, 1)
            have = {"holds": 0, "grants": 1}
            for size in map(int, sizes.split(",")):
                if name == "holds":
                    await bench.each(bench.admit, bench.ids(size - have[name]))
                else:
                    for number in range(have[name], size):
                        await bench.grant(number + 1, Nanos(1_000_000))
                have[name] = size
                admit, settle = await bench.pair(options.pairs, options.rounds)
                rate = 1e6 / (admit + settle)
                print(f"| {have['holds']} | {have['grants']} | {admit:.1f} | {settle:.1f} | {rate:.0f} |", flush=True)
            drift = await bench.ledger.verify(ACCOUNT)
            assert not drift, drift
            await link.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--holds", default="1,10,100,1000,10000,100000")
    parser.add_argument("--grants", default="1,10,100,1000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        uvloop.run(measure(Path(name), options))


if __name__ == "__main__":
    main()
