"""A config that changes under a gateway that runs: who asks for it, what comes of it, who is told.

Owns: that one change follows the other, the watch over the files, how a change and what came of it are told.
Does not know: how those who serve change over (supervisor).

Certificates are taken up for themselves: nobody who serves is replaced for them, and no connection ends.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from gateway.edge.observing import Observing
from gateway.edge.process.child import WorkerFailed
from gateway.settings.origins import Look, changed, changes
from gateway.settings.problems import SettingsError
from gateway.settings.runtime import Runtime

#: How often files are looked at; a change is taken up when nothing has changed from one look to the next.
LOOK_SECONDS: Final = 1.0
#: So many values are named that changed; of more, how many there are.
_CHANGES_MAX: Final = 100
#: A list keeps its promise to what was admitted by it only if it stays as it was.
_REWRITTEN: Final = (
    "note: a price list that was served has other prices now, or is gone: {}. Jobs and holds that it admitted are "
    "charged the new ones; write new prices as a new list, and those keep theirs"
)
_OK: Final = "gateway_config_last_reload_successful"
_SINCE: Final = "gateway_config_last_reload_success_timestamp_seconds"


class CannotReload(Exception):
    """A config is in order, and only a restart can take it up. The message says why."""


class Serving(Protocol):
    """Those who serve."""

    runtime: Runtime
    """The config that they serve."""

    def check(self, runtime: Runtime) -> None:
        """Raise CannotReload if they cannot take up this config."""
        ...

    async def take_up(self, runtime: Runtime) -> None:
        """Serve it. CannotReload, WorkerFailed or OSError, and nothing has changed, if they cannot."""
        ...

    async def show(self, runtime: Runtime) -> None:
        """Serve it, which has other certificates and is the same else."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a change. `config` is the digest of what is served now; `changes` is a line for each value."""

    ok: bool
    config: str
    was: str
    changes: list[str]
    reason: str = ""


class Reloading:
    """Takes up the config that `reread` reads, or stays as it is and tells why."""

    def __init__(self, serving: Serving, reread: Callable[[], Runtime], observing: Observing) -> None:
        self._serving = serving
        self._reread = reread
        self._observing = observing
        self._turn = asyncio.Lock()
        #: The files when we last acted on them, and when we last looked.
        self._acted: Look = serving.runtime.origins.read
        self._seen: Look = {}
        self._count(ok=True)

    async def reload(self) -> Outcome:
        """Take up everything that has changed."""
        async with self._turn:
            look = self._serving.runtime.origins.look()
            if self._are_certificates(look):
                return await self._certificates(look)
            self._acted = look
            return await self._change(self._everything)

    async def preview(self) -> Outcome:
        """What `reload` would change, for all that can be said before it is tried."""
        old = self._serving.runtime
        try:
            new = self._reread()
            self._serving.check(new)
        except (SettingsError, CannotReload, OSError) as error:
            return _failed(old, error)
        return _outcome(old, new)

    async def look(self) -> None:
        """Look at the files, and take up of what has changed what the config says."""
        runtime = self._serving.runtime
        if runtime.reload_on_change == "nothing" or self._turn.locked():
            return
        look, last = runtime.origins.look(), self._seen
        self._seen = look
        differing = changed(self._acted, look)
        if not differing or changed(last, look):
            return
        if runtime.reload_on_change == "everything":
            await self.reload()
        elif differing & runtime.origins.certificates:
            async with self._turn:
                await self._certificates(look)

    def _are_certificates(self, look: Look) -> bool:
        differing = changed(self._acted, look)
        return bool(differing) and differing <= self._serving.runtime.origins.certificates

    async def _certificates(self, look: Look) -> Outcome:
        """Take up the certificates as they are now, and nothing else of what may have changed."""
        certificates = self._serving.runtime.origins.certificates
        self._acted = {**self._acted, **{path: look[path] for path in certificates}}
        return await self._change(self._renewed)

    async def _everything(self) -> Runtime:
        runtime = self._reread()
        await self._serving.take_up(runtime)
        self._acted = runtime.origins.read
        return runtime

    async def _renewed(self) -> Runtime:
        runtime = self._serving.runtime
        customers, ops = (tls and tls.reread() for tls in (runtime.customers_tls, runtime.ops_tls))
        held = {file.path: file.text for tls in (customers, ops) if tls is not None for file in tls.files}
        origins = runtime.origins.holding(held)
        runtime = replace(runtime, customers_tls=customers, ops_tls=ops, origins=origins)
        await self._serving.show(runtime)
        return runtime

    async def _change(self, make: Callable[[], Awaitable[Runtime]]) -> Outcome:
        """Do it, and tell what came of it."""
        old = self._serving.runtime
        try:
            outcome = _outcome(old, await make())
        except (SettingsError, CannotReload, WorkerFailed, OSError, ValueError) as error:
            outcome = _failed(old, error)
        self._count(ok=outcome.ok)
        if outcome.ok:
            self._observing.logs.info("reloaded", config=outcome.config, was=outcome.was, changes=outcome.changes)
        else:
            self._observing.all.event("reload_failed", reason=outcome.reason)
        return outcome

    def _count(self, *, ok: bool) -> None:
        gauges = self._observing.metrics.gauges
        gauges[_OK] = int(ok)
        if ok:
            gauges[_SINCE] = time.time()


def _outcome(old: Runtime, new: Runtime) -> Outcome:
    found = changes(old.origins, new.origins)
    left = len(found) - _CHANGES_MAX
    told = found if left <= 0 else [*found[:_CHANGES_MAX], f"and {left} more"]
    rewritten = new.prices.rewritten(old.prices, time.time())
    if rewritten:
        told.append(_REWRITTEN.format(", ".join(rewritten)))
    return Outcome(ok=True, config=new.digest, was=old.digest, changes=told)


def _failed(old: Runtime, error: Exception) -> Outcome:
    reason = error.render() if isinstance(error, SettingsError) else str(error)
    return Outcome(ok=False, config=old.digest, was=old.digest, changes=[], reason=reason)
