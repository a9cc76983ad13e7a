"""The answers as the OpenAPI description shows them: what OpenRouter's clients require, key by key.

Money is USD as a JSON number; prices are strings of USD per unit; times are ISO 8601, but for `created` in Unix seconds.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from bursar.catalog import CHARGE_CLASSES

PriceText = Annotated[str, StringConstraints(pattern=r"^(-1|\d+(\.\d+)?)$")]


class Strict(BaseModel):
    """A body: takes what the description says and nothing that merely looks like it."""

    model_config = ConfigDict(strict=True)


def example(value: dict[str, Any]) -> ConfigDict:
    """How a body or an answer looks, for the description."""
    return ConfigDict(json_schema_extra={"examples": [value]})


class ErrorObject(BaseModel):
    code: int = Field(description="The HTTP status.")
    message: str
    metadata: dict[str, Any] | None = Field(None, description="`error_type`, and `remedy_hint`: what a person can do.")
    availability: dict[str, Any] | None = None


class ErrorAnswer(BaseModel):
    error: ErrorObject


class Architecture(BaseModel):
    modality: str | None = Field(description="Like `text+image->text`.")
    input_modalities: list[str]
    output_modalities: list[str]
    tokenizer: str | None
    instruct_type: str | None


class Pricing(BaseModel):
    """USD per token, per request and per image. `-1`: not known."""

    prompt: PriceText
    completion: PriceText
    request: PriceText = "0"
    image: PriceText = "0"
    input_cache_read: PriceText | None = Field(None, description="Missing: the price of the prompt.")
    input_cache_write: PriceText | None = None
    input_cache_write_1h: PriceText | None = Field(None, description="Missing: the price of `input_cache_write`.")
    internal_reasoning: PriceText | None = Field(None, description="Missing: the price of the completion.")
    audio: PriceText | None = Field(None, description="A token of sound in the prompt.")
    image_token: PriceText | None = Field(None, description="A token of an image in the prompt.")
    audio_output: PriceText | None = Field(None, description="A token of sound in the completion.")
    image_output: PriceText | None = Field(None, description="A token of an image in the completion.")


class TopProvider(BaseModel):
    is_moderated: bool
    context_length: int | None
    max_completion_tokens: int | None


class ModelLinks(BaseModel):
    details: str


class ModelObject(BaseModel):
    id: str
    canonical_slug: str
    name: str
    created: int = Field(description="Unix seconds; 0: not known.")
    description: str
    context_length: int | None
    architecture: Architecture
    pricing: Pricing = Field(description="The cheapest endpoint's.")
    top_provider: TopProvider
    per_request_limits: dict[str, Any] | None
    supported_parameters: list[str]
    supported_voices: list[str] | None
    default_parameters: dict[str, Any] | None
    links: ModelLinks


class PageLinks(BaseModel):
    next: str | None


class ModelsAnswer(BaseModel):
    data: list[ModelObject]
    total_count: int = Field(description="On all pages.")
    links: PageLinks


class OpenAiModel(ModelObject):
    object: str = Field(description="`model`.")
    owned_by: str


class ModelAnswer(BaseModel):
    data: ModelObject


class ModelsCount(BaseModel):
    count: int


class ModelsCountAnswer(BaseModel):
    data: ModelsCount


class PercentileStats(BaseModel):
    p50: float
    p75: float
    p90: float
    p99: float


class ToolChoiceSupport(BaseModel):
    auto: bool
    none: bool
    required: bool
    function: bool


Uptime = Annotated[float, Field(ge=0, le=100)]


class EndpointObject(BaseModel):
    name: str
    model_id: str
    model_name: str
    provider_name: str
    tag: str = Field(description="Names it in `provider.order`, `only` and `ignore` of a request.")
    context_length: int
    max_completion_tokens: int | None
    max_prompt_tokens: int | None
    quantization: str | None
    service_tier: str | None
    pricing: Pricing
    supported_parameters: list[str]
    supports_implicit_caching: bool
    supports_diarization: bool
    supports_tool_choice: ToolChoiceSupport
    native_tools: dict[str, Any]
    latency_last_30m: PercentileStats | None = Field(
        description="Milliseconds until the first output of a stream. null without a key, or where nothing was measured."
    )
    throughput_last_30m: PercentileStats | None = Field(description="Tokens per second; null likewise.")
    uptime_last_5m: Uptime | None = Field(
        description="Per cent of attempts that did not fail by the provider's fault, as this process saw it."
    )
    uptime_last_30m: Uptime | None
    uptime_last_1d: Uptime | None


class ModelEndpoints(BaseModel):
    id: str
    name: str
    created: int
    description: str
    architecture: Architecture
    endpoints: list[EndpointObject]


class EndpointsAnswer(BaseModel):
    data: ModelEndpoints


class ZdrAnswer(BaseModel):
    data: list[EndpointObject]


class ProviderObject(BaseModel):
    name: str
    slug: str
    privacy_policy_url: str | None
    terms_of_service_url: str | None
    status_page_url: str | None
    headquarters: str | None
    datacenters: list[str] | None


class ProvidersAnswer(BaseModel):
    data: list[ProviderObject]


class RateLimit(BaseModel):
    """Deprecated, and without meaning."""

    interval: str
    note: str
    requests: int


class FreeModelRequests(BaseModel):
    limit: int = Field(description="-1: no limit.")
    used: int
    remaining: int


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
    free_model_daily_requests: FreeModelRequests
    rate_limit: RateLimit
    expires_at: str | None


class KeyAnswer(BaseModel):
    data: KeyObject


class ManagedKeyObject(BaseModel):
    hash: str = Field(description="SHA-256 of the key, in hexadecimal: its name in URLs. A rotation changes it.")
    name: str
    label: str = Field(description="The masked key.")
    disabled: bool
    limit: float | None
    limit_remaining: float | None = Field(description="Of the present window.")
    limit_reset: str | None
    include_byok_in_limit: bool
    usage: float
    usage_daily: float
    usage_weekly: float
    usage_monthly: float
    byok_usage: float
    byok_usage_daily: float
    byok_usage_weekly: float
    byok_usage_monthly: float
    created_at: str
    updated_at: str | None
    last_used_at: str | None
    creator_user_id: str | None
    external_user: str | None
    workspace_id: str
    expires_at: str | None
    rotated_at: str | None = Field(description="Ours, as all that follows: when it got its present secret.")
    previous_hash: str | None = Field(description="Of the secret before; finds the key as well.")
    previous_label: str | None
    previous_until: str | None = Field(description="Until then the secret before works.")


class ManagedKeyAnswer(BaseModel):
    data: ManagedKeyObject


class ManagedKeysAnswer(BaseModel):
    data: list[ManagedKeyObject]


class CreatedKeyAnswer(BaseModel):
    data: ManagedKeyObject
    key: str | None = Field(description="The secret, told once: null where an `Idempotency-Key` is sent again.")
    note: str = Field(default_factory=str, description="Why there is no secret.")


class Acknowledged(BaseModel):
    """What was taken away is in force on so many servers; those that did not confirm within a second follow, or serve nothing when they
    are cut off from the database for 30 seconds."""

    acknowledged: bool = Field(description="Whether every worker that may be serving confirmed.")
    acknowledged_by: int = Field(description="How many did.")
    workers: int | None = Field(description="Of so many; null: the database could not tell.")


class MaybeAcknowledged(BaseModel):
    """As `Acknowledged`, where something was taken away; else these are missing."""

    acknowledged: bool = Field(default=False, description="As when a key is deleted; missing where nothing ended.")
    acknowledged_by: int = 0
    workers: int | None = None


class RotatedKeyAnswer(CreatedKeyAnswer, MaybeAcknowledged):
    """Missing as well where an `Idempotency-Key` is sent again."""


class UpdatedKeyAnswer(ManagedKeyAnswer, MaybeAcknowledged):
    """There with `disabled` true."""


class DeletedAnswer(BaseModel):
    deleted: Literal[True]

    model_config = example({"deleted": True})


class DeletedKeyAnswer(DeletedAnswer, Acknowledged):
    pass


class BudgetObject(BaseModel):
    scope: str = Field(description="`key_limit`, `member` or `workspace`: the organization.")
    budget_id: str | None
    guardrail_id: str | None
    include_byok: bool
    limit_usd: float
    spend_usd: float
    remaining_usd: float
    reset_interval: str | None
    resets_at: str | None


class BudgetAnswer(BaseModel):
    data: BudgetObject | None


class CreditsObject(BaseModel):
    total_credits: float
    total_usage: float


class CreditsAnswer(BaseModel):
    data: CreditsObject


class ProviderResponse(BaseModel):
    """One attempt."""

    status: int | None
    endpoint_id: str
    id: str = Field(default_factory=str, description="The provider's own; missing where it gave none.")
    is_byok: bool
    latency: int | None = Field(description="Milliseconds.")
    model_permaslug: str
    provider_name: str


class GenerationObject(BaseModel):
    id: str
    created_at: str
    model: str
    provider_name: str | None
    usage: float = Field(description="USD, as charged.")
    total_cost: float
    is_byok: bool
    origin: str
    data_region: Literal["global", "europe", "us"]
    streamed: bool
    cancelled: bool
    latency: int | None = Field(description="Milliseconds until the first output.")
    generation_time: int | None
    moderation_latency: int | None
    finish_reason: str | None
    native_finish_reason: str | None
    tokens_prompt: int | None
    tokens_completion: int | None
    native_tokens_prompt: int | None
    native_tokens_completion: int | None
    native_tokens_reasoning: int | None
    native_tokens_cached: int | None
    native_tokens_completion_images: int | None
    num_media_prompt: int | None
    num_media_completion: int | None
    num_input_audio_prompt: int | None
    num_search_results: int | None
    num_fetches: int | None
    cache_discount: float | None
    upstream_inference_cost: float | None
    upstream_id: str | None
    app_id: int | None
    http_referer: str | None
    user_agent: str | None
    external_user: str | None
    api_type: str
    router: str | None
    preset_id: str | None
    service_tier: str | None
    web_search_engine: str | None
    provider_responses: list[ProviderResponse] | None
    workspace_id: str
    session_id: str | None


class GenerationAnswer(BaseModel):
    data: GenerationObject


AmountText = Annotated[str, StringConstraints(pattern=r"^-?\d+(\.\d{1,18})?$")]


class ReceiptLine(BaseModel):
    kind: Literal[CHARGE_CLASSES] = Field(alias="class")  # type: ignore[valid-type]
    count: int = Field(description="Tokens; or requests, images.")
    price: PriceText = Field(description="Of one.")
    amount: AmountText = Field(description="Count × price, exactly.")


class ReceiptObject(BaseModel):
    """Amounts are exact decimals of USD as text. `subtotal` + `rounding` − `not_charged` = `charged`."""

    id: str
    model: str
    usage_source: Literal["reported", "counted", "estimated", "none"] = Field(
        description="Whose counts: the provider's, Bursar's of what arrived, or Bursar's by its length alone."
    )
    price_version: str | None = Field(description="Equal prices have equal versions.")
    lines: list[ReceiptLine] | None = Field(description="Null: charged before prices were kept.")
    subtotal: AmountText | None
    rounding: AmountText | None = Field(description="Up to a nano-dollar, once.")
    not_charged: AmountText | None = Field(description="Used beyond what was held and available.")
    charged: AmountText
    charged_nanos: int
    cache_discount: AmountText | None = Field(description="What caching saved; negative: what it cost.")


class ReceiptAnswer(BaseModel):
    data: ReceiptObject


class AuditActor(BaseModel):
    kind: Literal["user", "key", "operator", "system"] = Field(
        description="A person, a key of theirs, who runs this installation, or Bursar itself."
    )
    name: str
    user_id: str | None = Field(description="Of a key: who created it.")
    key_id: str | None
    address: str | None = Field(description="The IP address it came from.")


class AuditSubject(BaseModel):
    id: str
    name: str


AuditDetail = str | int | bool | None


class AuditChange(BaseModel):
    before: AuditDetail
    after: AuditDetail


class AuditEventObject(BaseModel):
    id: str
    at: str
    action: str = Field(description="Noun and verb, like `key.created`.")
    sentence: str = Field(description="For people; it may be worded otherwise one day.")
    actor: AuditActor
    context_id: str = Field(description="Whose log it stands in: an organization's or a person's.")
    subject: AuditSubject
    details: dict[str, AuditDetail]
    changes: dict[str, AuditChange]


class AuditEventsAnswer(BaseModel):
    data: list[AuditEventObject]
    next_cursor: str | None = Field(description="Null on the last page.")

    model_config = example(
        {
            "data": [
                {
                    "id": "evt_01kbyd3q5x8m4t2v9w7z6y1r0n",
                    "at": "2026-11-24T13:30:00Z",
                    "action": "limit.set",
                    "sentence": "Ana Ruiz changed the limit of key app from $5.00 to $10.00 daily",
                    "actor": {
                        "kind": "user",
                        "name": "Ana Ruiz",
                        "user_id": "user_01kbyd3q5x8m4t2v9w7z6y1r0n",
                        "key_id": None,
                        "address": "192.0.2.1",
                    },
                    "context_id": "org_01kbyd3q5x8m4t2v9w7z6y1r0n",
                    "subject": {"id": "key_01kbyd3q5x8m4t2v9w7z6y1r0n", "name": "key app"},
                    "details": {},
                    "changes": {
                        "amount_nanos": {"before": 5_000_000_000, "after": 10_000_000_000},
                        "period": {"before": "daily", "after": "daily"},
                    },
                }
            ],
            "next_cursor": None,
        }
    )


class Seats(BaseModel):
    members: int
    pending: int = Field(description="Invitations that wait; each holds a seat.")
    maximum: int = Field(description="The operator can raise it.")


class OrganizationObject(BaseModel):
    id: str
    name: str
    slug: str
    billing_email: str | None = Field(description="Whom to write to about money; null: all admins.")
    role: Literal["admin", "member"] = Field(description="Of whoever created the management key.")
    seats: Seats
    created_at: str


_ORGANIZATION = {
    "id": "org_01kbyd3q5x8m4t2v9w7z6y1r0n",
    "name": "Acme Robotics",
    "slug": "acme-robotics",
    "billing_email": "billing@acme.example",
    "role": "admin",
    "seats": {"members": 3, "pending": 1, "maximum": 10},
    "created_at": "2026-11-24T13:30:00Z",
}


class OrganizationAnswer(BaseModel):
    data: OrganizationObject

    model_config = example({"data": _ORGANIZATION})


class OrganizationsAnswer(BaseModel):
    data: list[OrganizationObject]

    model_config = example({"data": [_ORGANIZATION]})


class MembershipObject(BaseModel):
    user_id: str
    email: str
    name: str
    role: Literal["admin", "member"]
    since: str


_MEMBERSHIP = {
    "user_id": "user_01kbyd3q5x8m4t2v9w7z6y1r0n",
    "email": "max@acme.example",
    "name": "Max Weber",
    "role": "member",
    "since": "2026-11-24T13:30:00Z",
}


class MembershipAnswer(BaseModel):
    data: MembershipObject

    model_config = example({"data": _MEMBERSHIP})


class MembershipsAnswer(BaseModel):
    data: list[MembershipObject]
    total_count: int

    model_config = example({"data": [_MEMBERSHIP], "total_count": 1})


class DepartedKey(BaseModel):
    hash: str
    name: str
    label: str
    is_management_key: bool


class DepartureAnswer(Acknowledged):
    """What became of the keys that the person created."""

    deleted: Literal[True]
    user_id: str
    keys_disabled: list[DepartedKey]
    keys_handed_over: list[DepartedKey]
    keys_to_look_at: list[DepartedKey] = Field(
        description="A hint: keys of others that were last used from where this person works. Rotate what they may know."
    )

    model_config = example(
        {
            "deleted": True,
            "acknowledged": True,
            "acknowledged_by": 2,
            "workers": 2,
            "user_id": "user_01kbyd3q5x8m4t2v9w7z6y1r0n",
            "keys_disabled": [
                {"hash": "9f" * 32, "name": "notebook", "label": "sk-bursar-v1-abc...wxyz", "is_management_key": False}
            ],
            "keys_handed_over": [],
            "keys_to_look_at": [],
        }
    )


class InvitationObject(BaseModel):
    id: str
    organization_id: str
    organization_name: str
    email: str
    role: Literal["admin", "member"]
    state: Literal["pending", "accepted", "declined", "revoked", "expired"]
    invited_by_user_id: str | None = Field(description="Null: the operator of this installation.")
    created_at: str
    sent_at: str
    expires_at: str


_INVITATION = {
    "id": "inv_01kbyd3q5x8m4t2v9w7z6y1r0n",
    "organization_id": "org_01kbyd3q5x8m4t2v9w7z6y1r0n",
    "organization_name": "Acme Robotics",
    "email": "sam@acme.example",
    "role": "member",
    "state": "pending",
    "invited_by_user_id": "user_01kbyd3q5x8m4t2v9w7z6y1r0n",
    "created_at": "2026-11-24T13:30:00Z",
    "sent_at": "2026-11-24T13:30:00Z",
    "expires_at": "2026-12-01T13:30:00Z",
}


class InvitationAnswer(BaseModel):
    data: InvitationObject

    model_config = example({"data": _INVITATION})


class InvitationsAnswer(BaseModel):
    data: list[InvitationObject]

    model_config = example({"data": [_INVITATION]})


class InvitedObject(BaseModel):
    email: str = Field(description="As it was sent.")
    outcome: Literal["invited", "already_member", "already_invited", "bad_address", "no_seat", "too_often"]
    message: str | None = Field(description="Why not.")
    invitation: InvitationObject | None


class InvitedAnswer(BaseModel):
    data: list[InvitedObject]

    model_config = example(
        {
            "data": [
                {"email": "sam@acme.example", "outcome": "invited", "message": None, "invitation": _INVITATION},
                {
                    "email": "max@acme.example",
                    "outcome": "already_member",
                    "message": "Max Weber is a member already.",
                    "invitation": None,
                },
            ]
        }
    )


class JoinedObject(BaseModel):
    organization_id: str
    name: str
    slug: str
    role: Literal["admin", "member"]


class JoinedAnswer(BaseModel):
    data: JoinedObject

    model_config = example(
        {
            "data": {
                "organization_id": "org_01kbyd3q5x8m4t2v9w7z6y1r0n",
                "name": "Acme Robotics",
                "slug": "acme-robotics",
                "role": "member",
            }
        }
    )


class DeclinedAnswer(BaseModel):
    declined: Literal[True]

    model_config = example({"declined": True})


class OrganizationMemberObject(BaseModel):
    id: str
    email: str
    first_name: str | None
    last_name: str | None
    role: Literal["org:admin", "org:member"]


class OrganizationMembersAnswer(BaseModel):
    data: list[OrganizationMemberObject]
    total_count: int

    model_config = example(
        {
            "data": [
                {
                    "id": "user_01kbyd3q5x8m4t2v9w7z6y1r0n",
                    "email": "max@acme.example",
                    "first_name": "Max",
                    "last_name": "Weber",
                    "role": "org:member",
                }
            ],
            "total_count": 1,
        }
    )


class OrganizationSettingsObject(BaseModel):
    id: str
    is_filtered_model_catalog_enabled: bool


class OrganizationSettingsAnswer(BaseModel):
    data: OrganizationSettingsObject

    model_config = example(
        {"data": {"id": "org_01kbyd3q5x8m4t2v9w7z6y1r0n", "is_filtered_model_catalog_enabled": False}}
    )
