"""The matrix of `docs/compatibility.md`: what the official clients were seen to do, written out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
CLIENTS = {
    "openai": "openai_conformance.py",
    "openrouter": "openrouter_conformance.py",
    "anthropic": "anthropic_conformance.py",
    "@openrouter/sdk": "openrouter_sdk_conformance.mjs",
    "@openrouter/ai-sdk-provider": "ai_sdk_conformance.mjs",
}
"""As people install them, in the page's order, and the scripts that say what each should do."""

OPERATIONS: Mapping[str, Mapping[str, str]] = {
    "Chat completions, `POST /chat/completions`": {
        "chat.whole": "a whole answer",
        "chat.stream": "a stream, its usage in the last chunk",
        "chat.tools": "tools, two calls at once, and the answer to their results",
        "chat.tools_stream": "tools, streamed",
        "chat.schema": "structured output, with the client's own parser where it has one",
        "chat.reasoning": "reasoning, whole and streamed",
        "chat.images": "images",
        "chat.logprobs": "log probabilities, whole and streamed",
        "chat.choices": "several choices",
        "chat.usage": "cached and reasoning tokens, in the usage and in the cost",
        "chat.anthropic": "a model behind Anthropic's protocol: system prompt, thinking, tools, cache",
        "chat.routing": "provider preferences, and another model when the first fails",
        "chat.broken": "a stream that breaks off ends as an error",
    },
    "Legacy completions, `POST /completions`": {
        "completions.whole": "a whole answer",
        "completions.stream": "a stream",
    },
    "Responses, `POST /responses`": {
        "responses.whole": "a whole answer",
        "responses.stream": "a stream, every event known and numbered",
        "responses.tools": "tools, and the answer to their results",
        "responses.schema": "structured output",
        "responses.reasoning": "reasoning",
        "responses.images": "images",
        "responses.usage": "cached and reasoning tokens, in the usage and in the cost",
        "responses.stored": "what refers to stored responses",
        "responses.broken": "a stream that breaks off ends as an error",
    },
    "Messages, `POST /messages`": {
        "messages.whole": "a whole answer",
        "messages.stream": "a stream, put together by the client's helper",
        "messages.system": "a system prompt, content blocks, metadata, stop sequences",
        "messages.tools": "tools, and the answer to their results with the thinking kept",
        "messages.tools_stream": "tools, streamed",
        "messages.schema": "structured output, with the client's own parser",
        "messages.images": "images",
        "messages.thinking": "thinking, whole and streamed, with its signature",
        "messages.usage": "tokens read from and written to the cache, in the usage and in the cost",
        "messages.keys": "the key as bearer and as `x-api-key`",
        "messages.broken": "a stream that breaks off ends as an error",
        "messages.count_tokens": "counting tokens",
    },
    "Embeddings, `POST /embeddings`": {
        "embeddings.floats": "as numbers",
        "embeddings.base64": "as base64",
        "embeddings.models": "the list of their models",
    },
    "Catalogue": {
        "models.list": "list the models, page by page where the client pages",
        "models.count": "count them",
        "models.user": "list the ones a key may use",
        "models.get": "one model",
        "endpoints.list": "a model's endpoints",
        "endpoints.zdr": "endpoints with zero data retention",
        "providers.list": "list the providers",
    },
    "Account": {
        "generation": "one request's metadata and cost",
        "key": "the key that asks, API key and management key",
        "keys": "create, list, read, change and delete keys with limits, with a management key",
        "keys.rotation": "the rotation recipe: create the next key, switch over, delete the old one",
        "organization.members": "list an organization's members; 404 for a personal account's management key",
        "organization.settings": "read and change an organization's settings",
        "credits": "the credits, with a management key",
    },
    "Errors as the client's own exceptions": {
        "errors.400": "400, a request at fault",
        "errors.401": "401, no valid key",
        "errors.402": "402, no credits",
        "errors.403": "403, the wrong kind of key",
        "errors.404": "404, nobody may serve it; nothing by this name",
        "errors.413": "413, too large",
        "errors.429": "429, too many requests at once",
        "errors.502": "502, the provider failed",
        "errors.503": "503, the provider is overloaded",
        "errors.busy": "a provider that answers 429 itself",
    },
}

HEAD = """# Compatibility

What unmodified official clients do against a running Bursar, each in an environment of its own: the operations as the suite in
`tests/clients` tries them, with validation of answers on where the client has it. The run writes this page
(`.venv/bin/python -m tests.clients`), and a test fails when it says something else than the run.

✓ works as at the service that the client was made for · a number is a difference, explained below · – the client has no such operation

"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one client did: `cases` says of each operation how it differs (a sentence, or None) and how it failed (a traceback, or None)."""

    name: str
    version: str
    cases: Mapping[str, Mapping[str, Any]]


def page(clients: list[Seen]) -> str:
    """The whole page, from what was seen and nothing else."""
    differences: list[str] = []
    lines = [HEAD.rstrip("\n"), ""]
    for group, rows in OPERATIONS.items():
        lines += [f"## {group}", "", f"| | {' | '.join(f'{each.name} {each.version}' for each in clients)} |"]
        lines.append("|---|" + "---|" * len(clients))
        for operation, title in rows.items():
            marks = [_mark(each.cases.get(operation), differences) for each in clients]
            lines.append(f"| {title} | {' | '.join(marks)} |")
        lines.append("")
    lines += ["## Differences", ""]
    lines += [f"{number}. {sentence}" for number, sentence in enumerate(differences, 1)]
    return "\n".join(lines) + "\n"


def _mark(case: Mapping[str, Any] | None, differences: list[str]) -> str:
    if case is None:
        return "–"
    sentence = "Fails; the run says how." if case["failed"] else case["differs"]
    if sentence is None:
        return "✓"
    if sentence not in differences:
        differences.append(sentence)
    return f"[{differences.index(sentence) + 1}](#differences)"
