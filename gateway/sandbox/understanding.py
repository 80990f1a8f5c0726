"""Speech understanding of finished transcripts: /v1/understanding and its validation.

Owns: the tasks there are, and the answer, which says nothing of how much audio it was about.
Does not know: how transcripts come to be.
"""

import time
from typing import Any, Final

from gateway.sandbox.errors import Product, refusal, request_id
from gateway.sandbox.jobs import Job, understood, utterances_of
from gateway.sandbox.replies import Reply, json_reply
from gateway.sandbox.routes import Call, Route
from gateway.sandbox.transcripts import tasks_of

TASKS: Final = ("translation", "speaker_identification", "custom_formatting", "summarization")


def _checked(call: Call) -> tuple[dict[str, Any], list[str]]:
    """The request, and what is wrong with it."""
    body = call.json_object()
    if body is None:
        return {}, ["body must be a JSON object"]
    tasks = tasks_of(body.get("speech_understanding"))
    wrong = [] if tasks else ["speech_understanding.request must name a task"]
    if not isinstance(body.get("transcript_id"), str):
        wrong.append("transcript_id is required")
    wrong += [f"unknown task {task}" for task in tasks if task not in TASKS]
    wrong += [f"{task} must be an object" for task, options in tasks.items() if not isinstance(options, dict)]
    translation = tasks.get("translation")
    if isinstance(translation, dict) and not isinstance(translation.get("target_languages"), list):
        wrong.append("translation.target_languages must be a list")
    return body, wrong


def understand(call: Call) -> Reply:
    """Run the tasks."""
    body, wrong = _checked(call)
    if wrong:
        return refusal(Product.LLM, 400, "invalid request body", *wrong)
    job = call.state.jobs.get(body["transcript_id"])
    if job is None or job.deleted:
        return json_reply({"message": "transcript not found", "code": 404}, 404)
    if job.status(time.monotonic()) != "completed":
        return refusal(Product.LLM, 400, "invalid request body", "transcript is not completed")
    call.state.counts["understanding_calls"] += 1
    return json_reply(_answer(job, tasks_of(body["speech_understanding"])))


def _answer(job: Job, tasks: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "request_id": request_id(),
        "speech_understanding": {"request": tasks, "response": understood(tasks)},
        "utterances": utterances_of(job) if "speaker_identification" in tasks else [],
    }
    if "translation" in tasks:
        languages = tasks["translation"]["target_languages"]
        answer["translated_texts"] = {str(language): f"[{language}] {job.text}" for language in languages}
    return answer


def validate(call: Call) -> Reply:
    """Say whether the request could be run."""
    _, wrong = _checked(call)
    return refusal(Product.LLM, 400, "invalid request body", *wrong) if wrong else json_reply({"valid": True})


ROUTES: Final = (
    Route("POST", "/v1/understanding", Product.LLM, understand),
    Route("POST", "/v1/understanding/validate", Product.LLM, validate),
)
