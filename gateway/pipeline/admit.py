"""The gate: who calls, what it may cost, and whether the ledger sets the credit aside.

Owns: everything before forwarding, and the local allowance for when the ledger is away.
Does not know: upstream replies. One round trip to the ledger for a known key.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from gateway.core.admission import Concurrency, Rate
from gateway.core.errors import Code, LedgerUnavailable, Refused
from gateway.core.exchange import Move
from gateway.core.extract import Field, Sources
from gateway.core.hosts import hosts_of
from gateway.core.money import ZERO, Nanos
from gateway.core.parameters import parameters_of, unclear
from gateway.core.record import blank, record
from gateway.core.repeats import repeats_a_name
from gateway.pipeline import pricing
from gateway.pipeline.allowance import Allowance
from gateway.pipeline.call import Call, Client
from gateway.pipeline.callbacks import Callbacks
from gateway.pipeline.follow import tell_of_look
from gateway.pipeline.idempotency import HEADER, NamedCalls
from gateway.pipeline.jobs import Jobs
from gateway.pipeline.leases import Leases
from gateway.pipeline.meter import decoded, parsed, too_many_items
from gateway.pipeline.monthly import MonthlyGrants
from gateway.pipeline.places import Places
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
from gateway.settings.overriding import tier_of
from gateway.settings.plans import Tier, TierProduct
from gateway.settings.products import Product
from gateway.settings.resources import Requirement
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime

#: How often a plan may change under one admission before we call it a fault.
PLANS_MAX = 4
_RESOURCE_ID_MAX = 512
#: Signed addresses have a few thousand characters. A longer one would take a while to be understood, and is refused.
_URL_LENGTH_MAX = 16_384
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
#: Routes x plans x sets of models, and what accounts have in place of plans: those of all others are found anew.
_TERMS_MAX = 10_000


@record
class Terms:
    """What the settings say of one plan's calls to one route for one set of models."""

    tier: Tier | None
    rate_card: str
    entitled: bool
    has_add_ons: bool  # the route has add-ons that are another product's
    overdraft: Nanos
    rates: tuple[Rate, ...]
    concurrency: Concurrency | None
    price_names: tuple[str, ...]


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
        self._known_terms: dict[tuple[str, str, str, str, tuple[str, ...]], Terms] = {}

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
        wrong = pricing.objection(route, call.sources, models if route.metered else ()) or self.callbacks.wrong(call)
        if reason := unreadable or unclear(client.query_string, route.read_parameters):
            wrong = Refused(code=Code.INVALID_REQUEST, details={"reason": reason})
        resources = self._resources(route, call)
        if isinstance(resources, Refused):
            wrong, resources = wrong or resources, ()
        call.resources = resources
        if wrong is None and route.needs_record:
            wrong = await self._read_record(call)
        elif wrong is None and route.estimates_by and resources:
            await self._read_facts(call)
        if wrong is None and HEADER in client.headers:
            wrong = await self._named.take(call)
        refused = await self._ask(call, models, wrong)
        if refused is not None:
            await self._named.free(call)
        return refused if refused is not None else wrong

    def _read_request(self, call: Call, body: bytes) -> str:
        """Take a body of JSON into the call. Why it cannot be judged by what we read; empty where it can."""
        plain: bytes | None = body
        if coding := call.client.headers.get("Content-Encoding", ""):
            bytes_max = min(call.route.body_bytes_max, max(_INFLATED_BYTES, _INFLATION_MAX * len(body)))
            plain = decoded(body, coding, bytes_max)
        if plain and too_many_items(plain, self._runtime.limits.json_items_max):
            return "its JSON has too many items"
        request = call.sources["request"] = call.sources["job"] = parsed(plain) if plain else None
        if type(request) is dict and plain is not None and repeats_a_name(plain, request):
            return "a name stands twice in one object"
        return ""

    def next_slice(self, call: Call, plan: Plan, hold_id: str) -> AdmissionRequest:
        """The request for a session's next hold: at the prices of now, of this plan, and counted as no new call."""
        request = self._request(call, plan, self._asked_models(call), metered=True)
        return replace(request, hold_id=hold_id, rates=(), resources=())

    def explained(self, call: Call, refused: Refused) -> Refused:
        """A refusal of what a session goes on with, with the words that only the settings know."""
        return self._explained(call, refused, self._asked_models(call))

    @staticmethod
    def _asked_models(call: Call) -> tuple[str, ...]:
        models = call.route.product.models
        return pricing.asked_models(models, call.sources) if models else ()

    def rates(self, call: Call) -> tuple[Rate, ...]:
        """The rates that hold for a call, as far as its tier is known."""
        models = call.route.product.models
        known = models.known if models is not None else {}
        return _rates(call.tier, call.route, tuple(name for name in self._asked_models(call) if name in known))

    # ---- the ledger's word

    async def _ask(self, call: Call, models: tuple[str, ...], wrong: Refused | None) -> Refused | None:
        assert call.identity is not None, "only identified calls are admitted"
        plan = call.identity.plan
        metered = call.route.metered and wrong is None and call.repeated is None
        for _ in range(PLANS_MAX):
            request = self._request(call, plan, models, metered=metered)
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
                if answer.code is Code.INSUFFICIENT_CREDIT and await self._grants.give(request.account, plan):
                    continue  # its month had begun, and nobody had come by
                if answer.code in _NOT_ON_CREDIT:
                    self.allowance.refused(request.account)
                return self._explained(call, answer, models)
            self.allowance.admitted(request.account)
            self._admitted(call, request, answer)
            return None
        raise LedgerUnavailable("the account's plan keeps changing")

    def _request(self, call: Call, plan: Plan, models: tuple[str, ...], *, metered: bool) -> AdmissionRequest:
        assert call.identity is not None, "only identified calls are admitted"
        route = call.route
        terms = self._terms(route, plan, models)
        call.tier = terms.tier
        call.table = table = self._runtime.prices.current(self._clock.now(), terms.rate_card)
        size = len(call.body) if call.body is not None else call.client.content_length or 0
        add_ons = pricing.add_ons_of(route, call.sources) if terms.has_add_ons else ()
        request: Any = blank(AdmissionRequest)
        request.account = call.identity.account
        request.key_id = call.identity.key_id
        request.plan = plan
        request.hold_id = call.id
        request.product = route.product.name
        request.entitled = terms.entitled and pricing.entitled_to_add_ons(terms.tier, add_ons)
        request.metered = metered
        request.estimate = pricing.estimate(route, call.sources, terms.price_names, table, size) if metered else ZERO
        request.overdraft = terms.overdraft
        request.covers_estimate = route.covers_estimate
        request.rates = terms.rates
        request.concurrency = terms.concurrency
        request.lease_seconds = self._leases.lease_seconds
        request.price_version = table.version
        request.resources = call.resources
        request.add_ons = add_ons
        made: AdmissionRequest = request
        return made

    def _terms(self, route: Route, plan: Plan, models: tuple[str, ...]) -> Terms:
        """What the settings say of a plan's call to a route for these models."""
        key = (route.name, plan.tier, plan.rate_card, plan.overrides, models)
        terms = self._known_terms.get(key)
        if terms is None:
            terms = self._make_terms(route, plan, models)
            known = route.product.models is None or all(model in route.product.models.known for model in models)
            if known:
                if len(self._known_terms) >= _TERMS_MAX:
                    self._known_terms.clear()
                self._known_terms[key] = terms
        return terms

    def _make_terms(self, route: Route, plan: Plan, models: tuple[str, ...]) -> Terms:
        tier = tier_of(self._runtime.tiers, plan)
        share = tier.products.get(route.product.name) if tier is not None else None
        known = route.product.models.known if route.product.models is not None else {}
        return Terms(
            tier=tier,
            rate_card=self._rate_card(plan, tier),
            entitled=pricing.entitled(route, tier, models if route.metered else ()),
            has_add_ons=pricing.has_add_ons(route),
            overdraft=tier.overdraft if tier is not None else ZERO,
            rates=_rates(tier, route, tuple(model for model in models if model in known)),
            concurrency=_places(share, route),
            price_names=tuple({known[model] for model in models if model in known}) or ("",),
        )

    def _admitted(self, call: Call, request: AdmissionRequest, answer: Admitted) -> None:
        call.move(Move.ADMIT)
        call.rates = answer.rates
        call.admitted_hold = answer.hold
        call.estimate = request.estimate
        call.available = answer.available
        call.metered = request.metered
        call.queued = answer.queued
        if request.metered:
            self._leases.add(call.id, request.account, request.product)
        call.made = answer.resources
        call.record = next((record for record in answer.resources if record.hold), None)

    def _rate_card(self, plan: Plan, tier: Tier | None) -> str:
        """Whose prices: the account's own rate card, its tier's, or the default tier's."""
        default = self._runtime.tiers[self._runtime.default_tier].rate_card
        card = plan.rate_card or (tier.rate_card if tier is not None else default)
        book = self._runtime.prices
        if (book.versions[0], card) not in book.tables:
            self._observer.event("rate_card_unknown")
            card = default
        return card

    # ---- what the call needs of the account's resources

    def _resources(self, route: Route, call: Call) -> tuple[ResourceRef, ...] | Refused:
        if not route.requires or route.passes_over(call.sources.get("request")):
            return ()
        refs: list[ResourceRef] = []
        for requirement in route.requires:
            value = requirement.field.read(call.sources)
            # Where all fields are known, a lookalike is refused as an unknown one.
            if route.known_fields is None and (other := _lookalike(requirement.field, call.sources)) is not None:
                reason = f"write {requirement.field}, not {other[:100]}"
                return Refused(code=Code.INVALID_REQUEST, details={"reason": reason})
            if value is None:
                continue
            if type(value) is str and not _names_ours(requirement, value):
                continue
            if type(value) is not str or not value or len(value) > _RESOURCE_ID_MAX:
                return Refused(code=Code.INVALID_REQUEST, details={"reason": f"{requirement.field} is no id"})
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
                concluded = await self._jobs.look(account, record)
                if concluded is not None:
                    now_ms = int(self._clock.now() * 1000)
                    tell_of_look(self._observer, account, record, concluded.outcome, concluded, now_ms=now_ms)
                    record = concluded.record
            if record.state != "settled":
                return Refused(code=Code.JOB_NOT_FINISHED, details={"resource": ref.kind})
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
                if record is not None:  # else it is not the account's: admission will say so, after every other guard
                    call.sources["resource"] = record.facts
                return

    # ---- refusals and outages

    def _explained(self, call: Call, refused: Refused, models: tuple[str, ...]) -> Refused:
        """A refusal with the words that only the settings know."""
        if refused.code is not Code.NOT_ENTITLED:
            return refused
        product, tier = call.route.product, call.tier
        which = ""
        if tier is not None and pricing.entitled(call.route, tier, models if call.route.metered else ()):
            # It is an add-on that the tier (or else the key) does not have.
            add_ons = pricing.add_ons_of(call.route, call.sources)
            missing = next((name for name in add_ons if name not in tier.products), "")
            if not missing:
                return Refused(code=refused.code, details=_of_key(product, add_ons, self._runtime.products, tier))
            product, models = self._runtime.products.get(missing, product), ()
        elif tier is not None and (share := tier.products.get(product.name)) is not None:
            which = f" with {', '.join(model for model in models if model not in (share.models or models))}"
        tiers = self._runtime.tiers if tier is None else {**self._runtime.tiers, tier.name: tier}
        having = [
            each.title
            for each in tiers.values()
            if (share := each.products.get(product.name)) is not None
            and (share.models is None or share.models.issuperset(models))
        ]
        title = tier.title if tier is not None else "unknown"
        entitled_tiers = ", ".join(having) or "no plan"
        details = {
            "holder": f"Your plan ({title})",
            "product": product.title + which,
            "remedy": f"It is included in: {entitled_tiers}.",
            "tier": title,
            "entitled_tiers": entitled_tiers,
        }
        return Refused(code=refused.code, details=details)

    def _admit_locally(self, call: Call, request: AdmissionRequest) -> bool:
        """Serve a little without the ledger, where the product allows it: bounded in money, settled when it is back."""
        bounds = call.route.product.without_ledger
        if (
            bounds is None
            or not request.metered
            or not request.entitled
            or request.resources
            or call.route.job
            or call.route.session
            or call.name  # without the ledger a repeat could not be told from it
        ):
            return False
        if not self.allowance.take(request.account, request.product, request.estimate, bounds):
            return False
        call.move(Move.ADMIT)
        call.metered = True
        call.admitted_hold = request.estimate
        call.covered_locally = True
        self._observer.event("admitted_locally", product=request.product)
        return True


