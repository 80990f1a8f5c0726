"""Pre-recorded speech-to-text: uploads and transcripts.

Owns: /v2/upload and /v2/transcript with create, get, list and delete; validation, paging.
Does not know: what a transcript object holds (`jobs`), its exports (`exports`), its webhook (`webhooks`).
"""

import hashlib
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import aiohttp
from aiohttp import web

from gateway.sandbox.audio import HEAD_BYTES_MAX, Audio, measure
from gateway.sandbox.errors import Product, refusal
from gateway.sandbox.jobs import DEFAULT_MODELS, Job
from gateway.sandbox.replies import Reply, json_reply
from gateway.sandbox.routes import Call, Route
from gateway.sandbox.webhooks import notify

MODELS: Final = ("universal-3-5-pro", "universal-3-6-pro", "universal-3-pro", "universal-2")
STATUSES: Final = ("queued", "processing", "completed", "error")
AUDIO_SECONDS_MIN: Final = 0.16
LIST_MAX: Final = 200
NOT_FOUND: Final = "Transcript lookup error, transcript id not found"
_SINGULAR_MODEL: Final = 'speech_model is deprecated. Use "speech_models" instead.'
_DEFAULT_SECONDS: Final = 60.0


def refuse(status: int, message: str) -> Reply:
    """A refusal in this product's dialect."""
    return refusal(Product.TRANSCRIPTS, status, message)


async def upload(call: Call) -> Reply:
    """Take a file: counted and hashed as it comes, and kept only as far as its header reaches."""
    head, size, digest = bytearray(), 0, hashlib.sha256()
    try:
        async for chunk in call.request.content.iter_any():
            if len(head) < HEAD_BYTES_MAX:
                head += chunk[: HEAD_BYTES_MAX - len(head)]
            digest.update(chunk)
            size += len(chunk)
            if size > call.state.settings.upload_bytes_max:
                return refuse(413, "Upload failed, the file is too large")
    except (aiohttp.ClientError, ConnectionError, web.RequestPayloadError):
        call.state.counts["uploads_broken"] += 1
        return refuse(400, "Upload failed, the file is incomplete")
    finally:
        call.entry.body_bytes, call.entry.sha256 = size, digest.hexdigest()
    if not size:
        return refuse(422, "Upload failed, please try again. If you continue to have issues, contact support.")
    url = f"{call.state.settings.upload_prefix}{uuid4()}"
    call.state.uploads.keep(url, measure(bytes(head), size))
    return json_reply({"upload_url": url})


def create(call: Call) -> Reply:
    """Submit a job."""
    body = call.json_object()
    if body is None:
        return refuse(400, "Invalid JSON payload")
    refused = _invalid(body)
    if refused is not None:
        return refuse(400, refused)
    url, settings = body["audio_url"], call.state.settings
    audio = call.state.uploads.get(url)
    if audio is None and url.startswith(settings.upload_prefix):
        return refuse(403, "Cannot access uploaded file")
    state, knobs = call.state, call.knobs
    state.counts["transcripts_created"] += 1
    job = Job(
        id=str(uuid4()),
        number=next(state.numbers),
        request=body,
        audio=audio or _audio_of(url),
        created=datetime.now(UTC).replace(tzinfo=None),
        born=time.monotonic(),
        seconds=knobs.job_seconds,
        error=knobs.job_error if knobs.job_status == "error" else _fault(url, audio),
        model_used=knobs.model_used or (body.get("speech_models") or DEFAULT_MODELS)[0],
        usage=knobs.usage,
    )
    state.jobs.keep(job.id, job)
    if str(body.get("webhook_url") or "").startswith(("http://", "https://")):
        state.spawn(notify(state, job, knobs))
    return json_reply(job.object(job.born))


def _invalid(body: dict[str, Any]) -> str | None:
    """Why a submission is refused."""
    url, models = body.get("audio_url"), body.get("speech_models")
    understanding = tasks_of(body.get("speech_understanding"))
    separable = body.get("speaker_labels") or body.get("multichannel")
    if not url or not isinstance(url, str):
        return "Transcript creation error, audio_url not found"
    if not url.startswith(("http://", "https://")):
        return "Transcript creation error, audio_url must be a valid URL"
    if "speech_model" in body:
        return _SINGULAR_MODEL
    if models is not None and (not isinstance(models, list) or not models or not set(map(str, models)) <= set(MODELS)):
        return f'"speech_models" must be a non-empty list containing one or more of: {", ".join(MODELS)}'
    if "speaker_identification" in understanding and not separable:
        return "speaker_labels or multichannel required"
    if body.get("redact_pii_audio") and not body.get("redact_pii"):
        return "redact_pii must be enabled to use redact_pii_audio"
    if body.get("redact_pii") and "custom_formatting" in understanding:
        return "redact_pii and custom_formatting cannot be used together"
    return None


