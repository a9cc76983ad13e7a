"""The skin of OpenAI's legacy completions: one prompt in, its text out. The prompt is the one message of a chat inside."""

from typing import Any

from bursar.catalog import Operation
from bursar.gateway._door import ChatRequest, Headers, InvalidRequest, chat_request, parse_object
from bursar.gateway._skin import EVENT_STREAM_COMMENT, Writer
from bursar.gateway._wire import Refusal, encode, error_object, json_refusal
from bursar.kernel.errors import BursarError
from bursar.providers import Chunk

_UNSUPPORTED = ("echo", "suffix", "logprobs", "top_logprobs")
"""Chat completions have nothing like them; where they are set to what they are without being sent, nobody is misled."""
_CHAT_ONLY = ("messages", "tools", "tool_choice", "functions", "function_call", "modalities", "audio")


class CompletionsWriter:
    """Server-sent events of `text_completion`s, `[DONE]` at the end."""

    splices = False
    keepalive = EVENT_STREAM_COMMENT

    def __init__(self, request: ChatRequest, generation: str, created: int) -> None:
        self._head = {
            "id": generation,
            "object": "text_completion",
            "created": created,
            "model": request.models[0],
        }

    def chunk(self, chunk: Chunk) -> bytes:
        value = chunk.value
        choices = [_choice(choice, "delta") for choice in value["choices"]]
        told = [choice for choice in choices if choice["text"] or choice["finish_reason"] or "reasoning" in choice]
        return _event(_completion(value, told)) if told else b""

    def failed(self, error: BursarError) -> bytes:
        choice = {"text": "", "index": 0, "logprobs": None, "finish_reason": "error", "native_finish_reason": None}
        return _event({**self._head, "system_fingerprint": None, "error": error_object(error), "choices": [choice]})

    def end(self, closing: dict[str, Any] | None) -> bytes:
        last = b"" if closing is None else _event({**_completion(closing, []), "usage": closing["usage"]})
        return last + b"data: [DONE]\n\n"


class CompletionsSkin:
    api_type = "completions"
    operation: Operation = "chat"

    def parse(self, body: bytes, headers: Headers) -> ChatRequest:
        fields = parse_object(body)
        prompt = _prompt(fields.get("prompt"))
        _refuse_what_a_chat_cannot_do(fields)
        left_out = {"prompt", "best_of", *_UNSUPPORTED, *_CHAT_ONLY}
        chat = {name: value for name, value in fields.items() if name not in left_out}
        return chat_request({**chat, "messages": [{"role": "user", "content": prompt}]}, headers)

    def whole(self, request: ChatRequest, answer: dict[str, Any]) -> bytes:
        del request
        choices = [_choice(choice, "message") for choice in answer["choices"]]
        return encode({**_completion(answer, choices), "usage": answer["usage"]})

    def writer(self, request: ChatRequest, generation: str, created: int) -> Writer:
        return CompletionsWriter(request, generation, created)

    def refusal(self, error: BursarError, generation: str) -> Refusal:
        del generation
        return json_refusal(error)


def _prompt(prompt: Any) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        [prompt] = prompt
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, int) or (isinstance(prompt, list) and prompt and isinstance(prompt[0], int)):
        raise InvalidRequest("prompt: tokens are not offered.", remedy="Send the text itself.", field="prompt")
    if isinstance(prompt, list) and len(prompt) > 1:
        raise InvalidRequest("prompt: only one is offered.", remedy="Send a request for each.", field="prompt")
    raise InvalidRequest("prompt: a string is required.", field="prompt")


def _refuse_what_a_chat_cannot_do(fields: dict[str, Any]) -> None:
    for name in _UNSUPPORTED:
        # logprobs 0 asks for the chosen tokens' own; it is no "off"
        if fields.get(name) not in (None, "") and fields[name] is not False:
            raise InvalidRequest(f"{name} is not offered for completions.", remedy=_ELSEWHERE, field=name)
    for name in _CHAT_ONLY:
        if fields.get(name) is not None:
            raise InvalidRequest(f"{name} is not a field of completions.", remedy=_ELSEWHERE, field=name)
    best = fields.get("best_of")
    if best is not None and (isinstance(best, bool) or best not in (1, fields.get("n"))):
        raise InvalidRequest("best_of is not offered.", remedy="Leave it out.", field="best_of")


_ELSEWHERE = "Leave it out, or use /api/v1/chat/completions."


def _completion(ours: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    """From a `chat.completion` or a chunk of one, without its usage."""
    kept = ("id", "provider", "model", "created", "system_fingerprint")
    routed = {name: ours[name] for name in ("openrouter_metadata",) if name in ours}
    return {**{name: ours.get(name) for name in kept}, "object": "text_completion", "choices": choices, **routed}


def _choice(choice: dict[str, Any], part: str) -> dict[str, Any]:
    said = choice.get(part)
    said = said if isinstance(said, dict) else {}
    told = {
        "text": _text(said.get("content")),
        "index": choice["index"],
        "logprobs": None,
        "finish_reason": choice.get("finish_reason"),
        "native_finish_reason": choice.get("native_finish_reason"),
    }
    reasoning = said.get("reasoning") or said.get("reasoning_content")
    return {**told, "reasoning": reasoning} if isinstance(reasoning, str) and reasoning else told


def _text(content: Any) -> str:
    pieces = content if isinstance(content, list) else [content]
    texts = [piece.get("text") if isinstance(piece, dict) else piece for piece in pieces]
    return "".join(text for text in texts if isinstance(text, str))


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + encode(value) + b"\n\n"
