"""The catalogue is put together from the demo provider, the operator's file and known providers."""

import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path

import pytest

from bursar import catalog
from bursar.catalog import KNOWN_PROVIDERS, Catalog, CatalogError, Usage, charge, local_base_url, public_model
from bursar.catalog._known import pricing_from
from bursar.kernel.clock import FixedClock
from bursar.kernel.errors import SettingsError
from bursar.kernel.money import parse_price

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

CLOCK = FixedClock(NOW)


def load(**arguments) -> Catalog:
    return catalog.load(**{"clock": CLOCK, **arguments})


PUBLIC_KEYS = {
    "id", "canonical_slug", "name", "created", "context_length", "architecture", "pricing", "top_provider",
    "per_request_limits", "supported_parameters", "supported_voices", "default_parameters", "links",
}  # fmt: skip


def demo() -> Catalog:
    return load(demo=True, file=None, environment={}, real_providers=False)


def from_text(tmp_path: Path, text: str, **arguments) -> Catalog:
    path = tmp_path / "catalog.toml"
    path.write_text(text)
    return load(**{"demo": True, "environment": {}, "real_providers": False, "file": path, **arguments})


def test_the_demo_models_are_built_in_and_priced() -> None:
    found = demo()
    assert [model.id for model in found.models()] == [
        "demo/echo-1",
        "demo/embed-1",
        "demo/flat-1",
        "demo/free-1",
        "demo/scholar-1",
    ]
    usage = Usage(1000, 500, reasoning_tokens=100)
    costs = {model.id: charge(found.offers_for(model.id)[0].pricing, usage) for model in found.models()}
    assert costs["demo/flat-1"] == 10_000_000
    assert costs["demo/free-1"] == 0
    assert found.offers_for("demo/free-1")[0].pricing.is_free
    assert 0 < costs["demo/echo-1"] < costs["demo/scholar-1"]


def test_without_demo_and_file_there_is_nothing() -> None:
    found = load(demo=False, file=None, environment={}, real_providers=True)
    assert (found.models(), found.providers(), found.endpoints()) == ((), (), ())


def test_loading_takes_less_than_20_milliseconds_and_leaves_the_price_list_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text('[[endpoint]]\nmodel = "demo/echo-1"\nprovider = "demo"\nprompt = "0"\ncompletion = "0"\n')
    code = (
        "import sys, time, pathlib\nfrom bursar import catalog\nfrom bursar.kernel.clock import SystemClock\n"
        f"file = pathlib.Path({str(path)!r})\n"
        "load = lambda: catalog.load(demo=True, file=file, environment={}, real_providers=False, clock=SystemClock())\n"
        "times = []\n"
        "for _ in range(5):\n  start = time.perf_counter(); load(); times.append(time.perf_counter() - start)\n"
        "print(min(times) < 0.02, 'genai_prices' in sys.modules, 'aiohttp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


def test_the_file_adds_a_provider_to_a_built_in_model(tmp_path: Path) -> None:
    found = from_text(
        tmp_path,
        '[[provider]]\nslug = "twin"\nprotocol = "demo"\n[[endpoint]]\nmodel = "demo/echo-1"\nprovider = "twin"\n'
        'upstream_model = "echo-1"\nprompt = "0.0000001"\ncompletion = "0.0000001"\n',
    )
    offers = found.offers_for("demo/echo-1")
    assert [offer.provider.slug for offer in offers] == ["twin", "demo"]
    assert all(offer.model == found.find_model("demo/echo-1") for offer in offers)


def test_the_file_overrides_a_built_in_price_and_model(tmp_path: Path) -> None:
    found = from_text(
        tmp_path,
        '[[model]]\nid = "demo/echo-1"\nname = "Echo"\ncontext_length = 1000\n'
        '[[endpoint]]\nmodel = "demo/echo-1"\nprovider = "demo"\nrequest = "1.5"\n',
    )
    [offer] = found.offers_for("demo/echo-1")
    assert (offer.model.name, offer.context_length, offer.upstream_model) == ("Echo", 1000, "echo-1")
    assert charge(offer.pricing, Usage(5, 5)) == 1_500_000_000


def test_what_a_provider_does_with_prompts_is_assumed_to_be_the_worst_until_told(tmp_path: Path) -> None:
    found = from_text(
        tmp_path, '[[provider]]\nslug = "acme"\nprotocol = "openai"\nbase_url = "https://api.acme.test/v1/"\n'
    )
    acme = found.providers()[0]
    assert (acme.training, acme.retention_days, acme.real, acme.is_local) == (True, None, True, False)
    assert acme.base_url == "https://api.acme.test/v1"
    assert found.providers_needing_credentials == ()


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9999/v1", "http://localhost/v1", "http://[::1]:80", "http://127.1.2.3"]
)
def test_what_runs_on_this_machine_costs_no_real_money(tmp_path: Path, address: str) -> None:
    text = (
        f'[[provider]]\nslug = "acme"\nprotocol = "openai"\nbase_url = "{address}"\ncredential_env = "ACME_API_KEY"\n'
    )
    found = from_text(tmp_path, text)
    assert (found.providers()[0].is_local, found.providers()[0].real) == (True, False)
    assert [provider.slug for provider in found.providers_needing_credentials] == ["acme"]


