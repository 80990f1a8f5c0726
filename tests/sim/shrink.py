"""A failing history, made as short as it can be: commands are left out while the same law is still broken.

Owns: which are left out, and how what remains is told. Nothing else may be left out: the laws are true of whatever is
asked in whatever order, so that what is left is a history of its own. The commands that remain are done again as they
were done, byte for byte and each at its time.
Does not know: actors, or why something was asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.ledger.link import RedisLink, Reply
from tests.ledger.ledgers import ClockedLink
from tests.sim.auditor import Auditor
from tests.sim.deeds import Deed, Violation
from tests.sim.world import load

#: So many commands leave in one write.
_TOGETHER: Final = 32


class Stage:
    """An empty server, on which histories are done again."""

    def __init__(self, link: RedisLink, source: Callable[[str], str] = str) -> None:
        self._link = link
        self._now_ms = 0
        self._clocked = ClockedLink(link, lambda: self._now_ms, source)
        self.plays = 0

    async def play(self, deeds: Sequence[Deed]) -> tuple[int, Violation] | None:
        """Do them; the first after which something does not hold, and what."""
        if not self.plays:
            await load(self._clocked)
        self.plays += 1
        await self._link.call("FLUSHALL")
        auditor = Auditor(self._link, {deed.command.account for deed in deeds})
        for start in range(0, len(deeds), _TOGETHER):
            under_way: list[tuple[Awaitable[Reply], Awaitable[Reply]]] = []
            for deed in deeds[start : start + _TOGETHER]:
                self._now_ms = deed.at_ms
                doing = deed.command.send(self._clocked)
                under_way.append((doing, auditor.look(deed.command.account, deed.at_ms)))
            answers = [await asyncio.gather(*both, return_exceptions=True) for both in under_way]
            for number, (answer, found) in enumerate(answers, start):
                try:
                    auditor.saw(deeds[number], answer, found)
                except Violation as violation:
                    return number, violation
        return None


async def shrink(stage: Stage, deeds: Sequence[Deed], violation: Violation) -> list[Deed] | None:
    """The shortest history found that breaks the same law of the same account; None if its deeds alone do not."""
    shortest = await _broken(stage, [deed for deed in deeds if deed.command.account == violation.account], violation)
    if shortest is None:
        return None
    for verb in sorted({deed.command.verb for deed in shortest}):  # most have nothing to do with it
        others = [deed for deed in shortest if deed.command.verb != verb]
        shortest = await _broken(stage, others, violation) or shortest
    size = max(1, len(shortest) // 2)
    while True:
        length, end = len(shortest), len(shortest)
        while end > 0:
            start = max(0, end - size)
            shortest = await _broken(stage, shortest[:start] + shortest[end:], violation) or shortest
            end = min(start, len(shortest))
        if size == 1 and len(shortest) == length:
            return shortest
        size = max(1, size // 2)


async def _broken(stage: Stage, deeds: list[Deed], violation: Violation) -> list[Deed] | None:
    """As many of them as break the law; None if they do not."""
    found = await stage.play(deeds) if deeds else None
    if found is None or found[1].rule != violation.rule:
        return None
    return deeds[: found[0] + 1]


def told(deeds: Sequence[Deed]) -> str:
    """A history in lines."""
    began_ms = deeds[0].at_ms if deeds else 0
    return "\n".join(
        f"{number:>4} {(deed.at_ms - began_ms) / 1000:>10.3f} s  {deed.command}" for number, deed in enumerate(deeds, 1)
    )
