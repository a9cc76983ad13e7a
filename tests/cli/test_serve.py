"""`bursar serve`: production. Refuses to start half-configured; nobody may spend the operator's money by clicking."""

import re
from pathlib import Path

import httpx2
import pytest

from tests.cli.support import Serve, ask, bursar, eventually, get
from tests.support.server import RunningServer

FAKE = "sk-proj-not-a-real-credential-0123456789"


@pytest.mark.parametrize(
    ("args", "env", "said"),
    [
        (["--host", "0.0.0.0"], {}, "BURSAR_PUBLIC_URL"),
        (["--host", "::"], {}, "BURSAR_PUBLIC_URL"),
        ([], {"BURSAR_HOST": "192.0.2.1"}, "BURSAR_PUBLIC_URL"),
        ([], {"BURSAR_SMTP_HOST": "mail.example.com"}, "BURSAR_SMTP_SENDER"),
        ([], {"BURSAR_PAYMENTS": "sandbox", "OPENAI_API_KEY": FAKE}, "BURSAR_LET_SANDBOX_CREDITS_SPEND_REAL_MONEY"),
    ],
)
def test_a_half_configured_installation_is_refused_and_the_setting_named(
    tmp_path: Path, args: list[str], env: dict[str, str], said: str
):
    done = bursar("serve", "--port", "0", "--data-dir", tmp_path / "data", *args, env=env).refused(3)
    assert said in done.err
    assert FAKE not in done.said


def test_an_address_that_is_not_ours_is_said_in_a_sentence(tmp_path: Path):
    env = {"BURSAR_PUBLIC_URL": "https://bursar.example.com"}
    done = bursar("serve", "--port", "0", "--host", "192.0.2.1", "--data-dir", tmp_path / "data", env=env).refused(3)
    assert "192.0.2.1" in done.err


def test_the_first_start_prints_a_link_to_become_operator_and_sign_up_is_closed(tmp_path: Path):
    data = tmp_path / "data"
    with Serve(data) as server:
        assert "Become this installation's operator" in server.stderr
        link = eventually(lambda: re.search(r"http://\S+token=\S+", server.stderr))[0]
        assert link.startswith(f"{server.base_url}/")
        assert httpx2.get(link, timeout=10).status_code == 200
        assert "No model can be called yet" in server.stderr
        sign_up = httpx2.get(f"{server.base_url}/sign-up", timeout=10)
        assert '<input type="password"' not in sign_up.text
        assert 'name="password"' not in sign_up.text
        assert get(f"{server.base_url}/api/v1", "/models").json()["total_count"] == 0
        posted = httpx2.post(
            f"{server.base_url}/sign-up",
            data={"email": "eve@example.com", "name": "Eve", "password": "correct horse battery"},
            headers={"Origin": server.base_url, "Sec-Fetch-Site": "same-origin"},
            timeout=10,
        )
        assert posted.status_code >= 400 or posted.status_code == 200
        emails = [user["email"] for user in bursar("users", "list", "--data-dir", data, "--json").json["users"]]
        assert emails == []


def test_with_an_operator_a_later_start_prints_no_link(tmp_path: Path):
    data = tmp_path / "data"
    bursar("migrate", "--data-dir", data).succeeded()
    add = ("users", "add", "--email", "o@example.com", "--name", "Olivia", "--verified", "--operator")
    bursar(*add, "--data-dir", data).succeeded()
    with Serve(data) as server:
        assert "Become this installation's operator" not in server.stderr


def test_a_known_providers_models_appear_when_its_variable_is_set_and_nothing_secret_is_logged(tmp_path: Path):
    secret = "a very secret installation secret of 40 bytes"
    env = {"OPENAI_API_KEY": FAKE, "BURSAR_SECRET": secret, "BURSAR_LOG_LEVEL": "debug"}
    with Serve(tmp_path / "data", env=env) as server:
        models = get(f"{server.base_url}/api/v1", "/models").json()["data"]
        assert len(models) > 5
        assert {model["id"].partition("/")[0] for model in models} == {"openai"}
        assert all(float(model["pricing"]["prompt"]) >= 0 for model in models)
        assert "No model can be called yet" not in server.stderr
        assert ask(f"{server.base_url}/api/v1", "sk-bursar-v1-made-up", model=models[0]["id"]).status_code == 401
    assert FAKE not in server.stderr
    assert secret not in server.stderr


def test_sandbox_purchases_with_real_providers_are_possible_only_when_forced(tmp_path: Path):
    env = {
        "OPENAI_API_KEY": FAKE,
        "BURSAR_PAYMENTS": "sandbox",
        "BURSAR_LET_SANDBOX_CREDITS_SPEND_REAL_MONEY": "true",
    }
    with Serve(tmp_path / "data", env=env) as server:
        assert get(f"{server.base_url}/api/v1", "/models").json()["total_count"] > 5


def test_the_demo_uses_real_providers_only_when_told(tmp_path: Path):
    env = {"OPENAI_API_KEY": FAKE}
    with RunningServer(data_dir=tmp_path / "data", env=env) as server:
        authors = {model["id"].partition("/")[0] for model in get(server.api_base, "/models").json()["data"]}
        assert authors == {"demo"}
    with RunningServer(data_dir=tmp_path / "data", env=env, args=["--real-providers"]) as server:
        authors = {model["id"].partition("/")[0] for model in get(server.api_base, "/models").json()["data"]}
        assert authors == {"demo", "openai"}
        assert FAKE not in server.stderr()


def test_a_database_of_another_installation_is_refused(tmp_path: Path):
    data = tmp_path / "data"
    env = {"BURSAR_SECRET": "the first secret of this installation"}
    bursar("migrate", "--data-dir", data, env=env).succeeded()
    other = {"BURSAR_SECRET": "quite another secret, as long as it"}
    done = bursar("serve", "--port", "0", "--data-dir", data, env=other).refused(3)
    assert "another secret" in done.err
    assert "another secret, as long" not in done.err


def test_a_database_that_does_not_answer_is_said_without_its_password(tmp_path: Path):
    env = {"BURSAR_DATABASE_URL": "postgresql://bursar:hunter2secret@127.0.0.1:1/bursar"}
    done = bursar("migrate", "--data-dir", tmp_path / "data", env=env)
    assert done.code in (1, 3), done
    assert "Traceback" not in done.said
    assert "hunter2secret" not in done.said
