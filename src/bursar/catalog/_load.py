"""Puts a catalogue together from the built-in demo provider, the operator's file and the known providers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from bursar.catalog import _known
from bursar.catalog._catalog import Catalog, Endpoint, Model, Provider, endpoint_id
from bursar.catalog._demo import DEMO_PROVIDER, demo_endpoints
from bursar.catalog._known import KNOWN_BY_SLUG, KNOWN_PROVIDERS, OLLAMA_VARIABLE, KnownOffer, KnownProvider
from bursar.catalog._pricing import Pricing
from bursar.catalog._toml import CatalogFile, EndpointLines, Problem, read_file, suggestion
from bursar.kernel.clock import Clock
from bursar.kernel.errors import SettingsError


@dataclass(slots=True)
class _Parts:
    at: datetime
    providers: dict[str, Provider] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def add(self, provider: Provider, offer: KnownOffer) -> None:
        model = self.models.setdefault(offer.model.id, offer.model)
        name = endpoint_id(model.id, provider.slug, offer.upstream_model)
        self.endpoints[name] = Endpoint(
            id=name,
            model=model,
            provider=provider,
            upstream_model=offer.upstream_model,
            pricing=offer.pricing,
            context_length=offer.model.context_length,
            max_completion_tokens=offer.model.max_completion_tokens,
        )


def load(
    *,
    demo: bool,
    file: Path | None,
    environment: Mapping[str, str],
    real_providers: bool,
    clock: Clock,
    local_models: Mapping[str, list[str]] | None = None,
) -> Catalog:
    """The catalogue of this installation. Later sources give way to what the file says.

    1. `demo`: the built-in demo provider and its four models.
    2. `environment`: the known providers whose variable is set (`KNOWN_PROVIDERS`; other names are ignored), only with
       `real_providers`; a local one (OLLAMA_HOST) always, since it costs nothing, with the models in
       `local_models["ollama"]`, which the caller has asked it for.
    3. `file`: adds to and overrides the others. A `[[provider]]` or `[[model]]` of the same name replaces it; an `[[endpoint]]`
       replaces what is known of the same model at the same provider. Endpoints at a known provider that `real_providers`
       leaves out are left out too; providers that the file defines are always in.

    An endpoint without a price takes the published one, if there is one, and otherwise has none and must be refused.
    Raises `CatalogError` for the file, `SettingsError` for an unreadable OLLAMA_HOST.
    """
    parts = _Parts(clock.now())
    written = None if file is None else read_file(file)
    replaced = {provider.slug: provider for provider in written.providers} if written else {}
    if demo:
        _add_demo(parts, replaced)
    for variable, known in KNOWN_PROVIDERS.items():
        value = environment.get(variable, "").strip()
        if value and (real_providers or known.provider.is_local):
            _add_known(parts, known, value, replaced, local_models or {})
    if written is not None:
        _add_file(parts, written, demo=demo, environment=environment)
        written.raise_first()
    return Catalog(parts.providers.values(), parts.models.values(), parts.endpoints.values())


def _add_demo(parts: _Parts, replaced: Mapping[str, Provider]) -> None:
    provider = replaced.get(DEMO_PROVIDER.slug, DEMO_PROVIDER)
    parts.providers[provider.slug] = provider
    for endpoint in demo_endpoints():
        parts.models[endpoint.model.id] = endpoint.model
        parts.endpoints[endpoint.id] = replace(endpoint, provider=provider)


def _add_known(
    parts: _Parts,
    known: KnownProvider,
    value: str,
    replaced: Mapping[str, Provider],
    local_models: Mapping[str, list[str]],
) -> None:
    provider = known.provider
    if provider.is_local:
        try:
            provider = replace(provider, base_url=_known.local_base_url(value))
        except ValueError:
            sentence = f"{OLLAMA_VARIABLE} is not an address; write it like 127.0.0.1:{_known.OLLAMA_PORT}"
            raise SettingsError(sentence, setting=OLLAMA_VARIABLE) from None
        offers = _known.local_offers(known.author, local_models.get(provider.slug, []))
    else:
        offers = _known.known_offers(known, parts.at)
    provider = replaced.get(provider.slug, provider)
    parts.providers[provider.slug] = provider
    for offer in offers:
        parts.add(provider, offer)


def _add_file(parts: _Parts, written: CatalogFile, *, demo: bool, environment: Mapping[str, str]) -> None:
    for provider in written.providers:
        if demo and provider.slug == DEMO_PROVIDER.slug and provider.protocol != DEMO_PROVIDER.protocol:
            line = written.provider_lines[provider.slug]
            written.problems.append(Problem(line, 'provider "demo" is built in', "choose another slug"))
        parts.providers[provider.slug] = provider
    for model in written.models:
        parts.models[model.id] = model
        for name, endpoint in parts.endpoints.items():
            if endpoint.model.id == model.id:
                parts.endpoints[name] = replace(
                    endpoint,
                    model=model,
                    context_length=model.context_length,
                    max_completion_tokens=model.max_completion_tokens,
                )
    overridden = {(lines.model_id, lines.provider_slug) for lines in written.endpoints}
    for name, endpoint in list(parts.endpoints.items()):
        if (endpoint.model.id, endpoint.provider.slug) in overridden:
            del parts.endpoints[name]
    for lines in written.endpoints:
        _add_endpoint(parts, written, lines, environment)


def _add_endpoint(parts: _Parts, written: CatalogFile, lines: EndpointLines, environment: Mapping[str, str]) -> None:
    model = parts.models.get(lines.model_id) or _known.find_known_model(lines.model_id, parts.at)
    if model is None and ("model", lines.model_id) not in written.mentioned:
        hint = suggestion(lines.model_id, parts.models)
        what = f'model "{lines.model_id}" is not defined{hint}'
        written.problems.append(Problem(lines.model_line, what, f'add a [[model]] with id = "{lines.model_id}"'))
    provider = parts.providers.get(lines.provider_slug)
    if provider is None and ("provider", lines.provider_slug) not in written.mentioned:
        problem = _missing_provider(parts, lines, environment)
        written.problems.extend([] if problem is None else [problem])
    if model is None or provider is None:
        return
    parts.models[model.id] = model
    name = endpoint_id(model.id, provider.slug, lines.upstream_model)
    parts.endpoints[name] = Endpoint(
        id=name,
        model=model,
        provider=provider,
        upstream_model=lines.upstream_model,
        pricing=lines.pricing or _published(provider, lines.upstream_model, parts.at),
        context_length=lines.context_length or model.context_length,
        max_completion_tokens=lines.max_completion_tokens or model.max_completion_tokens,
        quantization=lines.quantization,
    )


def _published(provider: Provider, upstream_model: str, at: datetime) -> Pricing | None:
    return _known.find_known_pricing(provider, upstream_model, at)


def _missing_provider(parts: _Parts, lines: EndpointLines, environment: Mapping[str, str]) -> Problem | None:
    """None where a known provider is merely left out because the installation does not use real providers."""
    slug = lines.provider_slug
    if slug in KNOWN_BY_SLUG:
        variable = KNOWN_BY_SLUG[slug][0]
        if environment.get(variable, "").strip():
            return None
        return Problem(
            lines.provider_line,
            f'provider "{slug}" needs {variable}, which is not set',
            f"set {variable} or add a [[provider]]",
        )
    if slug == DEMO_PROVIDER.slug:
        return Problem(
            lines.provider_line,
            'provider "demo" is not part of this installation',
            'add a [[provider]] with slug = "demo" and protocol = "demo"',
        )
    hint = suggestion(slug, [*parts.providers, *KNOWN_BY_SLUG])
    return Problem(
        lines.provider_line, f'provider "{slug}" is not defined{hint}', f'add a [[provider]] with slug = "{slug}"'
    )
