"""Exports to a service that takes CloudEvents over HTTP: one event for each entry, and one for each item of a charge.

Owns: the form of the events (CloudEvents 1.0, JSON, batched or one by one), and that they go out one request after
the other, so that none overtakes another.
Does not know: what the service makes of them. It tells a repeat by `source` and `id`, as CloudEvents has it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from gateway.exports.lines import entry_line, usage_lines
from gateway.exports.posting import NotTaken, Poster
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
        token = settings.bearer_token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._poster = Poster(settings.url, headers=headers, seconds_max=settings.seconds_max)

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
        await self._poster.close()

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
        try:
            await self._poster.post(body, {"Content-Type": content_type})
        except NotTaken as error:
            raise ExportFailed(str(error)) from None
