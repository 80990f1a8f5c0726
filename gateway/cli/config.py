"""The commands about the config: whether it is in order, what it would change, taking it up.

Owns: their options and what they print.
Does not know: what a reload does (edge/process/reloading), how charges are priced again (edge/operations/prices).
"""

import time
from dataclasses import asdict
from typing import Any

import click

from gateway.cli.output import Failure, table
from gateway.cli.reports import repriced
from gateway.cli.shared import Invocation, common, on_ledger
from gateway.edge.operations.fields import rate_cards
from gateway.edge.process.control import ANSWER_SECONDS_MAX, ask
from gateway.settings.overview import price_table


@click.command("reload")
@common
def reload_command(invocation: Invocation) -> None:
    """Have the gateways that run here take up the config, and print what that changed or why it did not."""
    found = asked(invocation, "reload")
    if not all(each["ok"] for each in found):
        reasons = [each["reason"] for each in found if not each["ok"]]
        raise Failure("\n".join(reasons), code="reload_failed", facts={"gateways": found})
    invocation.show({"gateways": found}, lambda told: "\n".join(map(_reloaded, told["gateways"])))


def asked(
    invocation: Invocation, word: str, *, some: bool = True, seconds_max: float = ANSWER_SECONDS_MAX
) -> list[dict[str, Any]]:
    """What each gateway that runs here answers. Failure if one says nothing, or there are to be `some` and none is."""
    try:
        found = ask(invocation.spool_directory, word, seconds_max=seconds_max)
    except (OSError, ValueError) as error:
        raise Failure(f"A gateway does not answer: {error}", code="no_answer") from None
    if some and not found:
        place = invocation.spool_directory.absolute()
        raise Failure(f"No gateway that keeps its spool in {place} runs on this machine.", code="not_running")
    return found


def _reloaded(found: dict[str, Any]) -> str:
    was = "" if found["was"] == found["config"] else f", was {found['was']}"
    return "\n".join([f"serves config {found['config']}{was}", *_changes(found)])


def _changes(found: dict[str, Any]) -> list[str]:
    return [f"  {line}" for line in found["changes"] or ["nothing in it has changed"]]


def _differing(found: dict[str, Any]) -> str:
    told = []
    for each in found["running"]:
        told.append(f"A gateway that runs here serves config {each['was']}. This one, {found['digest']}, changes:")
        told += _changes(each) if each["ok"] else [f"  nothing, for it is refused: {each['reason']}"]
    if not found["running"]:
        told.append("No gateway runs here that it could be compared with.")
    day = found["yesterday"]
    told += [f"The charges of {day['since']} (UTC), by the newest prices of this config:", repriced(day)]
    return "\n".join(told)


@click.command("check")
@click.option("--rate-card", metavar="CARD", help="Print the prices of this rate card. Default: the default tier's.")
@click.option("--diff", is_flag=True, help="Print what it changes: of what runs here, and of yesterday's charges.")
@common
def check_command(invocation: Invocation, *, rate_card: str | None, diff: bool) -> None:
    """Read the config and print all of its errors, or what it makes: products, tiers and prices."""
    runtime = invocation.runtime()
    if diff:
        yesterday = on_ledger(invocation, lambda desk: desk.prices.dry_run_of_all())
        running = asked(invocation, "preview", some=False)
        invocation.show({"ok": True, "digest": runtime.digest, "running": running, "yesterday": yesterday}, _differing)
        return
    cards = rate_cards(runtime)
    if rate_card is not None and rate_card not in cards:
        names = ", ".join(sorted(cards))
        raise Failure(f"There is no rate card {rate_card!r}; there are: {names}", code="unknown_rate_card")
    card = rate_card or runtime.tiers[runtime.default_tier].rate_card
    invocation.show(
        {
            "ok": True,
            "config": str(invocation.config),
            "digest": runtime.digest,
            "routes": {name: sum(route.product.name == name for route in runtime.routes) for name in runtime.products},
            "tiers": {name: sorted(tier.products) for name, tier in runtime.tiers.items()},
            "callbacks": {
                "public_url": runtime.public_url or None,
                "jobs": [job.kind for route in runtime.routes if (job := route.job) is not None and job.callback],
            },
            "rate_cards": sorted(cards),
            "price_version": runtime.prices.current(time.time(), card).version,
            "prices": [asdict(row) for row in price_table(runtime, card)],
        },
        _checked,
    )


def _checked(found: dict[str, Any]) -> str:
    """For people: no prices of price lists that are over."""
    products = table(("product", "routes"), list(found["routes"].items()))
    tiers = table(("tier", "products"), list(found["tiers"].items()))
    told = [f"{found['config']} is in order", products, tiers, *_callbacks(**found["callbacks"])]
    since = next(row["effective_from"] for row in found["prices"] if row["version"] == found["price_version"])
    for version in dict.fromkeys(row["version"] for row in found["prices"] if row["effective_from"] >= since):
        rows = [row for row in found["prices"] if row["version"] == version]
        told.append(f"Prices {version}, from {rows[0]['effective_from']}, rate card {rows[0]['rate_card']}")
        cells = [(row["sku"], row["unit_price"], row["product"]) for row in rows]
        told.append(table(("sku", "price", "product"), cells))
    return "\n\n".join(told)


def _callbacks(public_url: str | None, jobs: list[str]) -> list[str]:
    """Whether services call the gateway back, where the products have jobs that they could call back for."""
    if not jobs:
        return []
    if public_url is None:
        return ["Services call clients back themselves: without customers.public_url they do not reach the gateway"]
    return [f"Services call back at {public_url} for: {', '.join(jobs)}"]
