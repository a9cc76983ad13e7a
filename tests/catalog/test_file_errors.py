"""Every error in the operator's catalogue names its line and its remedy."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bursar import providers
from bursar.catalog import PROTOCOLS, Catalog, CatalogError, load
from bursar.kernel.clock import FixedClock

CLOCK = FixedClock(datetime(2026, 11, 24, 12, tzinfo=UTC))

GOOD = """\
[[provider]]
slug = "acme"  # who
protocol = "openai"
base_url = "http://127.0.0.1:9999/v1"
credential_env = "ACME_API_KEY"
training = false
retention_days = 0
[[model]]
id = "acme/prime"
context_length = 32768
max_completion_tokens = 4096
[[endpoint]]
model = "acme/prime"
provider = "acme"
upstream_model = "prime-1"
prompt = "0.000000007"
completion = "0.000000013"
"""


def loaded(tmp_path: Path, text: str | bytes, **arguments) -> Catalog:
    path = tmp_path / "catalog.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    arguments = {"demo": True, "environment": {}, "real_providers": False, "clock": CLOCK, **arguments}
    return load(file=path, **arguments)


def error_in(tmp_path: Path, text: str | bytes, **arguments) -> CatalogError:
    with pytest.raises(CatalogError) as caught:
        loaded(tmp_path, text, **arguments)
    return caught.value


def test_the_file_that_the_errors_are_made_from_is_good(tmp_path: Path) -> None:
    [endpoint] = loaded(tmp_path, GOOD).offers_for("acme/prime")
    assert endpoint.upstream_model == "prime-1"


WRONG_LINES = [
    # line replaced, by what, the line of the error, words in it
    (2, 'slug = "ACME"', 2, 'slug "ACME" is not well formed'),
    (2, "slug = 7", 2, "slug must be text, not a number"),
    (2, 'name = "Acme"', 1, "this [[provider]] has no slug"),
    (3, 'protocol = "grpc"', 3, 'protocol "grpc" is not built; known: anthropic, demo, openai'),
    (3, "training = true", 6, "not TOML"),
    (7, 'nmae = "Acme"', 7, 'unknown key "nmae" in [[provider]], did you mean "name"?'),
    (3, 'protocl = "openai"', 3, 'unknown key "protocl" in [[provider]], did you mean "protocol"?'),
    (4, "", 1, "this [[provider]] has no base_url"),
    (4, 'base_url = "ftp://example.com"', 4, "is not an http or https address"),
    (4, 'base_url = "127.0.0.1:9999"', 4, "is not an http or https address"),
    (4, 'base_url = "https://example.com/v1?key=1"', 4, "is not an http or https address"),
    (4, 'base_url = "https://user:hunter2@example.com/v1"', 4, "user name or password"),
    (4, 'base_url = "http://[::1/v1"', 4, "base_url is not an address"),
    (5, 'credential_env = "A"\ncredential_file = "/run/a"', 6, "credential_env and credential_file are both set"),
    (5, 'credential_env = "sk-secret value"', 5, "is not the name of an environment variable"),
    (6, 'training = "no"', 6, "training must be true or false, not text"),
    (7, "retention_days = -1", 7, "retention_days -1 is out of range"),
    (7, "retention_days = 1.5", 7, "retention_days must be a whole number"),
    (7, "retention_days = true", 7, "retention_days must be a whole number, not true or false"),
    (9, 'id = "prime"', 9, 'id "prime" is not well formed'),
    (9, 'id = "acme/Prime One"', 9, "is not well formed"),
    (10, 'context_length = "32768"', 10, "context_length must be a whole number, not text"),
    (10, "context_lenght = 32768", 10, 'did you mean "context_length"?'),
    (11, "max_completion_tokens = 0", 11, "max_completion_tokens 0 is out of range"),
    (11, 'input_modalities = ["text", "smell"]', 11, 'unknown entry "smell"'),
    (11, 'output_modalities = "text"', 11, "must be a list of texts"),
    (13, 'model = "acme/primo"', 13, 'model "acme/primo" is not defined, did you mean "acme/prime"?'),
    (14, 'provider = "acne"', 14, 'provider "acne" is not defined, did you mean "acme"?'),
    (14, 'provider = "openai"', 14, 'provider "openai" needs OPENAI_API_KEY, which is not set'),
    (14, "", 12, "this [[endpoint]] has no provider"),
    (15, 'upstream_model = ""', 15, "upstream_model is empty"),
    (16, 'prompt = "abc"', 16, 'price "abc" is not an exact decimal; write USD per token in quotes, like "0.000000007"'),
    (16, "prompt = 0.000000007", 16, "is not in quotes; write USD per token in quotes"),
    (16, "prompt = 0", 16, "price 0 is not in quotes"),
    (16, "prompt = true", 16, "prompt must be a price, not true or false"),
    (16, 'prompt = "-0.1"', 16, 'price "-0.1" is negative'),
    (16, 'prompt = "0.0000000000000000001"', 16, "finer than 18 decimal places"),
    (16, 'prompt = "NaN"', 16, 'price "NaN" is not an exact decimal'),
    (16, 'prompt = "1e300"', 16, "out of range"),
    (16, "", 17, "a price for completion but none for prompt"),
    (16, 'promt = "0.1"', 16, 'unknown key "promt" in [[endpoint]], did you mean "prompt"?'),
    (17, 'input_cache_read = "0"', 16, "a price for prompt but none for completion"),
    (8, "[[modle]]", 8, 'unknown section or key "modle", did you mean "model"?'),
    (8, "[model]", 8, "write [[model]] with two brackets"),
    (12, '[[model]]\nid = "acme/prime"\n[[endpoint]]', 13, 'model "acme/prime" is already defined on line 9'),
    (7, "retention_days = ", 7, "not TOML"),
    (7, 'name = """', 17, "not TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("replaced", "by", "line", "words"), WRONG_LINES)