def tasks_of(understanding: Any) -> dict[str, Any]:
    """The speech understanding tasks of a request; none where it is malformed."""
    asked = understanding.get("request") if isinstance(understanding, dict) else None
    return asked if isinstance(asked, dict) else {}


def _audio_of(url: str) -> Audio:
    """The audio behind a foreign URL: what its query says, or a minute."""
    query = parse_qs(urlsplit(url).query)
    with suppress(KeyError, ValueError, OverflowError):
        seconds = float(query["duration"][0])
        if math.isfinite(seconds) and seconds >= 0:
            return Audio(seconds, max(1, int(query.get("channels", ["1"])[0])))
    return Audio(_DEFAULT_SECONDS)


def _fault(url: str, audio: Audio | None) -> str | None:
    if "fail" in url and audio is None:
        return f"Download error, unable to download {url}. Please make sure the file exists and is accessible"
    if audio is not None and audio.seconds < AUDIO_SECONDS_MIN:
        return "Audio duration is too short."
    return None


def find(call: Call) -> Job | None:
    """The job that the path names."""
    return call.state.jobs.get(call.request.match_info["id"])


def get(call: Call) -> Reply:
    """A transcript."""
    job = find(call)
    return json_reply(job.object(time.monotonic())) if job else refuse(400, NOT_FOUND)


def delete(call: Call) -> Reply:
    """Blank a finished transcript; it stays in the list. A running job cannot be called back."""
    job, now = find(call), time.monotonic()
    if job is None:
        return refuse(400, NOT_FOUND)
    if job.status(now) in ("queued", "processing"):
        return refuse(400, "Transcript is still being processed and cannot be deleted")
    job.deleted = True
    return json_reply(job.object(now))


def list_(call: Call) -> Reply:
    """A page of the project's transcripts, newest first. `prev_url` leads to older ones, `next_url` to newer."""
    query, now = call.request.query, time.monotonic()
    asked = query.get("limit", "10")
    limit = int(asked) if asked.isdecimal() and len(asked) < 5 else 0
    if not 1 <= limit <= LIST_MAX:
        return refuse(400, f"limit must be a number from 1 to {LIST_MAX}")
    status = query.get("status")
    if status is not None and status not in STATUSES:
        return refuse(400, f"status must be one of {', '.join(STATUSES)}")
    before, after = query.get("before_id"), query.get("after_id")
    anchors = [call.state.jobs.get(anchor) for anchor in (before, after) if anchor is not None]
    if None in anchors:
        return refuse(400, NOT_FOUND)
    page, older = _page(_filtered(call, status, now), limit, before=_number(call, before), after=_number(call, after))

    origin = str(call.request.url.origin())
    kept = {name: query[name] for name in ("status", "created_on") if name in query}

    def link(**anchor: str) -> str:
        return f"{origin}/v2/transcript?{urlencode({'limit': limit, **kept, **anchor})}"

    return json_reply(
        {
            "page_details": {
                "limit": limit,
                "result_count": len(page),
                "current_url": f"{origin}{call.request.path_qs}",
                "prev_url": link(before_id=page[-1].id) if older and page else None,
                "next_url": link(after_id=page[0].id) if page else None,
            },
            "transcripts": [job.item(now, origin) for job in page],
        }
    )


def _number(call: Call, anchor: str | None) -> int | None:
    return None if anchor is None else call.state.jobs[anchor].number


def _filtered(call: Call, status: str | None, now: float) -> Iterator[Job]:
    """Jobs from the newest, as the query's filters let them through."""
    query = call.request.query
    if query.get("throttled_only") == "true":
        return iter(())
    day = query.get("created_on")
    return (
        job
        for job in reversed(call.state.jobs.values())
        if (status is None or job.status(now) == status) and (day is None or job.created.date().isoformat() == day)
    )


def _page(jobs: Iterable[Job], limit: int, *, before: int | None, after: int | None) -> tuple[list[Job], bool]:
    """The page, newest first, and whether there are older jobs. After an anchor it holds the oldest that are newer."""
    if after is not None:
        newer = [job for job in jobs if job.number > after and (before is None or job.number < before)]
        return newer[-limit:], True
    found = list(islice((job for job in jobs if before is None or job.number < before), limit + 1))
    return found[:limit], len(found) > limit


ROUTES: Final = (
    Route("POST", "/v2/upload", Product.TRANSCRIPTS, upload, reads_body=False),
    Route("POST", "/v2/transcript", Product.TRANSCRIPTS, create),
    Route("GET", "/v2/transcript", Product.TRANSCRIPTS, list_),
    Route("GET", "/v2/transcript/{id}", Product.TRANSCRIPTS, get),
    Route("DELETE", "/v2/transcript/{id}", Product.TRANSCRIPTS, delete),
)
