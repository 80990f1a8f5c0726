"""A client of the credit API: credit held while a block runs, and charged by what it came to.

    async with CreditClient("https://gateway.internal:8080", token) as credit:
        async with credit.hold(account="acme", route="rendering.create", estimate={"megapixels": 20}) as hold:
            picture = await render(...)
            await hold.settle({"megapixels": picture.megapixels})

Owns: the hold's life around a block, its renewal meanwhile, repeats until there is an answer (each has a name of its
own, so that nothing is done twice). Does not know: the rest of this package; it needs aiohttp alone, and is typed.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self, TypedDict, TypeVar, Unpack
from uuid import uuid4

import aiohttp

#: Quantities by measure. Fractions are Decimal, or text: no float.
Usage = Mapping[str, int | Decimal | str]
#: Dollars, exactly.
Usd = Decimal | str

_PAUSE_SECONDS: Final = 0.1
_PAUSE_SECONDS_MAX: Final = 2.0
_REQUEST_SECONDS_MAX: Final = 10.0
_CONNECTIONS_MAX: Final = 100
T = TypeVar("T")


class Asked(TypedDict, total=False):
    """What may be asked of a hold: who pays (`account` by its `key`, or whose `api_key` it is), for what (`route`, or a
    `product` that has one), what it may cost (`estimate`, or an `amount`; else as the route expects of the `request`),
    and for how many `seconds` it lives. `name` is the admission's own: with the same name it is the same hold.
    """

    account: str
    key: str
    api_key: str
    product: str
    route: str
    estimate: Usage
    amount: Usd
    request: Mapping[str, Any]
    seconds: int
    name: str


class CreditError(Exception):
    """The credit API did not do what was asked."""


class Unanswered(CreditError):
    """There was no answer in the time for repeats: nothing is known of the outcome. Asking the same again is safe."""


class Problem(CreditError):
    """The API refuses the request: `code` and `status` as in its reference."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class Refused(Problem):
    """The customer's call is not admitted: answer it with this `status`, and `detail` as the sentence."""

    def __init__(self, status: int, code: str, detail: str, retry_after_seconds: int | None) -> None:
        super().__init__(status, code, detail)
        self.retry_after_seconds = retry_after_seconds


class NotSettled(CreditError):
    """A block ended without an exception, and without settling or releasing its hold, which was released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was charged, in dollars. `settled` false: the ledger is away, and the charge is made as soon as it is back.

    `late`: the hold's time was over before.
    """

    charged: Decimal
    balance: Decimal | None
    settled: bool
    late: bool
    entry: str | None
    items: tuple[Mapping[str, str], ...]


@dataclass(slots=True, kw_only=True)
class Hold:
    """Credit that is held. `id` ends it, also from another process (`CreditClient.settle`).

    `lost`: its time was over before it could be renewed. It can be settled all the same, late.
    """

    id: str
    account: str
    route: str
    held: Decimal
    available: Decimal
    seconds: int
    lost: bool = False
    _client: "CreditClient" = field(repr=False)
    _ending: bool = False  # somebody began to end it: it is no longer ours to release
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)  # who ends it: another one may follow it
    _followed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)  # by another one, to be renewed in turn

    async def settle(self, usage: Usage | None = None, *, amount: Usd | None = None, reply: Any = None) -> Receipt:
        """Charge what it came to, once."""
        body = _used(usage, amount, reply)
        self._ending = True
        return _receipt(await self._client._done(self._end("settle", body)))

    async def release(self) -> bool:
        """Give it back: nothing was delivered. False: it had ended before."""
        self._ending = True
        return bool((await self._client._done(self._end("release", {})))["released"])

    async def renew(self, seconds: int | None = None) -> None:
        """Have it live for so many seconds more. Blocks of `CreditClient.hold` do that by themselves."""
        await self._client.renew(self.id, seconds)

    async def next_slice(
        self,
        usage: Usage | None = None,
        *,
        amount: Usd | None = None,
        reply: Any = None,
        estimate: Usage | None = None,
        next_amount: Usd | None = None,
        seconds: int | None = None,
    ) -> Receipt:
        """Charge what was used of it, as `settle` does, and hold the next slice in the same step: by an `estimate`, or
        the `next_amount`, else as much as before, and for as many `seconds`. From then on this is that hold. Refused:
        what was used is charged all the same, and nothing is held any more. Who is cancelled meanwhile has done it all
        the same.
        """
        wanted = {"estimate": _told(estimate), "amount": None if next_amount is None else _text(next_amount)}
        its = {name: value for name, value in wanted.items() if value is not None}
        lasting = self.seconds if seconds is None else seconds
        body = {"seconds": lasting, "used": _used(usage, amount, reply), "next": its or None}
        return await self._client._done(self._follow(body))

    async def _end(self, how: str, body: Mapping[str, Any]) -> dict[str, Any]:
        async with self._turn:
            return await self._client._ask(f"/holds/{self.id}/{how}", body)

    async def _follow(self, body: Mapping[str, Any]) -> Receipt:
        async with self._turn:
            try:
                data = await self._client._ask(f"/holds/{self.id}/renew", body)
            except Refused:
                self._ending = True
                raise
            self.id, self.seconds = data["id"], data["seconds"]
            self.held, self.available = Decimal(data["held"]), Decimal(data["available"])
            self.lost = False
            self._followed.set()
        return _receipt(data["charge"])


