"""The port of exports: the ledger told to those who keep it elsewhere, at least once, in order for each account.

Owns: its methods and records as promises. Does not know: Redis, or where an export goes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway.core.errors import GatewayError
from gateway.core.record import record
from gateway.ports.records import Entry, Lag


@record
class ExportPage:
    """What a sink has not had of an account: its next entries, the oldest first. `more` follow after them.

    `changes` is what `Ledger.changes` says of the account, `read_ms` a time of the store just before the reading
    (0 without a standing). `standing`, where it was asked for: what else is stored of
    the account, as JSON data of the store's own layout, at the moment at which the entries were read. It may hold
    secrets.
    """

    account: str
    entries: tuple[Entry, ...]
    more: bool
    changes: int
    read_ms: int = 0
    standing: Mapping[str, Any] | None = None


class ExportFailed(GatewayError):
    """A sink has not taken a batch, or perhaps a part of it. The message says why, without secrets."""


class Sink(Protocol):
    """Somebody who keeps what is exported."""

    name: str
    #: Whether it keeps what else is stored of accounts.
    keeps_standing: bool

    async def put(self, pages: Sequence[ExportPage]) -> None:
        """Keep all of it before returning, each account's entries in their order. ExportFailed: it is put again.

        What was kept before may come again, and is told by account and id.
        """

    async def close(self) -> None:
        """Let go of what is held."""


class ExportLedger(Protocol):
    """Entries for those who keep them elsewhere. Sinks are told apart by their names.

    An account with something new for a sink waits for it. That is noted a moment after the change, by
    `note_exports`; what a killed process had not noted is found by whoever asks all accounts (`export_behind`).
    """

    def export_to(self, sinks: Sequence[str]) -> None:
        """From now on, remember for these sinks which accounts are changed through this ledger."""

    async def note_exports(self) -> None:
        """Let the accounts wait for the sinks that were changed through this ledger since it was last asked."""

    async def claim_exports(self, *, sink: str, limit: int) -> Mapping[str, int]:
        """Take accounts that wait for the sink, those first that wait longest, and since when each has waited (ms).

        What is not exported is to be given back by `put_back_exports`.
        """

    async def put_back_exports(self, *, sink: str, accounts: Mapping[str, int]) -> None:
        """Let accounts wait for the sink, since then (ms); those that wait since an earlier time keep that."""

    async def export_lag(self, *, sink: str) -> Lag:
        """How many accounts wait for the sink, and since when."""

    async def lease_export(self, *, sink: str, seconds: float) -> bool:
        """Whether this ledger's process is the one that exports to the sink, for so many seconds from now.

        As `Ledger.lease_work`, but under a name of its own in the store, by which versions that run side by side while
        one takes over from the other know each other: under another name both would export, and sinks have all twice.
        """

    async def exportable(self, *, sink: str, account: str, limit: int, standing: bool = False) -> ExportPage:
        """The next entries of the account that the sink has not had, at most `limit`."""

    async def exported(self, *, sink: str, account: str, entry_id: str, changes: int) -> None:
        """The sink has everything of the account up to this entry ("": none), at these `changes`."""

    async def export_behind(self, *, sink: str, account: str) -> bool:
        """Whether there is something of the account that the sink has not had. False for an unknown account."""

    async def rewind_export(self, *, sink: str, account: str) -> None:
        """Let the sink have everything of the account again that is still there."""

    async def trim(self, *, account: str, sinks: Sequence[str], keep_seconds: int, limit: int = 1000) -> int:
        """Forget entries, the oldest first, that all of these sinks have had and that are older than that: how many.

        At most `limit` at once. What they add up to is remembered, so that balances stay proven by what is left.
        """
