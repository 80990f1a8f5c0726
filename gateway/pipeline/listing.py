"""Lists of which a caller sees only its own items.

Owns: reading on in the upstream's pages until the caller's page is full, and the paging links of what is shown.
Does not know: the meaning of an item. An id of somebody else never appears, not even in a link.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from multidict import CIMultiDict

from gateway.core.errors import Code, EndpointsUnavailable, Refused, UpstreamUnreachable
from gateway.core.extract import Field
from gateway.core.upstreams import Upstream
from gateway.pipeline.call import Answer, Call
from gateway.pipeline.meter import Copy, decoded, reply_data, without_fields
from gateway.ports import Ledger, ResourceRef
from gateway.settings.jobs import Queue
from gateway.settings.resources import Listing
from gateway.upstream.headers import reply_headers
from gateway.upstream.ports import Reply, UpstreamClient


async def own_page(
    call: Call, ledger: Ledger, upstreams: UpstreamClient, headers: CIMultiDict[str], queue: Queue | None = None
) -> Answer | Refused:
    """The caller's page: as many of its items as it asked for, in the upstream's order; those that wait for their place
    come first, as nothing is newer. A page after an item has what is next to it.

    What is not a success passes through as it came. Raises UpstreamUnreachable and UpstreamTimeout.
    """
    listing = call.route.listing
    assert listing is not None, f"the route {call.route.name} is no list"
    asked = dict(parse_qsl(call.query, keep_blank_values=True))
    limit = _limit(listing, asked)
    anchors = [ResourceRef(kind=listing.kind, id=asked[name]) for name in listing.anchors if asked.get(name)]
    owned = await ledger.owned(account=call.account, refs=[*anchors, *map(tombstone, anchors)])
    if not all(one or other for one, other in zip(owned[: len(anchors)], owned[len(anchors) :], strict=True)):
        return Refused(code=Code.NOT_FOUND)  # somebody else's item is no place to page from, nor is one that is not
    waiting: list[Any] = [] if queue is None else await _waiting(call, listing, ledger, queue, asked)
    upward = _upward(listing, asked)
    shown: list[Any] = [] if upward else waiting
    page: Any = None
    query = dict(asked) if listing.limit is None else {**asked, listing.limit: str(listing.limit_max)}
    newest = {name: value for name, value in query.items() if name not in listing.anchors}
    place, *later = await _places(call, listing, ledger, asked)
    anchored = {} if queue is None else await _at_upstream(call, listing, ledger, asked)
    query = {name: value for name, value in (query | anchored).items() if value or not asked.get(name)}
    more, kept = True, CIMultiDict[str]()
    for _ in range(listing.pages_max):
        path = f"{call.client.raw_path}?{urlencode(query)}" if query else call.client.raw_path
        async with await upstreams.send(place, "GET", path, headers.copy(), None) as reply:
            body, data = await _read(reply, call.route.product.metered_body_bytes_max)
            call.upstream_status, kept = reply.status, reply_headers(reply.headers)
            if not 200 <= reply.status < 300:
                call.route.product.require_service(reply.status, data)
                return Answer(status=reply.status, reason=reply.reason, headers=kept, body=body)
        items = listing.items.read({"reply": data})
        if type(items) is not list:
            raise UpstreamUnreachable("the upstream's list has no items")
        page = data if page is None else page
        if anchored.get(listing.after or "") == "":
            break  # all that the upstream knows is older than what waits
        own = await _own(call, listing, ledger, items, mapped=queue is not None)
        shown = own + shown if upward else shown + own
        more = bool(listing.older and listing.older.read({"reply": data}))
        if len(shown) > limit:
            break
        if upward and items:
            query[listing.after or ""] = _ref(listing, items[0]).id
        elif listing.before is not None and items and more and not upward:
            query[listing.before] = _ref(listing, items[-1]).id
        elif later:
            place, query = later.pop(0), dict(newest)
        else:
            break
    more = len(shown) > limit or ((more or bool(later)) and len(shown) == limit)
    if upward:
        shown = [*waiting, *shown][-limit:]
        more = bool(shown)  # what it comes after is older
    if listing.shown_limit is not None:
        _put(page, listing.shown_limit, limit)
    return _answer(call, listing, page, shown[:limit], more=more, headers=kept)


def _upward(listing: Listing, asked: Mapping[str, str]) -> bool:
    """Whether a page is asked for by what it comes after, to be filled towards newer items."""
    return bool(asked.get(listing.after or "")) and not asked.get(listing.before or "")


async def _own(call: Call, listing: Listing, ledger: Ledger, items: list[Any], *, mapped: bool) -> list[Any]:
    """The caller's of an upstream's items, as the caller is to see them. `mapped`: some are known by an id of ours."""
    refs = [_ref(listing, item) for item in items]
    ours = await ledger.ids_of_ours(account=call.account, refs=refs) if mapped else [None] * len(refs)
    known = [ref if own is None else replace(ref, id=own) for ref, own in zip(refs, ours, strict=True)]
    mine = await ledger.owned(account=call.account, refs=known)
    return [
        _placed(call, listing, item if own is None else _renamed(item, ref.id, own))
        for item, ref, own, is_mine in zip(items, refs, ours, mine, strict=True)
        if is_mine
    ]


async def _places(call: Call, listing: Listing, ledger: Ledger, asked: Mapping[str, str]) -> list[Upstream]:
    """Where the account's items are, from where its page begins: those of one endpoint come after those of another."""
    endpoints = call.upstream.endpoints
    if not endpoints:
        return [call.upstream]
    for name in listing.anchors:
        if asked.get(name):
            ref = ResourceRef(kind=listing.kind, id=asked[name])
            made = await ledger.resource(account=call.account, ref=ref)
            made = made or await ledger.resource(account=call.account, ref=tombstone(ref))
            home = None if made is None else call.route.product.upstream.at(made.endpoint)
            if home not in endpoints:
                raise EndpointsUnavailable("the endpoint is none where the account's items are")
            since = endpoints.index(home)
            endpoints = endpoints[since:] if name == listing.before else endpoints[since : since + 1]
    return [call.upstream.only([endpoint]) for endpoint in endpoints]


