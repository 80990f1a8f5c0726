"""The gate: who calls, what it may cost, and whether the ledger sets the credit aside.

Owns: the order in which a call is judged before it is forwarded, the request to the ledger, what becomes of its answer,
and what is served while it is away.
Does not know: upstream replies, what the settings say of a plan (terms, entitlement).

One round trip to the ledger for a known key.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from gateway.core.admission import Rate
from gateway.core.errors import Code, LedgerUnavailable, Refused
from gateway.core.exchange import Move
from gateway.core.json_items import too_many_items
from gateway.core.money import ZERO
from gateway.core.parameters import parameters_of, unclear
from gateway.core.record import blank
from gateway.core.repeats import repeats_a_name
from gateway.pipeline import pricing
from gateway.pipeline.allowance import Allowance
from gateway.pipeline.call import Call, Client
from gateway.pipeline.callbacks import Callbacks
from gateway.pipeline.entitlement import add_ons_of, not_entitled
from gateway.pipeline.follow import tell_of_look
from gateway.pipeline.idempotency import HEADER, NamedCalls
from gateway.pipeline.jobs import Jobs
from gateway.pipeline.leases import Leases
from gateway.pipeline.meter import decoded, parsed
from gateway.pipeline.monthly import MonthlyGrants
from gateway.pipeline.objections import asked_models, objection
from gateway.pipeline.places import Places
from gateway.pipeline.requirements import injected_bytes, required
from gateway.pipeline.terms import Counted, KnownTerms, rates_of
from gateway.ports import (
    AdmissionRequest,
    Admitted,
    Clock,
    Identity,
    Ledger,
    Observer,
    Plan,
    PlanChanged,
    ResourceRef,
)
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime

#: How often a plan may change under one admission before we call it a fault.
PLANS_MAX = 4
#: Whom the ledger refused for one of these is not served without it either.
_NOT_ON_CREDIT: Final = frozenset(
    {
        Code.UNAUTHORIZED, Code.KEY_DISABLED, Code.ACCOUNT_SUSPENDED, Code.INSUFFICIENT_CREDIT,
        Code.KEY_BUDGET_EXCEEDED,
    }
)  # fmt: skip
#: A compressed request may inflate to so much in any case, else so many times.
_INFLATED_BYTES: Final = 1024 * 1024
_INFLATION_MAX: Final = 100


class Admission:
    """Admits calls: fills in the call's identity, plan, prices, hold and resources, or says why not."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        ledger: Ledger,
        jobs: Jobs,
        leases: Leases,
        allowance: Allowance,
        named: NamedCalls,
        callbacks: Callbacks,
        identify: Callable[[Client, Route], Awaitable[Identity | Refused]],
        grants: MonthlyGrants,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._runtime = runtime
        self._ledger = ledger
        self._jobs = jobs
        self._leases = leases
        self._named = named
        self._identify = identify
        self._grants = grants
        self._observer = observer
        self._clock = clock
        self.allowance = allowance
        self.callbacks = callbacks
        self.places = Places(runtime.limits.calls_per_account_max)
        self._terms = KnownTerms(runtime, observer, leases.lease_seconds)

    async def admit(self, call: Call) -> Refused | None:
        """None: the call may be forwarded. Raises LedgerUnavailable and BodyRefused."""
        route, client = call.route, call.client
        found = await self._identify(client, route)
        if isinstance(found, Refused):
            return found
        call.identity = found
        if (full := self.places.take(found.account)) is not None:
            return full
        call.has_place = True
        length = client.content_length
        if length is not None and length > route.body_bytes_max:
            return Refused(code=Code.BODY_TOO_LARGE, details={"bytes_max": str(route.body_bytes_max)})
        unreadable = ""
        if route.body == "json":
            call.body = await client.read(route.body_bytes_max)
            unreadable = self._read_request(call, call.body)
        if route.session is not None or route.known_parameters is not None:
            call.sources["query"] = parameters_of(client.query_string)
        models = self._asked_models(call)
        passed_over = route.passes_over(call.sources.get("request"))
        wrong = objection(route, call.sources, models if route.metered else (), passed_over=passed_over)
        if wrong is None and route.job is not None:
            wrong = self.callbacks.wrong(call)
        query = client.query_string
        if reason := unreadable or (query and unclear(query, route.read_parameters, route.switch_parameters)):
            wrong = Refused(code=Code.INVALID_REQUEST, details={"reason": reason})
        resources = () if passed_over or not route.requires else required(route, call.sources)
        if isinstance(resources, Refused):
            wrong, resources = wrong or resources, ()
        call.resources = resources
        if wrong is None and (route.needs_record or (route.estimates_by and resources)):
            wrong = await self._know(call)
        if wrong is None and HEADER in client.headers:
            wrong = await self._named.take(call)
        refused = await self._ask(call, models, wrong)
        if refused is None:
            return wrong
        await self._named.free(call)
        return refused

    def _read_request(self, call: Call, body: bytes) -> str:
        """Take a body of JSON into the call. Why it cannot be judged by what we read; empty where it can."""
        plain: bytes | None = body
        if coding := call.client.headers.get("Content-Encoding", ""):
            bytes_max = min(call.route.body_bytes_max, max(_INFLATED_BYTES, _INFLATION_MAX * len(body)))
            plain = decoded(body, coding, bytes_max)
            call.unseen_bytes = len(plain or body) - len(body)
        if not plain:
            call.sources["request"] = call.sources["job"] = None
            return ""
        if too_many_items(plain, self._runtime.limits.json_items_max):
            return "its JSON has too many items"
        request = call.sources["request"] = call.sources["job"] = parsed(plain)
        if type(request) is dict:
            if repeats_a_name(plain, request):
                return "a name stands twice in one object"
            parts = call.route.parts
            if parts is not None and parts.in_text(plain):
                parts.count(call.sources)
        return ""

    def next_slice(self, call: Call, plan: Plan, hold_id: str) -> AdmissionRequest:
        """The request for a session's next hold: what runs, at the prices of now, of this plan; it is no new call."""
        request = self._request(call, plan, self._asked_models(call), metered=True, counted="none")
        ran = pricing.ran_model(call.route.product, call.sources)
        assert call.table is not None, "a request is made at prices"
        estimate = pricing.estimate(call.route, call.sources, (ran,), call.table, 0) or request.estimate
        return replace(request, hold_id=hold_id, resources=(), estimate=estimate)

    async def give_what_is_due(self, account: str, plan: Plan) -> None:
        """This month's grant: a session may run into a new month. Once it was given, this asks nobody."""
        await self._grants.give(account, plan)

    def explained(self, call: Call, refused: Refused) -> Refused:
        """A refusal of what a session goes on with, with the words that only the settings know."""
        return self._explained(call, refused, self._asked_models(call))

    def _explained(self, call: Call, refused: Refused, models: tuple[str, ...]) -> Refused:
        return not_entitled(call, models, self._runtime) if refused.code is Code.NOT_ENTITLED else refused

    @staticmethod
    def _asked_models(call: Call) -> tuple[str, ...]:
        models = call.route.product.models
        return asked_models(models, call.sources) if models else ()

    def rates(self, call: Call) -> tuple[Rate, ...]:
        """The rates that hold for a call, as far as its tier is known."""
        models = call.route.product.models
        known = models.known if models is not None else {}
        return rates_of(call.tier, call.route, tuple(name for name in self._asked_models(call) if name in known))

    # ---- the ledger's word

    async def _ask(self, call: Call, models: tuple[str, ...], wrong: Refused | None) -> Refused | None:
        assert call.identity is not None, "only identified calls are admitted"
        plan = call.identity.plan
        metered = call.route.metered and wrong is None and call.repeated is None
        counted: Counted = "all"
        if wrong is not None:
            counted = "common"  # it opens no session, and is none of the product's metered requests
            if wrong.code is Code.UNKNOWN_MODEL:
                models = ()  # no plan has it, so none is named to whoever asks for it
        for _ in range(PLANS_MAX):
            request = self._request(call, plan, models, metered=metered, counted=counted)
            try:
                answer = await self._ledger.admit(request)
            except LedgerUnavailable:
                if not self._admit_locally(call, request):
                    raise
                return None
            if isinstance(answer, Admitted):
                self.allowance.admitted(request.account)
                self._admitted(call, request, answer)
                return None
            if isinstance(answer, PlanChanged):
                plan = answer.plan
                continue
            if answer.code is Code.INSUFFICIENT_CREDIT and await self._grants.give(request.account, plan):
                continue  # its month had begun, and nobody had come by
            if answer.code is Code.NOT_FOUND and (asked := await self._as_ours(call)):
                call.resources = asked
                if (wrong := await self._know(call)) is not None:
                    return wrong
                continue
            if answer.code in _NOT_ON_CREDIT:
                self.allowance.refused(request.account)
            return self._explained(call, answer, models)
        raise LedgerUnavailable("the account's plan keeps changing")

    async def _as_ours(self, call: Call) -> tuple[ResourceRef, ...]:
        """What a call is about by the ids that we gave, where it has an upstream's for one: an upstream that calls
        clients itself knows no other. Empty where it has none.
        """
        ours = await self._ledger.ids_of_ours(account=call.account, refs=call.resources)
        if not any(ours):
            return ()
        return tuple(replace(ref, id=own or ref.id) for ref, own in zip(call.resources, ours, strict=True))

    def _request(
        self, call: Call, plan: Plan, models: tuple[str, ...], *, metered: bool, counted: Counted
    ) -> AdmissionRequest:
        assert call.identity is not None, "only identified calls are admitted"
        route = call.route
        terms = self._terms.of(route, plan, models)
        call.tier = terms.tier
        call.table = table = self._runtime.prices.current(self._clock.now(), terms.rate_card)
        add_ons = add_ons_of(route, call.sources) if terms.has_add_ons else ()
        request: Any = blank(AdmissionRequest)
        request.account = call.identity.account
        request.key_id = call.identity.key_id
        name = table.version, metered, counted, add_ons
        request.terms = terms.asked.get(name) or self._terms.asking(route, plan, terms, *name)
        request.hold_id = call.id
        request.estimate = (
            pricing.estimate(route, call.sources, terms.price_names, table, call.size) if metered else ZERO
        )
        request.resources = call.resources
        made: AdmissionRequest = request
        return made

    def _admitted(self, call: Call, request: AdmissionRequest, answer: Admitted) -> None:
        call.move(Move.ADMIT)
        call.rates = answer.rates
        call.admitted_hold = answer.hold
        call.estimate = request.estimate
        call.available = answer.available
        call.queued = answer.queued
        call.metered = request.terms.metered
        if call.metered:
            self._leases.add(call.id, request.account, request.terms.product)
        call.made = answer.resources
        if answer.resources:
            call.record = next((record for record in answer.resources if record.hold), None)

    # ---- what the call needs of the account's resources

    async def _know(self, call: Call) -> Refused | None:
        """What the call needs to know of the resources that it names: to be priced, or to be estimated."""
        if call.route.needs_record:
            return await self._read_record(call)
        if call.route.estimates_by:
            await self._read_facts(call)
        return None

    async def _read_record(self, call: Call) -> Refused | None:
        """The price depends on a job of the caller: know it, and that it is over, before anything is priced."""
        account = call.account
        for ref in call.resources:
            record = await self._ledger.resource(account=account, ref=ref)
            if record is None or not record.hold:
                continue  # not the account's: admission will say so, after every other guard
            if record.state == "open":
                concluded = await self._jobs.look(account, record)
                if concluded is not None:
                    now_ms = int(self._clock.now() * 1000)
                    tell_of_look(self._observer, account, record, concluded.outcome, concluded, now_ms=now_ms)
                    record = concluded.record
            if record.state != "settled":
                code = Code.JOB_FAILED if record.state == "released" else Code.JOB_NOT_FINISHED
                return Refused(code=code, details={"resource": ref.kind})
            call.sources["job"] = {"usage": record.usage}
            return None
        if call.resources:
            return None
        return Refused(code=Code.INVALID_REQUEST, details={"reason": "it must name a transcript"})

    async def _read_facts(self, call: Call) -> None:
        """The estimate depends on what is known of a resource of the caller: a round trip, where a call names one."""
        for ref in call.resources:
            if ref.kind in call.route.estimates_by:
                record = await self._ledger.resource(account=call.account, ref=ref)
                if record is None:
                    return  # it is not the account's: admission will say so, after every other guard
                call.sources["resource"] = record.facts
                if (injection := call.route.injects.get(ref.kind)) is not None:
                    call.unseen_bytes += injected_bytes(injection, call.sources.get("request"), record.usage)
                return

    # ---- refusals and outages

    def _admit_locally(self, call: Call, request: AdmissionRequest) -> bool:
        """Serve a little without the ledger, where the product allows it: bounded in money, settled when it is back."""
        bounds = call.route.product.without_ledger
        if (
            bounds is None
            or not request.terms.metered
            or not request.terms.entitled
            or request.resources
            or call.route.job
            or call.route.session
            or call.name  # without the ledger a repeat could not be told from it
        ):
            return False
        if not self.allowance.take(request.account, request.terms.product, request.estimate, bounds):
            return False
        call.move(Move.ADMIT)
        call.metered = True
        call.admitted_hold = request.estimate
        call.covered_locally = True
        self._observer.event("admitted_locally", product=request.terms.product)
        return True
