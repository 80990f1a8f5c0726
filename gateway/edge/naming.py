"""The name that a caller gives a change (`Idempotency-Key`), where that is no operation of the ledger.

Owns: that such a name is for one request, and what makes two requests the same.
Does not know: HTTP, which changes these are (the tables of routes), what they do. Done again, they do nothing more.
"""

import hashlib

import orjson

from gateway.core.errors import OperationConflict
from gateway.edge.endpoints import Ask, Desk_contra, Endpoint
from gateway.ports import Ledger


class Naming:
    """Keeps names for as long as the ledger keeps those of operations."""

    def __init__(self, ledger: Ledger, *, seconds: int) -> None:
        self._ledger = ledger
        self._seconds = seconds

    async def keep(self, endpoint: Endpoint[Desk_contra], ask: Ask) -> None:
        """Keep the name to this request. Raises OperationConflict where it was given to another one."""
        if not endpoint.names_itself or not ask.operation.named:
            return
        content = [endpoint.method, endpoint.path, *ask.parts.values(), ask.given and ask.given.model_dump_json()]
        mine = await self._ledger.use_once(
            account=ask.account,
            name=f"request:{ask.operation.id}",
            by=hashlib.sha256(orjson.dumps(content)).hexdigest(),
            seconds=self._seconds,
        )
        if not mine:
            raise OperationConflict("the Idempotency-Key was used for another request")