def test_a_credential_file_is_found_beside_the_catalogue(tmp_path: Path) -> None:
    text = '[[provider]]\nslug = "acme"\nprotocol = "openai"\nbase_url = "https://a.test"\ncredential_file = "secrets/acme"\n'
    assert from_text(tmp_path, text).providers()[0].credential_file == str(tmp_path / "secrets" / "acme")


def test_an_unpriced_endpoint_stays_unpriced_and_comes_last(tmp_path: Path) -> None:
    found = from_text(
        tmp_path,
        '[[provider]]\nslug = "acme"\nprotocol = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n'
        '[[endpoint]]\nmodel = "demo/echo-1"\nprovider = "acme"\nupstream_model = "gpt-4o"\n',
    )
    assert [offer.pricing is None for offer in found.offers_for("demo/echo-1")] == [False, True]


def test_a_known_provider_appears_when_its_variable_is_set_and_real_providers_are_wanted() -> None:
    environment = {"OPENAI_API_KEY": "sk-x", "GROQ_API_KEY": "  ", "HOME": "/root"}
    found = load(demo=True, file=None, environment=environment, real_providers=True)
    assert [provider.slug for provider in found.providers()] == ["demo", "openai"]
    [offer] = found.offers_for("openai/gpt-4o")
    assert (offer.upstream_model, offer.provider.credential_env, offer.provider.real) == (
        "gpt-4o",
        "OPENAI_API_KEY",
        True,
    )
    assert offer.pricing.prompt == parse_price("0.0000025")
    assert "sk-x" not in repr(found.endpoints())
    without = load(demo=True, file=None, environment=environment, real_providers=False)
    assert [provider.slug for provider in without.providers()] == ["demo"]


def test_anthropic_is_spoken_to_in_its_own_protocol_at_its_own_prices() -> None:
    found = load(demo=False, file=None, environment={"ANTHROPIC_API_KEY": "sk-x"}, real_providers=True)
    [provider] = found.providers()
    assert (provider.protocol, provider.base_url) == ("anthropic", "https://api.anthropic.com")
    offers = found.offers_for("anthropic/claude-sonnet-4-5")
    assert [offer.pricing is not None for offer in offers] == [True]


def test_every_known_provider_offers_something_with_a_price() -> None:
    environment = dict.fromkeys(KNOWN_PROVIDERS, "x") | {"OLLAMA_HOST": "localhost"}
    found = load(
        demo=False, file=None, environment=environment, real_providers=True, local_models={"ollama": ["gemma3:4b"]}
    )
    priced = {offer.provider.slug for offer in found.endpoints() if offer.pricing is not None}
    assert priced == {known.provider.slug for known in KNOWN_PROVIDERS.values()}
    assert len({offer.id for offer in found.endpoints()}) == len(found.endpoints())
    assert not [model.id for model in found.models() if "embed" in model.id or "whisper" in model.id]


