"""Exports to a service that takes CloudEvents over HTTP: one event for each entry, and one for each item of a charge.

Owns: the form of the events (CloudEvents 1.0, JSON, batched or one by one), and that they go out one request after
the other, so that none overtakes another.
Does not know: what the service makes of them. It tells a repeat by `source` and `id`, as CloudEvents has it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

import aiohttp
import orjson

from gateway import __version__
from gateway.exports.lines import entry_line, usage_lines
from gateway.ports import Entry, ExportFailed, ExportPage
from gateway.settings.exports import CloudEventsExport

ENTRY_TYPE: Final = "gateway.ledger.entry"
USAGE_TYPE: Final = "gateway.usage"
_ONE: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"


class CloudEventsSink:
    """See ports.Sink."""

    name = "cloudevents"
    keeps_standing = False

    def __init__(self, settings: CloudEventsExport) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<CloudEventsSink {self._settings.mode}>"

    async def put(self, pages: Sequence[ExportPage]) -> None:
        """See ports.Sink."""
        found = [event for page in pages for entry in page.entries for event in self._events(page.account, entry)]
        if self._settings.mode == "structured":
            for event in found:
                await self._post(orjson.dumps(event), _ONE)
            return
        size = self._settings.events_max
        for start in range(0, len(found), size):
            await self._post(orjson.dumps(found[start : start + size]), _BATCH)

    async def close(self) -> None:
        """See ports.Sink."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _events(self, account: str, entry: Entry) -> Iterator[dict[str, Any]]:
        if "entries" in self._settings.events:
            line = entry_line(account, entry)
            yield self._event(ENTRY_TYPE, f"{account}/{entry.id}", line)
        if "usage" in self._settings.events:
            for line in usage_lines(account, entry):
                yield self._event(USAGE_TYPE, f"{account}/{entry.id}/{line['item']}", line)

    def _event(self, kind: str, event_id: str, line: dict[str, Any]) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": event_id,
            "source": self._settings.source,
            "type": kind,
            "subject": line["account"],
            "time": line["at"],
            "datacontenttype": "application/json",
            "data": line,
        }

    async def _post(self, body: bytes, content_type: str) -> None:
        """2xx: it has them. The answer's body is nothing to us."""
        settings, headers = self._settings, {"Content-Type": content_type}
        if settings.bearer_token:
            headers["Authorization"] = f"Bearer {settings.bearer_token}"
        try:
            async with (
                asyncio.timeout(settings.seconds_max),
                self._open().post(settings.url, data=body, headers=headers, allow_redirects=False) as reply,
            ):
                reply.close()
                status = reply.status
        except TimeoutError:
            raise ExportFailed(f"nothing within {settings.seconds_max:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ExportFailed(type(error).__name__) from None
        if not 200 <= status < 300:
            raise ExportFailed(f"answered {status}")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": f"credit-gateway/{__version__}"},
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session
