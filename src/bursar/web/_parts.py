"""What the pages need, handed in by whoever assembles the application."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jinja2

from bursar.catalog import Catalog
from bursar.gateway import Condition, Gateway, Tally
from bursar.identity import Passwords
from bursar.kernel.clock import Clock
from bursar.keys import KeyChecker
from bursar.processors import Processor, SandboxProcessor
from bursar.storage import Database


@dataclass(frozen=True)
class WebParts:
    """`health()` is a look at how endpoints do, by their id, as this process saw it.

    `api_base` and `example_model()` stand in the snippets; `secret` is the installation secret, only derived from here.

    `processor` is None where credits cannot be bought; `sandbox` is the same object as `processor` where it only pretends.
    `mail_delivers` is False where messages are only printed: then the operator's page lists them.
    `metrics_token` opens the metrics; without one they are seen from this machine, and only where nothing `is_public`.
    `tallies()` is what each worker of this node counted, by its number.
    """

    database: Database
    clock: Clock
    passwords: Passwords
    checker: KeyChecker
    gateway: Gateway
    catalog: Callable[[], Catalog]
    health: Callable[[], Callable[[str], Condition]]
    processor: Processor | None
    sandbox: SandboxProcessor | None
    public_url: str
    api_base: str
    example_model: Callable[[], str]
    sign_up_is_open: bool
    mail_delivers: bool
    support_email: str | None
    secret: bytes = field(repr=False)
    tallies: Callable[[], Mapping[int, Tally]]
    is_public: bool = True
    metrics_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Site:
    """The parts, and what is made of them once."""

    parts: WebParts
    templates: jinja2.Environment
    form_key: bytes = field(repr=False)
    cookie_key: bytes = field(repr=False)