def test_local_models_are_free_and_need_no_consent() -> None:
    found = load(
        demo=False,
        file=None,
        environment={"OLLAMA_HOST": "0.0.0.0:1234"},
        real_providers=False,
        local_models={"ollama": ["llama3.2:3b", "hf.co/x/Y:Q4", "gemma:latest"]},
    )
    assert [model.id for model in found.models()] == ["ollama/gemma", "ollama/hf.co-x-y:q4", "ollama/llama3.2:3b"]
    [offer] = found.offers_for("ollama/gemma")
    assert (offer.upstream_model, offer.pricing.is_free, offer.provider.real) == ("gemma:latest", True, False)
    assert offer.provider.base_url == "http://127.0.0.1:1234/v1"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
        ("http://box.lan", "http://box.lan:11434/v1"),
        ("https://box.lan/", "https://box.lan:443/v1"),
        ("[::1]:99", "http://[::1]:99/v1"),
    ],
)
def test_the_address_of_ollama_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert local_base_url(host) == url


@pytest.mark.parametrize("host", ["ftp://x", "me:secret@box", "localhost:99999"])
def test_an_address_of_ollama_that_is_none_is_a_settings_error(host: str) -> None:
    with pytest.raises(SettingsError, match="OLLAMA_HOST") as caught:
        load(demo=True, file=None, environment={"OLLAMA_HOST": host}, real_providers=False)
    assert "secret" not in str(caught.value)


def test_an_endpoint_takes_the_published_price_and_model_when_it_has_none(tmp_path: Path) -> None:
    found = from_text(
        tmp_path,
        '[[provider]]\nslug = "mine"\nprotocol = "openai"\nbase_url = "https://api.openai.com/v1"\ncredential_env = "MY_KEY"\n'
        '[[endpoint]]\nmodel = "openai/gpt-4o"\nprovider = "mine"\nupstream_model = "gpt-4o"\n',
    )
    [offer] = found.offers_for("openai/gpt-4o")
    assert offer.pricing.completion == parse_price("0.00001")
    assert offer.context_length == 128_000


def test_an_endpoint_at_a_known_provider_waits_for_consent(tmp_path: Path) -> None:
    text = '[[endpoint]]\nmodel = "openai/gpt-4o"\nprovider = "openai"\nprompt = "1"\ncompletion = "1"\n'
    environment = {"OPENAI_API_KEY": "sk-x"}
    assert from_text(tmp_path, text, environment=environment).offers_for("openai/gpt-4o") == ()
    [offer] = from_text(tmp_path, text, environment=environment, real_providers=True).offers_for("openai/gpt-4o")
    assert offer.pricing.prompt == 10**18


def test_published_prices_are_taken_at_their_dearest_where_they_depend_on_the_request() -> None:
    from genai_prices.types import (
        ClauseEquals,
        ConditionalPrice,
        ModelInfo,
        ModelPrice,
        StartDateConstraint,
        Tier,
        TieredPrices,
        TimeOfDateConstraint,
    )

    tiered = TieredPrices(base=Decimal(3), tiers=[Tier(start=200_000, price=Decimal(6))])
    info = ModelInfo(id="m", match=ClauseEquals("m"), prices=ModelPrice(input_mtok=tiered, output_mtok=Decimal("1.5")))
    assert pricing_from(info, NOW).prompt == parse_price("0.000006")
    night = TimeOfDateConstraint(time_of_day(0), time_of_day(6))
    info.prices = [
        ConditionalPrice(None, prices=ModelPrice(input_mtok=Decimal(9), output_mtok=Decimal(9))),
        ConditionalPrice(
            StartDateConstraint(date(2026, 1, 1)), prices=ModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(8))
        ),
        ConditionalPrice(
            StartDateConstraint(date(2027, 1, 1)), prices=ModelPrice(input_mtok=Decimal(7), output_mtok=Decimal(7))
        ),
        ConditionalPrice(night, prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(10))),
    ]
    pricing = pricing_from(info, NOW)
    assert (pricing.prompt, pricing.completion) == (parse_price("0.000002"), parse_price("0.00001"))


