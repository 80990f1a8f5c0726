"""Many streams at once that end in every way there is: each is charged once or not at all, and the books agree."""

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.core.money import Nanos, parse_usd
from tests.fakes.upstream import Line, ScriptedUpstream, chunk
from tests.harness import Change, Running
from tests.pipeline.helpers import CHAT_PATH, charges, in_order, until, without_rates
from tests.pipeline.streaming import DONE, PRICE, STREAMED, event, head, report, serving, word

ACCOUNTS = ("a", "b", "c")
CREDIT = parse_usd("100")
FATES = ("done", "unreported", "cut", "error", "hang")


@dataclass
class Plan:
    """What the service does with one call, and what its client does: leave after so many reads, or stay."""

    fate: str
    words: int
    pause: float
    reads: int | None


class Chaos:
    """An upstream that follows the plan of each call, which the request names."""

    def __init__(self, plans: list[Plan]) -> None:
        self.plans = plans
        self.upstream = ScriptedUpstream(self._serve)

    async def _serve(self, line: Line) -> None:
        while True:
            request = await self.upstream.taken(line)
            plan = self.plans[int(request.one("X-Plan") or b"0")]
            await line.send(head())
            for _ in range(plan.words):
                await asyncio.sleep(plan.pause)
                await line.send(chunk(word()))
            if plan.fate == "cut":
                line.close()
                return
            if plan.fate == "hang":
                await line.ended()
                return
            if plan.fate == "error":
                await line.send(chunk(event({"error": {"message": "no"}})))
            else:
                await line.send(chunk((report() if plan.fate == "done" else b"") + DONE))
            await line.send(chunk(b""))


async def follow(gw: Running, key: str, number: int, plan: Plan) -> str:
    """One client; the id of its call, empty if it did not stay for the head."""
    headers = {"Authorization": key, "X-Plan": str(number)}
    call_id = ""
    try:
        async with gw.http.post(gw.url + CHAT_PATH, json=STREAMED, headers=headers) as response:
            call_id = response.headers["X-Gateway-Call-Id"]
            reads = 0
            while reads != plan.reads and await response.content.readany():
                reads += 1
            if plan.reads is not None:
                response.close()
    except aiohttp.ClientError:
        assert plan.fate in ("cut", "hang"), "only these do not end in good order"
    return call_id


def expected(plan: Plan) -> set[tuple[Nanos, str] | str]:
    """What a call may be charged whose client stayed: an amount with its basis, `estimated`, or `nothing`."""
    if plan.fate == "done":
        return {(PRICE, "reported")}
    return {"estimated" if plan.words else "nothing"}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("drain", [0, 0.3])
async def test_every_end_of_many_streams(tmp_path: Path, empty_redis: str, seed: int, drain: float) -> None:
    """No hold stays, no call is charged twice, and those whose clients stayed are charged just what they shall be."""
    chance = random.Random(seed)
    plans = [
        Plan(
            fate=chance.choice(FATES),
            words=chance.choice([0, 1, 3, 8]),
            pause=chance.choice([0, 0, 0.01]),
            reads=chance.choice([None, None, 0, 1, 3]),
        )
        for _ in range(120)
    ]
    for plan in plans:
        if plan.fate == "unreported" and not plan.words:
            plan.words = 1
    chaos = Chaos(plans)
    product: dict[str, Any] = {"drain_seconds_max": drain or 60}
    limits = {"drains_max": 5 if drain else 0}
    service = {"reply_seconds_max": 3.0}
    tiers: dict[str, Change] = {"config/tiers.yaml": without_rates}
    async with serving(
        chaos.upstream, tmp_path, empty_redis, limits=limits, product=product, service=service, changes=tiers
    ) as gw:
        keys = [await gw.open_account(account, credit="100") for account in ACCOUNTS]
        calls = [follow(gw, keys[number % 3], number, plan) for number, plan in enumerate(plans)]
        ids = await asyncio.gather(*calls)

        async def over() -> bool:
            return not any([(await gw.ledger.account(account)).open_holds for account in ACCOUNTS])

        assert await until(over)
        found: dict[str, dict[str, Any]] = {}
        for account in ACCOUNTS:
            made = await charges(gw, account)
            assert len({charge["call_id"] for charge in made}) == len(made)
            found |= {charge["call_id"]: charge for charge in made}
            await in_order(gw, account, balance=Nanos(CREDIT - sum(charge["amount"] for charge in made)))
        for plan, call_id in zip(plans, ids, strict=True):
            charge = found.get(call_id)
            if plan.reads is None:
                told = (charge["amount"], charge["basis"]) if charge is not None else ("nothing",)
                assert expected(plan) & {told, *told}, (plan, told)
            elif charge is None:  # who leaves pays, unless the service failed before anything came
                assert plan.fate in ("cut", "error", "hang") and not plan.words, plan
