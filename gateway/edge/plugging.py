"""Plug-in modes, wired: the credit API and forward-auth on one engine.

Owns: which parts they get. Does not know: what they do.
"""

from collections.abc import Callable

from aiohttp import web

from gateway.core.errors import Refused
from gateway.edge.api.admin_tokens import AdminTokens
from gateway.edge.api.credit_api import add_credit_api
from gateway.edge.api.forward_auth import ForwardAuth, add_forward_auth
from gateway.edge.identify import Identifier
from gateway.edge.operations.bodies import Setting
from gateway.edge.operations.credit import CreditOperations
from gateway.pipeline.admit import Admission
from gateway.pipeline.bookable import bookable
from gateway.pipeline.bookings import Bookings
from gateway.pipeline.books import Books
from gateway.pipeline.call import Client
from gateway.pipeline.leases import Leases
from gateway.pipeline.told import ToldClient
from gateway.ports import Clock, Identity, Ledger, Observer
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime


def add_plug_ins(
    app: web.Application,
    *,
    runtime: Runtime,
    make_admission: Callable[..., Admission],
    identifier: Identifier,
    ledger: Ledger,
    books: Books,
    observer: Observer,
    clock: Clock,
    call_ids: Callable[[], str],
) -> None:
    """Put the modes that are on among the customers' own routes (`PlugIn.prefixes` says where)."""
    settings = runtime.plug_in
    if not settings.credit_api and not settings.forward_auth:
        return

    async def whose(client: Client, _route: Route) -> Identity | Refused:
        """Whose call it is: as it was told, else by the key in its headers."""
        assert isinstance(client, ToldClient), "calls that are told are admitted here"
        return client.identity or await identifier.of_key(client.headers, client.address)

    leases = Leases(ledger=ledger, observer=observer, lease_seconds=settings.hold_seconds)
    bookings = Bookings(
        runtime=runtime, book=bookable(runtime), admission=make_admission(leases=leases, identify=whose), leases=leases,
        ledger=ledger, books=books, observer=observer, clock=clock, call_ids=call_ids,
    )  # fmt: skip
    desk = CreditOperations(bookings=bookings, ledger=ledger, runtime=runtime)
    tokens = AdminTokens(runtime)

    def setting() -> Setting:
        return Setting(runtime=runtime, now_ms=int(clock.now() * 1000))

    if settings.credit_api:
        add_credit_api(app, desk=desk, tokens=tokens, setting=setting, guessed=identifier.guessed)
    if settings.forward_auth:
        auth = ForwardAuth(runtime, desk=desk, book=bookings.book, tokens=tokens, call_ids=call_ids)
        add_forward_auth(app, auth, desk=desk, setting=setting, guessed=identifier.guessed)