class CreditClient:
    """`async with CreditClient(url, token)`: one for a process. `url` is the gateway's, `token` has the scope credit.

    What is not answered is asked again, for `repeat_seconds`.
    """

    def __init__(
        self, url: str, token: str, *, repeat_seconds: float = 30.0, session: aiohttp.ClientSession | None = None
    ) -> None:
        self._base = f"{url.rstrip('/')}/credit/v1"
        self._token = token
        self._repeat_seconds = repeat_seconds
        self._session = session
        self._owned: aiohttp.ClientSession | None = None
        self._begun: set[asyncio.Task[Any]] = set()  # what is done to its end, whether or not somebody waits for it

    def __repr__(self) -> str:
        return f"<CreditClient {self._base}>"

    async def __aenter__(self) -> Self:
        """Open connections of its own, unless a session was given."""
        if self._session is None:
            self._session = self._owned = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS_MAX),
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close them, when what was begun has ended or ten seconds are over."""
        try:
            if self._begun:
                await asyncio.wait(self._begun, timeout=_REQUEST_SECONDS_MAX)
        finally:
            for task in self._begun:
                task.cancel()
            if self._owned is not None:
                await self._owned.close()
                self._session = self._owned = None

    @asynccontextmanager
    async def hold(self, **asked: Unpack[Asked]) -> AsyncIterator[Hold]:
        """Hold credit for a block, and renew it while the block runs. Refused, Problem, Unanswered.

        A block that fails, or is cancelled, gives the hold back, also one that is being taken then, unless it had begun
        to settle it, which is done all the same. One that ends without settling or releasing it is a mistake:
        NotSettled.
        """
        opening = self._begin(self.open(**asked))
        try:
            hold = await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._begin(self._give_back(opening))
            raise
        renewal = asyncio.create_task(self._keep(hold))
        try:
            yield hold
        except BaseException:
            if not hold._ending:
                with suppress(CreditError):  # it ends by itself
                    await hold.release()
            raise
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
        if not hold._ending:
            await hold.release()
            raise NotSettled("settle the hold, or release it, before its block ends")

    async def open(self, **asked: Unpack[Asked]) -> Hold:
        """Hold credit, without a block around it: it is yours to renew, and to end."""
        body: dict[str, Any] = {**asked}
        name = body.pop("name", None) or uuid4().hex
        if "estimate" in asked:
            body["estimate"] = _told(asked["estimate"])
        if "amount" in asked:
            body["amount"] = _text(asked["amount"])
        data = await self._ask("/holds", body, name=name)
        return Hold(
            id=data["id"],
            account=data["account"],
            route=data["route"],
            held=Decimal(data["held"]),
            available=Decimal(data["available"]),
            seconds=data["seconds"],
            _client=self,
        )

    async def settle(
        self, hold: str, usage: Usage | None = None, *, amount: Usd | None = None, reply: Any = None
    ) -> Receipt:
        """Charge what a hold came to: its usage by measure, or the service's reply that says it, or an amount.

        Who is cancelled meanwhile has settled all the same, if there is an answer before the client is closed.
        """
        return _receipt(await self._done(self._ask(f"/holds/{hold}/settle", _used(usage, amount, reply))))

    async def release(self, hold: str) -> bool:
        """Give a hold back. False: it had ended before, or by a repeat of this. Cancelled as `settle` is."""
        data = await self._done(self._ask(f"/holds/{hold}/release", {}))
        return bool(data["released"])

    async def renew(self, hold: str, seconds: int | None = None) -> None:
        """Have a hold live for so many seconds from now. Problem `hold_ended` where it has ended."""
        await self._ask(f"/holds/{hold}/renew", {"seconds": seconds})

    # ---- what is done to its end

    def _begin(self, doing: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do it, also if whoever asked for it is cancelled."""
        task = asyncio.create_task(doing)
        self._begun.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _done(self, doing: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._begin(doing))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._begun.discard(task)
        if not task.cancelled():
            task.exception()  # it is told to whoever waits; if nobody does, to nobody

    @staticmethod
    async def _give_back(opening: asyncio.Task[Hold]) -> None:
        """Release a hold that nobody knows of: whoever asked for it was cancelled before it was there."""
        with suppress(CreditError):
            await (await opening).release()

    # ---- one request

    async def _keep(self, hold: Hold) -> None:
        """Renew it as long as the block runs, and what follows it. No end waits for a renewal: that may take long."""
        while True:
            hold._followed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(hold._followed.wait(), None if hold.lost else hold.seconds / 3)
                continue
            renewed = hold.id
            try:
                await self.renew(renewed, hold.seconds)
            except Problem as problem:
                hold.lost = hold.id == renewed and problem.code == "hold_ended"
            except Unanswered:
                continue  # the next try may come in time

    async def _ask(self, path: str, body: Mapping[str, Any], *, name: str = "") -> dict[str, Any]:
        """What is answered. What is not, or by a server that is not well, is asked again."""
        told = json.dumps({key: value for key, value in body.items() if value is not None})
        ends_at = asyncio.get_running_loop().time() + self._repeat_seconds
        pause = _PAUSE_SECONDS
        while True:
            why, after = "", 0.0
            try:
                status, data, after = await self._once(path, told, name)
            except aiohttp.InvalidURL:
                raise
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                why = type(error).__name__
            else:
                if status < 300:
                    return data
                if status < 500:
                    raise _problem(status, data, after)
                why = f"status {status}"
            wait = max(after, pause * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
            if asyncio.get_running_loop().time() + wait > ends_at:
                raise Unanswered(f"{path.rpartition('/')[2]}: {why}")
            await asyncio.sleep(wait)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)

    async def _once(self, path: str, told: str, name: str) -> tuple[int, dict[str, Any], float]:
        assert self._session is not None, "use it as `async with CreditClient(...)`"
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        if name:
            headers["Idempotency-Key"] = name
        async with self._session.post(
            self._base + path, data=told.encode(), headers=headers, allow_redirects=False, raise_for_status=False
        ) as answer:
            text = await answer.text()
            after = answer.headers.get("Retry-After", "")
        try:
            data = json.loads(text)
        except ValueError:
            data = {}
        return answer.status, data if isinstance(data, dict) else {}, float(after) if after.isdigit() else 0.0


