"""What passes between the two sockets of a session, as far as it concerns us: noted down, and the task woken.

Owns: what a frame means for the session: its beginning, its reports, what its client may name and switch on, who left.
Does not know: time and money; what follows from a frame is done by whoever waits (open_session).
"""

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final

from gateway.core.errors import Code, LedgerUnavailable, Refused
from gateway.core.record import record
from gateway.pipeline import pricing
from gateway.pipeline.admit import Admission
from gateway.pipeline.call import Call
from gateway.pipeline.entitlement import add_ons_of, entitled_to_add_ons
from gateway.pipeline.objections import unpriced
from gateway.pipeline.requirements import misspelt
from gateway.pipeline.session_frames import beginning_frame
from gateway.ports import Ledger, Observer, ResourceRef
from gateway.settings.sessions import FrameWording, Session
from gateway.sockets.signal import Signal

_ID_MAX: Final = 256


@record
class Left:
    """A side's Close frame, or that its connection was lost (`code` None). `broke`: the code is ours, for its fault."""

    code: int | None
    reason: bytes = b""
    broke: bool = False


class SessionWatcher:
    """A `sockets.ports.Watcher`. What it notes is read by the session's own task.

    `began` is called when the upstream says that the session has begun (and of what kind it is), and returns by when
    it ends at the latest, in seconds since 1970; `changed` when the
    client has switched something on or off (and whether it is of another product that it had nothing of); what they
    return is a reason to end it.
    """

    __slots__ = (
        "_admission", "_began", "_call", "_changed", "_ledger", "_observer", "_session", "client",
        "final_report", "id", "id_is_new", "opened", "refused", "resumed", "upstream", "wake", "wording",
    )  # fmt: skip

    def __init__(
        self,
        *,
        call: Call,
        session: Session,
        admission: Admission,
        ledger: Ledger,
        observer: Observer,
        began: Callable[[], float],
        changed: Callable[[bool], Refused | None],
    ) -> None:
        self._call = call
        self._session = session
        self._admission = admission
        self._ledger = ledger
        self._observer = observer
        self._began = began
        self._changed = changed
        self.wake = Signal()
        self.opened = Signal()  # frames may come before it is known whether there will be a session
        self.client: Left | None = None
        self.upstream: Left | None = None
        self.refused: Refused | None = None  # why we end it
        self.wording: FrameWording | None = None  # where that has words of its own
        self.final_report = False
        self.resumed = False  # it is the account's session of another socket
        self.id = ""  # the upstream's name of the session
        self.id_is_new = False

    def __repr__(self) -> str:
        return f"<SessionWatcher {self._call.id} over={self.over}>"

    @property
    def over(self) -> bool:
        """Whether somebody ended it: one who left, we, or the upstream with its report."""
        return self.final_report or self.refused is not None or self.client is not None or self.upstream is not None

    def end(self, refused: Refused) -> None:
        """We end it. The first reason counts."""
        self.refused = self.refused or refused
        self.wake.set()

    async def wait(self, seconds: float) -> None:
        """Until something was told, or so much time has passed."""
        if seconds > 0:
            timer = None if seconds == inf else asyncio.get_running_loop().call_later(seconds, self.wake.set)
            try:
                await self.wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        self.wake.clear()

    def part(self) -> None:
        """The session is over, and not told of anything more: else the two would wait for the garbage collector."""
        self._began, self._changed = _nobody, _nothing
        self.opened.set()

    def upstream_said(self, kind: str, message: Mapping[str, Any]) -> bool | bytes:
        """See `sockets.ports.Watcher`. The report of a session that we end is for us alone.

        Clients stop reading at it, and would never see why they were cut. So is what refuses us: their keys are good.
        """
        session, sources = self._session, self._call.sources
        if any(kind == each.type and each.field.read({"frame": message}) == each.equals for each in session.refusing):
            self._observer.event("credential_refused", product=self._call.route.product.name)
            self.end(Refused(code=Code.UPSTREAM_UNREACHABLE))
            return False
        sources["frame"] = {**sources.get("frame", {}), **message}
        shown: bool | bytes = True
        if kind == session.begins:
            found = session.id.read({"frame": message}) if session.id is not None else None
            if type(found) is str and 0 < len(found) <= _ID_MAX:
                self.id, self.id_is_new = found, True
            shown = beginning_frame(session, message, self._began()) or True
        if kind == session.ends:
            self._began()  # if it had not: what is reported was used
            self.final_report = True
        self.wake.set()
        return shown if self.refused is None or kind != session.ends else False

    async def client_says(self, kind: str, message: Mapping[str, Any]) -> Refused | None:
        """See `sockets.ports.Watcher`. What is refused ends the session."""
        await self.opened.wait()
        refused = self.refused or await self._judged(kind, message)
        if refused is None and kind in self._session.updates:
            refused = self._updated(message)
        if refused is not None:
            self.end(refused)
        return refused

    async def _judged(self, kind: str, message: Mapping[str, Any]) -> Refused | None:
        """Whatever of other people's a message names is not found."""
        for judged in self._session.judged:
            if judged.type != kind:
                continue
            requirement = judged.requirement
            if (refused := misspelt(requirement.field, message)) is not None:
                return refused
            named = requirement.field.read({requirement.field.source: message})
            if named is None:
                continue
            if type(named) is not str or not 0 < len(named) <= _ID_MAX:
                return Refused(code=Code.INVALID_REQUEST, details={"reason": f"{requirement.field} is no id"})
            ref = ResourceRef(kind=requirement.kind, id=named)
            try:
                here = await self._is_here(ref)
            except LedgerUnavailable:
                return Refused(code=Code.LEDGER_UNAVAILABLE)
            if not here:
                self.wording = judged.refusal
                return Refused(code=Code.NOT_FOUND)
            self.resumed = self.resumed or requirement.kind == self._session.kind
        return None

    async def _is_here(self, ref: ResourceRef) -> bool:
        """Whether something is the account's, and at the endpoint of this session, which was chosen before."""
        call = self._call
        if not call.upstream.endpoints:
            return (await self._ledger.owned(account=call.account, refs=[ref]))[0]
        made = await self._ledger.resource(account=call.account, ref=ref)
        home = None if made is None else call.route.product.upstream.at(made.endpoint)
        return home is not None and home.endpoint == call.endpoint

    def _updated(self, message: Mapping[str, Any]) -> Refused | None:
        """The client switches something on or off: from now on it costs what it costs then."""
        call = self._call
        fields = {name: value for name, value in message.items() if name != self._session.type_field}
        if (refused := unpriced(call.route, fields)) is not None:
            return refused
        had = add_ons_of(call.route, call.sources)
        call.sources["request"] = {**(call.sources.get("request") or {}), **pricing.update_facts(call.route, fields)}
        add_ons = add_ons_of(call.route, call.sources)
        if not entitled_to_add_ons(call.tier, add_ons):
            return self._admission.explained(call, Refused(code=Code.NOT_ENTITLED))
        return self._changed(not {*add_ons} <= {*had})

    def client_left(self, code: int | None, reason: bytes) -> None:
        """See `sockets.ports.Watcher`."""
        self.client = self.client or Left(code=code, reason=reason)
        self.wake.set()

    def upstream_left(self, code: int | None, reason: bytes) -> None:
        """See `sockets.ports.Watcher`."""
        self.upstream = self.upstream or Left(code=code, reason=reason)
        self.wake.set()

    def broken(self, side: str, code: int, why: str) -> None:
        """See `sockets.ports.Watcher`."""
        self._observer.event("socket_broken", product=self._call.route.product.name, side=side)
        if side == "client":
            self.client = self.client or Left(code=code, reason=why.encode(), broke=True)
            self.wake.set()
        else:
            self.upstream_left(None, b"")


def _nobody() -> float:
    """There is no session any more."""
    return 0.0


def _nothing(_more_products: bool) -> None:  # noqa: FBT001 - the callback's form
    """There is no session any more that could change."""
