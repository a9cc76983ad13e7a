"""The OpenAPI document: everything that is served is in it, and a real server keeps what it says (schemathesis tries)."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bursar.api import _inference
from bursar.api._describe import SECURITY_SCHEMES
from bursar.gateway import SKINS
from bursar.kernel.errors import BursarError
from tests.api.conftest import Api
from tests.support.postgres import PostgresServer
from tests.support.scale import SEED, is_proving, scaled
from tests.support.server import RunningServer, clean_environment

RUN_SECONDS_MAX = 600
"""It takes half a minute where nothing else runs."""
PROOF_SECONDS_MAX = 3_600
CASES_MIN = 1_000
"""The boundaries of every field make more than so many; fewer means that something was not tried."""


async def document_of(api: Api) -> dict[str, Any]:
    return dict((await api.get("/openapi.json")).json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


@pytest.mark.anyio
async def test_whatever_the_gateway_serves_is_described(api: Api):
    document = await document_of(api)
    for path in SKINS:
        operation = document["paths"][path]["post"]
        assert operation["requestBody"]["content"]["application/json"]["examples"]
        assert {"401", "403", "404", "413", "429", "500", "503"} <= operation["responses"].keys()
    for path in ("chat/completions", "responses", "messages", "completions"):
        answer = document["paths"][f"/api/v1/{path}"]["post"]["responses"]["200"]
        assert answer["content"].keys() == {"application/json", "text/event-stream"}


@pytest.mark.anyio
async def test_whatever_status_the_gateway_and_the_providers_refuse_with_is_described(api: Api):
    def kinds(kind: type[BursarError]) -> Iterator[type[BursarError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from kinds(each)

    ours = {each for each in kinds(BursarError) if each.__module__.startswith(("bursar.gateway", "bursar.providers"))}
    statuses = {str(each.status) for each in ours} - {"405"}  # said of methods that are not described
    assert {"400", "401", "402", "429", "502", "504"} <= statuses
    document = await document_of(api)
    for path in SKINS:
        if path != "/api/v1/messages/count_tokens":
            assert statuses <= document["paths"][path]["post"]["responses"].keys(), path


def test_a_skin_without_a_description_is_not_left_out_silently(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_inference, "SKINS", {**SKINS, "/api/v1/rerank": SKINS["/api/v1/embeddings"]})
    with pytest.raises(KeyError, match="rerank"):
        _inference.paths()


@pytest.mark.anyio
async def test_whatever_the_management_api_serves_is_described(api: Api):
    described = {name for name, _ in operations(await document_of(api))}
    app: Any = api.client._transport.app  # type: ignore[attr-defined]
    included = [route.original_router for route in app.routes if hasattr(route, "original_router")]
    served = {
        f"{method} /api/v1{route.path.replace(':path}', '}')}"
        for router in included
        for route in router.routes
        for method in route.methods
    }
    assert len(served) > 10
    assert served == described - {f"POST {path}" for path in SKINS}


@pytest.mark.anyio
async def test_every_operation_says_who_may_ask_and_none_promises_fastapis_422(api: Api):
    document = await document_of(api)
    assert document["components"]["securitySchemes"].keys() == SECURITY_SCHEMES.keys()
    for name, operation in operations(document):
        assert "security" in operation, name
        assert {scheme for each in operation["security"] for scheme in each} <= SECURITY_SCHEMES.keys(), name
        assert "422" not in operation["responses"], name
        assert "500" in operation["responses"], name
        assert ("401" in operation["responses"]) == bool(operation["security"] and {} not in operation["security"]), (
            name
        )
        assert operation["summary"], name
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names))
    assert document["paths"]["/api/v1/messages"]["post"]["security"] == [{"api_key": []}, {"x_api_key": []}]
    assert document["paths"]["/api/v1/credits"]["get"]["security"] == [{"management_key": []}]
    assert document["paths"]["/api/v1/models"]["get"]["security"] == []


@pytest.mark.anyio
async def test_what_manages_organizations_shows_an_example_of_every_body_and_answer(api: Api):
    document = await document_of(api)
    ours = re.compile(r"(GET|POST|PATCH|DELETE) /api/v1/(organization|membership|invitation|audit)(?!.*budget)")
    shown = [operation for name, operation in operations(document) if ours.match(name)]
    assert len(shown) >= 18
    for operation in shown:
        success = operation["responses"].get("200") or operation["responses"]["201"]
        for place in (success, operation.get("requestBody", success)):
            name = place["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][name]["examples"], name


@pytest.mark.anyio
async def test_every_reference_of_the_document_leads_somewhere(api: Api):
    document = await document_of(api)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    used = set(references(document))
    assert used
    assert used <= known


CONFIG = """
hooks = "{hooks}"

# A name that is made up is refused with 400, and so is a whole number written as 9.0: the description allows both.
[[operations]]
include-method = "POST"
checks.positive_data_acceptance.enabled = false

# So is a member or a workspace that nobody has.
[[operations]]
include-method = "PATCH"
checks.positive_data_acceptance.enabled = false

# So is a slug that is not the organization's own, and a cursor that is made up.
[[operations]]
include-path-regex = "/api/v1/(organizations/|audit-events).*"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "/api/v1/(credits|keys|organization|memberships|invitations|audit-events).*"
headers = {{ Authorization = "Bearer {management_key}" }}
"""


def tried(tmp_path: Path, examples: int, *options: str, database_url: str | None = None) -> dict[str, Any]:
    """What schemathesis reports of a real server; a finding fails."""
    report = tmp_path / "report.json"
    config = tmp_path / "schemathesis.toml"
    with RunningServer(args=["--pace", "0"], database_url=database_url) as server:
        hooks = Path(__file__).with_name("schemathesis_hooks.py")
        config.write_text(CONFIG.format(hooks=hooks, management_key=server.management_key))
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("schemathesis"), "--config-file", config),
                *("run", f"{server.api_base}/openapi.json", "--no-color"),
                *("-H", f"Authorization: Bearer {server.api_key}", "--max-examples", str(examples), *options),
                *("--seed", str(SEED), "--generation-database", "none", "--continue-on-failure"),
                *("--report", "json", "--report-json-path", report),
            ],
            cwd=tmp_path,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROOF_SECONDS_MAX if is_proving() else RUN_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2_000:]
    return dict(json.loads(report.read_text()))


def test_a_real_server_answers_what_the_description_says_whatever_is_sent(tmp_path: Path):
    """Examples, the boundaries of every field, made-up input, and chains of requests."""
    found = tried(tmp_path, scaled(400))
    assert found["operations"]["tested"] == found["operations"]["total"] >= len(SKINS) + 12
    assert found["test_cases"]["generated"] >= CASES_MIN
    # Not only refusals: bodies that were made up got whole answers, from every model that is described to give any.
    for path, described in _inference.DESCRIBED.items():
        counted = found["valid_rates"][f"POST {path}"]["coverage"]
        assert (counted["accepted"] > counted["rejected"]) == (described.answer is not None), (path, counted)


def test_a_real_server_on_postgresql_answers_so_too(tmp_path: Path, postgres: PostgresServer):
    """A tenth of it: what the other database could change is what is read and written, not how bodies are checked."""
    url = postgres.clone("template_bursar")
    found = tried(tmp_path, scaled(40), "--phases", "examples,fuzzing,stateful", database_url=url)
    postgres.drop_database(url)
    assert found["operations"]["tested"] == found["operations"]["total"] >= len(SKINS) + 12
    assert found["test_cases"]["generated"] >= scaled(40) * len(SKINS)
