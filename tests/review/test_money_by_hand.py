"""Money through a whole gateway beside a second reckoning, which shares nothing with the first but the price list."""

import random
import time
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.core.money import Nanos, format_usd, parse_usd
from gateway.ports import Plan
from tests.harness import ADMIN_TOKEN, Running, running
from tests.pipeline.helpers import charges, chat, finished, submitted, until, without_rates
from tests.settings.project import ROOT

PRICES = yaml.safe_load((ROOT / "config/prices.yaml").read_text())["price_lists"][0]["prices"]
UNITS = {"per_hour": 3600, "per_1m_tokens": 1_000_000}
#: How long before credit ends nothing happens any more.
MARGIN_SECONDS = 10
#: What the shipped rate cards leave of a price: of speech, of the LLM.
CARDS: dict[str, tuple[Fraction, Fraction]] = {
    "standard": (Fraction(1), Fraction(1)),
    "nonprofit": (Fraction(8, 10), Fraction(8, 10)),
    "startup": (Fraction(1, 2), Fraction(9, 10)),
}
FLAGS = {
    "speaker_labels": "stt.speaker_labels",
    "entity_detection": "understanding.entity_detection",
    "redact_pii": "guardrails.pii_text",
    "filter_profanity": "guardrails.profanity",
}


def line(sku: str, quantity: int, left: Fraction) -> int:
    """One line of a charge: nano-dollars, half up."""
    ((per, usd),) = PRICES[sku].items()
    return floor(Fraction(usd) * 10**9 / UNITS[per] * left * quantity + Fraction(1, 2))


@dataclass
class Given:
    """A grant: what is left of it, and what it burns by."""

    order: tuple[int, float, int]  # priority, expiry, age
    left: int

    @property
    def expires(self) -> float:
        return self.order[1]


@dataclass
class Reckoning:
    """The account as it should be."""

    grants: list[Given] = field(default_factory=list)
    debt: int = 0
    kept: int = 0  # of credit that has ended, for what is held of it
    made: int = 0
    charged: dict[str, int] = field(default_factory=dict)  # by entry: what is left of a charge
    called: dict[str, int] = field(default_factory=dict)  # by call: the same

    @property
    def balance(self) -> int:
        return sum(each.left for each in self.grants) + self.kept - self.debt

    def give(self, amount: int, priority: int, expires: float = float("inf")) -> None:
        paid = min(amount, self.debt)
        self.debt -= paid
        self.made += 1
        self.grants.append(Given((priority, expires, self.made), amount - paid))

    def take(self, amount: int) -> None:
        for each in sorted(self.grants, key=lambda each: each.order):
            burnt = min(amount, each.left)
            each.left -= burnt
            amount -= burnt
        self.debt += amount

    def end(self, held: int) -> None:
        """Credit ends whose time has come, but for so much that is held."""
        ending = [each for each in self.grants if each.expires < float("inf")]
        self.kept = min(held, sum(each.left for each in ending))
        for each in ending:
            each.left = 0

    def let_go(self, held: int, amount: int) -> None:
        """A hold ends by its charge, which what is kept pays first; the rest of the hold's part is kept no longer."""
        paid = min(self.kept, amount)
        self.kept -= paid + min(max(0, held - paid), self.kept - paid)
        self.take(amount - paid)


