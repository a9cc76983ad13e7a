"""Asks a local OpenAI-compatible server (Ollama, llama.cpp, vLLM) what it has."""

import asyncio
from typing import Any

import msgspec

from bursar.providers._call import Timeouts
from bursar.providers._http import HttpClient, HttpError

DISCOVER_SECONDS = 2.0
DISCOVER_BYTES_MAX = 1024 * 1024
MODELS_MAX = 500


async def discover_local(base_url: str) -> list[str]:
    """The model names at `{base_url}/models`, sorted; [] when nobody answers in time or the answer makes no sense."""
    http = HttpClient()
    patience = Timeouts(DISCOVER_SECONDS, DISCOVER_SECONDS, DISCOVER_SECONDS)
    try:
        async with asyncio.timeout(DISCOVER_SECONDS):
            response = await http.get(f"{base_url.rstrip('/')}/models", (), patience)
            if response.status != 200:
                return []
            return _names(msgspec.json.decode(await response.read(DISCOVER_BYTES_MAX)))
    except (TimeoutError, HttpError, ValueError, RecursionError):
        return []
    finally:
        await http.close()


def _names(answer: Any) -> list[str]:
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        return []
    names = {item["id"] for item in listed if isinstance(item, dict) and isinstance(item.get("id"), str) and item["id"]}
    return sorted(names)[:MODELS_MAX]
