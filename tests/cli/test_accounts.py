"""`gateway accounts` and `gateway keys` on a real Redis."""

import asyncio
import os

import pytest

from gateway.cli.shared import in_directory
from gateway.edge.ledger import open_ledger
from gateway.settings.load import load
from tests.cli.conftest import CONFIG, Shell

FAR = "2099-01-31T00:00:00Z"
OVER, OVER_MS = "2020-01-01T00:00:00Z", 1_577_836_800_000


def test_an_account_from_opening_to_suspension(shell: Shell) -> None:
    """An account is opened with its tier's credit, upgraded with it, suspended and resumed."""
    opened = shell.json("accounts", "open", "acme")
    assert (opened["tier"], opened["balance"], opened["currency"]) == ("free", "50.000000000", "USD")
    assert shell.json("accounts", "show", "acme") == opened
    changed = shell.json("accounts", "change", "acme", "--tier", "payg")
    assert (changed["tier"], changed["balance"]) == ("payg", "50.000000000")
    assert shell.json("accounts", "suspend", "acme")["status"] == "suspended"
    assert shell.json("accounts", "resume", "acme")["status"] == "active"
    assert "50.000000000" in shell.ok("accounts", "show", "acme")


def test_what_an_account_has_in_place_of_its_tiers(shell: Shell) -> None:
    """Overrides are set and taken away by name; what is no override is told with what is."""
    shell.ok("accounts", "open", "acme")
    changed = shell.json("accounts", "change", "acme", "--set", "overdraft=5", "--set", "speech-to-text.concurrency=9")
    assert changed["overrides"] == {"overdraft": "5.000000000", "speech-to-text.concurrency": 9}
    assert "overdraft=5.000000000, speech-to-text.concurrency=9" in shell.ok("accounts", "show", "acme")
    changed = shell.json("accounts", "change", "acme", "--unset", "overdraft", "--set", "requests=none")
    assert changed["overrides"] == {"requests": "none", "speech-to-text.concurrency": 9}
    assert "overrides: overdaft: there is no such" in shell.refused("accounts", "change", "acme", "--set", "overdaft=1")


def test_commands_start_a_server_where_none_runs(offline: Shell) -> None:
    """Without a gateway each command runs its own server, and what one wrote the next one reads."""
    offline.ok("accounts", "open", "acme")
    assert offline.json("accounts", "show", "acme")["balance"] == "50.000000000"
    assert offline.row("acme", "accounts", "list")[1] == "free"


def test_accounts_are_listed_page_by_page(shell: Shell) -> None:
    """A list says how to have the next page, and JSON has the same in `next`."""
    assert shell.ok("accounts", "list") == "no accounts\n"
    for name in ("b", "a", "c"):
        shell.ok("accounts", "open", name)
    text = shell.ok("accounts", "list", "--limit", "2")
    assert [line.split()[0] for line in text.splitlines()] == ["ACCOUNT", "a", "b", "more:"]
    assert text.endswith("more: --after b\n")
    page = shell.json("accounts", "list", "--limit", "2", "--after", "b")
    assert ([account["id"] for account in page["items"]], page["next"]) == (["c"], None)


def test_all_that_is_wrong_is_told_at_once(shell: Shell) -> None:
    """Unknown tiers and cards are refused with the valid ones, each on its line."""
    text = shell.refused("accounts", "open", "Acme!", "--tier", "gold", "--rate-card", "vip")
    lines = text.splitlines()
    assert [line.split(":")[0] for line in lines] == ["id", "tier", "rate card"]
    assert "free" in lines[1]
    assert "payg" in lines[1]


def test_errors_can_be_json(shell: Shell) -> None:
    """With --json the refusal is JSON on standard error, and standard output stays empty."""
    assert '"error": "unknown_account"' in shell.refused("accounts", "show", "nobody", "--json")
    assert '"field": "tier"' in shell.refused("accounts", "open", "a", "--tier", "gold", "--json")


def test_a_named_change_is_done_once(shell: Shell) -> None:
    """The same command with the same idempotency key is done once; with other content it is refused."""
    once = ("--idempotency-key", "import-7")
    first = shell.json("accounts", "open", "acme", *once)
    assert shell.json("accounts", "open", "acme", *once) == first
    for _ in range(2):
        shell.ok("credits", "grant", "acme", "5", "--kind", "purchase", "--idempotency-key", "pay-1")
    assert shell.json("accounts", "show", "acme")["balance"] == "55.000000000"
    again = ("credits", "grant", "acme", "6", "--kind", "purchase", "--idempotency-key", "pay-1")
    assert "other content" in shell.refused(*again)
    assert "Idempotency-Key" in shell.refused(*again[:-1], "a b")


