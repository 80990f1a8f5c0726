"""The outbox as it is wired: which courier carries the deliveries of which channel.

Owns: the channels. Does not know: what is due (the ledger), how something is carried (couriers).
"""

from gateway.ports import Clock, Courier, Ledger, Observer
from gateway.workers.outbox import Outbox


def make_outbox(*, ledger: Ledger, observer: Observer, clock: Clock) -> Outbox:
    """The outbox, with a courier for each channel."""
    couriers: dict[str, Courier] = {}
    return Outbox(ledger=ledger, couriers=couriers, observer=observer, clock=clock)
