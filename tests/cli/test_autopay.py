"""`gateway autopay` and `gateway payments` beside a running gateway, with a Stripe of one's own."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner

from gateway.cli import main
from tests.payments.shop import shop, until, usd


async def test_autopay_from_a_card_to_off(tmp_path: Path, empty_redis: str) -> None:
    """Without a card autopay is refused; with one it pays as set, at once. Off is off. All is noted."""

    async def call(*words: str, code: int = 0) -> Any:
        """What a command answers, or the code of its problem."""
        arguments = [*words, "--json", "-c", str(tmp_path / "gateway.yaml")]
        invoke = partial(CliRunner().invoke, main, arguments, catch_exceptions=False, prog_name="gateway")
        result = await asyncio.to_thread(invoke)
        assert result.exit_code == code, result.output
        return orjson.loads(result.stdout) if code == 0 else orjson.loads(result.stderr)["error"]

    async with shop(tmp_path, empty_redis) as (gateway, stripe):
        await gateway.open_account("acme", credit="21")
        assert (await call("autopay", "show", "acme"))["enabled"] is False
        assert await call("autopay", "set", "acme", "--on", code=1) == "payment_refused"
        assert await call("payments", "page", "acme", "--amount", "1", code=1) == "invalid_request"
        page = await call("payments", "page", "acme", "--idempotency-key", "p-1")
        assert await call("payments", "page", "acme", "--idempotency-key", "p-1") == page
        await stripe.pay_checkout(page["url"])
        await stripe.told()
        wish = ("--on", "--threshold", "30", "--target", "60", "--monthly-cap", "100")
        found = await call("autopay", "set", "acme", *wish)
        assert (found["enabled"], found["monthly_cap"]) == (True, "100.000000000")

        async def paid() -> bool:
            return await gateway.balance("acme") == usd(60)

        await until(paid)
        found = await call("autopay", "set", "acme", "--no-monthly-cap")
        assert (found["monthly_cap"], found["paid_this_month"]) == (None, "39.000000000")
        assert (await call("autopay", "off", "acme"))["enabled"] is False
        grant = await call("payments", "credit", "acme", "inv-1", "--amount", "10")
        assert grant["amount"] == "10.000000000"
        assert await call("payments", "credit", "acme", "inv-1", "--amount", "10") == grant
        assert await gateway.balance("acme") == usd(70)
        taken = await call("payments", "take-back", "acme", "inv-1", "--source", "cn-1", "--amount", "4")
        assert (taken["taken"], await gateway.balance("acme")) == ("4.000000000", usd(66))
        ended = await call("credits", "end", "acme", grant["id"], "--reason", "mistyped")
        assert (ended["amount"], ended["balance"]) == ("-10.000000000", "56.000000000")
        state = (await call("autopay", "fail", "acme", "ap_none", "--reason", "hangs"))["state"]
        assert state == "idle"
        noted = {line["action"]: line for line in (await call("audit", "list", "--account", "acme"))["items"]}
        for words in ("autopay set", "autopay off", "payments credit", "payments take-back", "credits end"):
            assert f"gateway {words}" in noted
        assert noted["gateway credits end"]["about"]["grant"] == grant["id"]
