"""What models answer, for the description, in each protocol. Money is USD as a JSON number."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class CostDetails(BaseModel):
    upstream_inference_cost: float | None
    upstream_inference_prompt_cost: float
    upstream_inference_completions_cost: float


class PromptDetails(BaseModel):
    cached_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int = Field(description="Those of them that are kept for an hour.")
    audio_tokens: int
    image_tokens: int
    video_tokens: int


class CompletionDetails(BaseModel):
    reasoning_tokens: int
    audio_tokens: int
    image_tokens: int


class ChatUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float = Field(description="What was charged.")
    is_byok: bool
    cost_details: CostDetails
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ChatAnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatChoice(BaseModel):
    index: int
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "error"] | None
    native_finish_reason: str | None = None
    message: ChatAnswerMessage


class Routed(BaseModel):
    id: str = Field(description="The generation: `GET /generation?id=` tells what it cost.")
    model: str = Field(description="The one that answered.")
    provider: str = Field(description="Who answered.")


class ChatAnswer(Routed):
    object: Literal["chat.completion"]
    created: int
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: ChatUsage


class TextChoice(BaseModel):
    text: str
    index: int
    logprobs: Any
    finish_reason: str | None
    native_finish_reason: str | None


class CompletionsAnswer(Routed):
    object: Literal["text_completion"]
    created: int
    system_fingerprint: str | None
    choices: list[TextChoice]
    usage: ChatUsage


class EmbeddingsUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int
    cost: float
    is_byok: bool
    cost_details: CostDetails


class Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of 32-bit floats.")


class EmbeddingsAnswer(Routed):
    object: Literal["list"]
    data: list[Embedding]
    usage: EmbeddingsUsage


class ResponseCostDetails(BaseModel):
    upstream_inference_cost: float | None
    upstream_inference_input_cost: float
    upstream_inference_output_cost: float


class ResponseUsage(BaseModel):
    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int
    cost: float
    is_byok: bool
    cost_details: ResponseCostDetails


class ResponsesAnswer(Routed):
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete", "failed"]
    output: list[dict[str, Any]]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    instructions: str | None
    metadata: dict[str, str] | None
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    temperature: float | None
    top_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    usage: ResponseUsage


class CacheCreation(BaseModel):
    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int


class MessagesUsage(BaseModel):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    cache_creation: CacheCreation
    cost: float
    is_byok: bool


class MessagesAnswer(Routed):
    type: Literal["message"]
    role: Literal["assistant"]
    content: list[dict[str, Any]]
    stop_reason: str | None
    stop_sequence: str | None
    usage: MessagesUsage


class MessagesErrorObject(BaseModel):
    type: str
    message: str
    error_type: str


class MessagesError(BaseModel):
    """Anthropic's envelope."""

    type: Literal["error"]
    error: MessagesErrorObject
    request_id: str


# Streams: what stands in the `data` of an event.


class ErrorInStream(BaseModel):
    code: int
    message: str


class Delta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning: str | None = None


class ChunkChoice(BaseModel):
    index: int
    delta: Delta
    finish_reason: str | None


class ChatChunk(BaseModel):
    """The last one carries the usage, and no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | None = None
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None
    error: ErrorInStream | None = None


class CompletionsChunk(BaseModel):
    """The last one carries the usage, and no choices."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: ChatUsage | None = None
    error: ErrorInStream | None = None


class ResponsesEvent(BaseModel):
    """OpenAI's events; the last one carries the whole response, its usage included."""

    type: str
    sequence_number: int


class MessagesEvent(BaseModel):
    """Anthropic's events; `message_delta` carries the usage."""

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    ]
