"""Bursar with everything on, as the benches start it: one provider, people with credits, a key each.

`python subject.py ASKED`, which is JSON like `Asked`; writes the keys to use (at most `ACTIVE_KEYS`) to DATA_DIR/keys, one a line, and
prints "ready" once it answers. With `funds` "stand-in" hold, settlement and activity, which stand behind `Funds`, cost nothing.
"""

import asyncio
import hashlib
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
import uvloop
from sqlalchemy import Table
from sqlalchemy.dialects import sqlite

import bursar.activity.tables as activity_tables
import bursar.keys.tables as key_tables
import bursar.organizations.tables as organization_tables
from bursar import actions, identity
from bursar.access import Actor
from bursar.activity import Generation
from bursar.app import CatalogHolder, Installation, Server, open_installation
from bursar.cli._serving import bind, log_to_stderr, serve
from bursar.gateway import Available, Hold, Intent, Progress
from bursar.kernel.ids import OwnerId, new_generation_id, new_organization_id, new_user_id
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.settings import Settings, read_settings
from bursar.storage import SYSTEM, UtcTime

CATALOG = """
[[provider]]
slug = "bench"
protocol = "openai"
base_url = "http://127.0.0.1:{port}/v1"
[[model]]
id = "bench/prime"
context_length = 32768
max_completion_tokens = 4096
[[endpoint]]
model = "bench/prime"
provider = "bench"
upstream_model = "prime-1"
prompt = "0.000000007"
completion = "0.000000013"
"""


class StandInFunds:
    """Always enough, nothing written."""

    def __init__(self, clock: object) -> None:
        self._clock = clock

    async def hold(self, intent: Intent) -> Hold:
        return Hold(intent.owner, intent.generation, intent.ceiling, self._clock.now())  # type: ignore[attr-defined]

    async def extend(self, hold: Hold, extra: Nanos) -> bool:
        hold.amount = Nanos(hold.amount + extra)
        return True

    def progress(self, hold: Hold, so_far: Progress) -> None:
        """Not kept."""

    async def caught_up(self) -> None:
        """There is nothing to wait for."""

    def available(self, hold: Hold) -> Available:
        return Available(hold.amount, "credits")

    async def settle(self, hold: Hold, generation: Generation) -> Nanos:
        del hold
        return generation.cost_nanos

    async def void(self, hold: Hold, generation: Generation) -> None:
        """Nothing to give back."""


ACTIVE_KEYS = 1_000
NO_PARTS = dict.fromkeys(
    (
        "reasoning_tokens", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "audio_tokens", "image_tokens",
        "audio_output_tokens", "image_output_tokens", "images", "sounds", "media_made",
    ),
    0,
)  # fmt: skip


SECRET = "of no use outside the bench, and long enough"
CREDITS = Nanos(1_000_000 * NANOS_PER_CREDIT)


class Asked(msgspec.Struct):
    port: int
    data_dir: str
    upstream_port: int
    counts: tuple[int, int, int] | None = None
    """Organizations, keys and past generations to make first."""
    funds: str = "stand-in"
    """Or "journal", or "database"."""
    database_url: str | None = None
    owners: int = 1
    """People with credits of their own, and one key each."""
    per_key: int = 1_000
    """Requests at once: one key has to do for a thousand streams."""
    in_all: int = 4_096


async def make_server(settings: Settings, asked: Asked) -> tuple[Server, list[str]]:
    """The server, and keys of it."""
    (settings.data_dir / "catalog.toml").write_text(CATALOG.format(port=asked.upstream_port))
    installation = await open_installation(settings)
    keys = [await make_owner(installation, number) for number in range(asked.owners)]
    holder = CatalogHolder(settings, installation.clock, demo=False, real_providers=False)
    await holder.load()
    server = await Server.open(installation, holder)
    if asked.funds == "stand-in":
        server.gateway._funds = StandInFunds(installation.clock)
    return server, keys


