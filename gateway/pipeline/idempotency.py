"""Calls that their clients named (`Idempotency-Key`): the first answer again, and one charge.

Owns: which calls are named, what makes two of them the same, how an answer is kept, what a repeat is told.
Does not know: how the ledger tells whether the first call came to anything; guards. Nothing of a request is kept but
keyed digests.
"""

import json
import re
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from multidict import CIMultiDict

from gateway.core.errors import Code, LedgerUnavailable, Refused, UnknownAccount
from gateway.core.exchange import State
from gateway.pipeline.call import Answer, Call
from gateway.pipeline.content import Content
from gateway.ports import Ledger, NamedCall, Naming, Observer
from gateway.settings.runtime import Idempotency

HEADER: Final = "Idempotency-Key"
_WORD: Final = re.compile(r"[\x20-\x7e]{1,255}")
_UNREADABLE: Final = "send one Idempotency-Key, of 1 to 255 printable ASCII characters"
_RETRY_SECONDS: Final = 1
#: Of the first answer's head these say something that no longer holds, or that is for one client only.
_NOT_KEPT: Final = frozenset({"date", "ratelimit", "ratelimit-policy", "set-cookie"})
_VERSION: Final = 1
#: Of an answer to a body that passed: its digest comes with it.
_VERSION_WITH_CONTENT: Final = 2


class NamedCalls:
    """Names calls, keeps their answers, and frees the names of those that came to nothing."""

    def __init__(
        self, *, ledger: Ledger, observer: Observer, settings: Idempotency, peppers: tuple[str, ...], lease_seconds: int
    ) -> None:
        self._ledger = ledger
        self._observer = observer
        self._settings = settings
        self._peppers = peppers
        self._lease_seconds = lease_seconds

    def __repr__(self) -> str:
        return f"<NamedCalls {self._settings}>"

    async def take(self, call: Call) -> Refused | None:
        """Take the client's name for a call, if it has one. None: it may go on, or `call.repeated` is its answer.

        A call that costs nothing, or is no POST, has no name here. Raises LedgerUnavailable. A body that passes is not
        known yet: whether a repeat has another one is to be seen when it has been read (`call.content`).
        """
        headers = call.client.headers
        if HEADER not in headers or not call.route.metered or call.client.method != "POST":
            return None
        word = _word(headers.getall(HEADER))
        if word is None:
            return Refused(code=Code.INVALID_REQUEST, details={"reason": _UNREADABLE})
        pepper = await self._pepper_of(call.account, word)
        named = NamedCall(
            account=call.account,
            name=_digest(pepper, "name", word),
            content=_digest(pepper, *_asked(call), body=call.body or b""),
            hold_id=call.id,
            lease_seconds=self._lease_seconds,
            keep_seconds=self._settings.seconds,
            names_max=self._settings.keys_max,
        )
        try:
            naming = await self._ledger.name_call(named)
        except UnknownAccount:
            return None  # admission will say so
        if call.body is None:
            call.content = Content(_mac_key(pepper))
        if naming.state == "taken":
            call.name = named.name
            return None
        if naming.answer is not None:
            call.repeated = read_answer(naming.answer, call.content)
        return None if call.repeated is not None else _told(naming)

    async def keep(self, call: Call, answer: Answer | None) -> None:
        """Keep the answer to a call that was charged, or made a job; or that there is none to keep, as of a stream."""
        done = call.state in (State.SETTLED, State.JOB_ACCEPTED) and call.outcome in ("settled", "job_accepted")
        if not call.name or not done:
            return
        written = b"" if answer is None else write_answer(answer, call.content)
        if len(written) > self._settings.answer_bytes_max:
            written = b""
        kept = False
        with suppress(LedgerUnavailable):  # the customer gets its answer all the same
            kept = await self._ledger.keep_answer(
                account=call.account,
                name=call.name,
                hold_id=call.id,
                answer=written,
                bytes_max=self._settings.account_bytes_max,
            )
        if written and not kept:
            self._observer.event("answer_not_kept", product=call.route.product.name)

    async def free(self, call: Call) -> None:
        """The call came to nothing, so that its client may try again."""
        if call.name:
            with suppress(LedgerUnavailable):  # then the end of its hold, or of its lease, frees it
                await self._ledger.free_name(account=call.account, name=call.name, hold_id=call.id)

    async def _pepper_of(self, account: str, word: str) -> str:
        """The pepper that this word was taken with, if that was before the newest: a repeat must find it."""
        for pepper in self._peppers[1:]:
            if await self._ledger.has_name(account=account, name=_digest(pepper, "name", word)):
                return pepper
        return self._peppers[0]


def _digest(pepper: str, *words: str, body: bytes = b"") -> str:
    """Keyed, so that who reads the ledger cannot try words against it."""
    head = "\0".join((*words, "")).encode("utf-8", "surrogateescape")
    mac = blake2b(head, key=_mac_key(pepper), digest_size=16)
    mac.update(body)
    return mac.hexdigest()


def scoped(account: str, word: str) -> str:
    """A client's key as a service gets it: all accounts share our credential there, and must not share their keys."""
    return blake2b(f"{account}\0{word}".encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def write_answer(answer: Answer, content: Content | None = None) -> bytes:
    """An answer as it is kept: a line of JSON, then the body. `content`: what of the request passed."""
    headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in _NOT_KEPT]
    head: list[Any] = [_VERSION, answer.status, answer.reason, headers]
    if content is not None:
        head = [_VERSION_WITH_CONTENT, *head[1:], content.digest]
    return json.dumps(head).encode() + b"\n" + answer.body


def read_answer(written: bytes, content: Content | None = None) -> Answer | None:
    """The answer; None if it is not of a form that this version reads. `content` is told what its request was."""
    line, _, body = written.partition(b"\n")
    version, *rest = json.loads(line)
    if version != (_VERSION if content is None else _VERSION_WITH_CONTENT):
        return None
    if content is not None:
        content.expected = rest.pop()
    status, reason, pairs = rest
    headers = CIMultiDict((name, value) for name, value in pairs)
    headers["Idempotent-Replayed"] = "true"
    return Answer(status=status, reason=reason, headers=headers, body=body)


def _asked(call: Call) -> tuple[str, ...]:
    """All that makes one request another one, but for its body."""
    route, client = call.route, call.client
    return "content", route.product.name, route.name, client.raw_path, client.query_string


def _word(values: list[str]) -> str | None:
    """The client's word, without the quotes that the header's draft standard puts around it; None if it is none."""
    word = values[0]
    if len(word) > 2 and word[0] == word[-1] == '"':
        word = word[1:-1]
    return word if len(values) == 1 and _WORD.fullmatch(word) else None


def _told(naming: Naming) -> Refused:
    """What a client is told whose call is not done again, and has no answer."""
    if naming.state == "other":
        return Refused(code=Code.IDEMPOTENCY_CONFLICT)
    if naming.state == "running":
        return Refused(code=Code.IDEMPOTENCY_IN_PROGRESS, retry_after_seconds=_RETRY_SECONDS)
    if naming.state == "full":
        return Refused(code=Code.IDEMPOTENCY_KEYS_EXHAUSTED, retry_after_seconds=naming.retry_after_seconds)
    return Refused(code=Code.IDEMPOTENCY_ANSWER_NOT_KEPT, details={"call_id": naming.hold_id})


@lru_cache(maxsize=16)
def _mac_key(pepper: str) -> bytes:
    return blake2b(b"idempotency\0" + pepper.encode(), digest_size=64).digest()
