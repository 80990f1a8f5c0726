"""What a period would have cost by another price file, by the API and the command line."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.core.money import format_usd, parse_usd
from gateway.core.pricing import Price, PriceTable, Step, make_price
from gateway.core.repricing import Repricing
from gateway.core.steps import MILLIONTHS, make_step
from tests.harness import ADMIN_TOKEN, ROOT, Running
from tests.pipeline.helpers import chat


def test_lines_are_priced_exactly_and_what_has_no_price_keeps_its_own() -> None:
    """Each line by its recorded quantity, rounded once; another unit, an unknown SKU or card is told and kept."""
    prices = {"a": make_price("a", "per_hour", "0.42"), "b": make_price("b", "per_1m_tokens", "3")}
    table = PriceTable(version="v2", rate_card="standard", prices=prices)
    items = [
        {"sku": "a", "quantity": "1.5", "unit": "second", "unit_price": "1 per_hour", "amount": 1},
        {"sku": "a", "quantity": "10", "unit": "second", "unit_price": "1 per_hour", "amount": 2},
        {"sku": "b", "quantity": "7", "unit": "second", "unit_price": "1 per_hour", "amount": 30},
        {"sku": "c", "quantity": "1", "unit": "call", "unit_price": "1 per_call", "amount": 400},
    ]
    found = Repricing()
    found.add(items, table)
    found.add(items[:1], None)
    expected = prices["a"].amount(Decimal("1.5")) + prices["a"].amount(10)
    assert (found.charges, found.charged) == (2, 434)
    assert found.repriced == expected + 30 + 400 + 1
    assert {sku: (line.lines, line.unpriced) for sku, line in found.skus.items()} == {
        "a": (3, 1), "b": (1, 1), "c": (1, 1),
    }  # fmt: skip


def test_the_same_price_costs_the_same_also_in_slices_and_steps() -> None:
    """A slice keeps what it was rounded to; a step is priced by that above the same volume, else as the first unit."""
    base = make_price("a", "per_hour", "3.6")
    paid = make_step(10 * MILLIONTHS, base, words="10 seconds", percent="50")
    lines = [
        {"sku": "a", "quantity": "0.0000015", "unit": "second", "unit_price": base.listed, "amount": 1},
        {"sku": "a", "quantity": "2", "unit": "second", "unit_price": paid.price.listed, "amount": 1_000_000},
    ]

    def repriced(price: Price, *steps: Step) -> int:
        found = Repricing()
        found.add(lines, PriceTable(version="v", rate_card="c", prices={"a": price}, steps={"a": steps}))
        return found.repriced

    twice = make_price("a", "per_hour", "7.2")
    assert repriced(base, paid) == 1_000_001
    assert repriced(base, make_step(10 * MILLIONTHS, base, words="10 seconds", percent="75")) == 1 + 500_000
    assert repriced(twice, make_step(10 * MILLIONTHS, twice, words="10 seconds", percent="50")) == 3 + 2_000_000
    assert repriced(base, make_step(MILLIONTHS, base, words="1 seconds", percent="50")) == 1 + 2_000_000


async def test_another_price_file_is_tried_on_real_charges(gw: Running, tmp_path: Path) -> None:
    """The file in force costs the same to the nano; doubled prices cost twice; a broken file is told line by line."""
    key = await gw.open_account("acme", credit="10")
    for _ in range(3):
        assert (await chat(gw, key)).status == 200
    spent = parse_usd("10") - await gw.balance("acme")
    same = (ROOT / "config/prices.yaml").read_text()
    data = yaml.safe_load(same)
    for listed in data["price_lists"]:
        for price in listed.get("prices", {}).values():
            for per, text in price.items():
                price[per] = str(Decimal(text) * 2)
    doubled = yaml.safe_dump(data, sort_keys=False)

    async def dry_run(**body: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        url = f"{gw.ops_url}/admin/v1/price-dry-runs"
        async with gw.http.post(url, json={"account": "acme", **body}, headers=headers) as reply:
            return reply.status, await reply.json(content_type=None)

    status, found = await dry_run(prices=same)
    assert (status, found["charges"], found["complete"]) == (200, 3, True)
    assert (found["charged"], found["difference"]) == (format_usd(spent), "0.000000000")
    assert all(row["unpriced"] == 0 for row in found["items"])
    _, found = await dry_run(prices=doubled)
    assert (found["repriced"], found["difference"]) == (format_usd(2 * spent), format_usd(spent))
    _, found = await dry_run(prices=same, until="2020-01-01")
    assert (found["charges"], found["charged"]) == (0, "0.000000000")
    for wrong in ({"prices": "x"}, {"prices": "price_lists: []"}, {"prices": same, "rate_card": "none"}, {}):
        status, problem = await dry_run(**wrong)
        assert (status, problem["code"]) == (422, "invalid_request"), wrong
        assert problem["errors"] and not any(": :" in each["detail"] for each in problem["errors"])
    assert (await dry_run(prices=same, account="nobody"))[0] == 404
    assert await gw.balance("acme") == parse_usd("10") - spent

    path = tmp_path / "new-prices.yaml"
    path.write_text(doubled)
    words = ["prices", "dry-run", str(path), "--account", "acme", "-c", str(tmp_path / "gateway.yaml"), "--json"]
    result = await asyncio.to_thread(CliRunner().invoke, main, words, catch_exceptions=False)
    assert orjson.loads(result.stdout)["difference"] == format_usd(spent)
