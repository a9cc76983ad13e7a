"""Asks a local OpenAI-compatible server (Ollama, llama.cpp, vLLM) what it has."""

import asyncio
from typing import Any

import msgspec

DISCOVER_SECONDS = 2.0
DISCOVER_BYTES_MAX = 1024 * 1024
MODELS_MAX = 500


async def discover_local(base_url: str) -> list[str]:
    """The model names at `{base_url}/models`, sorted; [] when nobody answers in time or the answer makes no sense."""
    import aiohttp

    try:
        async with (
            asyncio.timeout(DISCOVER_SECONDS),
            aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(f"{base_url.rstrip('/')}/models", allow_redirects=False) as response,
        ):
            if response.status != 200:
                return []
            content = bytearray()
            async for piece in response.content.iter_chunked(16 * 1024):
                content += piece
                if len(content) > DISCOVER_BYTES_MAX:
                    return []
        return _names(msgspec.json.decode(bytes(content)))
    except (TimeoutError, OSError, ValueError, aiohttp.ClientError):
        return []


def _names(answer: Any) -> list[str]:
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        return []
    names = {item["id"] for item in listed if isinstance(item, dict) and isinstance(item.get("id"), str) and item["id"]}
    return sorted(names)[:MODELS_MAX]