async def make_owner(installation: Installation, number: int) -> str:
    """Found or made; returns a new key."""
    database, operator, email = installation.database, Actor.operator(), f"bench{number}@example.com"
    async with database.snapshot(SYSTEM) as snapshot:
        user = await identity.find_by_email(snapshot, email)
    if user is None:
        user, _ = await actions.add_user(
            database, operator, email=email, name="Bench", public_url="http://x", mail=False
        )
    owner = OwnerId(user.id)
    await actions.grant_credits(
        database, operator, owner=owner, amount=CREDITS, reason="bench", transfer_id=f"grant-bench-{number}"
    )
    _, key = await actions.create_key(
        database, installation.checker, operator, owner=owner, creator=user.id, name="bench"
    )
    return key


def fill(installation: Installation, organizations: int, keys: int, generations: int) -> list[str]:
    """Past the rooms, a row as they would write it: a million through them takes an hour. Returns the keys to use."""
    database = sqlite3.connect(installation.data_dir.path / "bursar.db")
    now = installation.clock.now()
    owners = [new_organization_id(now) for _ in range(organizations)]
    people = [new_user_id(now) for _ in range(organizations)]
    active = [installation.checker.mint() for _ in range(min(keys, ACTIVE_KEYS))]

    def row(table: Table, **values: object) -> dict[str, object]:
        return {column.name: values.get(column.name) for column in table.columns}

    def add(table: Table, rows: Iterable[dict[str, object]]) -> None:
        names = [column.name for column in table.columns]
        marks = ", ".join(f":{name}" for name in names)
        with database:
            database.executemany(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", rows)

    moment = UtcTime().bind_processor(sqlite.dialect())
    at = moment(now) if moment else now
    add(
        organization_tables.organizations,
        (
            row(organization_tables.organizations, id=owner, slug=owner, name="Bench", seats_max=10, created_by=person, created_at=at, is_catalog_filtered=0)
            for owner, person in zip(owners, people, strict=True)
        ),
    )  # fmt: skip
    secret = hashlib.sha256
    add(
        key_tables.keys,
        (
            row(
                key_tables.keys, owner_id=owners[n % organizations], id=f"key_{n:026}", kind="inference", name="Bench", label="sk-…", created_at=at,
                creator_id=people[n % organizations], include_byok_in_limit=0, hash=secret(active[n].encode() if n < len(active) else b"%d" % n).hexdigest(),
            )
            for n in range(keys)
        ),
    )  # fmt: skip
    add(
        activity_tables.generations,
        (
            row(
                activity_tables.generations, owner_id=owners[n % organizations], id=new_generation_id(now), created_at=at, key_id=f"key_{n % keys:026}",
                user_id=people[n % organizations], status="ok", requested_model="bench/prime", model="bench/prime", provider="bench",
                endpoint_id="bench/prime@bench", api_type="completions", streamed=0, cancelled=0, finish_reason="stop", prompt_tokens=24, completion_tokens=88,
                **NO_PARTS, cost_nanos=1312, house_nanos=0, usage_source="reported", duration_ms=900, attempts="[]",
            )
            for n in range(generations)
        ),
    )  # fmt: skip
    database.close()
    return active


async def main(asked: Asked) -> None:
    data_dir = Path(asked.data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    environment = {"BURSAR_SECRET": SECRET}  # nodes on one database share it
    if asked.database_url is not None:
        environment["BURSAR_DATABASE_URL"] = asked.database_url
    settings = read_settings(
        environment,
        data_dir=data_dir,
        port=asked.port,
        catalog=data_dir / "catalog.toml",
        concurrency_per_key=asked.per_key,
        concurrency_total=asked.in_all,
        durability="database" if asked.funds == "database" else "journal",
    )
    log_to_stderr("warning")
    listening = bind("127.0.0.1", asked.port)
    server, keys = await make_server(settings, asked)
    if asked.counts is not None:
        keys = fill(server.installation, *asked.counts)
    (data_dir / "keys").write_text("\n".join(keys))
    await serve(server, listening, settings, lambda: print("ready", flush=True))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(msgspec.json.decode(sys.argv[1], type=Asked)))
