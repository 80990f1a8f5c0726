"""The gate: who calls, what it may cost, and whether the ledger sets the credit aside.

Owns: everything before forwarding, and the local allowance for when the ledger is away.
Does not know: upstream replies. One round trip to the ledger for a known key.
"""

from collections.abc import Awaitable, Callable

from multidict import CIMultiDictProxy

from gateway.core.admission import Rate
from gateway.core.errors import Code, LedgerUnavailable, Refused
from gateway.core.exchange import Move
from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import PriceTable
from gateway.pipeline import pricing
from gateway.pipeline.allowance import Allowance
from gateway.pipeline.call import Call
from gateway.pipeline.jobs import Jobs
from gateway.pipeline.leases import Leases
from gateway.pipeline.meter import decoded, parsed
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
from gateway.settings.runtime import Requirement, Route, Runtime, Tier

#: How often a plan may change under one admission before we call it a fault.
_PLANS_MAX = 4
_RESOURCE_ID_MAX = 512


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
        identify: Callable[[CIMultiDictProxy[str]], Awaitable[Identity | None]],
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._runtime = runtime
        self._ledger = ledger
        self._jobs = jobs
        self._leases = leases
        self._identify = identify
        self._observer = observer
        self._clock = clock
        self.allowance = allowance

    async def admit(self, call: Call) -> Refused | None:
        """None: the call may be forwarded. Raises LedgerUnavailable and BodyRefused."""
        route, client = call.route, call.client
        call.identity = await self._identify(client.headers)
        if call.identity is None:
            return Refused(code=Code.UNAUTHORIZED)
        if client.content_length is not None and client.content_length > route.body_bytes_max:
            return Refused(code=Code.BODY_TOO_LARGE, details={"bytes_max": str(route.body_bytes_max)})
        if route.body == "json":
            call.body = await client.read(route.body_bytes_max)
            plain = decoded(call.body, client.headers.get("Content-Encoding", ""), route.body_bytes_max)
            call.sources["request"] = call.sources["job"] = parsed(plain) if plain else None
        models = pricing.asked_models(route.product.models, call.sources) if route.product.models else ()
        wrong = pricing.objection(route, call.sources, models if route.metered else ())
        resources = self._resources(route, call)
        if isinstance(resources, Refused):
            wrong, resources = wrong or resources, ()
        call.resources = resources
        if wrong is None and route.needs_record:
            wrong = await self._read_record(call)
        refused = await self._ask(call, models, wrong)
        return refused if refused is not None else wrong

    def rates(self, call: Call) -> tuple[Rate, ...]:
        """The rates that hold for a call, as far as its tier is known."""
        return _rates(call.tier, call.route, ())

    # ---- the ledger's word

    async def _ask(self, call: Call, models: tuple[str, ...], wrong: Refused | None) -> Refused | None:
        assert call.identity is not None, "only identified calls are admitted"
        plan = call.identity.plan
        for _ in range(_PLANS_MAX):
            request = self._request(call, plan, models, metered=call.route.metered and wrong is None)
            try:
                answer = await self._ledger.admit(request)
            except LedgerUnavailable:
                if not self._admit_locally(call, request):
                    raise
                return None
            if isinstance(answer, PlanChanged):
                plan = answer.plan
                continue
            if isinstance(answer, Refused):
                return self._explained(call, answer, models)
            self._admitted(call, request, answer)
            return None
        raise LedgerUnavailable("the account's plan keeps changing")

    def _request(self, call: Call, plan: Plan, models: tuple[str, ...], *, metered: bool) -> AdmissionRequest:
        assert call.identity is not None, "only identified calls are admitted"
        route = call.route
        tier = call.tier = self._runtime.tiers.get(plan.tier)
        share = tier.products.get(route.product.name) if tier is not None else None
        call.table = table = self._table(plan, tier)
        size = len(call.body) if call.body is not None else call.client.content_length or 0
        known = route.product.models is None or all(model in route.product.models.known for model in models)
        return AdmissionRequest(
            account=call.identity.account,
            key_id=call.identity.key_id,
            plan=plan,
            hold_id=call.id,
            product=route.product.name,
            entitled=pricing.entitled(route, tier, call.sources, models if route.metered else ()),
            metered=metered,
            estimate=pricing.estimate(route, call.sources, models, table, size) if metered and known else ZERO,
            overdraft=tier.overdraft if tier is not None else ZERO,
            covers_estimate=route.covers_estimate,
            rates=_rates(tier, route, models if known else ()),
            concurrency=share.concurrency if share is not None else None,
            lease_seconds=self._leases.lease_seconds,
            price_version=table.version,
            resources=call.resources,
        )

    def _admitted(self, call: Call, request: AdmissionRequest, answer: Admitted) -> None:
        call.move(Move.ADMIT)
        call.rates = answer.rates
        call.admitted_hold = answer.hold
        call.metered = request.metered
        if request.metered:
            self._leases.add(call.id, request.account)
        call.record = next((record for record in answer.resources if record.hold), None)

    def _table(self, plan: Plan, tier: Tier | None) -> PriceTable:
        """The prices of today for the account: by its own rate card, its tier's, or the default tier's."""
        default = self._runtime.tiers[self._runtime.default_tier].rate_card
        card = plan.rate_card or (tier.rate_card if tier is not None else default)
        book = self._runtime.prices
        if (book.versions[0], card) not in book.tables:
            self._observer.event("rate_card_unknown")
            card = default
        return book.current(self._clock.now(), card)

    # ---- what the call needs of the account's resources

    def _resources(self, route: Route, call: Call) -> tuple[ResourceRef, ...] | Refused:
        refs: list[ResourceRef] = []
        for requirement in route.requires:
            value = requirement.field.read(call.sources)
            if value is None:
                continue
            if type(value) is not str or not value or len(value) > _RESOURCE_ID_MAX:
                return Refused(code=Code.INVALID_REQUEST, details={"reason": f"{requirement.field} is no id"})
            if _names_ours(requirement, value):
                refs.append(ResourceRef(kind=requirement.kind, id=value))
        return tuple(refs)

    async def _read_record(self, call: Call) -> Refused | None:
        """The price depends on a job of the caller: know it, and that it is over, before anything is priced."""
        account = call.account
        for ref in call.resources:
            record = await self._ledger.resource(account=account, ref=ref)
            if record is None or not record.hold:
                continue  # not the account's: admission will say so, after every other guard
            if record.state == "open":
                record = await self._jobs.look(account, record)
            if record.state != "settled":
                return Refused(code=Code.JOB_NOT_FINISHED, details={"resource": ref.kind})
            call.sources["job"] = {"usage": record.usage}
            return None
        if call.resources:
            return None
        return Refused(code=Code.INVALID_REQUEST, details={"reason": "it must name a transcript"})

    # ---- refusals and outages

    def _explained(self, call: Call, refused: Refused, models: tuple[str, ...]) -> Refused:
        """A refusal with the words that only the settings know."""
        if refused.code is not Code.NOT_ENTITLED:
            return refused
        product = call.route.product
        having = [
            tier.title
            for tier in self._runtime.tiers.values()
            if (share := tier.products.get(product.name)) is not None
            and (share.models is None or share.models.issuperset(models))
        ]
        title = call.tier.title if call.tier is not None else "unknown"
        details = {"product": product.title, "tier": title, "entitled_tiers": ", ".join(having) or "no plan"}
        return Refused(code=refused.code, details=details)

    def _admit_locally(self, call: Call, request: AdmissionRequest) -> bool:
        """Serve a little without the ledger, where the product allows it: bounded in money, settled when it is back."""
        bound = call.route.product.allow_up_to
        if bound is None or not request.metered or not request.entitled or request.resources or call.route.job:
            return False
        held = self.allowance.take(request.account, request.estimate, bound)
        if held is None:
            return False
        call.move(Move.ADMIT)
        call.metered = True
        call.admitted_hold = Nanos(held)
        call.covered_locally = True
        self._observer.event("admitted_locally", product=request.product)
        return True


def _rates(tier: Tier | None, route: Route, models: tuple[str, ...]) -> tuple[Rate, ...]:
    if tier is None:
        return ()
    share = tier.products.get(route.product.name)
    if share is None or not route.metered:
        return tier.rates
    if not share.per_model:
        return (*tier.rates, *share.rates)
    named = tuple(
        Rate(name=f"{rate.name}-{model}", quota=rate.quota, window_seconds=rate.window_seconds)
        for rate in share.per_model
        for model in models[:1]
    )
    return (*tier.rates, *share.rates, *named)


def _names_ours(requirement: Requirement, value: str) -> bool:
    return not requirement.prefixes or value.startswith(requirement.prefixes)
