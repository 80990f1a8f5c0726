"""The configuration of a voice agent.

Owns: what may be configured, inline or in a stored agent, and what a wrong value is called.
Does not know: sessions.
"""

from typing import Any, Final

VOICES: Final = (
    "alba",
    "anna",
    "charles",
    "claire",
    "eve",
    "george",
    "jane",
    "jean",
    "mary",
    "michael",
    "paul",
    "vera",
)
SAMPLE_RATE_DEFAULT: Final = 24_000
_ENCODING_DEFAULT: Final = "audio/pcm"
_SAMPLE_BYTES: Final = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}


class Problem(Exception):
    """An error that the client is told; the first message's is fatal."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


def check(config: dict[str, Any]) -> None:
    """Raise the first problem there is."""
    for side in ("input", "output"):
        part = config.get(side) or {}
        form = (part.get("format") or {}) if isinstance(part, dict) else None
        if not isinstance(form, dict) or str(form.get("encoding", _ENCODING_DEFAULT)) not in _SAMPLE_BYTES:
            raise Problem("invalid_value", "The audio format is not known", f"{side}.format")
        rate = form.get("sample_rate", SAMPLE_RATE_DEFAULT)
        if type(rate) is not int or not 8000 <= rate <= 48000:
            raise Problem("invalid_value", "The sample rate is out of range", f"{side}.format.sample_rate")
    if (config.get("output") or {}).get("voice", VOICES[0]) not in VOICES:
        raise Problem("invalid_value", "The voice is not known", "output.voice")
    tools = config.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) and tool.get("name") for tool in tools):
        raise Problem("invalid_value", "tools must be a list of named tools", "tools")


def sound_of(config: dict[str, Any], side: str) -> tuple[int, int]:
    """Bytes of a sample and samples of a second, of checked configuration's input or output."""
    form = (config.get(side) or {}).get("format") or {}
    return _SAMPLE_BYTES[form.get("encoding", _ENCODING_DEFAULT)], form.get("sample_rate", SAMPLE_RATE_DEFAULT)
