"""The part of the ledger that knows calls by their clients' own names, and what crosses it.

Owns: the promises of those verbs, which the contract's tests check, and their records.
Does not know: HTTP, or what is in an answer.
"""

from typing import Literal, Protocol

from gateway.core.record import record


@record
class NamedCall:
    """A call that its client gave a name of its own, so that a repeat is told from a second call.

    `name` and `content` are digests: of the client's word for the call, and of what it asks. `hold_id` is that of the
    hold which the call is about to take. Its name is taken for `lease_seconds` without one, is kept for `keep_seconds`,
    and an account has at most `names_max`.
    """

    account: str
    name: str
    content: str
    hold_id: str
    lease_seconds: int
    keep_seconds: int
    names_max: int


@record
class Naming:
    """What the ledger says to a name: `taken` by this call, which may go on. Else the call with that name is `running`
    or `done` (`hold_id` is its hold's id, `answer` its answer, None if that is not kept) or asked something `other`; or
    the account's names are `full`, for so many seconds.
    """

    state: Literal["taken", "running", "done", "other", "full"]
    hold_id: str = ""
    answer: bytes | None = None
    retry_after_seconds: int = 0


class NamedCallLedger(Protocol):
    """What `Ledger` promises of its methods holds here too."""

    async def name_call(self, named: NamedCall) -> Naming:
        """Take a name for a call, unless the call that has it is under way or was charged.

        That is told by that call's hold: settled, or a job's from `accept` on, the call is done; open, it is running;
        released or expired, it came to nothing and the name is free. One that is done is said to run while its answer
        may be about to be kept. Replay by the same hold: taken; with other content an OperationConflict.
        """

    async def has_name(self, *, account: str, name: str) -> bool:
        """Whether a call has this name now."""

    async def keep_answer(self, *, account: str, name: str, hold_id: str, answer: bytes, bytes_max: int) -> bool:
        """Keep the answer of a call, for as long as its name. False: the name is not its own any more, the answers of
        the account would have more than `bytes_max` together, or it is empty: none comes, and repeats need not wait.
        """

    async def free_name(self, *, account: str, name: str, hold_id: str) -> None:
        """The call came to nothing: forget its name. That of a call which has an open hold or was charged stays."""
