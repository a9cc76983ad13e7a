"""The operator's catalogue file: validated with line numbers, added to what is there, reloaded on SIGHUP."""

import signal
from decimal import Decimal
from pathlib import Path

import pytest

from tests.cli.support import LocalProvider, Serve, acme_catalog, ask, books, bursar, eventually, get
from tests.support.server import RunningServer


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_an_error_on_line_7_is_exit_code_3_and_names_the_line(tmp_path: Path, command: str):
    path = tmp_path / "catalog.toml"
    lines = acme_catalog(9999).strip().splitlines()
    lines[6] = 'retention_days = "none"'
    for line_7, said in (
        ('retention_days = "none"', "retention_days"),
        ("retention_days = ", ""),
        ("retention_dyas = 0", "retention_days"),
    ):
        lines[6] = line_7
        path.write_text("\n".join(lines))
        done = bursar(command, "--port", "0", "--data-dir", tmp_path / "data", env={"BURSAR_CATALOG": str(path)})
        done.refused(3)
        assert "catalog.toml, line 7:" in done.err
        assert said in done.err
        assert done.out == ""


def test_a_provider_of_the_file_is_served_and_billed_to_the_nano(tmp_path: Path):
    path = tmp_path / "catalog.toml"
    with LocalProvider({"prompt_tokens": 1234, "completion_tokens": 567}) as provider:
        path.write_text(acme_catalog(provider.port))
        env = {"BURSAR_CATALOG": str(path), "ACME_API_KEY": "acme-credential-0123456789"}
        with RunningServer(data_dir=tmp_path / "data", env=env, args=["--pace", "0"]) as server:
            models = [model["id"] for model in get(server.api_base, "/models").json()["data"]]
            assert models == ["acme/prime", "demo/echo-1", "demo/flat-1", "demo/free-1", "demo/scholar-1"]
            cost = 1234 * 7 + 567 * 13
            for stream in (False, True):
                answer = ask(server.api_base, server.api_key, model="acme/prime", stream=stream, temperature=0.5)
                assert answer.status_code == 200, answer.text
                assert "Hello from acme" in answer.text
                assert f'"cost":{Decimal(cost).scaleb(-9)}' in answer.text
                identity = answer.headers["x-generation-id"]
                row = get(server.api_base, f"/generation?id={identity}", server.api_key).json()["data"]
                assert round(row["total_cost"] * 1e9) == cost
                assert (row["provider_name"], row["upstream_id"]) == ("acme", "cmpl-1")
            found = books(tmp_path / "data")
            assert found.cost_nanos == found.verification.spent == 2 * cost
            assert found.verification.drift == 0
            assert ask(server.api_base, server.api_key).status_code == 200, "the demo provider is still there"
            assert "acme-credential" not in server.stderr()
        assert [seen["authorization"] for seen in provider.seen] == ["Bearer acme-credential-0123456789"] * 2
        assert [seen["body"]["model"] for seen in provider.seen] == ["prime-1"] * 2
        assert provider.seen[0]["body"]["temperature"] == 0.5
        assert provider.seen[1]["body"]["stream_options"] == {"include_usage": True}


def test_a_provider_that_is_not_there_is_502_and_free(tmp_path: Path):
    path = tmp_path / "catalog.toml"
    path.write_text(acme_catalog(9).replace('credential_env = "ACME_API_KEY"\n', ""))
    with RunningServer(data_dir=tmp_path / "data", env={"BURSAR_CATALOG": str(path)}) as server:
        answer = ask(server.api_base, server.api_key, model="acme/prime")
        assert answer.status_code == 502
        assert "127.0.0.1" not in answer.text
        found = eventually(lambda: (it := books(tmp_path / "data")).requests and it)
        assert (found.requests, found.cost_nanos, found.verification.open_holds) == (1, 0, 0)


def test_sighup_reloads_the_file_and_a_broken_one_keeps_the_old(tmp_path: Path):
    path = tmp_path / "catalog.toml"
    path.write_text(acme_catalog(9))

    def price(api_base: str) -> str | None:
        models = {model["id"]: model for model in get(api_base, "/models").json()["data"]}
        return models["acme/prime"]["pricing"]["completion"] if "acme/prime" in models else None

    with RunningServer(data_dir=tmp_path / "data", env={"BURSAR_CATALOG": str(path)}) as server:
        assert price(server.api_base) == "0.000000013"
        path.write_text(acme_catalog(9, completion="0.000000026"))
        assert price(server.api_base) == "0.000000013", "not before it is told"
        server.signal(signal.SIGHUP)
        eventually(lambda: price(server.api_base) == "0.000000026")
        path.write_text(acme_catalog(9, completion="much"))
        server.signal(signal.SIGHUP)
        eventually(lambda: "the catalogue was not reloaded" in server.stderr())
        assert "catalog.toml, line 18:" in server.stderr()
        assert server.stderr().count("write USD per token in quotes") == 1
        assert price(server.api_base) == "0.000000026"
        path.unlink()
        server.signal(signal.SIGHUP)
        eventually(lambda: server.stderr().count("the catalogue was not reloaded") == 2)
        assert price(server.api_base) == "0.000000026"
        path.write_text(acme_catalog(9, completion="0"))
        server.signal(signal.SIGHUP)
        eventually(lambda: price(server.api_base) == "0")


def test_receipts_stay_right_when_a_reload_changed_the_price(tmp_path: Path):
    path = tmp_path / "catalog.toml"
    with LocalProvider({"prompt_tokens": 1000, "completion_tokens": 100}) as provider:
        path.write_text(acme_catalog(provider.port))
        env = {"BURSAR_CATALOG": str(path), "ACME_API_KEY": "x"}
        with RunningServer(data_dir=tmp_path / "data", env=env, args=["--pace", "0"]) as server:

            def charged() -> str:
                answer = ask(server.api_base, server.api_key, model="acme/prime")
                return answer.headers["x-generation-id"]

            def receipt(identity: str) -> tuple[str, int]:
                data = get(server.api_base, f"/generation/receipt?id={identity}", server.api_key).json()["data"]
                [price] = [line["price"] for line in data["lines"] if line["class"] == "completion"]
                return price, data["charged_nanos"]

            before = charged()
            path.write_text(acme_catalog(provider.port, completion="0.000000026"))
            server.signal(signal.SIGHUP)
            eventually(lambda: receipt(charged())[0] == "0.000000026")
            after = charged()
            path.write_text(acme_catalog(provider.port, completion="0.000000039"))
            server.signal(signal.SIGHUP)
            eventually(lambda: receipt(charged())[0] == "0.000000039")
            assert receipt(before) == ("0.000000013", 1000 * 7 + 100 * 13)
            assert receipt(after) == ("0.000000026", 1000 * 7 + 100 * 26)


def test_serve_uses_the_file_too(tmp_path: Path):
    path = tmp_path / "catalog.toml"
    path.write_text(acme_catalog(9))
    env = {"BURSAR_CATALOG": str(path), "ACME_API_KEY": "x"}
    with Serve(tmp_path / "data", env=env) as server:
        models = get(f"{server.base_url}/api/v1", "/models").json()["data"]
        assert [model["id"] for model in models] == ["acme/prime"]
