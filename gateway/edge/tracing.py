"""Tracing, put around the parts of a call's path: they do not know of it, and without it there is nothing around them.

Owns: which parts have something around them, and which work of our own begins a trace.
Does not know: what the stages of a call are (traced_parts), which are recorded (tracer), how spans are told (otlp).
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, ParamSpec, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.core.errors import Refused
from gateway.edge.server.proxy import Answering
from gateway.edge.stages import PARENT, RESPONSE, Stages, under_way
from gateway.edge.traced_parts import TracedDialer, TracedLedger, TracedObserver, TracedPipeline, TracedUpstreams
from gateway.observe.tracer import Tracer
from gateway.pipeline.call import Client
from gateway.ports import Clock, Identity, Ledger, Observer
from gateway.settings.routes import Route
from gateway.settings.tracing import Tracing
from gateway.sockets.ports import Dialer
from gateway.upstream.ports import UpstreamClient
from gateway.workers.loops import forever

#: How often spans are told that wait.
_TELL_SECONDS: Final = 0.5
_P = ParamSpec("_P")
#: Something that is done for its effects.
Work = Callable[_P, Awaitable[None]]
Identify = Callable[[Client, Route], Awaitable[Identity | Refused]]


class Around:
    """Parts as they are, for calls that are not traced. `Traced` puts itself around them."""

    def identify(self, identify: Identify) -> Identify:
        """Who calls."""
        return identify

    def ledger(self, ledger: Ledger) -> Ledger:
        """The ledger."""
        return ledger

    def upstreams(self, upstreams: UpstreamClient) -> UpstreamClient:
        """Who forwards calls."""
        return upstreams

    def dialer(self, dialer: Dialer) -> Dialer:
        """Who opens sockets."""
        return dialer

    def observer(self, observer: Observer) -> Observer:
        """Who is told of things."""
        return observer

    def pipeline(self, pipeline: Answering) -> Answering:
        """Who serves calls."""
        return pipeline

    def work(self, name: str, deed: Work[_P]) -> Work[_P]:
        """Work of our own that no call asks for: `name` is its span's."""
        del name
        return deed

    def own(self) -> tuple[Middleware, ...]:
        """What is put around routes of our own, on the customers' listener."""
        return ()

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What goes on beside the calls."""
        return ()

    async def close(self) -> None:
        """No call comes any more, and all that is left is told."""


class Traced(Around):
    """Parts whose work is told as spans."""

    def __init__(self, settings: Tracing, clock: Clock, observer: Observer) -> None:
        from gateway.observe.otlp import Telling  # noqa: PLC0415 - an extra, and half a second of imports

        self.tracer = Tracer(settings, clock)
        self._clock = clock
        self._stages = Stages(clock)
        self._all = observer
        self._telling = Telling(self.tracer, settings, observer)

    def identify(self, identify: Identify) -> Identify:
        """See `Around`."""

        async def traced(client: Client, route: Route) -> Identity | Refused:
            with self._stages.stage("identify"):
                return await identify(client, route)

        return traced

    def ledger(self, ledger: Ledger) -> Ledger:
        """See `Around`."""
        return cast("Ledger", TracedLedger(ledger, self._stages))

    def upstreams(self, upstreams: UpstreamClient) -> UpstreamClient:
        """See `Around`."""
        return TracedUpstreams(upstreams, self._stages)

    def dialer(self, dialer: Dialer) -> Dialer:
        """See `Around`."""
        return TracedDialer(dialer, self._stages)

    def observer(self, observer: Observer) -> Observer:
        """See `Around`."""
        return cast("Observer", TracedObserver(observer, self.tracer))

    def pipeline(self, pipeline: Answering) -> Answering:
        """See `Around`."""
        return TracedPipeline(pipeline, self.tracer)

    def work(self, name: str, deed: Work[_P]) -> Work[_P]:
        """See `Around`. Its trace begins here."""

        async def traced(*args: _P.args, **kwargs: _P.kwargs) -> None:
            trace = self.tracer.begin(())
            if trace is None:
                return await deed(*args, **kwargs)
            before, failed = under_way.set(trace), True
            try:
                await deed(*args, **kwargs)
                failed = False
            finally:
                under_way.reset(before)
                self.tracer.keep(trace.whole(name, "internal", self._clock.now(), failed=failed))

        return traced

    def own(self) -> tuple[Middleware, ...]:
        """See `Around`. A call that is told of there is named as a call is."""

        @web.middleware
        async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
            trace = self.tracer.begin(request.headers.getall(PARENT, ()))
            if trace is None or not trace.recorded:
                return await handler(request)
            resource = request.match_info.route.resource
            name = f"{request.method} {'unknown' if resource is None else resource.canonical}"
            before, status = under_way.set(trace), 500
            try:
                answer = await handler(request)
                status = answer.status
            except web.HTTPException as error:
                status = error.status
                raise
            finally:
                under_way.reset(before)
                trace.about({"http.request.method": request.method, "http.response.status_code": status})
                self.tracer.keep(trace.whole(name, "server", self._clock.now(), failed=status >= 500))
            answer.headers[RESPONSE] = str(trace.context)
            return answer

        return (traced,)

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """See `Around`."""
        return (forever("traces", _TELL_SECONDS, self._telling.round, self._all),)

    async def close(self) -> None:
        """See `Around`."""
        await self._telling.close()


def around(settings: Tracing | None, clock: Clock, observer: Observer) -> Around:
    """What the config puts around the parts."""
    return Around() if settings is None else Traced(settings, clock, observer)