async def _waiting(call: Call, listing: Listing, ledger: Ledger, queue: Queue, asked: Mapping[str, str]) -> list[Any]:
    """The account's jobs that wait for their place, newest first; of those on one side of an anchor, the next to it.
    None where another status is asked for, or another value of what they all say alike.
    """
    day = asked.get(listing.day or "", "")
    alike = {name: value for name, value in queue.item.items() if not str(value).startswith("{")}
    if any(asked.get(name, value) not in ("", value) for name, value in alike.items()):
        return []
    refs = [ref for ref in reversed(await ledger.queued(call.account)) if ref.kind == listing.kind]
    ids = [ref.id for ref in refs]
    before, after = asked.get(listing.before or ""), asked.get(listing.after or "")
    first = 0 if not before else ids.index(before) + 1 if before in ids else len(ids)
    refs = refs[first : ids.index(after) if after in ids else len(ids)]
    most = _limit(listing, asked) + 1
    refs = refs[-most:] if after and not before else refs[:most]
    kept = await ledger.queued_bodies(account=call.account, refs=refs)
    records = [await ledger.resource(account=call.account, ref=ref) for ref in refs]
    return [
        _item_of(queue, body, ref.id, created, f"{_here(call)}/{ref.id}")
        for ref, body, record in zip(refs, kept, records, strict=True)
        if body is not None and record is not None and queue.item
        if (created := _written(record.created_ms)).startswith(day)
    ]


