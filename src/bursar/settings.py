"""Every setting: name, default, sentence. The only module that reads the environment.

`BURSAR_X_FILE` names a file that holds the value of a secret `BURSAR_X`. A variable that starts with `BURSAR_` and is none of
these is refused at the start, so that a typing error never means a default. `docs/settings.md` is checked against this table.
"""

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bursar.catalog import KNOWN_PROVIDERS
from bursar.kernel.errors import SettingsError

PREFIX = "BURSAR_"
PORT_DEFAULT = 8484


class Settings(BaseModel):
    """What the environment says, checked. Field `x_y` is the variable `BURSAR_X_Y`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    data_dir: Path = Field(
        Path("data"),
        description="Where the SQLite file, the journal, the installation secret and the operator's socket live. Back it up whole.",
    )
    database_url: str | None = Field(
        None,
        description="A PostgreSQL URL (postgresql://user@host/database). Unset: SQLite in the data directory.",
        repr=False,
    )
    secret: str | None = Field(
        None,
        description="The installation secret, at least 32 bytes; needed when several machines share a database. "
        "Unset: made at the first start and kept in the data directory.",
        repr=False,
    )
    host: str = Field("127.0.0.1", description="The address to listen on. Loopback unless told otherwise.")
    port: int = Field(PORT_DEFAULT, ge=0, le=65535, description="The port to listen on.")
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="How many processes serve on one port; more than one needs PostgreSQL. One for each core that should work.",
    )
    drain_seconds: int = Field(
        120,
        ge=0,
        description="How long requests that run may go on after SIGTERM; what runs then is cut and charged for what arrived.",
    )
    public_url: str | None = Field(
        None,
        description="How people reach this installation, like https://bursar.example.com; stands in links and mails.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks, separated by commas, whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    catalog: Path | None = Field(None, description="The operator's catalogue file (TOML); reloaded on SIGHUP.")
    durability: Literal["journal", "database"] = Field(
        "journal",
        description="Where a request's money is recorded before it is dispatched and before it is answered: in a journal in the data "
        "directory, with the database a moment behind (fast), or in the database itself (for machines without a disk to trust).",
    )
    concurrency_total: int = Field(
        4_096,
        ge=1,
        description="How many requests to models may run at once in one worker; more are answered 503 with Retry-After.",
    )
    concurrency_per_owner: int = Field(
        1_000, ge=1, description="The same for one organization or person; more are answered 429."
    )
    concurrency_per_key: int = Field(256, ge=1, description="The same for one API key; more are answered 429.")
    sign_up: Literal["invitation", "open"] = Field(
        "invitation",
        description="Who may sign up: those the operator adds or an organization invites (invitation), or anybody (open).",
    )
    support_email: str | None = Field(
        None,
        description="Who gets the requests to move credits to an organization, and whom people write to for seats or to settle credits. Unset: "
        "every operator gets the requests, and pages say the operator.",
    )
    payments: Literal["off", "sandbox"] = Field(
        "off",
        description="How credits are bought: off (the operator grants them) or sandbox (pretended, no money moves).",
    )
    let_sandbox_credits_spend_real_money: bool = Field(
        default=False,
        description="Allows sandbox purchases together with real provider credentials: anybody may then spend your money by clicking.",
    )
    smtp_host: str | None = Field(
        None, description="The mail server. Unset: messages are printed and kept for the operator's page."
    )
    smtp_port: int = Field(587, ge=1, le=65535, description="The mail server's port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is protected."
    )
    smtp_username: str | None = Field(None, description="The user at the mail server, if it wants one.")
    smtp_password: str | None = Field(None, description="The password at the mail server.", repr=False)
    smtp_sender: str | None = Field(None, description="The sender of messages, like Bursar <bursar@example.com>.")
    metrics_token: str | None = Field(
        None,
        description="Who sends this as a bearer token may read /metrics. Unset: this machine may, as long as BURSAR_PUBLIC_URL is "
        "unset too (behind a proxy everybody seems to be on this machine).",
        repr=False,
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="How much the log on stderr says."
    )

    provider_variables: Mapping[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """The known providers' own variables (OPENAI_API_KEY, …) that are set."""
    credentials: Mapping[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    """The whole environment, for `credential_env` of the catalogue file; read through `credential`."""

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        for part in parts:
            ipaddress.ip_network(part, strict=False)
        return parts

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
            raise ValueError("write scheme and host only, like https://bursar.example.com")
        return f"{parts.scheme}://{parts.netloc}"

    def credential(self, variable: str) -> str | None:
        """A credential by the name of its variable; None when it is not set."""
        return self.credentials.get(variable) or None


OWN_FIELDS = {name: field for name, field in Settings.model_fields.items() if field.description}
SECRET_FIELDS = frozenset({"secret", "smtp_password", "database_url", "metrics_token"})


def read_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from the environment (the process's own unless given); `overrides` are what the command line says.

    Raises `SettingsError`, naming the variable and what to write there.
    """
    environment = dict(os.environ if environment is None else environment)
    values: dict[str, Any] = {}
    for variable, value in environment.items():
        if variable.startswith(PREFIX) and value != "":
            values[_field_of(variable, environment)] = value if not _is_file(variable) else _file(variable, value)
    values |= {name: value for name, value in overrides.items() if value is not None}
    values["provider_variables"] = {name: environment[name] for name in KNOWN_PROVIDERS if environment.get(name)}
    values["credentials"] = environment
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise SettingsError(
            f"{PREFIX}{name.upper()} is not usable: {first['msg'].removeprefix('Value error, ').lower()}.",
            remedy=OWN_FIELDS[name].description if name in OWN_FIELDS else None,
        ) from None


def _is_file(variable: str) -> bool:
    name = variable.removeprefix(PREFIX).lower()
    return name.endswith("_file") and name.removesuffix("_file") in SECRET_FIELDS


def environment_without_settings() -> dict[str, str]:
    """The process's own, for an installation of its own: without what is meant for another one."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def _field_of(variable: str, environment: Mapping[str, str]) -> str:
    name = variable.removeprefix(PREFIX).lower()
    if _is_file(variable):
        name = name.removesuffix("_file")
        if environment.get(PREFIX + name.upper()):
            raise SettingsError(f"{PREFIX}{name.upper()} and {variable} are both set.", remedy="Set one of them.")
    if name not in OWN_FIELDS or variable != variable.upper():
        near = difflib.get_close_matches(name, OWN_FIELDS, n=1)
        hint = f"Did you mean {PREFIX}{near[0].upper()}?" if near else "docs/settings.md lists every setting."
        raise SettingsError(f"There is no setting {variable}.", remedy=hint)
    return name


def _file(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(f"{variable}: cannot read {path}: {reason}.", remedy="Name a readable text file.") from None
