"""Whether a Redis is fit to hold money: its version, what it forgets, what it writes to disk, its epoch and layout.

Owns: what is asked of the servers, and which answer is a fault and which a warning.
Does not know: who is told.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from gateway.core.record import record
from gateway.ledger import epoch, layout, marks
from gateway.ledger.link import LinkError, RedisLink

#: Redis's own number, which Valkey tells as well: scripts with flags, SET with NX and GET.
VERSION_MIN: Final = (7, 0)
_NEARLY_FULL: Final = 0.9


@record
class Finding:
    """Something about a server. A `fault` can lose money or is no ledger at all; a `warning` can in a bad moment."""

    level: Literal["fault", "warning"]
    text: str


@record
class Condition:
    """How the ledger's servers are: what each calls itself, its epochs (newest first), and what was found.

    `layout` is that of the data, if it says so. `marked`: every server has what it is known by.
    """

    servers: Sequence[str]
    epochs: Sequence[str]
    layout: str | None
    findings: Sequence[Finding]
    marked: bool = True

    @property
    def faults(self) -> Sequence[Finding]:
        """What forbids to serve."""
        return [finding for finding in self.findings if finding.level == "fault"]


async def examine(link: RedisLink, prefix: str, memory: epoch.Memory) -> Condition:
    """Ask every server. `memory` is this machine's of its epoch. Raises LinkError."""
    servers: list[str] = []
    findings: list[Finding] = []
    for node in link.nodes:
        facts = _facts(await node.call("INFO"))
        servers.append(_name(facts))
        findings += judge(facts)
    theirs = await epochs(link, prefix)
    if why := epoch.judge(memory.read(), theirs):
        findings.insert(0, Finding(level="fault", text=why.partition(":")[0]))
    elif link.is_cluster and await marks.lost(link, prefix, theirs):
        findings.insert(0, Finding(level="fault", text=marks.LOST))
    written = await link.call("GET", layout.key_of(prefix))
    laid_out = written.decode() if isinstance(written, bytes) else None
    if unknown := layout.judge(laid_out):
        findings.insert(0, Finding(level="fault", text=unknown))
    return Condition(
        servers=servers,
        epochs=theirs,
        layout=laid_out,
        findings=list(dict.fromkeys(findings)),
        marked=not link.is_cluster or await marks.marked(link, prefix),
    )


async def complete(link: RedisLink, prefix: str, memory: epoch.Memory, condition: Condition) -> None:
    """Have the data say which layout it has, and the primaries of a cluster whose they are, if they do not yet.

    Raises LinkError.
    """
    if condition.layout is None:
        await link.call("SET", layout.key_of(prefix), str(layout.LAYOUT), "NX")
    if not condition.marked:
        await marks.mark(link, prefix, memory)


async def epochs(link: RedisLink, prefix: str) -> Sequence[str]:
    """The epochs of the server, newest first. Raises LinkError."""
    found = await link.call("GET", epoch.key_of(prefix))
    return found.decode().split() if isinstance(found, bytes) else []


async def begin_epoch(link: RedisLink, prefix: str, memory: epoch.Memory) -> str:
    """Take the servers as they are for the ledger from now on: a new epoch, after all that are known here."""
    begun = epoch.following(" ".join(await epochs(link, prefix)), memory.read())
    await link.call("SET", epoch.key_of(prefix), begun)
    if link.is_cluster:
        await marks.write(link, prefix, begun)
    newest = begun.split()[0]
    memory.write(newest)
    return newest


def judge(facts: Mapping[str, str]) -> list[Finding]:
    """What there is to say of one server, by what it says of itself (INFO)."""
    found: list[Finding] = []

    def fault(text: str) -> None:
        found.append(Finding(level="fault", text=text))

    def warning(text: str) -> None:
        found.append(Finding(level="warning", text=text))

    if _version(facts.get("redis_version", "")) < VERSION_MIN:
        fault(f"{_name(facts)} is too old: Redis 7.0 or Valkey is needed")
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and facts.get("maxmemory", "0") != "0":
        fault(f"maxmemory-policy is {policy}: balances are thrown away when memory is full; set it to noeviction")
    elif policy != "noeviction":
        warning(f"maxmemory-policy is {policy}: with a maxmemory it would throw balances away; set it to noeviction")
    used, most = int(facts.get("used_memory", "0")), int(facts.get("maxmemory", "0"))
    if most and used >= most:
        fault(f"its memory is full ({most} bytes): it takes no charges, which wait in the spool; raise maxmemory")
    elif most and used >= most * _NEARLY_FULL:
        warning(f"its memory ({most} bytes) is nearly full; raise maxmemory")
    if facts.get("role", "master") != "master":
        fault("it is a replica, which takes no writes: name the primary")
    if facts.get("aof_enabled", "0") != "1":
        warning("appendonly is off: a restart loses what was charged since the last snapshot")
    if facts.get("aof_last_write_status", "ok") != "ok":
        fault("its append-only file cannot be written: the disk is full or gone")
    return found


def _facts(info: object) -> dict[str, str]:
    if not isinstance(info, bytes):
        raise LinkError("INFO was not answered with text")
    lines = info.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _name(facts: Mapping[str, str]) -> str:
    if "valkey_version" in facts:
        return f"Valkey {facts['valkey_version']}"
    return f"Redis {facts.get('redis_version', 'of an unknown version')}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())