async def _at_upstream(call: Call, listing: Listing, ledger: Ledger, asked: Mapping[str, str]) -> dict[str, str]:
    """The places to page from, as the upstream knows them; empty where all that it knows is older."""
    known: dict[str, str] = {}
    for name in listing.anchors:
        if asked.get(name):
            ref = ResourceRef(kind=listing.kind, id=asked[name])
            record = await ledger.resource(account=call.account, ref=ref)
            waits = record is not None and record.state == "queued"
            known[name] = "" if waits else asked[name] if record is None else record.upstream_id
    return known


def _renamed(item: dict[str, Any], theirs: str, ours: str) -> dict[str, Any]:
    """An item with our id for the upstream's, wherever it stands in a text of it."""
    return {name: value.replace(theirs, ours) if type(value) is str else value for name, value in item.items()}


def _placed(call: Call, listing: Listing, item: Any) -> Any:
    """An item that leads to itself by our address, not by the upstream's, where our keys are unknown and not to go."""
    if listing.url is None or listing.url not in item:
        return item
    return {**item, listing.url: f"{_here(call)}/{_ref(listing, item).id}"}


def _here(call: Call) -> str:
    """The URL of the list, as the client calls it."""
    return f"{call.client.scheme}://{call.client.host}{call.client.raw_path}"


def _written(at_ms: int) -> str:
    """A time as services write it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def _item_of(queue: Queue, kept: bytes, own_id: str, created: str, url: str) -> dict[str, Any]:
    """A job that waits as an item of a list."""
    reply = orjson.loads(kept)["reply"]
    ours = {"{id}": own_id, "{created}": created, "{url}": url}
    return {
        name: ours.get(value, reply.get(value[1:-1])) if type(value) is str and value.startswith("{") else value
        for name, value in queue.item.items()
    }


def tombstone(ref: ResourceRef) -> ResourceRef:
    """What stays of a deleted item: its id as a place to page on from."""
    return ResourceRef(kind=f"{ref.kind}.deleted", id=ref.id)


def _limit(listing: Listing, query: Mapping[str, str]) -> int:
    if listing.limit is None:
        return sys.maxsize
    text = query.get(listing.limit)
    asked = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 9 else 0
    return min(asked or listing.limit_default, listing.limit_max)


def _ref(listing: Listing, item: Any) -> ResourceRef:
    return ResourceRef(kind=listing.kind, id=str(item.get(listing.id) if type(item) is dict else None))


async def _read(reply: Reply, bytes_max: int) -> tuple[bytes, Any]:
    copy = Copy(bytes_max)
    while chunk := await reply.chunk():
        copy.add(chunk)
        if copy.overflown:
            raise UpstreamUnreachable("the upstream's list is larger than metered_body_bytes_max")
    body = copy.body()
    plain = decoded(body, reply.headers.get("Content-Encoding", ""), bytes_max)
    return body, reply_data(plain) if plain else None


def _answer(
    call: Call, listing: Listing, page: Any, shown: list[Any], *, more: bool, headers: CIMultiDict[str]
) -> Answer:
    _put(page, listing.items, shown)
    if listing.count is not None:
        _put(page, listing.count, len(shown))
    here = _here(call)
    query = dict(parse_qsl(call.query, keep_blank_values=True))
    if listing.current is not None:
        _put(page, listing.current, f"{here}?{urlencode(query)}" if query else here)
    if listing.older is not None and listing.before is not None:
        if not query.get(listing.before):  # older than a page after an item is that item
            query.pop(listing.after or "", None)
        older = {**query, listing.before: _ref(listing, shown[-1]).id} if more else None
        _put(page, listing.older, f"{here}?{urlencode(older)}" if older else None)
    if listing.newer is not None:
        _put(page, listing.newer, None)
    headers.popall("Content-Encoding", None)
    headers.popall("ETag", None)
    data = without_fields(page, frozenset(call.route.product.strip_reply_fields))
    return Answer(status=200, reason="OK", headers=headers, body=orjson.dumps(data))


def _put(data: Any, field: Field, value: Any) -> None:
    for step in field.steps[:-1]:
        data = data.get(step) if type(data) is dict else None
    if type(data) is dict:
        data[field.steps[-1]] = value
