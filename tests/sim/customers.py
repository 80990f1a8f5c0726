"""The customers: calls, calls that have a name, jobs, sessions, each in the order in which the pipeline goes about it.

Owns: what each does, and what it promises the auditor. Does not know: what goes wrong meanwhile (world).
"""

from dataclasses import replace

from gateway.core.money import Nanos
from gateway.ports import AdmissionRequest, NamedCall, PlanChanged, Renewal, Renewed, Resource, ResourceRef
from tests.sim.auditor import Promise
from tests.sim.configs import CARD, charge
from tests.sim.processes import Process, tried

JOB_SECONDS_MAX = 200
NAME_SECONDS = 3600


async def call(process: Process, account: str, hold: str) -> bool:
    """A paid call: admitted, forwarded, charged or given back. Whether it came to something."""
    admitted = await process.admitted(account, hold)
    if admitted is None:
        return False
    promise, request, _ = admitted
    dice = process.world.dice
    failed, cost = dice.random() < 0.2, process.cost(promise.amount)
    await process.world.sleep(dice.choice((0.1, 1.0, 20.0, 45.0, 100.0)))
    promise.fate = "maybe"
    if failed:
        await process.books.release(account, hold)
        promise.fate = "free"
    else:
        made = charge(
            hold, cost, account=account, version=request.terms.price_version, card=request.terms.plan.rate_card
        )
        promise.amount, promise.priced = made.charge.amount, request.terms.plan.rate_card != CARD
        await process.books.settle(made)
        promise.fate = "owed"
    process.leases.discard(hold)
    return not failed


async def named_call(process: Process, account: str, hold: str, name: str) -> None:
    """A call that its client asks for again and again by one name: it is done once."""
    named = NamedCall(
        account=account, name=name, content="content", hold_id=hold, lease_seconds=60, keep_seconds=NAME_SECONDS,
        names_max=50,
    )  # fmt: skip
    naming = await tried(process.ledger.name_call(named))
    if naming is None or naming.state != "taken":
        return
    if await call(process, account, hold):
        await tried(process.ledger.keep_answer(account=account, name=name, hold_id=hold, answer=b"x", bytes_max=20))
    else:
        await tried(process.ledger.free_name(account=account, name=name, hold_id=hold))


async def token(process: Process, account: str, hold: str) -> None:
    """A token that opens one session, shown several times."""
    name = f"token-{sum(hold.encode()) % 40}"
    await tried(process.ledger.use_once(account=account, name=name, by=hold, seconds=NAME_SECONDS))


async def job(process: Process, account: str, hold: str) -> None:
    """A job: admitted, accepted or put into the queue, and then everybody's. Sometimes its client polls, from here."""
    admitted = await process.admitted(account, hold, process.config.jobs)
    if admitted is None:
        return
    promise, request, answer = admitted
    dice = process.world.dice
    await process.world.sleep(0.3)
    facts = {"cost": process.cost(promise.amount), "seconds": dice.choice((0.5, 8.0, 60.0, 150.0))}
    ref = ResourceRef(kind="job", id=f"job-{hold}")
    record = Resource(
        ref=ref, state="open", product="speech-to-text", hold=hold, key_id=f"{account}-key", facts=facts,
        price_version=request.terms.price_version, rate_card=request.terms.plan.rate_card,
    )  # fmt: skip
    if answer.queued:
        queued = process.books.enqueue(account, record, b"{}", deadline_seconds=JOB_SECONDS_MAX, call_seconds=60)
        await tried(queued)
    else:
        begin(process, account, record)
        await process.books.accept(
            account, record, deadline_seconds=JOB_SECONDS_MAX, keep_seconds=0, look_seconds=dice.choice((0.0, 10.0))
        )
    process.leases.discard(hold)
    for _ in range(dice.randrange(3)):
        await process.world.sleep(dice.uniform(0, 2 * float(facts["seconds"])))
        found = await tried(process.ledger.resource(account=account, ref=ref))
        if found is not None:
            await end(process, account, found)


def begin(process: Process, account: str, record: Resource) -> None:
    """The upstream takes a job: from now on it will be charged, unless it fails."""
    dice, promise = process.world.dice, process.auditor.promises[record.hold]
    if record.ref.id in process.outside.jobs:
        return  # it knows it already
    failed, cost = dice.random() < 0.2, int(record.facts["cost"])
    over_ms = process.world.now_ms + round(float(record.facts["seconds"]) * 1000)
    process.outside.jobs[record.ref.id] = over_ms, None if failed else cost
    promise.fate, promise.amount, promise.priced = "free" if failed else "owed", cost, record.rate_card != CARD


async def end(process: Process, account: str, record: Resource) -> bool:
    """Charge a job that is over, or give its hold back; whether it is over."""
    if record.state != "open":
        return record.state != "queued"
    over_ms, cost = process.outside.jobs[record.ref.id]
    if process.world.now_ms < over_ms:
        return False
    if cost is None:
        await process.books.release(account, record.hold, record.ref)
    else:
        made = charge(
            record.hold, cost, account=account, version=record.price_version, card=record.rate_card, job=record.ref
        )
        await process.books.settle(made)
    return True


async def session(process: Process, account: str, hold: str) -> None:
    """A session: slices, each charged as the next one is held, corrected at its end."""
    dice, books = process.world.dice, process.books
    admitted = await process.admitted(account, f"{hold}.0")
    if admitted is None:
        return
    promise, request, _ = admitted
    total = 0
    for number in range(6):
        await process.world.sleep(dice.choice((1.0, 10.0, 35.0)))
        cost = min(promise.amount, process.cost(promise.amount))
        promise.amount, promise.fate = cost, "maybe"
        total += cost
        used = charge(request.hold_id, cost, account=account, version=request.terms.price_version, call=f"{hold}.0")
        asked, renewed = None, None
        if dice.random() < 0.7:
            asked = process.request(account, f"{hold}.{number + 1}")
            asked, renewed = await _renewed(process, Renewal(settlement=used, request=asked))
        if renewed is None:  # nobody can say: charged by its id, what was held for the next given back
            await books.settle(used)
            if asked is not None:
                await books.release(account, asked.hold_id)
        promise.fate = "owed"
        process.leases.discard(used.hold_id)
        if asked is None or renewed is None or renewed.refused is not None:
            break
        request = asked
        promise = process.auditor.promises[request.hold_id] = Promise(account, renewed.hold, fate="free")
        process.leases.add(request.hold_id, account, request.terms.product)
    else:
        await books.release(account, request.hold_id)
    if total and dice.random() < 0.3:
        await books.correct(
            operation=f"{hold}:correct", account=account, key_id=f"{account}-key", amount=Nanos(total // 2 + 1),
            data={"call_id": hold},
        )  # fmt: skip


async def _renewed(process: Process, renewal: Renewal) -> tuple[AdmissionRequest, Renewed | None]:
    """What was asked for in the end, and its answer, if there is one."""
    for _ in range(4):
        answer = await tried(process.ledger.renew(renewal))
        request = renewal.request
        if isinstance(answer, PlanChanged):
            process.plans[request.account] = answer.plan
            renewal = replace(renewal, request=process.request(request.account, request.hold_id))
        elif answer is not None:
            return request, answer
    return renewal.request, None
