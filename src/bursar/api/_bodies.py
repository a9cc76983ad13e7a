"""What can be asked of models, for the description: the fields that the gateway reads and checks, as it checks them.

The gateway reads bodies itself (`gateway._door` and the skins); nothing here is executed for a request. Fields that are not listed
are handed to the provider unread. A test sends what these schemas allow and what they forbid, and compares.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from bursar.catalog import QUANTIZATIONS
from bursar.gateway import (
    CHOICES_MAX,
    DIMENSIONS_MAX,
    FALLBACKS_MAX,
    INPUT_TYPE_CHARACTERS_MAX,
    INPUTS_MAX,
    ITEMS_MAX,
    MAX_TOKENS_MAX,
    METADATA_PAIRS_MAX,
    METADATA_VALUE_CHARACTERS_MAX,
    MODEL_CHARACTERS_MAX,
    MODELS_MAX,
    PREFERRED_PRICE_USD_MAX,
    SLUGS_MAX,
    TEXT_CHARACTERS_MAX,
    TOKEN_MAX,
)

ModelId = Annotated[str, StringConstraints(max_length=MODEL_CHARACTERS_MAX)]
Text = Annotated[str, StringConstraints(max_length=TEXT_CHARACTERS_MAX)]
Slugs = Annotated[list[str], Field(max_length=SLUGS_MAX)]
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS_MAX)]
Cutoff = Annotated[float, Field(ge=0, le=10**9)]
CeilingNumber = Annotated[float, Field(ge=0, le=PREFERRED_PRICE_USD_MAX)]
Ceiling = CeilingNumber | Annotated[str, StringConstraints(pattern=r"^\d{1,9}(\.\d{1,18})?$")]


class SortBy(BaseModel, extra="forbid"):
    by: Literal["price", "throughput", "latency"] | None = None
    partition: Literal["model", "none"] | None = None


class Cutoffs(BaseModel, extra="forbid"):
    """The lowest percentile given counts."""

    p50: Cutoff | None = None
    p75: Cutoff | None = None
    p90: Cutoff | None = None
    p99: Cutoff | None = None


class MaxPrice(BaseModel):
    """USD: per million tokens of prompt, completion or sound in the prompt, per request, per image."""

    prompt: Ceiling | None = None
    completion: Ceiling | None = None
    request: Ceiling | None = None
    image: Ceiling | None = None
    audio: Ceiling | None = None


class ProviderPreferences(BaseModel):
    """Who may serve the request, and in which order. A wish that is not built here is refused, never left out."""

    order: Slugs | None = Field(None, description="Tried first, in this order.")
    only: Slugs | None = Field(None, description="Nobody else.")
    ignore: Slugs | None = Field(None, description="None of these.")
    allow_fallbacks: bool | None = Field(None, description="Unset: true.")
    require_parameters: bool | None = Field(None, description="Only who understands every parameter sent.")
    data_collection: Literal["allow", "deny"] | None = Field(None, description="`deny`: nobody who trains on prompts.")
    zdr: bool | None = Field(None, description="Only who keeps nothing.")
    quantizations: list[Literal[QUANTIZATIONS]] | None = None  # type: ignore[valid-type]
    sort: Literal["price", "throughput", "latency"] | SortBy | None = None
    max_price: MaxPrice | None = None
    preferred_min_throughput: Cutoff | Cutoffs | None = Field(None, description="Tokens per second.")
    preferred_max_latency: Cutoff | Cutoffs | None = Field(None, description="Seconds until the first output.")


class Asked(BaseModel):
    """What every request to a model can say."""

    model: ModelId | None = Field(
        None, description="As `GET /models` lists it, with a variant if need be: `:free`, `:nitro`, `:floor`."
    )
    models: Annotated[list[ModelId], Field(max_length=MODELS_MAX)] | None = Field(
        None, description="Tried one after the other. `model` or this is required."
    )
    provider: ProviderPreferences | None = None
    user: Text | None = Field(None, description="Whom you ask for; stands in the activity.")


class InSession(Asked):
    session_id: Text | None = Field(None, description="Requests of one session go to the same endpoint while they can.")


class Streamed(InSession):
    stream: bool | None = Field(None, description="Answer with server-sent events.")


class ChatMessage(BaseModel):
    role: str = Field(description="`system`, `user`, `assistant` or `tool`.")
    content: str | list[Any] | None = Field(None, description="A text, or parts in OpenAI's shape.")


class ChatBody(Streamed):
    """OpenAI's chat completions, with OpenRouter's fields."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Tokens | None = Field(None, description="The most tokens to write.")
    max_tokens: Tokens | None = Field(None, description="The old name of it.")
    n: int | None = Field(None, ge=1, le=CHOICES_MAX, description="How many answers.")
    modalities: Annotated[list[Literal["text", "audio", "image"]], Field(min_length=1)] | None = Field(
        None, description="What to answer with; models that make nothing but text are left out for more."
    )
    audio: dict[str, Any] | None = Field(None, description="Voice and format, with `audio` among the modalities.")


