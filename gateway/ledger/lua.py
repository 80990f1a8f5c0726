"""The Lua scripts, loaded from `scripts/`: one file for each verb, behind the preludes that it uses.

Owns: which prelude goes before which verb. Does not know: what they do.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from gateway.ledger.link import Script

#: With this line a script on a cluster may not touch another slot, and one that writes is refused whole, not half
#: way, when memory is out.
_SHEBANG: Final = "#!lua\n"
_READS_ONLY: Final = "#!lua flags=no-writes\n"
#: Before every verb, in this order.
FIRST: Final = ("lib", "over")
#: Between those two: functions of these names, which give what their files return. A script that does not need it does
#: not make it: thirty functions would be a quarter of what an admission costs.
LATE: Final = ("outbox", "watch", "lapse")
_LATE_TEXT: Final = """local {name}_made
local function {name}()
  if not {name}_made then
    {name}_made = (function()
{text}
    end)()
  end
  return {name}_made
end
"""
#: Verbs that find out by themselves whether there is such an account, with what they read of it or because they open
#: it. `known` is before all others.
UNASKED: Final = frozenset(
    {"admit", "settle", "renew", "claim_queued", "credit_payment", "reverse_payment"}
    | {"open_account", "grant_monthly", "close_month"}
)
#: The preludes of each verb, those before all of them left out.
PRELUDES: Final[Mapping[str, tuple[str, ...]]] = {
    "admit": ("guards",),
    "settle": ("charge",),
    "renew": ("charge", "guards"),
    "accept": (),
    "enqueue": (),
    "claim_queued": ("queues",),
    "submitted": (),
    "submit_later": ("queues",),
    "reject": (),
    "queued": ("queues",),
    "claim_jobs": (),
    "look_later": (),
    "give_up": (),
    "jobs": (),
    "release": (),
    "extend": (),
    "use_once": (),
    "unuse": (),
    "take_volume": (),
    "name_call": ("names",),
    "keep_answer": ("names",),
    "free_name": ("names",),
    "post": (),
    "claim_deliveries": (),
    "delivered": (),
    "put_off": (),
    "bury": (),
    "revive": (),
    "deliveries": (),
    "autopay": ("autopays",),
    "set_autopay": ("operation", "autopays"),
    "begin_payment": ("autopays",),
    "fail_payment": ("autopays",),
    "credit_payment": ("admin", "charge", "autopays", "payments"),
    "reverse_payment": ("admin", "charge", "autopays", "payments"),
    "put_watch": (),
    "drop_watch": (),
    "watches": (),
    "sweep": ("queues",),
    "trim": (),
    "repair": ("operation", "charge"),
    "open_account": ("operation", "admin"),
    "change_account": ("operation", "admin"),
    "grant": ("operation", "admin"),
    "end_grant": ("operation",),
    "grant_monthly": ("admin",),
    "commit": ("operation",),
    "close_month": ("charge",),
    "correct": ("operation", "admin", "charge"),
    "refund": ("operation", "admin", "charge"),
    "put_key": ("operation", "admin"),
    "change_key": ("operation", "admin"),
    "account": ("reading", "admin"),
    "keys": ("reading", "admin"),
    "holds": ("reading",),
}
ALONE: Final = ("state", "exportable")
#: What makes entries, or changes what else is exported of an account.
ENTERING: Final = frozenset(
    {"settle", "renew", "correct", "repair", "refund", "grant", "end_grant", "grant_monthly", "open_account"}
    | {"change_account", "put_key", "change_key", "credit_payment", "reverse_payment", "set_autopay", "fail_payment"}
    | {"put_watch", "drop_watch", "commit", "close_month"}
)
#: On the path of a call, they are given one key, and derive the others.
ON_THE_PATH: Final = frozenset({"admit", "settle", "renew"})


def read(name: str) -> str:
    """The text of one file."""
    return (files("gateway.ledger") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def script(verb: str) -> Script:
    """The whole script of a verb."""
    if verb in ALONE:
        return Script(verb, _READS_ONLY + read(verb))
    first, *rest = FIRST
    late = (_LATE_TEXT.format(name=name, text=read(name)) for name in LATE)
    known = () if verb in UNASKED else ("known",)
    parts = (read(first), *late, *(read(name) for name in (*rest, *known, *PRELUDES[verb], verb)))
    return Script(verb, _SHEBANG + "".join(parts))
