"""What is remembered of a voice agent session.

Owns: `AgentRecord`: a session's clock through disconnects and resumptions, and how it ended. After a bare disconnect a
session stays open, and billed, for a grace; nothing needs to run for that, it follows from the times.
Does not know: sockets and frames.
"""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4


@dataclass(slots=True, kw_only=True)
class AgentRecord:
    """One session. Times are of the monotonic clock; `rate` session seconds pass in a real one."""

    rate: float
    grace_seconds: float
    id: str = field(default_factory=lambda: f"sess_{uuid4().hex}")
    resume_token: str = field(default_factory=lambda: uuid4().hex)
    created_at: float = field(default_factory=time.time)
    born: float = field(default_factory=time.monotonic)
    config: dict[str, Any] = field(default_factory=dict)
    connected: bool = True
    left_at: float | None = None
    ended_at: float | None = None
    reason: str | None = None
    audio_bytes: int = 0

    def leave(self, now: float) -> None:
        """The client is gone without a word: the grace begins."""
        self.connected, self.left_at = False, now

    def resume(self, now: float) -> bool:
        """The client is back; False when it is too late, or somebody is there."""
        if self.connected or self.status(now) == "completed":
            return False
        self.connected, self.left_at = True, None
        return True

    def end(self, now: float, reason: str) -> None:
        """The session is over."""
        self.connected, self.ended_at, self.reason = False, now, reason

    def _ended(self, now: float) -> tuple[float, str] | None:
        if self.ended_at is not None:
            return self.ended_at, self.reason or "unknown"
        if self.left_at is not None and now >= self.left_at + self.grace_seconds / self.rate:
            return self.left_at + self.grace_seconds / self.rate, "client_disconnect"
        return None

    def status(self, now: float) -> str:
        """Active (connected or resumable) or completed."""
        return "active" if self._ended(now) is None else "completed"

    def seconds(self, now: float) -> float:
        """The session's duration so far, or in all."""
        ended = self._ended(now)
        return round(((ended[0] if ended else now) - self.born) * self.rate, 6)

    def view(self, now: float) -> dict[str, Any]:
        """This session as GET /v1/sessions/{id} shows it."""
        ended = self._ended(now)
        return {
            "id": self.id,
            "agent_id": self.config.get("agent_id"),
            "status": self.status(now),
            "public_close_reason": ended[1] if ended else None,
            "duration_seconds": self.seconds(now) if ended else None,
            "created_at": self.created_at,
            "ended_at": self.created_at + (ended[0] - self.born) if ended else None,
        }
