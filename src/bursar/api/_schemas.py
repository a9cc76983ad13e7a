"""The answers as the OpenAPI description shows them. Money is USD as a JSON number; prices are strings of USD per unit."""

from typing import Any

from pydantic import BaseModel, Field


class ErrorObject(BaseModel):
    code: int = Field(description="The HTTP status.")
    message: str
    metadata: dict[str, Any] | None = Field(None, description="`error_type`, and `remedy_hint`: what a person can do.")
    availability: dict[str, Any] | None = None


class ErrorAnswer(BaseModel):
    error: ErrorObject


class ModelObject(BaseModel):
    id: str
    canonical_slug: str
    name: str
    created: int = Field(description="Unix seconds.")
    description: str
    context_length: int | None
    architecture: dict[str, Any]
    pricing: dict[str, str]
    top_provider: dict[str, Any]
    per_request_limits: dict[str, Any] | None
    supported_parameters: list[str]
    supported_voices: list[str] | None
    default_parameters: dict[str, Any] | None
    links: dict[str, str]


class PageLinks(BaseModel):
    next: str | None


class ModelsAnswer(BaseModel):
    data: list[ModelObject]
    total_count: int
    links: PageLinks


class KeyObject(BaseModel):
    label: str = Field(description="The masked key.")
    limit: float | None
    limit_remaining: float | None
    limit_reset: str | None
    include_byok_in_limit: bool
    usage: float
    usage_daily: float = Field(description="In the present UTC day.")
    usage_weekly: float = Field(description="In the present UTC week, from Monday.")
    usage_monthly: float
    byok_usage: float
    byok_usage_daily: float
    byok_usage_weekly: float
    byok_usage_monthly: float
    is_free_tier: bool
    is_management_key: bool
    is_provisioning_key: bool
    creator_user_id: str | None
    organization_id: str | None
    workspace_id: str | None
    allowed_data_regions: list[str]
    budgets: list[dict[str, Any]]
    effective_budget: dict[str, Any] | None
    free_model_daily_requests: dict[str, int]
    rate_limit: dict[str, Any]
    expires_at: str | None


class KeyAnswer(BaseModel):
    data: KeyObject


class CreditsObject(BaseModel):
    total_credits: float
    total_usage: float


class CreditsAnswer(BaseModel):
    data: CreditsObject


class GenerationObject(BaseModel):
    """The keys that matter most; the rest follow OpenRouter's description."""

    id: str
    created_at: str
    model: str
    provider_name: str | None
    usage: float
    total_cost: float
    streamed: bool
    cancelled: bool
    finish_reason: str | None
    native_tokens_prompt: int
    native_tokens_completion: int

    model_config = {"extra": "allow"}


class GenerationAnswer(BaseModel):
    data: GenerationObject
