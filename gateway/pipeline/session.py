"""Sessions: sockets that are paid for while they are open. From the handshake to the joined sockets.

Owns: the order of effects at the opening of a session, which sessions are open, and who is told of an account's change.
Does not know: how a session runs on and ends (open_session), frames, Redis.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from gateway.core.errors import Code, GatewayError, LedgerUnavailable, Refused, UpstreamUnreachable
from gateway.core.exchange import Move
from gateway.core.upstreams import REFUSES_US
from gateway.pipeline.admit import Admission
from gateway.pipeline.call import Answer, Call, ClientGone
from gateway.pipeline.conclude import Conclusion
from gateway.pipeline.forward import forwarded_headers
from gateway.pipeline.mint import minted
from gateway.pipeline.open_session import OpenSession, Parts
from gateway.pipeline.placing import Placing
from gateway.pipeline.session_frames import watch_of
from gateway.ports import Ledger, TemporaryToken
from gateway.settings.runtime import Runtime
from gateway.settings.sessions import Session, TokenMint
from gateway.sockets.handshake import subprotocols
from gateway.sockets.ports import Dialer, UpstreamSocket

#: Of the client's handshake only this goes on; the rest is between us and each side.
_PROTOCOLS = "Sec-WebSocket-Protocol"
#: By the clock of another host a token may be good for so much longer.
_CLOCKS_SECONDS = 60


class Sessions:
    """Opens sessions and keeps track of those that are open."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        parts: Parts,
        admission: Admission,
        ledger: Ledger,
        conclusion: Conclusion,
        dialer: Dialer,
        write_token: Callable[[TemporaryToken], str],
        placing: Placing,
    ) -> None:
        self._parts = parts
        self._admission = admission
        self._ledger = ledger
        self._conclusion = conclusion
        self._dialer = dialer
        self._opening = 0  # sessions between their handshake and their upstream's
        self._opening_max = runtime.limits.handshakes_max
        self._trust_forwarded_for = runtime.trust_forwarded_for
        self._write_token = write_token
        self._placing = placing
        self._open: defaultdict[str, set[OpenSession]] = defaultdict(set)
        self._changes: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Sessions open={len(self)} accounts={len(self._open)}>"

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    async def serve(self, call: Call) -> Refused | None:
        """A session from its handshake to its end. A refusal: nothing was accepted, and it is answered over HTTP."""
        spec = call.route.session
        assert spec is not None, f"{call.route.name} is no session"
        if not call.client.wants_socket:
            return Refused(code=Code.UPGRADE_REQUIRED)
        if self._opening >= self._opening_max:
            return Refused(code=Code.OVERLOADED, retry_after_seconds=1)
        session = OpenSession(call, spec, self._parts)
        try:
            # Clients give a handshake a second or so: whoever is answered in band is accepted first, unless the
            # upstream has a subprotocol to choose.
            if spec.refusal is not None and _PROTOCOLS not in call.client.headers:
                session.accept(watch_of(spec), "")
            refused = await self._opened(call, session, spec)
            if refused is None:
                await session.run()
                return None
            if spec.refusal is None and not session.accepted:
                return refused
            if not session.accepted:
                # Browsers fail a handshake in which none of those they offered is chosen, and would show no reason.
                offered = subprotocols(call.client.headers)
                session.accept(watch_of(spec), offered[0] if offered else "")
            await session.refuse(refused)
        except ClientGone:
            await self._conclusion.fail(call)
        finally:
            self._forget(call, session)
            session.part()
        return None

    async def _opened(self, call: Call, session: OpenSession, spec: Session) -> Refused | None:
        """Admit, dial, join. Whatever fails gives the hold back and is a refusal."""
        self._opening += 1
        try:
            if (refused := await self._admission.admit(call)) is not None:
                return refused
            self._placing.place(call)
            await self._remember(call.account, session)
            token = call.identity.token if call.identity is not None else None
            if token is not None and token.once and not await self._first_use(call):
                await self._conclusion.fail(call)
                return Refused(code=Code.UNAUTHORIZED)
            upstream = await self._dial(call, spec)
        except GatewayError as fault:
            await self._conclusion.fail(call)
            if isinstance(fault, LedgerUnavailable):
                self._parts.observer.event("ledger_error", product=call.route.product.name)
            elif isinstance(fault, UpstreamUnreachable) and fault.status in REFUSES_US:
                self._parts.observer.event("credential_refused", product=call.route.product.name)
            return Refused(code=fault.code, retry_after_seconds=fault.retry_after_seconds)
        finally:
            self._opening -= 1
        try:
            if not session.accepted:
                session.accept(watch_of(spec), upstream.subprotocol)
            elif session.relay.client_gone:
                raise ClientGone
        except ClientGone:
            upstream.dismiss(spec.terminate.encode())  # its session begins, and would go on
            raise
        session.join(upstream)
        call.move(Move.OPEN_SESSION)
        return None

    async def _first_use(self, call: Call) -> bool:
        assert call.identity is not None and call.identity.token is not None, "no token came with this call"
        token = call.identity.token
        seconds = max(0, int(token.expires - self._parts.clock.now())) + _CLOCKS_SECONDS
        return await self._ledger.use_once(account=call.account, name=token.id, by=call.id, seconds=seconds)

    async def _dial(self, call: Call, spec: Session) -> UpstreamSocket:
        client = call.client
        call.move(Move.FORWARD)
        headers = forwarded_headers(call, trust_forwarded_for=self._trust_forwarded_for, decodable_only=False)
        protocols = headers.getall(_PROTOCOLS, None)
        for name in [name for name in headers if name.lower().startswith("sec-websocket-")]:
            headers.popall(name, None)
        if protocols is not None:
            headers[_PROTOCOLS] = ", ".join(protocols)
        path = f"{client.raw_path}?{query}" if (query := call.query) else client.raw_path
        started = self._parts.clock.monotonic()
        socket = await self._dialer.dial(call.upstream, path, headers, watch_of(spec))
        call.upstream_seconds = self._parts.clock.monotonic() - started
        call.upstream_status, call.endpoint = 101, socket.endpoint
        return socket

    async def _remember(self, account: str, session: OpenSession) -> None:
        """From its admission on a session is told of changes: until its upstream has answered there may be some."""
        self._open[account].add(session)
        if account not in self._changes:
            await self._look_at([account])

    def _forget(self, call: Call, session: OpenSession) -> None:
        account = call.account if call.identity is not None else ""
        if session not in self._open.get(account, ()):
            return
        self._open[account].discard(session)
        if not self._open[account]:
            del self._open[account]
            self._changes.pop(account, None)

    def mint(self, call: Call, mint: TokenMint) -> Answer | Refused:
        """A temporary token of the caller's key."""
        region = self._placing.of_host(call.client.host)
        return minted(call, mint, self._parts.clock.now(), self._write_token, region)

    # ---- what happens beside the sessions

    async def watch_accounts(self) -> None:
        """Look whether accounts with open sessions were changed by an administrator; their sessions then look again."""
        if self._open:
            await self._look_at(list(self._open))

    async def _look_at(self, accounts: list[str]) -> None:
        try:
            numbers = await self._ledger.changes(accounts)
        except LedgerUnavailable:
            return  # renewals will find out
        for account, number in zip(accounts, numbers, strict=True):
            if account in self._open and self._changes.setdefault(account, number) != number:
                self._changes[account] = number
                for session in self._open[account]:
                    session.look_again()

    async def end_all(self) -> None:
        """The gateway stops: every session ends in good order, and is settled. At most their grace."""
        sessions = [session for each in self._open.values() for session in each]
        for session in sessions:
            session.end(Refused(code=Code.RESTARTING))
        await asyncio.gather(*(session.ended.wait() for session in sessions))
