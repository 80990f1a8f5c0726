"""The billing page of the plan: what it costs, what the next one brings, and the way there.

Owns: the page and its form. Does not know: which upgrade is open (operations/plans), who may be here (billing).
"""

import secrets
from collections.abc import Mapping

from aiohttp import web

from gateway.core.errors import GatewayError
from gateway.edge.operations.commitments import CommitmentOperations
from gateway.edge.operations.plans import PlanOperations, Upgrade
from gateway.edge.pages import billing_view, plan_view
from gateway.edge.pages.billing_funds import Room, Shown, named_of, problem_of, read_form
from gateway.edge.pages.visits import Visit
from gateway.ports import Clock
from gateway.settings.overriding import tier_of
from gateway.settings.runtime import Runtime


class PlanPages:
    """`/prices`, and what is sent there."""

    def __init__(
        self,
        room: Room,
        *,
        plans: PlanOperations,
        commitments: CommitmentOperations,
        pays_here: bool,
        runtime: Runtime,
        clock: Clock,
    ) -> None:
        self._room = room
        self._plans = plans
        self._commitments = commitments
        self._pays_here = pays_here  # by a page of a payment service
        self._runtime = runtime
        self._clock = clock
        room.see("/prices", self._prices_page)
        room.act("/prices/upgrade", self._upgrade)

    async def _prices_page(self, request: web.Request, visit: Visit, shown: Shown) -> web.Response:
        done = request.query.get("did", "") == "upgraded"
        return await self._prices(visit, shown, did="Your plan has changed. It is in force now." if done else "")

    async def _prices(
        self, visit: Visit, shown: Shown, *, did: str = "", problem: str = "", status: int = 200
    ) -> web.Response:
        plan = shown.account.plan
        tier = tier_of(self._runtime.tiers, plan)
        card = plan.rate_card or (tier.rate_card if tier is not None else "")
        groups = billing_view.rate_card(self._runtime, card, tier, self._clock.now())
        terms = self._plans.view(shown.account)
        commitment = plan_view.commitment(await self._commitments.show(shown.account.id))
        return self._room.page(
            "prices.html", visit, shown, "/prices", status=status, card=card, groups=groups, did=did,
            problem=problem, upgrade=plan_view.upgrade(terms), included=plan_view.included(terms),
            commitment=commitment, pays_here=self._pays_here, once=secrets.token_hex(12),
        )  # fmt: skip

    async def _upgrade(self, visit: Visit, shown: Shown, form: Mapping[str, str]) -> web.Response:
        if form.get("sure") != "yes":
            return await self._prices(visit, shown, problem="Tick the box that says you mean it.", status=422)
        try:
            body = read_form(Upgrade, {"to": form.get("to", "")}, self._runtime, self._clock)
            await self._plans.upgrade(shown.account.id, body, named_of(form), visit.by)
        except GatewayError as error:
            return await self._prices(visit, shown, problem=problem_of(error), status=422)
        return self._room.go("/prices?did=upgraded", visit)
