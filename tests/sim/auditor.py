"""The auditor: reads what the server stores, by itself, and says what must be true of it.

Owns: the invariants of the credit semantics, checked after every reply of a mutation on the account that it was about,
and the reckoning at the end: what was delivered is charged once, and nothing else is.
Does not know: the scripts, or the ledger's own `verify`.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gateway.ledger.link import RedisLink

SEP = "\x1f"


class Violation(AssertionError):
    """Something that must always hold does not."""


@dataclass
class Promise:
    """What is known of one hold: the amount, and whether its usage is owed, was given back, or nobody can say."""

    account: str
    amount: int = 0
    #: open, owed (must be charged), free (must not be), maybe (its process died in the middle)
    fate: str = "open"


@dataclass
class Books:
    """What the auditor has read of an account so far."""

    last: str = "0"
    total: int = 0
    allowed: int = 0
    holds: dict[str, int] = field(default_factory=dict)
    charged: Counter[str] = field(default_factory=Counter)
    amounts: dict[str, int] = field(default_factory=dict)


class Auditor:
    """Checks accounts. `link` is its own line, on which nothing is lost."""

    def __init__(self, link: RedisLink, accounts: list[str], prefix: str = "gw") -> None:
        self._link = link
        self._prefix = prefix
        self.accounts = accounts
        self.promises: dict[str, Promise] = {}
        self.granted: dict[str, str] = {}  # acknowledged operations of administrators, and their accounts
        self._books: dict[str, Books] = {account: Books() for account in accounts}
        self.checks = 0

    async def check(self, account: str) -> None:
        """Everything that must be true of an account at any moment."""
        self.checks += 1
        books = self._books[account]
        facts, holds, grants = await self._read(account)
        if not facts:
            return
        open_now = {name: record.split(SEP) for name, record in holds.items()}
        for name, record in open_now.items():
            books.holds[name] = int(record[1])
        await self._follow(account, books)
        balance, held, debt = (int(facts[name]) for name in ("balance", "held", "debt"))
        left = sum(int(value) for name, value in grants.items() if name.endswith(".left"))
        self._must(balance == books.total, account, f"balance {balance} is not the sum of the entries {books.total}")
        self._must(balance == left - debt, account, f"balance {balance} is not grants {left} less debt {debt}")
        in_use = sum(int(record[1]) for record in open_now.values())
        self._must(held == in_use, account, f"held {held} is not the sum of the open holds {in_use}")
        classes = Counter(record[3] for record in open_now.values() if record[3])
        stored = {name[5:]: int(value) for name, value in facts.items() if name.startswith("open.") and value != "0"}
        self._must(stored == dict(classes), account, f"counted {stored}, open {dict(classes)}")
        self._must(
            balance - held >= -books.allowed, account,
            f"overspent: balance {balance} less held {held} is below {-books.allowed}, which single calls explain",
        )  # fmt: skip
        twice = [name for name, count in books.charged.items() if count > 1]
        self._must(not twice, account, f"charged twice: {twice}")

    async def reckon(self) -> None:
        """At the end, with nothing under way: no hold is left, and every promise was kept."""
        for account in self.accounts:
            await self.check(account)
            facts, holds, _ = await self._read(account)
            self._must(not holds and facts["held"] == "0", account, f"holds are left: {sorted(holds)}")
        for name, promise in self.promises.items():
            books = self._books[promise.account]
            count = books.charged[name]
            if promise.fate == "owed":
                self._must(count == 1, promise.account, f"{name} was delivered and charged {count} times")
                charged = books.amounts[name]
                self._must(charged == promise.amount, promise.account, f"{name} cost {promise.amount}, took {charged}")
            elif promise.fate == "free":
                self._must(count == 0, promise.account, f"{name} was not delivered, and charged")
        unknown = {name for books in self._books.values() for name in books.charged} - self.promises.keys()
        self._must(not unknown, "", f"charges that nobody made: {sorted(unknown)}")
        for operation, account in self.granted.items():
            entered = operation in self._books[account].amounts
            self._must(entered, account, f"{operation} was acknowledged and is not in the ledger")

    async def _follow(self, account: str, books: Books) -> None:
        """Read the entries that are new."""
        entries: Any = await self._link.call("XRANGE", self._key(account, "ledger"), f"({books.last}", "+")
        for entry_id, flat in entries:
            fields = _pairs(flat)
            books.last = entry_id.decode()
            amount, operation = int(fields["amount"]), fields["operation"]
            books.total += amount
            self._must(int(fields["balance"]) == books.total, account, f"entry {books.last} tells another balance")
            if fields["kind"] == "charge":
                books.charged[operation] += 1
                held = 0 if fields["late"] else books.holds.get(operation, 0)
                books.allowed += max(0, -amount - held)
            elif amount < 0:
                books.allowed -= amount
            self._must(fields["kind"] == "charge" or operation not in books.amounts, account, f"{operation} twice")
            books.amounts[operation] = abs(amount)

    async def _read(self, account: str) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        found: list[dict[str, str]] = []
        for name in ("account", "holds", "grants"):
            flat: Any = await self._link.call("HGETALL", self._key(account, name))
            found.append(_pairs(flat))
        return found[0], found[1], found[2]

    def _key(self, account: str, name: str) -> str:
        return f"{self._prefix}:{{{account}}}:{name}"

    def _must(self, holds: bool, account: str, what: str) -> None:
        if not holds:
            raise Violation(f"{account}: {what}")


def _pairs(flat: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
