"""The LLM gateway's catalogue.

Owns: which models there are, what they list as prices (US dollars per million tokens), and which of them answer to a
name of their own or cannot stream.
Does not know: requests.
"""

from typing import Any, Final

import orjson

#: id: (creator, input, output, cache read, cache write, context)
_LISTED: Final[dict[str, tuple[str, float, float, float, float, int]]] = {
    "gpt-5.2": ("OpenAI", 1.75, 14.0, 0.175, 0.0, 400_000),
    "gpt-5.1": ("OpenAI", 1.25, 10.0, 0.125, 0.0, 400_000),
    "gpt-4.1": ("OpenAI", 2.0, 8.0, 0.5, 0.0, 1_000_000),
    "gpt-oss-120b": ("OpenAI", 0.15, 0.6, 0.0, 0.0, 131_072),
    "claude-opus-4-6": ("Anthropic", 5.0, 25.0, 0.5, 6.25, 200_000),
    "claude-sonnet-4-6": ("Anthropic", 3.0, 15.0, 0.3, 3.75, 200_000),
    "claude-3-5-haiku": ("Anthropic", 0.8, 4.0, 0.08, 1.0, 200_000),
    "gemini-2.5-flash": ("Google", 0.3, 2.5, 0.03, 0.0, 1_000_000),
    "qwen3-32b": ("Alibaba", 0.15, 0.6, 0.0, 0.0, 131_072),
    "qwen3.5-4b-32k-fast": ("AssemblyAI", 0.1, 0.5, 0.0, 0.0, 32_768),
}

KNOWN: Final = frozenset(_LISTED)
#: Models whose chunks each carry the running usage, under the name the provider gives itself.
USAGE_ON_EVERY_CHUNK: Final = {"qwen3.5-4b-32k-fast": "qwen3.5-4b-32k"}
CANNOT_STREAM: Final = frozenset({"gpt-oss-120b"})


def _model(name: str) -> dict[str, Any]:
    creator, prompt, completions, cache_read, cache_write, context = _LISTED[name]
    price = {
        "prompt": prompt,
        "completions": completions,
        "input_cache_read": cache_read,
        "input_cache_write": cache_write,
        "input_cache_write_1h": cache_write * 1.6,
    }
    regional = {kind: round(rate * 1.1, 6) for kind, rate in price.items()}
    provider = {"id": creator.lower(), "name": creator}
    parameters = ["max_tokens", "temperature", "tools", "tool_choice", "response_format"]
    return {
        "id": name,
        "name": name,
        "description": f"{name}, simulated",
        "creator": creator,
        "context_length": context,
        "default_parameters": {"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0},
        "supported_parameters": parameters if name in CANNOT_STREAM else [*parameters, "stream"],
        "top_provider": {"is_moderated": False, "context_length": context, "max_completion_tokens": 64_000},
        "pricing": {"global": price, "us": regional, "eu": regional, "regional_increase_percent": 10.0},
        "retirement_date": 0,
        "available_regions": ["us", "eu"],
        "providers": [provider],
        "default_provider": provider,
    }


CATALOGUE: Final = orjson.dumps({"data": [_model(name) for name in _LISTED]})