def _of_key(product: Product, add_ons: Sequence[str], products: Mapping[str, Product], tier: Tier) -> dict[str, str]:
    """What is said where the plan includes all of it: the key's own list of products does not."""
    titles = [product.title, *(products[name].title for name in add_ons if name in products)]
    return {
        "holder": "This API key",
        "product": " or ".join(titles),
        "remedy": "Use another key, or have it added to the products of this one.",
        "tier": tier.title,
        "entitled_tiers": tier.title,
    }


def _places(share: TierProduct | None, route: Route) -> Concurrency | None:
    """The limit of a route's calls at a time. Only jobs can wait in a queue."""
    limit = share.concurrency if share is not None else None
    return limit if limit is None or route.job is not None else replace(limit, queued_max=0, when_negative=0)


def _rates(tier: Tier | None, route: Route, models: tuple[str, ...]) -> tuple[Rate, ...]:
    if tier is None:
        return ()
    share, of_all = tier.products.get(route.product.name), (*tier.rates, *tier.per_key)
    if share is None or not route.metered:
        return of_all
    if not share.per_model:
        return (*of_all, *share.rates)
    named = tuple(replace(rate, name=f"{rate.name}-{model}") for rate in share.per_model for model in models[:1])
    return (*of_all, *share.rates, *named)


def _names_ours(requirement: Requirement, value: str) -> bool:
    """With prefixes: whether it starts with one, or is another spelling of an address on the same host. One that
    is too long to be looked into counts as such, and is no id.
    """
    prefixes = requirement.prefixes
    if not prefixes or value.startswith(prefixes) or len(value) > _URL_LENGTH_MAX:
        return True
    return not hosts_of(value).isdisjoint(_hosts_of(prefixes))


@lru_cache(maxsize=64)
def _hosts_of(prefixes: tuple[str, ...]) -> frozenset[str]:
    return frozenset(host for prefix in prefixes for host in hosts_of(prefix))


def _lookalike(field: Field, sources: Sources) -> str | None:
    """A field that a service which does not tell upper from lower case would read in its place."""
    request = sources.get("request") if field.source == "request" else None
    if type(request) is not dict:
        return None
    name = str(field.steps[0])
    for other in request:
        if other != name and not (other.islower() and other.isascii()) and other.casefold() == name.casefold():
            return str(other)
    return None
