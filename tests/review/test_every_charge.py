"""An independent judge of charges: another calculator, by the contract's price list, against the running gateway.

It knows what was asked and what the service is made to report, and nothing of the gateway's config or code.
"""

import asyncio
import csv
import io
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import count, islice
from math import floor
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from tests.harness import ADMIN_TOKEN, Got, Running, running
from tests.pipeline.helpers import CHAT_PATH, charges, finished, sandbox, submitted, until, without_rates

#: Dollars for a million tokens: input, output, read from a cache, written to it, written for an hour.
TOKENS: Final[dict[str, tuple[str, ...]]] = {
    "gpt-5.2": ("1.75", "14", "0.175", "1.75", "1.75"),
    "gpt-4.1": ("2", "8", "0.5", "2", "2"),
    "claude-opus-4-6": ("5", "25", "0.5", "6.25", "10"),
    "claude-3-5-haiku": ("0.80", "4", "0.08", "1", "1.6"),
    "qwen3-32b": ("0.15", "0.60", "0.15", "0.15", "0.15"),
}
#: Dollars for an hour of audio.
BASE: Final = {"universal-3-5-pro": "0.21", "universal-3-pro": "0.21", "universal-2": "0.15"}
ADD_ONS: Final = {
    "speaker_labels": "0.02",
    "entity_detection": "0.08",
    "sentiment_analysis": "0.02",
    "auto_chapters": "0.08",
    "auto_highlights": "0.01",
    "iab_categories": "0.15",
    "filter_profanity": "0.01",
    "redact_pii": "0.08",
    "content_safety": "0.15",
}
TASKS: Final = {"translation": "0.06", "custom_formatting": "0.03", "summarization": "0.03"}
#: Rate cards, each with its percent off by product; `odd` is made for the rounding.
OFF: Final = {
    "standard": {},
    "startup": {"stt": "50", "llm": "10"},
    "odd": {"stt": "7.77", "llm": "33.3333", "rest": "0.007"},
}
MILLION, HOUR, NANOS = 10**6, 3600, 10**9


def cards(data: dict[str, Any]) -> None:
    """The card that no company has."""
    data["rate_cards"]["odd"] = {"discounts": {"speech-to-text": "7.77", "llm.*": "33.3333", "*": "0.007"}}


def unwatched(data: dict[str, Any]) -> None:
    """Nobody but its client's polls sees a job's end, however slow they are."""
    data["jobs"]["transcript"].update(look_first_seconds=3600, look_seconds_max=3600)


@pytest.fixture
async def gw(tmp_path: Path, empty_redis: str) -> AsyncIterator[Running]:
    """The project's own config, without limits of requests."""
    changes = {
        "config/tiers.yaml": without_rates,
        "config/prices.yaml": cards,
        "config/products/speech-to-text.yaml": unwatched,
    }
    async with running(tmp_path, empty_redis, changes=changes) as gateway:
        yield gateway


