"""Bursar with everything on but hold, settlement and activity: those stand behind `Funds`, and here a stand-in takes their place.

`python stand_in.py PORT DATA_DIR UPSTREAM_PORT [ORGANIZATIONS KEYS GENERATIONS]` makes so many first, writes the keys to use (at most
`ACTIVE_KEYS`) to DATA_DIR/keys, one a line, and prints "ready" once it answers.
"""

import asyncio
import hashlib
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path

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
from bursar.gateway import Hold, Intent, Progress
from bursar.kernel.ids import OwnerId, new_generation_id, new_organization_id, new_user_id
from bursar.kernel.money import Nanos
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

    async def settle(self, hold: Hold, generation: Generation) -> Nanos:
        del hold
        return generation.cost_nanos

    async def void(self, hold: Hold, generation: Generation) -> None:
        """Nothing to give back."""


ACTIVE_KEYS = 1_000


async def make_server(settings: Settings, upstream_port: int) -> tuple[Server, str]:
    """The server, and a key of it."""
    data_dir = settings.data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "catalog.toml").write_text(CATALOG.format(port=upstream_port))
    installation = await open_installation(settings)
    database = installation.database
    async with database.snapshot(SYSTEM) as snapshot:
        user = await identity.find_by_email(snapshot, "bench@example.com")
    if user is None:
        user, _ = await actions.add_user(
            database, Actor.operator(), email="bench@example.com", name="Bench", public_url="http://x", mail=False
        )
    _, key = await actions.create_key(
        database, installation.checker, Actor.operator(), owner=OwnerId(user.id), creator=user.id, name="bench"
    )
    holder = CatalogHolder(settings, installation.clock, demo=False, real_providers=False)
    await holder.load()
    server = Server(installation, holder)
    server.gateway._funds = StandInFunds(installation.clock)
    return server, key


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
            row(organization_tables.organizations, id=owner, slug=owner, name="Bench", seats_max=10, created_by=person, created_at=at)
            for owner, person in zip(owners, people, strict=True)
        ),
    )  # fmt: skip
    secret = hashlib.sha256
    add(
        key_tables.keys,
        (
            row(
                key_tables.keys, owner_id=owners[n % organizations], id=f"key_{n:026}", kind="inference", name="Bench", label="sk-…", created_at=at,
                creator_id=people[n % organizations], hash=secret(active[n].encode() if n < len(active) else b"%d" % n).hexdigest(),
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
                reasoning_tokens=0, cached_tokens=0, cache_write_tokens=0, cost_nanos=1312, usage_source="reported", duration_ms=900, attempts="[]",
            )
            for n in range(generations)
        ),
    )  # fmt: skip
    database.close()
    return active


async def main(port: int, data_dir: Path, upstream_port: int, *counts: int) -> None:
    catalog = data_dir / "catalog.toml"
    # One key has to do for a thousand streams.
    settings = read_settings({}, data_dir=data_dir, port=port, catalog=catalog, concurrency_per_key=1_000)
    log_to_stderr("warning")
    listening = bind("127.0.0.1", port)
    server, key = await make_server(settings, upstream_port)
    keys = fill(server.installation, *counts) if counts else [key]
    (data_dir / "keys").write_text("\n".join(keys))
    await serve(server, listening, settings, lambda: print("ready", flush=True))


if __name__ == "__main__":
    port, data_dir, upstream_port, *counts = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(port), Path(data_dir), int(upstream_port), *map(int, counts)))
