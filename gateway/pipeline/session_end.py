"""The end of a session, as its two sides see it.

Owns: how its upstream is let come to its report, and the last words to both sides, with their close codes.
Does not know: why it ends (open_session), money, what observers are told of it (session_outcome).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import Code, Refused
from gateway.pipeline.call import Call
from gateway.pipeline.session_frames import judged_frame, refusal_frame
from gateway.pipeline.session_watcher import SessionWatcher
from gateway.ports import Clock
from gateway.settings.sessions import Session
from gateway.sockets.ports import Relay

#: How long a side may take to answer our Close, or to send its own after its last report.
_CLOSE_SECONDS: Final = 1.0
_NORMAL: Final = 1000
_GOING_AWAY: Final = 1001


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """Made when a session ends: open ones have no room for it."""

    call: Call
    spec: Session
    told: SessionWatcher
    relay: Relay
    clock: Clock

    async def wind_down(self) -> None:
        """Let the upstream end the session, so that it bills no more and tells what it was: within the grace."""
        if self.spec.terminate and not self._told_all:
            self.relay.tell_upstream(self.spec.terminate.encode())
            await self._until(lambda: self._told_all, self.spec.grace_seconds)
        if not self._told_all:
            self._close_upstream()
            await self._until(lambda: self._told_all, _CLOSE_SECONDS)

    @property
    def _told_all(self) -> bool:
        """Whether the upstream has reported, or will not any more."""
        return self.told.final_report or self.told.upstream is not None

    async def _until(self, over: Callable[[], bool], seconds: float) -> None:
        """Wait for what is told until it is over, at most so long."""
        deadline = self.clock.monotonic() + seconds
        while not over() and (left := deadline - self.clock.monotonic()) > 0:
            await self.told.wait(left)

    async def see_off(self, *, begun: bool) -> None:
        """The last words to both sides, when the books are closed: until the upstream's Close, which the client is to
        have, is there, a process that is killed would lose a report.

        `begun`: it had begun when it ended, and its upstream was told to end.
        """
        try:
            if begun:
                await self._until(lambda: self.told.upstream is not None, _CLOSE_SECONDS)
        finally:
            self._close(begun=begun)

    def _close(self, *, begun: bool) -> None:
        upstream, client, relay = self.told.upstream, self.told.client, self.relay
        if self.told.refused is not None:
            self.refuse(self.told.refused)
        elif client is not None and (client.broke or upstream is None or upstream.code is None):
            relay.close_client(client.code, client.reason)
        elif upstream is not None and upstream.code is not None:
            relay.close_client(upstream.code, upstream.reason)
        elif self.told.final_report:
            relay.close_client(_NORMAL)
        else:
            self.refuse(Refused(code=Code.UPSTREAM_UNREACHABLE))
        if upstream is None and not begun:
            # It may begin just now, or has since. Whatever it says to this is for nobody: the client's Close was sent.
            if self.spec.terminate:
                relay.tell_upstream(self.spec.terminate.encode())
            self._close_upstream()
        else:
            relay.close_upstream(upstream.code if upstream is not None else None)

    def refuse(self, refused: Refused) -> None:
        """Tell the client why, as its dialect does, and close."""
        self.call.code = str(refused.code)
        if self.told.wording is not None:
            frame, code, reason = judged_frame(self.told.wording, refused, self.call.id, self.told.id)
        else:
            style = self.call.route.product.errors
            frame, code, reason = refusal_frame(self.spec, style, refused, self.call.id, self.told.id)
        if frame is not None:
            self.relay.tell_client(frame)
        self.relay.close_client(code, reason)

    def _close_upstream(self) -> None:
        """As its client did, or as whoever ends it."""
        client = self.told.client
        if client is not None and client.code is not None:
            self.relay.close_upstream(client.code, client.reason)
        else:
            self.relay.close_upstream(_NORMAL if self.told.refused is not None else _GOING_AWAY)