class Customer:
    """An account, and what its calls must cost by this calculator: nano-dollars by call id."""

    def __init__(self, gw: Running, card: str, key: str) -> None:
        self.gw, self.card, self.key = gw, card, key
        self.owes: dict[str, int] = {}

    def line(self, dollars: str, per: int, quantity: int, product: str) -> int:
        """One line of a charge, rounded once, half up."""
        off = OFF[self.card].get(product, OFF[self.card].get("rest", "0"))
        return floor(Fraction(dollars) * NANOS * (100 - Fraction(off)) / 100 * quantity / per + Fraction(1, 2))

    async def chat(self, dice: random.Random) -> None:
        """A call of the LLM gateway that reports what the dice say, or fails."""
        asked = answers = dice.choice(list(TOKENS))
        request: dict[str, Any] = {
            "model": asked,
            "messages": [{"role": "user", "content": "x" * dice.randrange(1, 99)}],
        }
        request |= {"stream": dice.random() < 0.5, "n": dice.randrange(1, 3)}
        cached, written, thought = (dice.choice([0, dice.randrange(3000)]) for _ in range(3))
        an_hour = dice.choice([0, dice.randrange(written + 1)])
        read, said = dice.randrange(3000), dice.randrange(3000)
        details = {"cached_tokens": cached, "cache_write_tokens": written}
        usage = {
            "prompt_tokens": read + cached + written,
            "completion_tokens": said + thought,
            "prompt_tokens_details": details | {"cache_creation": {"ephemeral_1h_input_tokens": an_hour}},
            "completion_tokens_details": {"reasoning_tokens": thought},
        }
        knobs: dict[str, Any] = {"usage": orjson.dumps(usage).decode()}
        if dice.random() < 0.2:
            answers = dice.choice(list(TOKENS))
            request["fallbacks"], knobs["primary_fails"] = [{"model": answers}], "true"
        if fails := dice.random() < 0.1:
            knobs["status"] = dice.choice([400, 429, 500, 503])
        got = await self.gw.call("POST", CHAT_PATH, self.key, json=request, headers=sandbox(**knobs))
        assert got.status == knobs.get("status", 200), got.body
        priced = zip(TOKENS[answers], (read, said + thought, cached, written - an_hour, an_hour), strict=True)
        lines = [self.line(dollars, MILLION, quantity, "llm") for dollars, quantity in priced]
        lines[1] = sum(self.line(TOKENS[answers][1], MILLION, each, "llm") for each in (said, thought))
        if not fails:
            self.must_cost(got, sum(lines), told=not request["stream"])

    async def job(self, dice: random.Random) -> None:
        """A transcript with add-ons, whose end several polls see, or which fails; then what is asked about it."""
        seconds, channels = dice.randrange(1, 9000), dice.randrange(1, 4)
        flags = {flag: True for flag in ADD_ONS if dice.random() < 0.3}
        models = dice.sample(list(BASE), 2)
        ran = dice.choice(models)
        request: dict[str, Any] = {
            **flags,
            "speech_models": models,
            "multichannel": dice.random() < 0.5,
            "language_code": "de",
        }
        request["audio_url"] = f"https://example.com/a.wav?duration={seconds}&channels={channels}"
        fails = dice.random() < 0.2
        knobs = {"model_used": ran, "job_status": "error" if fails else "completed"}
        path = await submitted(self.gw, self.key, knobs=knobs, **request)
        polls = await asyncio.gather(*(finished(self.gw, self.key, path) for _ in range(dice.randrange(1, 4))))
        if fails:
            assert {got.charge for got in polls} == {None}
            return
        audio = seconds * (channels if request["multichannel"] else 1)
        cost = self.line(BASE[ran], HOUR, audio, "stt")
        for flag in flags:
            product = "stt" if flag == "speaker_labels" else "rest"
            cost += self.line(ADD_ONS[flag], HOUR, seconds, product)
        assert sum(got.charge or 0 for got in polls) == cost, (self.card, request, knobs)
        (made,) = [each for each in await charges(self.gw, self.card) if each["upstream_id"] == path.rpartition("/")[2]]
        self.owes[made["call_id"]] = cost
        await self.understood(path.rpartition("/")[2], seconds, dice.sample(list(TASKS), dice.randrange(1, 3)))

    async def understood(self, transcript: str, seconds: int, tasks: list[str]) -> None:
        """Speech understanding of a transcript."""
        asked = {task: {"target_languages": ["de", "es"]} for task in tasks}
        body = {"transcript_id": transcript, "speech_understanding": {"request": asked}}
        got = await self.gw.call("POST", "/v1/understanding", self.key, json=body)
        self.must_cost(got, sum(self.line(TASKS[task], HOUR, seconds, "rest") for task in tasks), told=True)

    def must_cost(self, got: Got, nanos: int, *, told: bool) -> None:
        """Remember what a call must cost; where its answer says so, compare at once."""
        assert got.status == 200, got.body
        assert not told or got.charge == nanos
        self.owes[got.headers["X-Gateway-Call-Id"]] = nanos

    async def agrees(self) -> None:
        """The ledger has these charges and no others; whoever tells of money tells of the same."""
        gw, account, total = self.gw, self.card, sum(self.owes.values())
        made = {each["call_id"]: each for each in await charges(gw, account)}
        assert {call: each["amount"] for call, each in made.items()} == self.owes
        assert all(sum(item["amount"] for item in each["items"]) == each["amount"] for each in made.values())
        found = await gw.ledger.account(account)
        assert (found.balance, found.held) == (1000 * NANOS - total, 0)
        shown = (await gw.call("GET", "/billing/v1/balance", self.key)).json
        url = f"{gw.ops_url}/admin/v1/accounts/{account}/credits"
        async with gw.http.get(url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as response:
            to_ops = await response.json()
        assert nanos_of([shown["balance"], to_ops["balance"]]) == 2 * found.balance
        assert nanos_of([shown["spent_this_month"], to_ops["spent_this_month"]]) == 2 * total
        told = (await gw.call("GET", "/billing/v1/usage?format=csv", self.key)).body.decode()
        rows: list[Mapping[str, str]] = list(csv.DictReader(io.StringIO(told)))
        assert nanos_of(row["charged"] for row in rows) == total
        assert sum(int(row["calls"]) for row in rows) == len(self.owes)
        assert not await gw.ledger.verify(account)


def nanos_of(texts: Iterable[str]) -> Fraction:
    """The sum of amounts, in nano-dollars."""
    return sum((Fraction(text) * NANOS for text in texts), Fraction(0))


@pytest.mark.parametrize("seed", [1, 2])
async def test_another_calculator_comes_to_the_same(gw: Running, seed: int) -> None:
    """Calls, streams, jobs and what is asked about them, of three rate cards at once: each costs what the contract's
    list comes to, to the nano-dollar; balance, billing API, admin API, CSV and metrics tell the same."""
    customers = [Customer(gw, card, await gw.open_account(card, credit="1000", rate_card=card)) for card in OFF]

    def dice(customer: Customer) -> Iterator[random.Random]:
        return (random.Random(f"{seed} {customer.card} {number}") for number in count())

    for each in customers:
        chats = (each.chat(throw) for throw in islice(dice(each), 20))
        jobs = (each.job(throw) for throw in islice(dice(each), 6))
        await asyncio.gather(*chats, *jobs)
    for customer in customers:
        await customer.agrees()
    owed = sum(sum(customer.owes.values()) for customer in customers)

    async def counted() -> bool:
        return sum(gw.gateway.measured().count("gateway_charges_nanos").values()) == owed

    assert await until(counted)
