"""What the service tells when a job is over: a POST to the URL that came with the job, again until it is taken.

Owns: the messages, their order, copies and attempts, as the knobs of the job's submission want them.
Does not know: how a job was submitted.
"""

import asyncio
import math
from typing import Any, Final

import aiohttp

from gateway.sandbox.jobs import Job
from gateway.sandbox.knobs import Knobs
from gateway.sandbox.state import SandboxState

ATTEMPTS_MAX: Final = 10
#: Between two messages, so that the order in which they come is the order in which they were sent.
_NEXT_SECONDS: Final = 0.05


async def notify(state: SandboxState, job: Job, knobs: Knobs) -> None:
    """Call the webhook when the job has ended."""
    await asyncio.sleep(job.seconds + knobs.webhook_delay_seconds)
    messages = _messages(state, job)
    if knobs.webhook_reversed:
        messages.reverse()
    sent = [message for message in messages for _ in range(knobs.webhook_copies)]
    await asyncio.gather(*(_send(state, job, message, number, knobs) for number, message in enumerate(sent)))


def _messages(state: SandboxState, job: Job) -> list[dict[str, Any]]:
    status = job.status(math.inf)
    messages = [{"transcript_id": job.id, "status": status}]
    if status == "completed" and job.request.get("redact_pii_audio"):
        url = f"{state.settings.upload_prefix}redacted/{job.id}.mp3"
        messages.append({"status": "redacted_audio_ready", "redacted_audio_url": url})
    return messages


async def _send(state: SandboxState, job: Job, message: dict[str, Any], number: int, knobs: Knobs) -> None:
    await asyncio.sleep(number * _NEXT_SECONDS)
    headers = {}
    if job.request.get("webhook_auth_header_name"):
        headers[str(job.request["webhook_auth_header_name"])] = str(job.request.get("webhook_auth_header_value", ""))
    if state.client is None:
        state.client = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
    timeout = aiohttp.ClientTimeout(total=state.settings.webhook_seconds_max)
    for attempt in range(ATTEMPTS_MAX):
        if attempt:
            await asyncio.sleep(knobs.webhook_retry_seconds)
        try:
            async with state.client.post(
                job.request["webhook_url"], json=message, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                job.webhook_status = answer.status
            state.counts["webhooks_sent"] += 1
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            state.counts["webhooks_failed"] += 1
            continue
        if 200 <= answer.status < 300 or 400 <= answer.status < 500:
            return
