"""`gateway credits` and `gateway ledger` on a real Redis."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.core.money import NANOS_PER_USD, ZERO, Nanos
from gateway.core.pricing import Charge, LineItem
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.keys import Keys
from gateway.ledger.link import LinkSettings, RedisLink
from gateway.ledger.links import open_link
from gateway.ledger.redis import RedisLedger
from gateway.ports import AdmissionRequest, AdmissionTerms, Admitted, Plan, Settlement
from tests.cli.conftest import Shell

CHARGE = Nanos(1_250_001)


def meanwhile(data: Path, work: Callable[[RedisLink], Awaitable[None]]) -> None:
    """Do something to the ledger, as a running gateway would."""

    async def do() -> None:
        link = open_link(LinkSettings(url=EmbeddedRedis(data / "redis").url))
        await link.open()
        try:
            await work(link)
        finally:
            await link.close()

    asyncio.run(do())


async def use(link: RedisLink) -> None:
    """One call in the air that holds $2, one that was charged."""
    ledger = RedisLedger(link, prefix="gw")
    for hold_id in ("h1", "h2"):
        admitted = await ledger.admit(
            AdmissionRequest(
                account="acme",
                key_id="k1",
                terms=AdmissionTerms(
                    plan=Plan(tier="free"), product="speech-to-text", entitled=True, metered=True, overdraft=ZERO
                ),
                hold_id=hold_id,
                estimate=Nanos(2 * NANOS_PER_USD),
            )
        )
        assert isinstance(admitted, Admitted)
    item = LineItem(sku="stt.universal-2", quantity="30", unit="second", unit_price="0.15 per_hour", amount=CHARGE)
    charge = Charge(amount=CHARGE, items=(item,), price_version="v", rate_card="standard")
    await ledger.settle(
        Settlement(
            account="acme", hold_id="h1", key_id="k1", product="speech-to-text", route="r", call_id="c", charge=charge
        )
    )


def opened(shell: Shell) -> None:
    shell.ok("accounts", "open", "acme")
    shell.ok("keys", "add", "acme", "--id", "k1")
    meanwhile(shell.data, use)


def test_credits_are_shown_to_the_nano(shell: Shell) -> None:
    """What is in use, what was spent and what is left stand apart, with every digit."""
    opened(shell)
    text = shell.ok("credits", "show", "acme")
    told = {line.split()[0]: line.split()[1] for line in text.splitlines()[:7]}
    assert told == {
        "account": "acme",
        "balance": "49.998749999",
        "held": "2.000000000",
        "overdraft": "0.000000000",
        "available": "47.998749999",
        "spent": "0.001250001",
        "debt": "0.000000000",
    }
    assert "in use by 1 open hold\n" in text
    credits_ = shell.json("credits", "show", "acme")
    assert credits_["available"] == "47.998749999"
    assert [grant["remaining"] for grant in credits_["grants"]] == ["49.998749999"]


def test_grants_burn_in_the_order_in_which_they_are_shown(shell: Shell) -> None:
    """A grant of lower priority, and one that ends, stand before the rest."""
    shell.ok("accounts", "open", "acme")
    shell.ok("credits", "grant", "acme", "0.000000001", "--kind", "purchase", "--expires", "2099-01-01T00:00:00Z")
    shell.ok("credits", "grant", "acme", "3", "--kind", "promotion", "--priority", "1", "--note", "thanks")
    grants = shell.json("credits", "show", "acme")["grants"]
    assert [(grant["kind"], grant["amount"]) for grant in grants] == [
        ("promotion", "3.000000000"),
        ("purchase", "0.000000001"),
        ("signup", "50.000000000"),
    ]
    assert "thanks" in shell.ok("ledger", "entries", "acme")


def test_wrong_grants_are_refused(shell: Shell) -> None:
    """Amounts and kinds that are none are told by name, and what an account may hold is a bound."""
    shell.ok("accounts", "open", "acme")
    text = shell.refused("credits", "grant", "acme", "five", "--kind", "gift")
    assert [line.split(":")[0] for line in text.splitlines()] == ["kind", "amount"]
    assert "9000000" in shell.refused("credits", "grant", "acme", "9000000", "--kind", "purchase")
    assert shell.json("accounts", "show", "acme")["balance"] == "50.000000000"


def test_entries_and_holds_tell_what_happened(shell: Shell) -> None:
    """Every entry says why; a hold can be given back, once."""
    opened(shell)
    page = shell.json("ledger", "entries", "acme", "--limit", "1")
    rest = shell.json("ledger", "entries", "acme", "--after", page["next"])
    assert [entry["amount"] for entry in page["items"] + rest["items"]] == ["50.000000000", "-0.001250001"]
    assert rest["items"][0]["data"]["items"][0]["amount"] == "0.001250001"
    assert "stt.universal-2 x 30" in shell.ok("ledger", "entries", "acme")
    assert shell.row("h2", "ledger", "holds", "acme")[1] == "2.000000000"
    assert shell.ok("ledger", "release", "acme", "h2") == "released h2\n"
    assert "not open" in shell.ok("ledger", "release", "acme", "h2")
    assert shell.ok("ledger", "holds", "acme") == "no open holds\n"
    assert shell.json("credits", "show", "acme")["held"] == "0.000000000"


def test_a_charge_is_corrected_by_an_entry(shell: Shell) -> None:
    """Up and down, once for the same words; the entry tells why and by whom, and everything adds up."""
    opened(shell)
    words = ("ledger", "correct", "acme", "--call", "c", "--reason", "58 s", "--actor", "ops@example.com")
    back = shell.json(*words, "--amount", "0.001", "--key", "k1")
    assert (back["call_id"], back["amount"], back["balance"]) == ("c", "0.001000000", "49.999749999")
    assert shell.json(*words, "--amount", "0.001", "--key", "k1") == back
    assert back["entry"] in shell.ok(*words, "--amount", "0.001", "--key", "k1")
    assert shell.json(*words, "--amount", "-0.25")["balance"] == "49.749749999"
    assert shell.json(*words, "--amount", "-0.25", "--idempotency-key", "second")["balance"] == "49.499749999"
    _, _, entry, *_ = shell.json("ledger", "entries", "acme")["items"]
    assert (entry["id"], entry["kind"], entry["data"]["actor"]) == (back["entry"], "correction", "ops@example.com")
    assert shell.row(entry["id"], "ledger", "entries", "acme")[-2:] == ["58", "s"]
    assert shell.json("credits", "show", "acme")["spent_this_month"] == "0.000250001"
    assert "every number agrees" in shell.ok("ledger", "verify", "acme")
    assert "zero" in shell.refused(*words, "--amount", "0")
    assert "no key" in shell.refused(*words, "--amount", "1", "--key", "k2")


def test_verify_finds_a_difference(shell: Shell) -> None:
    """All accounts are verified by default; a number that was tampered with is named, and the exit code is 1."""
    opened(shell)
    shell.ok("accounts", "open", "other")
    assert shell.json("ledger", "verify")["verified"] == 2
    assert "every number agrees" in shell.ok("ledger", "verify", "acme")

    async def tamper(link: RedisLink) -> None:
        await link.call("HINCRBY", Keys("gw").account("acme"), "balance", "1")

    meanwhile(shell.data, tamper)
    result = shell.call("ledger", "verify")
    assert result.exit_code == 1
    assert ["acme", "balance", "49998750000", "49998749999"] in [line.split() for line in result.stdout.splitlines()]
    assert shell.call("ledger", "verify", "other").exit_code == 0
    assert '"ok": false' in shell.call("ledger", "verify", "acme", "--json").stdout
    words = ("ledger", "repair", "acme", "--trust", "entries", "--reason", "a slip")
    told = shell.call(*words)
    assert told.exit_code == 1
    assert "would be repaired (with --apply) by an entry of 0.000000000 USD" in " ".join(told.stdout.split())
    assert shell.call("ledger", "verify").exit_code == 1, "it was only told"
    assert "was repaired by entry" in shell.ok(*words, "--apply")
    assert "every number agrees" in shell.ok("ledger", "verify")
    assert "nothing to repair" in shell.ok(*words, "--apply")
    (line,) = [line for line in shell.json("audit", "list")["items"] if line["about"].get("applied")][-1:]
    assert (line["action"], line["account"], line["about"]["trust"]) == ("gateway ledger repair", "acme", "entries")
    assert "no sink" in shell.refused("export", "run")
    assert "no `export.postgres`" in shell.refused("ledger", "verify", "--against", "postgres")


def test_verify_of_an_unknown_account(shell: Shell) -> None:
    """An account that is not there is an error, not a success."""
    assert "nobody" in shell.refused("ledger", "verify", "nobody")


def test_what_an_account_commits_to(shell: Shell) -> None:
    """It is set from a month on, shown, and ended; what is no month is told."""
    shell.ok("accounts", "open", "acme")
    assert "nothing" in shell.ok("credits", "commitment", "acme")
    assert "500.000000000 from 2090-01 on" in shell.ok("credits", "commit", "acme", "500", "--from", "2090-01")
    assert shell.json("credits", "commitment", "acme")["schedule"] == [{"from": "2090-01", "amount": "500.000000000"}]
    assert shell.json("credits", "commit", "acme", "0")["schedule"] == []
    assert "month: a month is written" in shell.refused("credits", "commit", "acme", "1", "--from", "soon")
