"""The auditor: reads what the server stores, by itself, and says what must be true of it.

Owns: the reading, the laws' order, the reckoning at the end: what was delivered is charged once, and nothing else is;
what a server may lose that comes back without its last writes.
Does not know: the scripts, or the ledger's own `verify`. What must be true is in the laws.
"""

import copy
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.ledger.link import RedisLink, Reply, Script
from tests.sim import deeds
from tests.sim.deeds import Broken, Deed, Law, Seen, Violation, pairs
from tests.sim.laws import laws_of_an_account

#: What is read of an account after each deed, and how; {month} and {last} are put in.
_READ = (
    ("account", "hash"), ("holds", "hash"), ("grants", "hash"), ("key:{account}-key", "hash"),
    ("usage:{month}", "hash"), ("volume:{month}", "hash"), ("autopay", "hash"), ("posts", "names"),
    ("outbox", "times"), ("dead", "times"), ("queue:jobs", "times"), ("submitting", "times"), ("ledger", "{last}"),
)  # fmt: skip
LOOK = Script(
    "look",
    """local found = {}
for i, key in ipairs(KEYS) do
  if ARGV[i] == 'hash' then
    found[i] = redis.call('HGETALL', key)
  elseif ARGV[i] == 'names' then
    found[i] = redis.call('HKEYS', key)
  elseif ARGV[i] == 'times' then
    found[i] = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else
    found[i] = redis.call('XRANGE', key, '(' .. ARGV[i], '+')
  end
end
return found""",
)


@dataclass
class Promise:
    """What is known of one hold: the amount, and whether its usage is owed, was given back, or nobody can say.

    `priced`: the amount is that of its charge. Else its cost depends on others (volume steps, a law of their own).
    """

    account: str
    amount: int = 0
    priced: bool = True
    #: open, owed (must be charged), free (must not be), maybe (its process died in the middle)
    fate: str = "open"


@dataclass
class Books:
    """What the auditor knows of one account."""

    last: str = "0"
    charged: dict[str, int] = field(default_factory=dict)  # operation -> amount
    entered: set[str] = field(default_factory=set)  # the other operations
    laws: list[Law] = field(default_factory=laws_of_an_account)


class Auditor:
    """Watches what is done, by a line of its own on which nothing is lost."""

    def __init__(self, link: RedisLink, accounts: Iterable[str], prefix: str = "gw") -> None:
        self._link = link
        self._prefix = prefix
        self.accounts = list(accounts)
        self.promises: dict[str, Promise] = {}
        self.acknowledged: dict[str, str] = {}  # operations that must have an entry, and their accounts
        self.lost: set[str] = set()  # words of what was done and may be lost
        self._books = {account: Books() for account in self.accounts}
        self._marked: dict[str, Books] = {}
        self.checks = 0
        self.answers: Counter[str] = Counter()  # by verb and tag

    def look(self, account: str, now_ms: int) -> Awaitable[Reply]:
        """Ask for everything that is stored of an account. The question leaves at once."""
        month = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")
        names = [f"{self._prefix}:{{{account}}}:{name.format(month=month, account=account)}" for name, _ in _READ]
        return self._link.run(LOOK, names, [how.format(last=self._books[account].last) for _, how in _READ])

    def saw(self, deed: Deed, reply: Any, found: Any) -> None:
        """A deed was done and answered so, and this is what is stored then. Raises Violation."""
        account = deed.command.account
        if isinstance(reply, Exception):
            raise Violation(account, "a script failed", f"{deed.command}: {reply}")
        seen = _seen(deed.at_ms, found, self._books[account].last)
        tag = reply[0].decode()
        why = f" {reply[2].decode()}" if tag == "refused" else ""
        self.answers[f"{deed.command.verb} {tag}{why}"] += 1
        self._judge(account, seen, deed, tag, reply[2:])  # between them: how many holds have ended

    async def check(self, account: str, now_ms: int) -> Seen:
        """Nothing was done, and everything must be true."""
        seen = _seen(now_ms, await self.look(account, now_ms), self._books[account].last)
        self._judge(account, seen)
        return seen

    def _judge(
        self, account: str, seen: Seen, deed: Deed | None = None, tag: str = "", reply: Sequence[Any] = ()
    ) -> None:
        self.checks += 1
        if not seen.facts:
            return
        books = self._books[account]
        try:
            for law in books.laws:
                if deed is not None:
                    law.saw(deed, tag, reply, seen)
                for entry in seen.entries:
                    law.entered(entry)
                law.stands(seen)
        except Broken as broken:
            raise Violation(account, *broken.args) from None
        for entry in seen.entries:
            books.last = entry.id
            if entry.kind == "charge":
                books.charged[entry.operation] = -entry.amount
            else:
                books.entered.add(entry.operation)

    def mark(self) -> None:
        """From here on what is done may be lost."""
        self._marked = copy.deepcopy(self._books)

    def lose(self, after: Iterable[Deed]) -> None:
        """The server came back as it was at the mark: `after` is lost, and nothing is owed for it."""
        self._books = self._marked
        for deed in after:
            if deed.command.verb != "extend":  # what it names was done before
                self.lost.update(deed.command.args)

    async def reckon(self, now_ms: int) -> None:
        """At the end, with nothing under way: no hold is left, and every promise was kept."""
        for account in self.accounts:
            seen = await self.check(account, now_ms)
            if seen.holds or seen.facts["held"] != "0":
                raise Violation(account, "holds are left", sorted(seen.holds))
            for law in self._books[account].laws:
                try:
                    law.reckon()
                except Broken as broken:
                    raise Violation(account, *broken.args) from None
        for name, promise in self.promises.items():
            charged = self._books[promise.account].charged.get(name)
            if promise.fate == "owed" and name not in self.lost:
                if charged is None:
                    raise Violation(promise.account, "delivered and not charged", name, about=name)
                if promise.priced and promise.amount != charged:
                    raise Violation(
                        promise.account, "charged otherwise", f"{name}: {charged}, not {promise.amount}", about=name
                    )
            elif promise.fate == "free" and charged is not None:
                raise Violation(promise.account, "not delivered and charged", name, about=name)
        for account, books in self._books.items():
            if unknown := books.charged.keys() - self.promises.keys():
                raise Violation(account, "charges that nobody made", sorted(unknown))
        for operation, account in self.acknowledged.items():
            if operation not in self._books[account].entered and operation not in self.lost:
                raise Violation(account, "acknowledged and not in the ledger", operation, about=operation)


def _seen(now_ms: int, found: Any, last: str) -> Seen:
    facts, holds, grants, key, usage, volume, autopay, posts, outbox, dead, queue, submitting, lines = found
    return Seen(
        now_ms=now_ms, facts=pairs(facts), holds={name: deeds.hold(record) for name, record in pairs(holds).items()},
        grants=pairs(grants), key=pairs(key), usage=pairs(usage), volume=pairs(volume), autopay=pairs(autopay),
        posts={name.decode() for name in posts}, outbox=_times(outbox), dead=_times(dead), queue=_times(queue),
        submitting=_times(submitting),
        entries=[deeds.entry(line) for line in lines if _order(line[0].decode()) > _order(last)],
    )  # fmt: skip


def _order(entry_id: str) -> list[int]:
    return [int(part) for part in entry_id.split("-")]


def _times(flat: Sequence[bytes]) -> dict[str, int]:
    return {name: int(score) for name, score in pairs(flat).items()}