def _problem(status: int, data: Mapping[str, Any], after: float) -> Problem:
    code, detail = str(data.get("code", "unknown")), str(data.get("detail", "no problem details"))
    if str(data.get("type", "")).startswith("urn:gateway:refusal:"):
        return Refused(status, code, detail, int(after) or None)
    return Problem(status, code, detail)


def _used(usage: Usage | None, amount: Usd | None, reply: Any) -> Mapping[str, Any]:
    """What a hold came to, as the API takes it."""
    told = {"usage": _told(usage), "amount": None if amount is None else _text(amount), "reply": reply}
    return {name: value for name, value in told.items() if value is not None}


def _receipt(data: Mapping[str, Any]) -> Receipt:
    return Receipt(
        charged=Decimal(data["charged"]),
        balance=None if data["balance"] is None else Decimal(data["balance"]),
        settled=data["settled"],
        late=data["late"],
        entry=data["entry"],
        items=tuple(data["items"]),
    )


def _told(usage: Usage | None) -> Mapping[str, int | str] | None:
    if usage is None:
        return None
    return {name: value if isinstance(value, int) else _text(value) for name, value in usage.items()}


def _text(amount: Decimal | str) -> str:
    """A decimal as text, without an exponent."""
    if isinstance(amount, float):  # whoever does not check types would be rounded, and charged wrongly
        raise TypeError("no float is exact: say it as a Decimal or as text")
    return amount if isinstance(amount, str) else format(amount, "f")
