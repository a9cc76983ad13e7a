"""Secrets are planted in a running installation, used, and then looked for in all that it left behind.

Database, journals, logs, a backup, and every error that anybody was told: none may contain one of them.
"""

import asyncio
import html
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from urllib.parse import unquote

import httpx2
import pyotp
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.cli.support import LocalProvider, acme_catalog, ask, bursar, eventually
from tests.cli.test_backup import env_of
from tests.conftest import BACKENDS, open_database
from tests.storage.at_rest import everything_stored
from tests.support.person import Person
from tests.support.postgres import wheel_folder
from tests.support.server import RunningServer, free_port

PASSWORD = "planted-password-5b1f0c"
NEW_PASSWORD = "planted-new-password-77a9"
PROVIDER_CREDENTIAL = "planted-provider-credential-0123456789"
METRICS_TOKEN = "planted-metrics-token-0123456789abcdef"
SMTP_PASSWORD = "planted-smtp-password-31337"
PROMPT = "planted-prompt: what the client asked"
WRONG_PASSWORD = "planted-wrong-password-9d2e"
IVY = "ivy@example.com"


@dataclass
class Inbox:
    """A mail server that takes everything, by the password that it was told."""

    texts: list[str] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        parts = message_from_bytes(envelope.original_content or b"").walk()
        self.texts += [
            str(part.get_payload(decode=True), "utf-8") for part in parts if part.get_content_type() == "text/plain"
        ]
        return "250 OK"

    def token(self, page: str) -> str:
        """Of the newest link to that page."""
        found = [match for text in self.texts for match in re.findall(rf"/{page}\?token=([\w-]+)", text)]
        assert found, f"no link to {page} in {len(self.texts)} messages"
        return found[-1]


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    mails = Inbox()
    controller = Controller(
        mails,
        hostname="127.0.0.1",
        port=free_port(),
        auth_require_tls=False,
        authenticator=lambda *_: AuthResult(success=True),
    )
    controller.start()
    yield mails, controller.port
    controller.stop()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_secret_is_left_behind_anywhere(
    backend: str, tmp_path: Path, inbox: tuple[Inbox, int], request: pytest.FixtureRequest
):
    mails, port = inbox
    url = request.getfixturevalue("postgres").create_database("planted") if backend == "postgresql" else None
    with LocalProvider({"prompt_tokens": 5, "completion_tokens": 7}) as provider:
        (tmp_path / "catalog.toml").write_text(acme_catalog(provider.port))
        env = {
            "BURSAR_CATALOG": str(tmp_path / "catalog.toml"),
            "BURSAR_METRICS_TOKEN": METRICS_TOKEN,
            "BURSAR_SIGN_UP": "open",
            "BURSAR_SMTP_HOST": "127.0.0.1",
            "BURSAR_SMTP_PORT": str(port),
            "BURSAR_SMTP_SECURITY": "none",
            "BURSAR_SMTP_SENDER": "bursar@example.com",
            "BURSAR_SMTP_USERNAME": "bursar",
            "BURSAR_SMTP_PASSWORD": SMTP_PASSWORD,
            "BURSAR_LOG_LEVEL": "debug",
            "ACME_API_KEY": PROVIDER_CREDENTIAL,
        }
        data = tmp_path / "data"
        with RunningServer(data_dir=data, database_url=url, env=env, args=["--pace", "0"]) as server:
            secrets, told = plant(server, mails)
            bursar("backup", tmp_path / "backup", "--data-dir", data, "--json", env=env_of(url)).succeeded()
            left = {"log": server.stderr(), "errors": told}
            left["database"] = asyncio.run(stored(url or f"sqlite:///{data / 'bursar.db'}"))
            left["data directory"] = files(data)
        left["data directory at the end"] = files(data)
        left["backup"] = files(tmp_path / "backup")
        assert any(PROVIDER_CREDENTIAL in str(seen["authorization"]) for seen in provider.seen), "it was never used"
    assert len(secrets) >= 12
    found = [(name, where) for name, secret in secrets.items() for where, text in left.items() if secret in text]
    assert found == []
    for where in ("database", "backup", *(["data directory"] if url is None else [])):
        assert IVY in left[where], f"what is no secret is not found in the {where} either: it was not looked at"
    assert left["log"]
    assert "error" in left["errors"]


async def stored(url: str) -> str:
    database = open_database(url)
    try:
        return await everything_stored(database)
    finally:
        await database.close()


