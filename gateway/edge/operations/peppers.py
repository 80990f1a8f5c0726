"""By which pepper keys are found, for the command line: whether one may go.

Owns: what is told of keys that would be lost. Does not know: how a key goes over to another pepper (keys).
"""

from collections import Counter
from typing import Final

from gateway.edge.keys import pepper_id
from gateway.edge.operations.views import Data
from gateway.ports import Ledger
from gateway.settings.runtime import Runtime

#: So many keys that have not gone over are named; of more, how many there are.
LEFT_MAX: Final = 1000


async def show_peppers(ledger: Ledger, runtime: Runtime) -> Data:
    """How many keys each pepper has, and which keys have not gone over to `key_pepper`."""
    ids = [pepper_id(pepper) for pepper in runtime.peppers]
    counts: Counter[str] = Counter(dict.fromkeys(ids, 0))
    left: list[Data] = []
    async for account in ledger.accounts():
        for key in await ledger.keys(account):
            counts[key.pepper] += 1
            if key.pepper != ids[0] and len(left) < LEFT_MAX:
                left.append({"account": account, "key": key.id, "name": key.name, "pepper": key.pepper or None})
    peppers = [{"pepper": name or None, "is": _role(name, ids), "keys": count} for name, count in counts.items()]
    return {"peppers": peppers, "left": left, "complete": counts.total() - counts[ids[0]] == len(left)}


def _role(name: str, ids: list[str]) -> str:
    if name == ids[0]:
        return "key_pepper"
    return "accepted" if name in ids else "not in the config" if name else "not known"
