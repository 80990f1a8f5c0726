"""The workers of a gateway: jobs are followed, and submitted when it is their turn; deliveries are made.

Owns: what each does with what it has claimed. Does not know: who wanted it.
"""

from functools import partial

from gateway.core.errors import LedgerUnavailable
from gateway.ports import Dead, Delivered, Delivery, QueuedJob, Retry
from gateway.workers.autopay import AutopayCourier
from gateway.workers.outbox import decide
from tests.sim.bank import BANK, Bank
from tests.sim.configs import PAYMENTS
from tests.sim.customers import begin, end
from tests.sim.processes import Process, tried

LEASE_SECONDS = 20.0
PAUSES = (1.0, 5.0, 15.0)


def work(process: Process) -> None:
    """Every worker of a gateway."""
    autopay = AutopayCourier(
        ledger=process.ledger, providers={BANK: Bank(process)}, cashier=process.cashier, settings=PAYMENTS
    )
    process.every(5.0, partial(_reconcile, process))
    process.every(4.0, partial(_submit, process))
    process.every(3.0, partial(_deliver, process, autopay))


async def _reconcile(process: Process) -> None:
    for followed in await tried(process.ledger.claim_jobs(limit=5, lease_seconds=int(LEASE_SECONDS))) or ():
        if not await end(process, followed.account, followed.record):
            ref = followed.record.ref
            await tried(process.ledger.look_later(account=followed.account, ref=ref, seconds=10, gone=False))


async def _submit(process: Process) -> None:
    places = {("jobs", tier): process.config.places for tier in ("free", "payg")}
    claimed = process.ledger.claim_queued(limit=4, lease_seconds=LEASE_SECONDS, limits=places)
    for job in await tried(claimed) or ():
        await tried(_submit_one(process, job))


async def _submit_one(process: Process, job: QueuedJob) -> None:
    ledger, account, ref, hold = process.ledger, job.account, job.record.ref, job.record.hold
    roll = process.world.dice.random()
    await process.world.sleep(0.2)
    known = ref.id in process.outside.jobs
    if ref.id in process.outside.turned_away or (not known and (roll < 0.1 or not (job.allowed and job.held))):
        process.outside.turned_away.add(ref.id)
        await ledger.reject(account=account, ref=ref, hold_id=hold, reason="turned away")
    elif not known and roll < 0.25:
        await ledger.submit_later(account=account, ref=ref, seconds=3.0)
    else:
        begin(process, account, job.record)
        await ledger.submitted(account=account, ref=ref, hold_id=hold, upstream=f"up-{hold}", look_seconds=5.0)


async def _deliver(process: Process, autopay: AutopayCourier) -> None:
    for delivery in await tried(process.ledger.claim_deliveries(limit=8, lease_seconds=LEASE_SECONDS)) or ():
        await tried(_deliver_one(process, autopay, delivery))


async def _deliver_one(process: Process, autopay: AutopayCourier, delivery: Delivery) -> None:
    ledger, account, delivery_id = process.ledger, delivery.account, delivery.id
    outcome: Delivered | Retry | Dead
    if delivery.channel == "autopay":
        outcome = decide(await autopay.deliver(delivery), delivery.attempts, autopay.pauses)
    else:
        roll = process.world.dice.random()
        await process.world.sleep(0.2 if roll < 0.9 else 2 * LEASE_SECONDS)
        heard = Delivered() if roll < 0.6 else Dead(why="gone") if roll > 0.97 else Retry(why="busy")
        outcome = decide(heard, delivery.attempts, PAUSES)
    match outcome:
        case Delivered():
            await ledger.delivered(account=account, delivery_id=delivery_id)
        case Dead(why=why):
            await ledger.bury(account=account, delivery_id=delivery_id, why=why)
        case Retry(why=why, seconds=seconds):
            if seconds is None:
                raise LedgerUnavailable("a decided retry says when")
            await ledger.put_off(account=account, delivery_id=delivery_id, seconds=seconds, why=why)
