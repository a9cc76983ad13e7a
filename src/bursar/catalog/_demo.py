"""The built-in demo provider: offline, priced, so that everything can be tried before the first provider credential."""

from bursar.catalog._catalog import EMBEDDINGS, REASONING_PARAMETERS, Endpoint, Model, Provider, endpoint_id
from bursar.catalog._pricing import FREE, Pricing
from bursar.kernel.money import parse_price

DEMO_PROVIDER = Provider(
    slug="demo", name="Demo", protocol="demo", training=False, retention_days=0, is_local=True, real=False
)

_CREATED = 1_760_000_000


_EMBED = Model(
    id="demo/embed-1",
    name="Demo: Embed 1",
    created=_CREATED,
    description="Makes embeddings: texts with words in common come out close together. Offline.",
    context_length=8_192,
    output_modalities=(EMBEDDINGS,),
    supported_parameters=("dimensions",),
)


def _model(
    slug: str, name: str, description: str, context_length: int, max_completion_tokens: int, *more: str
) -> Model:
    return Model(
        id=f"demo/{slug}",
        name=name,
        created=_CREATED,
        description=description,
        context_length=context_length,
        max_completion_tokens=max_completion_tokens,
        supported_parameters=("max_completion_tokens", "max_tokens", "temperature", "top_p", "stop", "seed", *more),
    )


def demo_endpoints() -> tuple[Endpoint, ...]:
    """The demo models at the demo provider, each priced another way: four that chat, one that makes embeddings."""
    offers = [
        (
            _model("echo-1", "Demo: Echo 1", "Cheap and quick. Offline: the answers are made up here, the prices are real enough to see.", 32_768, 4_096),
            Pricing(parse_price("0.00000015"), parse_price("0.0000006")),
        ),
        (
            _model("scholar-1", "Demo: Scholar 1", "Dearer; thinks before it answers, so hidden reasoning tokens are charged. Offline.", 131_072, 16_384, *REASONING_PARAMETERS),
            Pricing(
                parse_price("0.000003"),
                parse_price("0.000015"),
                input_cache_read=parse_price("0.0000003"),
                input_cache_write=parse_price("0.00000375"),
                internal_reasoning=parse_price("0.000015"),
            ),
        ),
        (
            _model("flat-1", "Demo: Flat 1", "One cent per request, whatever its length. Offline.", 32_768, 4_096),
            Pricing(FREE, FREE, request=parse_price("0.01")),
        ),
        (
            _model("free-1", "Demo: Free 1", "Costs nothing: its price is 0, which is a price. Offline.", 32_768, 4_096),
            Pricing(FREE, FREE),
        ),
        (_EMBED, Pricing(parse_price("0.00000002"), FREE)),
    ]  # fmt: skip
    return tuple(
        Endpoint(
            id=endpoint_id(model.id, DEMO_PROVIDER.slug, slug),
            model=model,
            provider=DEMO_PROVIDER,
            upstream_model=slug,
            pricing=pricing,
            context_length=model.context_length,
            max_completion_tokens=model.max_completion_tokens,
        )
        for model, pricing in offers
        for slug in [model.id.partition("/")[2]]
    )