@dataclass
class Customer:
    """Does things through the gateway, and reckons what they come to."""

    gw: Running
    key: str
    chance: random.Random
    card: str = "standard"
    ends: int = 0  # when credit ends that does
    should: Reckoning = field(default_factory=Reckoning)
    jobs: list[tuple[str, int]] = field(default_factory=list)

    async def admin(self, path: str, body: dict[str, Any], status: int = 201) -> Any:
        """What the admin API answers."""
        url, headers = f"{self.gw.ops_url}/admin/v1/accounts/a/{path}", {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with self.gw.http.post(url, json=body, headers=headers) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def charge(self, expected: int, held: int = 0) -> None:
        """The last charge is this one, of a call for which so much was held."""
        entry = (await self.gw.ledger.entries("a", limit=1, newest_first=True))[0]
        assert (entry.kind, -entry.amount) == ("charge", expected), entry
        self.should.let_go(held, expected)
        self.should.charged[entry.id] = self.should.called[entry.data["call_id"]] = expected

    async def do_chat(self) -> None:
        """A completion."""
        tokens = {name: self.chance.randrange(30_000) for name in ("input_tokens", "output_tokens")}
        cached = self.chance.randrange(tokens["input_tokens"] + 1)
        got = await chat(self.gw, self.key, {"max_tokens": 64_000}, cached_tokens=cached, **tokens)
        if self.should.balance <= 0:
            assert got.status == 400
            return
        left = CARDS[self.card][1]
        parts = {"input": tokens["input_tokens"] - cached, "cached_input": cached, "output": tokens["output_tokens"]}
        expected = sum(line(f"llm.gpt-5.2.{part}", count, left) for part, count in parts.items())
        assert (got.status, got.charge) == (200, expected)
        await self.charge(expected)

    async def do_open(self) -> None:
        """A job is submitted: at the prices of this moment."""
        if self.should.balance <= 0 or len(self.jobs) > 5:
            return
        seconds, channels = self.chance.randrange(1, 36_000), self.chance.choice([1, 2])
        flags = {flag: True for flag in FLAGS if self.chance.random() < 0.4}
        model = self.chance.choice(["universal-2", "universal-3-pro"])
        asked = {"speech_models": [model], "multichannel": channels == 2, **flags}
        path = await submitted(self.gw, self.key, seconds, knobs={"job_seconds": 0.01}, **asked)
        left = CARDS[self.card][0]
        expected = line(f"stt.{model}", seconds * channels, left)
        expected += sum(line(FLAGS[flag], seconds, Fraction(1) if self.card != "nonprofit" else left) for flag in flags)
        if "speaker_labels" in flags and self.card == "startup":  # it is of speech-to-text, the others are not
            sku = FLAGS["speaker_labels"]
            expected += line(sku, seconds, left) - line(sku, seconds, Fraction(1))
        self.jobs.append((path, expected))

    async def do_finish(self) -> None:
        """A job is over, whatever has become of the account since it began."""
        if self.jobs:
            path, expected = self.jobs.pop(self.chance.randrange(len(self.jobs)))
            held = await self.held()
            assert (await finished(self.gw, self.key, path)).charge == expected
            await self.charge(expected, held - await self.held())

    async def held(self) -> int:
        """What is held for its jobs."""
        return (await self.gw.ledger.account("a")).held

    async def do_grant(self) -> None:
        """Credit, of which some ends soon."""
        amount, priority = self.chance.randrange(1, 3 * 10**9), self.chance.randrange(100)
        body: dict[str, Any] = {"kind": "promotion", "amount": format_usd(Nanos(amount)), "priority": priority}
        expires: float = float("inf")
        if self.chance.random() < 0.4:
            expires = self.ends
            body["expires_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
        await self.admin("grants", body)
        self.should.give(amount, priority, expires)

    async def do_plan(self) -> None:
        """Other prices from now on."""
        self.card = self.chance.choice(list(CARDS))
        operation = f"plan-{self.chance.random()}"
        await self.gw.ledger.change_account(
            operation=operation, account="a", plan=Plan(tier="payg", rate_card=self.card)
        )

    async def do_refund(self) -> None:
        """A part of a charge, all of it, or more than is left."""
        if not self.should.charged:
            return
        entry = self.chance.choice(list(self.should.charged))
        found = next(each for each in await self.gw.ledger.entries("a", limit=1000) if each.id == entry)
        call_id = found.data["call_id"]
        left = min(self.should.charged[entry], self.should.called[call_id])
        amount = self.chance.choice([left, left + 1, self.chance.randrange(left + 1), None])
        body = {"entry": entry, "amount": None if amount is None else format_usd(Nanos(amount)), "reason": "r"}
        given = left if amount is None else amount
        if not 0 < given <= left:
            await self.admin("refunds", body, 422)
            return
        await self.admin("refunds", body)
        self.should.charged[entry] -= given
        self.should.called[call_id] -= given
        self.should.give(given, -(10**9))

    async def do_correct(self) -> None:
        """More, or less, or less than nothing."""
        if not self.should.called:
            return
        call_id = self.chance.choice(list(self.should.called))
        left = self.should.called[call_id]
        amount = self.chance.choice([left, left + 1, -self.chance.randrange(1, 10**9), self.chance.randrange(left + 1)])
        said = {"call_id": call_id, "reason": f"{self.chance.random()}", "actor": "me"}
        body = said | {"amount": ("-" if amount < 0 else "") + format_usd(Nanos(abs(amount)))}
        if not amount or amount > left:
            await self.admin("corrections", body, 422)
            return
        await self.admin("corrections", body)
        self.should.called[call_id] -= amount
        if amount > 0:
            self.should.give(amount, -(10**9))
        else:
            self.should.take(-amount)

    async def holds_true(self) -> None:
        """The account is as it should be, to the nano."""
        account = await self.gw.ledger.account("a")
        assert (account.balance, account.debt) == (self.should.balance, self.should.debt)
        expected = [each.left for each in sorted(self.should.grants, key=lambda each: each.order) if each.left]
        over = [
            grant.remaining for grant in account.grants if grant.expires_ms and grant.expires_ms <= time.time() * 1000
        ]
        assert [grant.remaining for grant in account.grants][: len(expected)] == expected
        assert (sum(over), len(account.grants)) == (self.should.kept, len(expected) + len(over))
        assert account.open_holds == len(self.jobs)
        assert sum(entry.amount for entry in await self.gw.ledger.entries("a", limit=1000)) == account.balance


async def by_hand(directory: Path, redis_url: str, *, seed: int, steps: int, seconds: int) -> None:
    """What happens to one account by chance, as long as no credit ends; then all of that ends, while jobs are held."""

    def unwatched(data: dict[str, Any]) -> None:
        data["jobs"]["transcript"] |= {"look_first_seconds": 3600, "look_seconds_max": 3600}

    changes = {"config/tiers.yaml": without_rates, "config/products/speech-to-text.yaml": unwatched}
    async with running(directory, redis_url, changes=changes) as gw:
        one = Customer(gw, await gw.open_account("a", credit="20", rate_card="standard"), random.Random(seed))
        one.should.give(parse_usd("20"), 50)
        one.ends = int(time.time()) + seconds
        deeds = [one.do_chat, one.do_open, one.do_finish, one.do_grant, one.do_plan, one.do_refund, one.do_correct]
        for number in range(steps):
            await one.chance.choice(deeds)()
            if number % 5 == 0:
                await one.holds_true()
            if time.time() > one.ends - MARGIN_SECONDS:
                break
        await one.do_open()
        await one.holds_true()

        one.should.end(await one.held())

        async def ended() -> bool:
            return time.time() > one.ends and (await gw.ledger.account("a")).balance == one.should.balance

        assert await until(ended, seconds=60)
        await one.holds_true()
        while one.jobs:
            await one.do_finish()
            await one.holds_true()
        assert not one.should.kept
        assert len(await charges(gw, "a")) == len(one.should.charged)
        assert await gw.ledger.verify("a") == []


async def test_money_is_what_it_is_by_hand(tmp_path: Path, empty_redis: str) -> None:
    """Calls, jobs, grants, plans, refunds and corrections in any order, and credit that ends while jobs are held."""
    await by_hand(tmp_path, empty_redis, seed=7, steps=30, seconds=16)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(100, 120))
async def test_money_is_what_it_is_by_hand_for_long(tmp_path: Path, empty_redis: str, seed: int) -> None:
    """The same with other seeds."""
    await by_hand(tmp_path, empty_redis, seed=seed, steps=400, seconds=60)