class CompletionsBody(Streamed):
    """OpenAI's legacy completions."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    max_tokens: Tokens | None = None
    n: int | None = Field(None, ge=1, le=CHOICES_MAX)


NotEmpty = Annotated[str, StringConstraints(min_length=1)]
TokenList = Annotated[list[Annotated[int, Field(ge=0, le=TOKEN_MAX)]], Field(min_length=1)]


class EmbeddingsBody(InSession):
    """OpenAI's embeddings, with OpenRouter's fields."""

    input: NotEmpty | TokenList | Annotated[list[NotEmpty | TokenList], Field(min_length=1, max_length=INPUTS_MAX)]
    dimensions: int | None = Field(None, ge=1, le=DIMENSIONS_MAX)
    encoding_format: Literal["float", "base64"] | None = None
    input_type: Annotated[str, StringConstraints(max_length=INPUT_TYPE_CHARACTERS_MAX)] | None = None


class Fallback(BaseModel):
    model: ModelId


class MessagesMetadata(BaseModel):
    user_id: Text | None = None


class MessagesMessage(BaseModel):
    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[dict[str, Any]], Field(min_length=1)] = Field(
        description="A text, or blocks: text, image, document, tool_use, tool_result, thinking."
    )


class Tool(BaseModel):
    """One that you run yourself; no tools run here."""

    name: str
    description: str | None = None
    input_schema: dict[str, Any]


class MessagesBody(Streamed):
    """Anthropic's Messages, with OpenRouter's fields."""

    max_tokens: Tokens = Field(description="The most tokens to write.")
    messages: Annotated[list[MessagesMessage], Field(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    metadata: MessagesMetadata | None = None
    stop_sequences: list[str] | None = None
    tools: list[Tool] | None = None
    fallbacks: Annotated[list[Fallback], Field(max_length=FALLBACKS_MAX)] | None = Field(
        None, description="In place of `models`."
    )


class FunctionTool(BaseModel):
    """One that you run yourself; no tools run here."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(BaseModel):
    type: Literal["function"]
    name: str


class ResponseReasoning(BaseModel):
    effort: str | None = None
    summary: str | None = None
    enabled: bool | None = None
    max_tokens: Tokens | None = None


class InputItem(BaseModel):
    """A message, a function call, its output, or reasoning, in OpenAI's shape."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] | None = None


MetadataText = Annotated[str, StringConstraints(max_length=METADATA_VALUE_CHARACTERS_MAX)]


class ResponsesBody(Streamed):
    """OpenAI's Responses, with OpenRouter's fields. Nothing is stored: every request is complete in itself."""

    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=ITEMS_MAX)]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    max_tool_calls: Tokens | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    truncation: str | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: list[Any] | None = None
    metadata: Annotated[dict[str, MetadataText], Field(max_length=METADATA_PAIRS_MAX)] | None = None
    reasoning: ResponseReasoning | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice | None = None
    store: Literal[False] | None = None
    background: Literal[False] | None = None
    previous_response_id: None = None


class CountTokensBody(BaseModel):
    """Not offered; whatever is sent is refused."""