def files(folder: Path) -> str:
    """Every byte but those of the installation's own secret, whose place this is."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "secret"]
    return "\n".join(content(path).decode("latin-1") for path in found)


def content(path: Path) -> bytes:
    """A dump of PostgreSQL's is compressed: as the statements that it would restore."""
    found = path.read_bytes()
    if not found.startswith(b"PGDMP"):
        return found
    return subprocess.run(
        [wheel_folder() / "bin" / "pg_restore", "-f", "-", path], capture_output=True, check=True
    ).stdout


def plant(server: RunningServer, mails: Inbox) -> tuple[dict[str, str], str]:
    """Uses every kind of secret at least once; which they are, and every error text that came back."""
    told: list[str] = []
    secrets = {
        "password": PASSWORD,
        "new password": NEW_PASSWORD,
        "wrong password": WRONG_PASSWORD,
        "provider credential": PROVIDER_CREDENTIAL,
        "metrics token": METRICS_TOKEN,
        "SMTP password": SMTP_PASSWORD,
        "prompt": PROMPT,
        "answer": "Hello from acme",
    }
    with Person(server) as ivy:
        ivy.post("/sign-up", name="Ivy", email=IVY, password=PASSWORD)
        secrets["verification link"] = arrived(mails, "verify")
        page = f"/verify?token={secrets['verification link']}"
        ivy.post("/verify", page, token=secrets["verification link"], password=PASSWORD)
        told.append(ivy.post("/sign-in", email=IVY, password=WRONG_PASSWORD).text)
        ivy.post("/forgot-password", email=IVY)
        secrets["reset link"] = arrived(mails, "set-password")
        page = f"/set-password?token={secrets['reset link']}"
        ivy.post("/set-password", page, token=secrets["reset link"], password=NEW_PASSWORD)
        assert ivy.post("/sign-in", email=IVY, password=NEW_PASSWORD).status_code == 303
        secrets["session"] = ivy.cookie("__Host-bursar-session")
        secrets |= plant_second_factor(ivy)
        told.append(ivy.get(f"/verify?token={secrets['verification link']}").text)
    with Person.signed_in(server, server.user("admin")["sign_in_url"]) as admin:
        form_id = re.search(r'name="form_id" value="([^"]+)"', admin.get("/orgs/acme/keys").text)
        assert form_id is not None
        made = admin.post("/orgs/acme/keys", name="planted", kind="inference", form_id=form_id.group(1))
        key = re.search(r"sk-bursar-v1-[\w-]{51}", made.text)
        assert key is not None, made.text
        secrets["API key"] = key.group()
        admin.post("/orgs/acme/members/invitations", "/orgs/acme/members", addresses="new@example.com", role="member")
        secrets["invitation"] = arrived(mails, "invitations/accept")
        secrets["admin's session"] = admin.cookie("__Host-bursar-session")
    secrets["management key"] = server.management_key
    for stream in (False, True):
        assert ask(server.api_base, secrets["API key"], PROMPT, model="acme/prime", stream=stream).status_code == 200
    told += errors(server, secrets)
    return secrets, "\n".join(told)


def errors(server: RunningServer, secrets: dict[str, str]) -> list[str]:
    """What is told to callers whose requests go wrong, secrets in hand."""
    bad = [
        ask(server.api_base, secrets["management key"], PROMPT),
        ask(server.api_base, secrets["API key"][:-1] + "x", PROMPT),
        ask(server.api_base, secrets["API key"], PROMPT, model="acme/none"),
        ask(server.api_base, secrets["API key"], PROMPT, temperature={"a": PROMPT}),
        httpx2.get(f"{server.api_base}/keys", headers={"authorization": f"Bearer {secrets['API key']}"}),
        httpx2.get(f"{server.base_url}/metrics", headers={"authorization": f"Bearer {METRICS_TOKEN}x"}),
    ]
    told = [answer.text for answer in bad if answer.status_code >= 400]
    assert len(told) >= 5
    return told


def plant_second_factor(ivy: Person) -> dict[str, str]:
    page = ivy.get("/settings/second-factor").text
    shown = re.search(r"((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})", page)
    assert shown is not None, page
    secret = shown.group(1).replace(" ", "")
    done = ivy.post("/settings/second-factor/on", "/settings/second-factor", code=pyotp.TOTP(secret).now())
    kept = re.search(r'href="data:text/plain;charset=utf-8,([^"]+)"', done.text)
    assert kept is not None, done.text
    codes = unquote(html.unescape(kept.group(1))).partition("Each works once.")[2].split()
    assert len(codes) == 10
    return {"TOTP secret": secret, "recovery code": codes[0]}


def arrived(mails: Inbox, page: str) -> str:
    eventually(lambda: any(f"/{page}?token=" in text for text in mails.texts), seconds=15)
    return mails.token(page)
