"""The operator's catalogue file: strict, every error with its line and its remedy.

Reads what the file says and checks all that can be checked from the file alone; `_load` ties its names to the rest. Numbers
are parsed as `Decimal`, so that no float comes near a price.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bursar.catalog._catalog import (
    CONTEXT_LENGTH_UNKNOWN,
    EMBEDDINGS,
    QUANTIZATION_UNKNOWN,
    QUANTIZATIONS,
    SUPPORTED_PARAMETERS,
    Model,
    Provider,
)
from bursar.catalog._errors import CatalogError
from bursar.catalog._known import MODEL_ID
from bursar.catalog._outline import Outline, Table, outline
from bursar.catalog._pricing import FREE, Pricing
from bursar.catalog._search import MODALITIES
from bursar.kernel.money import Attos, parse_price

PROTOCOLS = ("anthropic", "demo", "openai")
"""What is built in the providers room (a test holds the two together)."""

FILE_BYTES_MAX = 4 * 1024 * 1024
TOKENS_MAX = 1_000_000_000
DAYS_MAX = 36_500
TEXT_CHARACTERS_MAX = 4_000
NAME_CHARACTERS_MAX = {"slug": 60, "id": 110, "model": 110, "provider": 60, "upstream_model": 400}
"""What stands in every row of the activity, or goes into its ids, is kept short."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LOCAL_NAMES = frozenset({"localhost", "host.docker.internal"})

_SECTIONS = ("provider", "model", "endpoint")
_OPTIONAL_PRICES = (
    "input_cache_read", "input_cache_write", "input_cache_write_1h", "internal_reasoning",
    "audio", "image_token", "audio_output", "image_output",
)  # fmt: skip
"""Where one is not written, its tokens cost what the class does that they are a part of."""
_PRICES = ("prompt", "completion", "request", "image", *_OPTIONAL_PRICES)
_KEYS = {
    "provider": ("slug", "name", "protocol", "base_url", "credential_env", "credential_file", "training", "retention_days"),
    "model": (
        "id", "name", "created", "description", "context_length", "max_completion_tokens",
        "modalities", "input_modalities", "output_modalities", "supported_parameters",
    ),
    "endpoint": (
        "model", "provider", "upstream_model", "context_length", "max_completion_tokens", "quantization", *_PRICES,
    ),
}  # fmt: skip

_PRICE_REMEDY = 'write USD per token in quotes, like "0.000000007"'


@dataclass(frozen=True, slots=True)
class Problem:
    line: int
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class EndpointLines:
    """One `[[endpoint]]` as written, with the lines of its references."""

    model_id: str
    provider_slug: str
    upstream_model: str
    pricing: Pricing | None
    context_length: int | None
    max_completion_tokens: int | None
    quantization: str
    model_line: int
    provider_line: int


@dataclass(slots=True)
class CatalogFile:
    """What the file says. `problems` may be added to until `raise_first`."""

    path: Path
    providers: list[Provider] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    endpoints: list[EndpointLines] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    provider_lines: dict[str, int] = field(default_factory=dict)
    mentioned: set[tuple[str, str]] = field(default_factory=set)
    """What the file tries to define, well or badly: ("provider", slug), ("model", id). A reference to it is not at fault."""

    def raise_first(self) -> None:
        """Raises the problem that stands first in the file, if there is one."""
        if self.problems:
            first = min(self.problems, key=lambda problem: problem.line)
            raise CatalogError(self.path, first.line, first.what, first.remedy)


def read_file(path: Path) -> CatalogFile:
    """Raises `CatalogError` where the file cannot be read or is no TOML; other problems are collected in the result."""
    text = _read(path)
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(path, text, str(error)) from None
    except RecursionError:
        raise CatalogError(
            path, 1, "values are nested too deeply", "a catalogue needs tables and plain values only"
        ) from None
    found = CatalogFile(path)
    lines = outline(text)
    _check_sections(data, lines, found.problems)
    for section in _sections("provider", data, lines, found.problems):
        _read_provider(section, found)
    for section in _sections("model", data, lines, found.problems):
        _read_model(section, found)
    for section in _sections("endpoint", data, lines, found.problems):
        _read_endpoint(section, found)
    _note_duplicates(found, data, lines)
    return found


def suggestion(wrong: str, right: Iterable[str]) -> str:
    """`did you mean "x"?` as a part of a sentence, or nothing."""
    near = difflib.get_close_matches(wrong, list(right), n=1, cutoff=0.6)
    return f', did you mean "{near[0]}"?' if near else ""