def test_an_error_names_its_line_and_its_remedy(tmp_path: Path, replaced: int, by: str, line: int, words: str) -> None:
    lines = GOOD.splitlines()
    lines[replaced - 1] = by
    error = error_in(tmp_path, "\n".join(lines) + "\n")
    assert str(error).startswith(f"catalog.toml, line {line}: "), str(error)
    assert words in str(error), str(error)
    assert error.line == line
    assert error.remedy
    assert str(error).endswith(error.remedy)


def test_the_message_has_exactly_this_form(tmp_path: Path) -> None:
    text = '\n\n[[endpoint]]\nmodel = "demo/echo-1"\nprovider = "demo"\n\nprompt = "abc"\ncompletion = "0"\n'
    error = error_in(tmp_path, text)
    assert str(error) == (
        'catalog.toml, line 7: price "abc" is not an exact decimal; write USD per token in quotes, like "0.000000007"'
    )


def test_of_several_errors_the_first_by_line_is_reported(tmp_path: Path) -> None:
    lines = GOOD.splitlines()
    lines[15] = 'prompt = "abc"'
    lines[12] = 'model = "acme/unknown"'
    lines[8] = 'id = "broken"'
    assert error_in(tmp_path, "\n".join(lines)).line == 9


def test_a_reference_to_something_defined_badly_further_down_is_not_blamed(tmp_path: Path) -> None:
    text = '[[endpoint]]\nmodel = "demo/echo-1"\nprovider = "acme"\n[[provider]]\nslug = "acme"\nprotocol = "grpc"\n'
    assert error_in(tmp_path, text).line == 6


def test_lines_are_right_behind_long_strings_comments_lists_and_windows_line_ends(tmp_path: Path) -> None:
    text = (
        "# [[endpoint]] in a comment\r\n"
        "[[model]] # prompt = 1\r\n"
        'description = """two\r\n[[provider]]\r\nid = "no" """\r\n'
        "supported_parameters = [ # a list\r\n"
        "  'max_tokens', # ]\r\n"
        "]\r\n"
        'id = "acme/prime"\r\n'
        "'context_length' = \"wrong\"\r\n"
    )
    error = error_in(tmp_path, text)
    assert (error.line, "context_length must be a whole number" in str(error)) == (10, True)


def test_the_same_endpoint_twice_names_both_lines(tmp_path: Path) -> None:
    again = "\n".join(GOOD.splitlines()[11:])
    error = error_in(tmp_path, GOOD + again)
    assert error.line == 19
    assert "already defined on line 13" in str(error)


def test_a_credential_pasted_in_the_wrong_place_is_not_shown(tmp_path: Path) -> None:
    for line in ('credential_env = "sk-live-1234567890"', 'base_url = "https://me:sk-live-1234567890@example.com/v1"'):
        lines = [kept for kept in GOOD.splitlines() if not kept.startswith(line.partition(" ")[0])]
        lines.insert(3, line)
        assert "1234567890" not in str(error_in(tmp_path, "\n".join(lines)))


def test_a_file_that_is_not_there_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        CatalogError, match=r"none\.toml: cannot be read .no such file or directory.; make .*none\.toml a file"
    ) as caught:
        load(demo=True, file=tmp_path / "none.toml", environment={}, real_providers=False, clock=CLOCK)
    assert caught.value.line is None


def test_a_directory_is_not_a_catalogue(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read"):
        load(demo=True, file=tmp_path, environment={}, real_providers=False, clock=CLOCK)


def test_a_byte_that_is_not_utf8_is_found(tmp_path: Path) -> None:
    error = error_in(tmp_path, b'[[provider]]\nslug = "acm\xff"\n')
    assert (error.line, "not UTF-8" in str(error)) == (2, True)


def test_values_nested_too_deeply_are_an_error_and_not_a_crash(tmp_path: Path) -> None:
    assert error_in(tmp_path, "x = " + "[" * 100_000).line == 1


def test_the_built_in_demo_provider_is_not_replaced_by_something_else(tmp_path: Path) -> None:
    text = '[[provider]]\nprotocol = "openai"\nslug = "demo"\nbase_url = "http://localhost/v1"\n'
    assert error_in(tmp_path, text).line == 3
    assert [provider.slug for provider in loaded(tmp_path, text, demo=False).providers()] == ["demo"]


def test_an_endpoint_at_the_demo_provider_needs_the_demo_provider(tmp_path: Path) -> None:
    text = '[[model]]\nid = "a/b"\n[[endpoint]]\nmodel = "a/b"\nprovider = "demo"\nrequest = "0.01"\n'
    assert loaded(tmp_path, text).offers_for("a/b")
    assert error_in(tmp_path, text, demo=False).line == 5


def test_an_anthropic_provider_needs_an_address_too(tmp_path: Path) -> None:
    error = error_in(tmp_path, '[[provider]]\nslug = "acme"\nprotocol = "anthropic"\n')
    assert "this [[provider]] has no base_url" in str(error)
    assert "https://api.anthropic.com" in str(error)


def test_every_protocol_the_catalogue_lets_through_is_built() -> None:
    assert set(PROTOCOLS) == providers.PROTOCOLS
