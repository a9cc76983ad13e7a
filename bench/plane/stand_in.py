"""Bursar with everything on but hold, settlement and activity: those stand behind `Funds`, and here a stand-in takes their place.

`python stand_in.py PORT DATA_DIR UPSTREAM_PORT [ORGANIZATIONS KEYS GENERATIONS]` prints one JSON line with a key once it answers.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvloop

from bursar import actions, identity
from bursar.access import Actor
from bursar.activity import Generation
from bursar.app import CatalogHolder, Server, open_installation
from bursar.cli._serving import bind, log_to_stderr, serve
from bursar.gateway import Hold, Intent
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import Nanos
from bursar.settings import Settings, read_settings
from bursar.storage import SYSTEM

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

    async def settle(self, hold: Hold, generation: Generation) -> Nanos:
        del hold
        return generation.cost_nanos

    async def void(self, hold: Hold, generation: Generation) -> None:
        """Nothing to give back."""


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


async def main(port: int, data_dir: Path, upstream_port: int) -> None:
    settings = read_settings({}, data_dir=data_dir, port=port, catalog=data_dir / "catalog.toml")
    log_to_stderr("warning")
    listening = bind("127.0.0.1", port)
    server, key = await make_server(settings, upstream_port)
    await serve(server, listening, settings, lambda: print(json.dumps({"key": key}), flush=True))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