def test_a_published_price_finer_than_an_atto_is_rounded_up_and_a_missing_one_is_none() -> None:
    from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice

    info = ModelInfo(
        id="m",
        match=ClauseEquals("m"),
        prices=ModelPrice(input_mtok=Decimal("0.0000000000001"), output_mtok=Decimal(0)),
    )
    assert pricing_from(info, NOW).prompt == 1
    info.prices = ModelPrice(input_mtok=Decimal(1))
    assert pricing_from(info, NOW) is None


def test_a_price_that_begins_on_a_date_counts_from_then_on() -> None:
    def price(at: datetime) -> int:
        found = load(
            demo=False, file=None, environment={"OPENAI_API_KEY": "x"}, real_providers=True, clock=FixedClock(at)
        )
        return found.offers_for("openai/o3")[0].pricing.prompt

    assert price(datetime(2025, 5, 1, tzinfo=UTC)) == parse_price("0.00001")
    assert price(NOW) == parse_price("0.000002")


def test_mistyped_models_are_suggested() -> None:
    found = demo()
    assert found.close_matches("demo/ecko-1")[0] == "demo/echo-1"
    assert found.close_matches("Scholar-1") == ("demo/scholar-1",)
    assert found.close_matches("zzzzzzzz") == ()
    assert found.find_model("demo/ecko-1") is None
    assert found.offers_for("demo/ecko-1") == ()


def test_a_public_model_has_every_key_that_clients_require() -> None:
    found = demo()
    for model in found.models():
        public = public_model(model, found.offers_for(model.id))
        assert public.keys() >= PUBLIC_KEYS
        assert {"input_modalities", "output_modalities", "modality"} <= public["architecture"].keys()
        assert all(isinstance(price, str) for price in public["pricing"].values())
    scholar = public_model(found.find_model("demo/scholar-1"), found.offers_for("demo/scholar-1"))
    assert scholar["pricing"]["input_cache_read"] == "0.0000003"
    assert scholar["pricing"]["prompt"] == "0.000003"
    assert scholar["architecture"]["modality"] == "text->text"


def test_a_public_model_shows_the_cheapest_price_and_never_an_unknown_one_as_free() -> None:
    [offer] = demo().offers_for("demo/echo-1")
    dear = replace(offer, id="z", pricing=catalog.Pricing(parse_price("1"), parse_price("1")))
    assert public_model(offer.model, [dear, offer])["pricing"]["prompt"] == "0.00000015"
    unpriced = replace(offer, pricing=None)
    assert public_model(offer.model, [unpriced, dear])["pricing"]["prompt"] == "1"
    assert public_model(offer.model, [unpriced])["pricing"] == {"prompt": "-1", "completion": "-1"}


def test_endpoint_ids_do_not_change_between_loads() -> None:
    assert [offer.id for offer in demo().endpoints()] == [offer.id for offer in demo().endpoints()]
    assert demo().offers_for("demo/echo-1")[0].id == "demo/echo-1@demo/echo-1"


def test_loading_everything_takes_seconds_at_most() -> None:
    start = time.perf_counter()
    load(demo=True, file=None, environment=dict.fromkeys(KNOWN_PROVIDERS, "x"), real_providers=True)
    assert time.perf_counter() - start < 5


def test_an_endpoint_says_to_what_its_weights_are_rounded_or_that_nobody_knows(tmp_path: Path) -> None:
    text = '[[endpoint]]\nmodel = "demo/echo-1"\nprovider = "demo"\nprompt = "0"\ncompletion = "0"\n'
    [known] = from_text(tmp_path, text + 'quantization = "fp8"\n', demo=True).offers_for("demo/echo-1")
    [unknown] = from_text(tmp_path, text, demo=True).offers_for("demo/echo-1")
    assert (known.quantization, unknown.quantization) == ("fp8", "unknown")
    with pytest.raises(CatalogError, match=r'quantization "fp9" is not known, did you mean "fp8"'):
        from_text(tmp_path, text + 'quantization = "fp9"\n', demo=True)
