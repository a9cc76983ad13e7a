"""One run of every client against one server."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2

from tests.clients.matrix import CLIENTS, Seen
from tests.support.clients import ClientName, NodeClientName, run_client, run_node_client
from tests.support.model_server import model_server
from tests.support.server import RunningServer

CROWD = 4
"""Requests that one key may have running here; the clients have fewer."""

_PYTHON: dict[str, ClientName] = {"openai": "openai", "openrouter": "openrouter", "anthropic": "anthropic"}
_NODE: dict[str, NodeClientName] = {"@openrouter/sdk": "openrouter-sdk", "@openrouter/ai-sdk-provider": "ai-sdk"}


def run_all() -> list[Seen]:
    """What each client saw, one after the other."""
    with model_server() as models, tempfile.TemporaryDirectory(prefix="bursar-catalog-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(models.catalog(), encoding="utf-8")
        settings = {"BURSAR_CATALOG": str(catalog), "BURSAR_CONCURRENCY_PER_KEY": str(CROWD)}
        with RunningServer(args=["--pace", "0"], env=settings) as server:
            env = _environment(server)
            with _crowd(server, env["CROWDED_KEY"]):
                return [_seen(name, script, env) for name, script in CLIENTS.items()]


def _environment(server: RunningServer) -> dict[str, str]:
    """What the scripts are told. A person without credits owns the key that is answered 402."""
    admin = server.user("admin")
    server.run("users", "add", "--email", "broke@example.com", "--name", "Bo Broke", "--verified")
    broke = server.run("keys", "add", "--email", "broke@example.com", "--name", "broke")
    personal = server.run("keys", "add", "--email", "broke@example.com", "--name", "personal", "--management")
    acme = server.organization["slug"]
    crowded = server.run("keys", "add", "--organization", acme, "--email", admin["email"], "--name", "crowded")
    return {
        "API_BASE": server.api_base,
        "API_KEY": server.api_key,
        "MANAGEMENT_KEY": server.management_key,
        "BROKE_KEY": broke["key"],
        "CROWDED_KEY": crowded["key"],
        "PERSONAL_MANAGEMENT_KEY": personal["key"],
        "ORGANIZATION": server.organization["id"],
        "USER_ID": admin["id"],
    }


@contextlib.contextmanager
def _crowd(server: RunningServer, key: str) -> Iterator[None]:
    """So many streams open that one more with this key is answered 429."""
    body = {"model": "acme/endless", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    with contextlib.ExitStack() as held:
        client = held.enter_context(httpx2.Client(base_url=server.api_base, headers={"authorization": f"Bearer {key}"}))
        for _ in range(CROWD):
            stream = held.enter_context(client.stream("POST", "/chat/completions", json=body, timeout=60))
            assert stream.status_code == 200, stream.read()
        yield


def _seen(name: str, script: str, env: dict[str, str]) -> Seen:
    found = run_client(_PYTHON[name], script, env) if name in _PYTHON else run_node_client(_NODE[name], script, env)
    return Seen(name, found["version"], found["cases"])
