"""The query of a list of models, as OpenRouter names it, checked and turned into the catalogue's words."""

import re
from collections.abc import Collection
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from bursar.catalog import MODALITIES, OUTPUT_MODALITIES, ModelQuery, ModelSort
from bursar.gateway import PARAMETERS

PAGE_MODELS_MAX = 1000
TEXT_CHARACTERS_MAX = 200
DAYS_MAX = 100_000
TOKENS_MAX = 10**9
PRICE_USD_MAX = 10**9
ALL = "all"

NOT_FILTERED_BY = frozenset(
    [
        *("arch", "category", "distillable", "region", "use_rss"),
        *(f"{end}_{index}_index" for end in ("min", "max") for index in ("intelligence", "coding", "agentic")),
        *("min_tool_success_rate", "max_tool_success_rate"),
    ]
)
"""OpenRouter's filters by facts that the catalogue does not hold. They are refused: a filter that is quietly left out looks
like one that was applied."""


def words_of(value: str | None) -> tuple[str, ...]:
    """`a, b` → ("a", "b"), each once."""
    return tuple(dict.fromkeys(word for each in (value or "").split(",") if (word := each.strip())))


def _only(known: Collection[str] | None = None) -> AfterValidator:
    def check(value: str) -> str:
        words = words_of(value)
        if not words:
            raise ValueError("at least one word is required, or leave it out")
        unknown = [word for word in words if known is not None and word not in known]
        if unknown:
            raise ValueError(f"{unknown[0][:60]} is not one of {', '.join(known or ())}")
        return value

    return AfterValidator(check)


def _comma_separated(known: Collection[str] | None = None) -> WithJsonSchema:
    word = r"[^,\s]+" if known is None else f"({'|'.join(map(re.escape, known))})"
    return WithJsonSchema({"type": "string", "pattern": f"^{word}(, ?{word})*$"})


_OUTPUTS = (*OUTPUT_MODALITIES, ALL)
_PARAMETERS = sorted([*PARAMETERS, "dimensions"])

AnyWords = Annotated[str, _only(), _comma_separated()]
Parameters = Annotated[str, _only(_PARAMETERS), _comma_separated(_PARAMETERS)]
Inputs = Annotated[str, _only(MODALITIES), _comma_separated(MODALITIES)]
Outputs = Annotated[str, _only(_OUTPUTS), _comma_separated(_OUTPUTS)]
Days = Annotated[int, Field(ge=0, le=DAYS_MAX)]
Price = Annotated[
    Decimal,
    Field(ge=0, le=PRICE_USD_MAX),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": PRICE_USD_MAX}),
]


class Paging(BaseModel):
    offset: int = Field(0, ge=0, description="How many to skip.")
    limit: int | None = Field(None, ge=1, le=PAGE_MODELS_MAX, description="How many at most. Unset: all.")


class ModelFilters(BaseModel):
    """All that is given must be met. Words of a list are separated by commas; prices are USD per million tokens."""

    q: str | None = Field(None, max_length=TEXT_CHARACTERS_MAX, description="Stands in the id or the name.")
    supported_parameters: Parameters | None = Field(None, description="What it understands: all of these.")
    input_modalities: Inputs | None = Field(None, description="What it reads: all of these.")
    output_modalities: Outputs | None = Field(
        None, description="What it makes: any of these. Unset: `text`. `all`: every model."
    )
    context: int | None = Field(None, ge=0, le=TOKENS_MAX, description="The shortest context, in tokens.")
    min_price: Price | None = Field(None, description="The lowest price of prompts.")
    max_price: Price | None = Field(None, description="The highest price of prompts.")
    min_output_price: Price | None = Field(None, description="The lowest price of completions.")
    max_output_price: Price | None = Field(None, description="The highest price of completions.")
    model_authors: AnyWords | None = Field(None, description="Who made it: what stands before the slash of its id.")
    providers: AnyWords | None = Field(None, description="Who serves it: any of these, slugs or names.")
    min_age_days: Days | None = Field(None, description="Days since it was made, at least.")
    max_age_days: Days | None = Field(None, description="Days since it was made, at most.")
    zdr: Literal["true", "false"] | None = Field(None, description="`true`: somebody serves it who keeps nothing.")

    def query(self, sort: ModelSort | None = None) -> ModelQuery:
        makes = words_of(self.output_modalities)
        return ModelQuery(
            text=self.q or "",
            supported_parameters=words_of(self.supported_parameters),
            input_modalities=words_of(self.input_modalities),
            # As OpenRouter's list does: what makes text. Clients offer every model listed here for chat.
            output_modalities=() if ALL in makes else makes or ("text",),
            authors=words_of(self.model_authors),
            providers=words_of(self.providers),
            context_min=self.context,
            prompt_price_min=self.min_price,
            prompt_price_max=self.max_price,
            completion_price_min=self.min_output_price,
            completion_price_max=self.max_output_price,
            age_days_min=self.min_age_days,
            age_days_max=self.max_age_days,
            zdr=self.zdr == "true",
            sort=sort,
        )


class ModelsPage(ModelFilters, Paging):
    sort: ModelSort | None = Field(
        None,
        description="Unset: by id. Prices are of prompt and completion together, speeds the medians of the last 30 minutes as "
        "this process saw them; what was not measured comes last.",
    )
