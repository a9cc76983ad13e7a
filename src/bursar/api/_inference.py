"""The gateway's routes in the description: `gateway.SKINS` says which there are, this page what each reads and answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bursar.api import _bodies, _outputs
from bursar.api._describe import API_KEY, HEADERS, REFUSALS, X_API_KEY, asks_for
from bursar.api._schemas import ErrorAnswer
from bursar.gateway import SKINS

DONE = "[DONE]"
"""What ends every stream but Anthropic's."""
_MODEL = "demo/free-1"
_REFUSED = (400, 401, 402, 403, 404, 413, 429, 500, 502, 503, 504)
_REF = "#/components/schemas/{model}"
_GENERATION = {"description": "The generation's id.", "required": True, "schema": {"type": "string"}}

_LINKS = {
    "generation": {
        "operationId": "getGeneration",
        "parameters": {"id": "$response.header.X-Generation-Id"},
        "description": "What it cost, and how it was routed.",
    }
}


@dataclass(frozen=True)
class Described:
    """One skin. `answer` None: it only refuses, with `refusals`. `event`: what the data
    of an event is, if it streams; `stream`: how that looks."""

    operation_id: str
    summary: str
    body: type[BaseModel]
    answer: type[BaseModel] | None
    examples: Mapping[str, Mapping[str, Any]]
    event: type[BaseModel] | None = None
    stream: str = ""
    error: type[BaseModel] = ErrorAnswer
    schemes: tuple[str, ...] = (API_KEY,)
    refusals: tuple[int, ...] = _REFUSED


_HELLO = [{"role": "user", "content": "Hello"}]
_CHAT = {"model": _MODEL, "messages": _HELLO}
_MESSAGE = {**_CHAT, "max_tokens": 64}

DESCRIBED: Mapping[str, Described] = {
    "/api/v1/chat/completions": Described(
        "sendChatCompletionRequest",
        "Chat completions",
        _bodies.ChatBody,
        _outputs.ChatAnswer,
        {"whole": _CHAT, "streamed": {**_CHAT, "stream": True}},
        event=_outputs.ChatChunk,
        stream='data: {"id": "gen-…", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'
        "data: [DONE]\n\n",
    ),
    "/api/v1/responses": Described(
        "createResponses",
        "Responses",
        _bodies.ResponsesBody,
        _outputs.ResponsesAnswer,
        {
            "whole": {"model": _MODEL, "input": "Hello"},
            "streamed": {"model": _MODEL, "input": "Hello", "stream": True},
        },
        event=_outputs.ResponsesEvent,
        stream='event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "Hi"}\n\n'
        "data: [DONE]\n\n",
    ),
    "/api/v1/messages": Described(
        "createMessages",
        "Messages",
        _bodies.MessagesBody,
        _outputs.MessagesAnswer,
        {"whole": _MESSAGE, "streamed": {**_MESSAGE, "stream": True}},
        event=_outputs.MessagesEvent,
        stream='event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}\n\n',
        error=_outputs.MessagesError,
        schemes=(API_KEY, X_API_KEY),
    ),
    "/api/v1/messages/count_tokens": Described(
        "countMessageTokens",
        "Not offered: token counts are in the usage of answers",
        _bodies.CountTokensBody,
        None,
        {"any": _CHAT},
        error=_outputs.MessagesError,
        schemes=(API_KEY, X_API_KEY),
        refusals=(401, 403, 404, 413, 429, 500, 503),
    ),
    "/api/v1/completions": Described(
        "createCompletions",
        "Completions, OpenAI's legacy protocol",
        _bodies.CompletionsBody,
        _outputs.CompletionsAnswer,
        {
            "whole": {"model": _MODEL, "prompt": "Hello"},
            "streamed": {"model": _MODEL, "prompt": "Hello", "stream": True},
        },
        event=_outputs.CompletionsChunk,
        stream='data: {"id": "gen-…", "object": "text_completion", "choices": [{"index": 0, "text": "Hi"}]}\n\ndata: [DONE]\n\n',
    ),
    "/api/v1/embeddings": Described(
        "createEmbeddings",
        "Embeddings",
        _bodies.EmbeddingsBody,
        _outputs.EmbeddingsAnswer,
        {"texts": {"model": "demo/embed-1", "input": ["Hello", "world"]}},
    ),
}


def paths() -> dict[str, Any]:
    """The `paths` of every skin. Raises `KeyError` for one that is not described."""
    return {path: {"post": _operation(DESCRIBED[path])} for path in SKINS}


def schemas() -> dict[str, Any]:
    """The components that `paths` refers to."""
    asked = [(each.body, "validation") for each in DESCRIBED.values()]
    told = [
        (model, "serialization")
        for each in DESCRIBED.values()
        for model in (each.answer, each.event, each.error)
        if model
    ]
    _, found = models_json_schema(_once([*asked, *told]), ref_template=_REF)
    return dict(found["$defs"])


def _once(models: Iterable[Any]) -> Any:
    return list(dict.fromkeys(models))


def _operation(described: Described) -> dict[str, Any]:
    answers = {str(status): _refusal(described, status) for status in described.refusals}
    if described.answer is not None:
        content: dict[str, Any] = {"application/json": {"schema": _ref(described.answer)}}
        if described.event is not None:
            content["text/event-stream"] = {"itemSchema": _item(described.event), "example": described.stream}
        answers["200"] = {
            "description": "OK",
            "headers": {"X-Generation-Id": _GENERATION},
            "content": content,
            "links": _LINKS,
        }
    examples = {name: {"value": value} for name, value in described.examples.items()}
    return {
        "tags": ["Inference"],
        "summary": described.summary,
        "description": (described.body.__doc__ or "").strip(),
        "operationId": described.operation_id,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(described.body), "examples": examples}},
        },
        "responses": dict(sorted(answers.items())),
        **asks_for(*described.schemes),
    }


def _item(event: type[BaseModel]) -> dict[str, Any]:
    """One server-sent event, in the words of OpenAPI 3.2, as FastAPI writes them too."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": _ref(event)}
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"event": {"type": "string"}, "data": {"anyOf": [{"const": DONE}, data]}},
    }


def _refusal(described: Described, status: int) -> dict[str, Any]:
    what, kind, sentence = REFUSALS[status]
    example: dict[str, Any] = {"error": {"code": status, "message": sentence, "metadata": {"error_type": kind}}}
    if described.error is _outputs.MessagesError:
        told = {"type": "api_error" if status >= 500 else "invalid_request_error", "message": sentence}
        example = {"type": "error", "error": {**told, "error_type": kind}, "request_id": "gen-…"}
    return {
        "description": what,
        "headers": {"X-Generation-Id": _GENERATION, **HEADERS.get(status, {})},
        "content": {"application/json": {"schema": _ref(described.error), "example": example}},
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
