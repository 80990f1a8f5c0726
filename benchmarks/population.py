"""A million accounts in minutes: one that the ledger's own verbs have made, copied inside the server.

Owns: what a customer of the population has (the credit of a signup, a purchase, a key, some charges), how it is copied.
Does not know: what is measured of it.

A stream is written again entry by entry, as the ledger writes it: the server keeps room at the end of a stream that
grows, and a copy of one has none. All else is the server's own COPY. Nothing in an account's keys names the account, so
a copy is an account; only the index of digests and the set of accounts do, and these are written for each.
"""

from dataclasses import dataclass
from typing import Any, Final

from benchmarks.ledger import Bench, digest_of
from gateway.core.money import parse_usd
from gateway.ledger.link import RedisLink, Script

PREFIX: Final = "gw"
CHARGES: Final = 3
SIGNUP: Final = parse_usd("50")
#: Of one script: the server does nothing else meanwhile.
_TOGETHER: Final = 500

_COPY: Final = Script(
    "copy_accounts",
    """#!lua flags=no-cluster
local prefix, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local function key(number, rest)
  return prefix .. string.format(':{a%07d}:', number) .. rest
end
local streams = {}
for i = 4, #ARGV do
  if redis.call('TYPE', key(0, ARGV[i])).ok == 'stream' then
    streams[ARGV[i]] = redis.call('XRANGE', key(0, ARGV[i]), '-', '+')
  end
end
for number = first, last do
  for i = 4, #ARGV do
    if streams[ARGV[i]] then
      for _, entry in ipairs(streams[ARGV[i]]) do
        redis.call('XADD', key(number, ARGV[i]), entry[1], unpack(entry[2]))
      end
    else
      redis.call('COPY', key(0, ARGV[i]), key(number, ARGV[i]))
    end
  end
end
return redis.status_reply('OK')
""",
)


def name_of(number: int) -> str:
    """The account of that number; all have names of one length."""
    return f"a{number:07d}"


async def asked(link: RedisLink, *command: str | int) -> int:
    """What the server answers with a number."""
    found = await link.call(*command)
    assert isinstance(found, int), (command, found)
    return found


@dataclass(frozen=True, slots=True)
class Population:
    """The accounts of one server, from number 0, which the ledger's verbs have made."""

    link: RedisLink
    bench: Bench

    async def first(self, *, charges: int = CHARGES) -> None:
        """The account that is copied."""
        await self.bench.open(name_of(0), signup=SIGNUP)
        alone = Bench(self.bench.ledger, self.bench.pid, lambda _: name_of(0))
        alone.numbers = self.bench.numbers  # each copy has the ends of these calls
        ids = alone.ids(charges)
        await alone.each(alone.admit, ids)
        await alone.each(alone.settle, ids)

    async def keys_of_first(self) -> list[str]:
        """What is in its slot, without what all of them begin with."""
        base = f"{PREFIX}:{{{name_of(0)}}}:"
        found: Any = await self.link.call("KEYS", base + "*")
        return sorted(key.decode().removeprefix(base) for key in found)

    async def grow(self, have: int, want: int) -> None:
        """Copies of it until there are so many accounts."""
        keys = await self.keys_of_first()
        for begin in range(have, want, _TOGETHER):
            end = min(begin + _TOGETHER, want)
            await self.link.run(_COPY, [], [PREFIX, begin, end - 1, *keys])
            names = [name_of(number) for number in range(begin, end)]
            await self.link.call("SADD", f"{PREFIX}:accounts", *names)
            pairs = [word for name in names for word in (f"{PREFIX}:key:{digest_of(name)}", f"{name}|key")]
            await self.link.call("MSET", *pairs)