def test_a_repeat_may_come_when_its_time_is_over(shell: Shell) -> None:
    """It prints the first answer; another command with a time that is over is refused, and makes no key."""
    shell.ok("accounts", "open", "acme")
    shell.ok("keys", "add", "acme", "--id", "k1")

    async def done_then() -> None:
        async with open_ledger(in_directory(load(CONFIG, os.environ), shell.data)) as ledger:
            changes = {"expires_ms": OVER_MS}
            await ledger.change_key(operation="admin:then", account="acme", key_id="k1", changes=changes)

    asyncio.run(done_then())
    repeat = ("keys", "change", "acme", "k1", "--expires", OVER, "--idempotency-key")
    assert shell.json(*repeat, "then")["expires_at"] == "2020-01-01T00:00:00.000Z"
    keys = shell.json("keys", "list", "acme")
    assert "expired already" in shell.refused(*repeat, "now")
    assert "expired already" in shell.refused(
        "keys", "rotate", "acme", "k1", "--old-until", OVER, "--idempotency-key", "now"
    )
    assert "old until: this time is over" in shell.refused("keys", "rotate", "acme", "k1", "--old-until", OVER)
    assert shell.json("keys", "list", "acme") == keys


def test_nothing_to_change_is_refused(shell: Shell) -> None:
    """A change that names nothing is a mistake, not a success."""
    shell.ok("accounts", "open", "acme")
    assert "name at least one of" in shell.refused("accounts", "change", "acme")
    assert "contradict" in shell.refused("accounts", "change", "acme", "--rate-card", "x", "--tier-rate-card", code=2)


def test_a_key_from_making_to_disabling(shell: Shell) -> None:
    """A key's secret is printed once; what it may do is changed option by option."""
    shell.ok("accounts", "open", "acme")
    made = shell.json("keys", "add", "acme", "--id", "k1", "--name", "laptop", "--monthly-budget", "2.5")
    assert made["secret"].startswith("gwk_")
    assert made["secret"] not in shell.ok("keys", "list", "acme", "--json")

    def facts() -> dict[str, object]:
        (key,) = shell.json("keys", "list", "acme")["items"]
        return {name: key[name] for name in ("name", "disabled", "expires_at", "products", "monthly_budget")}

    expected = {
        "name": "laptop",
        "disabled": False,
        "expires_at": None,
        "products": None,
        "monthly_budget": "2.500000000",
    }
    assert facts() == expected
    steps: list[tuple[tuple[str, ...], dict[str, object]]] = [
        (("disable",), {"disabled": True}),
        (("enable",), {"disabled": False}),
        (("change", "--name", "desk"), {"name": "desk"}),
        (("change", "--expires", FAR), {"expires_at": "2099-01-31T00:00:00.000Z"}),
        (("change", "--product", "speech-to-text"), {"products": ["speech-to-text"]}),
        (("change", "--monthly-budget", "3"), {"monthly_budget": "3.000000000"}),
        (
            ("change", "--never-expires", "--all-products", "--no-monthly-budget"),
            {"expires_at": None, "products": None, "monthly_budget": None},
        ),
    ]
    for (command, *options), change in steps:
        shell.ok("keys", command, "acme", "k1", *options)
        expected |= change
        assert facts() == expected


def test_a_secret_can_be_brought(shell: Shell) -> None:
    """A secret from standard input is used as it is, and never printed where it is refused."""
    shell.ok("accounts", "open", "acme")
    assert "my-very-own-secret" in shell.ok("keys", "add", "acme", "--secret-file", "-", stdin="my-very-own-secret\n")
    result = shell.call("keys", "add", "acme", "--secret-file", "-", stdin="short\n")
    assert result.exit_code == 1
    assert "short" not in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--expires", "tomorrow"), "expires at: a time"),
        (("--product", "tea"), "products: there is no product 'tea'"),
        (("--monthly-budget", "5e3"), "monthly budget"),
        (("--id", "K 1"), "id: an id has"),
    ],
)
def test_wrong_facts_of_a_key(shell: Shell, options: tuple[str, str], said: str) -> None:
    """Each wrong option is told by its name."""
    shell.ok("accounts", "open", "acme")
    assert said in shell.refused("keys", "add", "acme", *options)


def test_options_that_contradict_each_other(shell: Shell) -> None:
    """A limit cannot be set and taken away at once."""
    for pair in (
        ("--expires", FAR, "--never-expires"),
        ("--product", "x", "--all-products"),
        ("--monthly-budget", "1", "--no-monthly-budget"),
    ):
        assert "contradict" in shell.refused("keys", "change", "acme", "k", *pair, code=2)


def test_unknown_keys_are_refused(shell: Shell) -> None:
    """A key that is not there cannot be changed."""
    shell.ok("accounts", "open", "acme")
    assert "no key k9" in shell.refused("keys", "disable", "acme", "k9")


def test_names_cannot_move_the_cursor(shell: Shell) -> None:
    """A name with control characters is refused, whoever gives it."""
    shell.ok("accounts", "open", "acme")
    assert "printable" in shell.refused("keys", "add", "acme", "--name", "a\x1b[2Jb")