def is_local_address(base_url: str) -> bool:
    """Whether an address is this machine's own, as far as its name tells."""
    name = (urlsplit(base_url).hostname or "").lower()
    return name in _LOCAL_NAMES or name.endswith(".localhost") or name.startswith("127.") or name == "::1"


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        what = f"cannot be read ({(error.strerror or 'unknown reason').lower()})"
        raise CatalogError(path, None, what, f"make {path} a file that Bursar may read") from None
    if len(content) > FILE_BYTES_MAX:
        raise CatalogError(path, None, f"is larger than {FILE_BYTES_MAX} bytes", "split off what is not a catalogue")
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CatalogError(path, line, "a byte is not UTF-8", "save the file as UTF-8 text") from None


def _syntax_error(path: Path, text: str, message: str) -> CatalogError:
    place = re.search(r"\(at line (\d+), column (\d+)\)", message)
    line = int(place[1]) if place else text.rstrip("\n").count("\n") + 1
    what = re.sub(r"\s*\(at [^)]*\)", "", message).strip()
    what = what[:1].lower() + what[1:]
    column = f" at column {place[2]}" if place else ""
    return CatalogError(
        path, line, f"not TOML{column}: {what}", "see the example in the documentation of the catalogue"
    )


class _Section:
    """One table of the file, read key by key; what is wrong is noted and answered with the given default."""

    def __init__(self, kind: str, values: Mapping[str, Any], table: Table, problems: list[Problem]) -> None:
        self.kind = kind
        self.values = values
        self.table = table
        self.problems = problems
        self.misspelt: set[str] = set()
        for key in values:
            if key not in _KEYS[kind]:
                meant = difflib.get_close_matches(key, _KEYS[kind], n=1, cutoff=0.6)
                self.misspelt.update(meant)
                hint = suggestion(key, _KEYS[kind])
                self.wrong(key, f'unknown key "{key}" in [[{kind}]]{hint}', f"known keys: {', '.join(_KEYS[kind])}")

    def wrong(self, key: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(self.table.line_of(key), what, remedy))

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.wrong(key, f"{key} must be text, not {_kind(value)}", f'write it in quotes, like {key} = "…"')
            return default
        if not value.strip() or len(value) > NAME_CHARACTERS_MAX.get(key, TEXT_CHARACTERS_MAX):
            self.wrong(
                key, f"{key} is {'empty' if not value.strip() else 'too long'}", "write a text or leave the line out"
            )
            return default
        return value

    def required(self, key: str, example: str) -> str | None:
        if key not in self.values:
            if key in self.misspelt:  # said already, on its own line
                return None
            self.wrong(key, f"this [[{self.kind}]] has no {key}", f'add a line like {key} = "{example}"')
            return None
        return self.text(key)

    def matching(self, key: str, value: str | None, fits: re.Pattern[str], remedy: str) -> str | None:
        if value is None or fits.fullmatch(value):
            return value
        self.wrong(key, f'{key} "{value[:80]}" is not well formed', remedy)
        return None

    def whole(self, key: str, least: int, most: int) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong(
                key, f"{key} must be a whole number, not {_kind(value)}", f"write it without quotes, like {key} = 4096"
            )
            return None
        if not least <= value <= most:
            self.wrong(key, f"{key} {value} is out of range", f"write a number from {least} to {most}")
            return None
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if isinstance(value, bool):
            return value
        self.wrong(
            key,
            f"{key} must be true or false, not {_kind(value)}",
            f"write {key} = true or {key} = false, without quotes",
        )
        return default

    def texts(self, key: str, default: tuple[str, ...], allowed: tuple[str, ...] | None = None) -> tuple[str, ...]:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            self.wrong(key, f"{key} must be a list of texts", f'write it like {key} = ["text", "image"]')
            return default
        for item in value:
            if allowed is not None and item not in allowed:
                self.wrong(
                    key,
                    f'{key} has an unknown entry "{item}"{suggestion(item, allowed)}',
                    f"known: {', '.join(allowed)}",
                )
                return default
        return tuple(dict.fromkeys(value))

    def one_of(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(key, default)
        if value in allowed:
            return value
        if value is not None:
            self.wrong(
                key, f'{key} "{value[:80]}" is not known{suggestion(value, allowed)}', f"known: {', '.join(allowed)}"
            )
        return default

    def price(self, key: str) -> Attos | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            what = (
                f"price {value} is not in quotes"
                if isinstance(value, Decimal | int) and not isinstance(value, bool)
                else f"{key} must be a price, not {_kind(value)}"
            )
            self.wrong(key, what, _PRICE_REMEDY)
            return None
        try:
            return parse_price(value)
        except ValueError as error:
            if "negative" in str(error):
                self.wrong(key, f'price "{value[:40]}" is negative', "write 0 or more, in quotes")
            elif "finer" in str(error) or "range" in str(error):
                self.wrong(key, f'price "{value[:40]}" is {str(error).partition(":")[0]}', _PRICE_REMEDY)
            else:
                self.wrong(key, f'price "{value[:40]}" is not an exact decimal', _PRICE_REMEDY)
            return None


def _kind(value: object) -> str:
    names: list[tuple[type, str]] = [
        (bool, "true or false"), (str, "text"), (int, "a number"), (Decimal, "a number"), (list, "a list"), (dict, "a table"),
    ]  # fmt: skip
    return next((name for kind, name in names if isinstance(value, kind)), "a date or time")


def _check_sections(data: Mapping[str, Any], lines: Outline, problems: list[Problem]) -> None:
    for name, value in data.items():
        if name not in _SECTIONS:
            hint = suggestion(name, _SECTIONS)
            problems.append(
                Problem(lines.line_of(name), f'unknown section or key "{name}"{hint}', "a catalogue has [[provider]], [[model]] and [[endpoint]]")
            )  # fmt: skip
        elif not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            problems.append(
                Problem(lines.line_of(name), f"{name} is not a list of tables", f"write [[{name}]] with two brackets")
            )


def _sections(kind: str, data: Mapping[str, Any], lines: Outline, problems: list[Problem]) -> list[_Section]:
    values = data.get(kind, [])
    if not isinstance(values, list):
        return []
    return [
        _Section(kind, value, table, problems)
        for value, table in zip(values, _tables(kind, len(values), lines), strict=True)
        if isinstance(value, dict)
    ]


def _tables(kind: str, count: int, lines: Outline) -> list[Table]:
    tables = lines.named(kind)
    # An inline array of tables has no headers: its one line stands for all of them.
    return tables if len(tables) == count else [Table(kind, lines.line_of(kind))] * count


def _read_provider(section: _Section, found: CatalogFile) -> None:
    remedy = "use lower-case letters, digits, dots, dashes and underscores, like acme"
    slug = section.matching("slug", section.required("slug", "acme"), _SLUG, remedy)
    protocol = section.required("protocol", "openai")
    if protocol is not None and protocol not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        section.wrong("protocol", f'protocol "{protocol}" is not built', f"known: {known}")
        protocol = None
    base_url = _base_url(section, protocol)
    if "credential_env" in section.values and "credential_file" in section.values:
        later = max(("credential_env", "credential_file"), key=section.table.line_of)
        section.wrong(later, "credential_env and credential_file are both set", "keep one of them")
    credential_env = _variable(section)
    credential_file = section.text("credential_file")
    training = section.flag("training", default=True)
    retention_days = section.whole("retention_days", 0, DAYS_MAX)
    name = section.text("name")
    if slug is None or protocol is None:
        return
    is_local = protocol == "demo" or (base_url is not None and is_local_address(base_url))
    found.provider_lines.setdefault(slug, section.table.line_of("slug"))
    found.providers.append(
        Provider(
            slug=slug,
            name=name or slug,
            protocol=protocol,
            base_url=base_url,
            credential_env=credential_env,
            credential_file=None if credential_file is None else str(found.path.parent / credential_file),
            training=training,
            retention_days=retention_days,
            is_local=is_local,
            real=not is_local,
        )
    )


def _base_url(section: _Section, protocol: str | None) -> str | None:
    if "base_url" not in section.values:
        if protocol == "openai":
            section.required("base_url", "https://api.example.com/v1")
        elif protocol == "anthropic":
            section.required("base_url", "https://api.anthropic.com")
        return None
    value = section.text("base_url")
    if value is None:
        return None
    remedy = "write it like https://api.example.com/v1, without user name, query or fragment"
    try:
        parts = urlsplit(value)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and value.isprintable()
    except ValueError:
        section.wrong("base_url", "base_url is not an address", remedy)
        return None
    if parts.username is not None or parts.password is not None:
        # Not shown: what stands before the @ is a credential.
        section.wrong(
            "base_url",
            "base_url carries a user name or password",
            "use credential_env or credential_file for credentials",
        )
        return None
    if not fits or parts.query or parts.fragment or " " in value:
        section.wrong("base_url", f'base_url "{value[:80]}" is not an http or https address', remedy)
        return None
    return value.rstrip("/")


def _variable(section: _Section) -> str | None:
    value = section.text("credential_env")
    if value is None or _VARIABLE.fullmatch(value):
        return value
    # Not shown: it may be the credential itself, pasted in the wrong place.
    section.wrong(
        "credential_env",
        "credential_env is not the name of an environment variable",
        "write the variable's name, like ACME_API_KEY, not its value",
    )
    return None


def _read_model(section: _Section, found: CatalogFile) -> None:
    model_id = section.matching(
        "id", section.required("id", "acme/prime"), MODEL_ID, "write author/slug in lower case, like acme/prime"
    )
    if "modalities" in section.values and "input_modalities" in section.values:
        section.wrong("modalities", "modalities and input_modalities are both set", "keep input_modalities")
    inputs = section.texts("modalities", ("text",), MODALITIES)
    context_length = section.whole("context_length", 1, TOKENS_MAX)
    most = section.whole("max_completion_tokens", 1, TOKENS_MAX)
    fields: dict[str, Any] = {
        "name": section.text("name", model_id),
        "created": section.whole("created", 0, 2**53) or 0,
        "description": section.text("description", ""),
        "context_length": context_length or CONTEXT_LENGTH_UNKNOWN,
        "max_completion_tokens": most,
        "input_modalities": section.texts("input_modalities", inputs, MODALITIES),
        "output_modalities": section.texts("output_modalities", ("text",), (*MODALITIES, EMBEDDINGS)),
        "supported_parameters": section.texts("supported_parameters", SUPPORTED_PARAMETERS),
    }
    if model_id is not None:
        found.models.append(Model(id=model_id, **fields))


def _read_endpoint(section: _Section, found: CatalogFile) -> None:
    model_id = section.required("model", "acme/prime")
    provider = section.required("provider", "acme")
    upstream = section.text("upstream_model", None if model_id is None else model_id.partition("/")[2] or model_id)
    pricing = _pricing(section)
    context_length = section.whole("context_length", 1, TOKENS_MAX)
    most = section.whole("max_completion_tokens", 1, TOKENS_MAX)
    quantization = section.one_of("quantization", QUANTIZATION_UNKNOWN, QUANTIZATIONS)
    if model_id is None or provider is None or upstream is None:
        return
    found.endpoints.append(
        EndpointLines(
            model_id=model_id,
            provider_slug=provider,
            upstream_model=upstream,
            pricing=pricing,
            context_length=context_length,
            max_completion_tokens=most,
            quantization=quantization,
            model_line=section.table.line_of("model"),
            provider_line=section.table.line_of("provider"),
        )
    )


def _pricing(section: _Section) -> Pricing | None:
    """None where no price is written. Prompt and completion come together: half a price would give the other half away."""
    written = [key for key in _PRICES if key in section.values]
    prices = {key: section.price(key) for key in _PRICES}
    if not written:
        return None
    per_request_only = "request" in written and "prompt" not in written and "completion" not in written
    for key, other in (("prompt", "completion"), ("completion", "prompt")):
        if key not in written and key not in section.misspelt and not per_request_only:
            there = other if other in written else written[0]
            section.wrong(
                there,
                f"this [[endpoint]] has a price for {there} but none for {key}",
                f'add {key} = "…", or "0" if it is free',
            )
            return None
    return Pricing(
        prompt=prices["prompt"] or FREE,
        completion=prices["completion"] or FREE,
        request=prices["request"] or FREE,
        image=prices["image"] or FREE,
        **{key: prices[key] for key in _OPTIONAL_PRICES},
    )


def _note_duplicates(found: CatalogFile, data: Mapping[str, Any], lines: Outline) -> None:
    for kind, key in (("provider", "slug"), ("model", "id"), ("endpoint", "model")):
        values = data.get(kind)
        if not isinstance(values, list):
            continue
        seen: dict[tuple[str, ...], int] = {}
        for value, table in zip(values, _tables(kind, len(values), lines), strict=True):
            names = _identity(kind, key, value)
            if names is None:
                continue
            found.mentioned.add((kind, names[0]))
            line = table.line_of(key)
            if names in seen:
                place = f' at provider "{names[1]}" with upstream_model "{names[2]}"' if kind == "endpoint" else ""
                what = f'{kind} "{names[0]}"{place} is already defined on line {seen[names]}'
                found.problems.append(Problem(line, what, "remove one of them"))
            seen.setdefault(names, line)


def _identity(kind: str, key: str, value: object) -> tuple[str, ...] | None:
    if not isinstance(value, dict) or not isinstance(value.get(key), str):
        return None
    name: str = value[key]
    if kind != "endpoint":
        return (name,)
    return (name, str(value.get("provider")), str(value.get("upstream_model", name.partition("/")[2])))
