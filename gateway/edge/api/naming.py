"""The name that a caller gives a change (`Idempotency-Key`), where that is no operation of the ledger.

Owns: that such a name is for one request that is done, and what makes two requests the same.
Does not know: HTTP, which changes these are (the tables of routes), what they do. Done again, they do nothing more.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson

from gateway.core.errors import LedgerUnavailable, OperationConflict
from gateway.edge.api.endpoints import Ask, Desk_contra, Endpoint
from gateway.edge.operations.problems import NOT_DONE
from gateway.ports import Ledger


class Naming:
    """Keeps names for as long as the ledger keeps those of operations."""

    def __init__(self, ledger: Ledger, *, seconds: int) -> None:
        self._ledger = ledger
        self._seconds = seconds

    @asynccontextmanager
    async def kept(self, endpoint: Endpoint[Desk_contra], ask: Ask) -> AsyncIterator[None]:
        """While the request is done, and then, its name is for it alone. Raises OperationConflict where it was given to
        another one. One that is refused gives back the name that it took: a better one under that name is judged anew.
        """
        if not endpoint.names_itself or not ask.operation.named:
            yield
            return
        content = [endpoint.method, endpoint.path, *ask.parts.values(), ask.given and ask.given.model_dump_json()]
        name, by = f"request:{ask.operation.id}", hashlib.sha256(orjson.dumps(content)).hexdigest()
        before = await self._ledger.used(account=ask.account, name=name)
        if not await self._ledger.use_once(account=ask.account, name=name, by=by, seconds=self._seconds):
            raise OperationConflict("the Idempotency-Key was used for another request")
        try:
            yield
        except NOT_DONE:
            if not before:  # else it may have been done then
                with suppress(LedgerUnavailable):
                    await self._ledger.unuse(account=ask.account, name=name, by=by)
            raise
