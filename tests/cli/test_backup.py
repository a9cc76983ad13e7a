"""A backup made under load is whole: what clients had seen before it is charged in what is restored from it, and no secret is in it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.cli._selftest import Load, Seen
from tests.cli.support import books, bursar, eventually, generations, get
from tests.support.postgres import PostgresServer, wheel_folder
from tests.support.server import RunningServer


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest) -> Iterator[tuple[str | None, str | None]]:
    """A database to back up, and an empty one to restore to."""
    if request.param == "sqlite":
        yield None, None
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    made = server.clone("template_bursar"), server.create_database("restored_bursar")
    yield made
    for url in made:
        server.drop_database(url)


def env_of(url: str | None) -> dict[str, str]:
    """PostgreSQL's programs have to be of the server's version: those beside it."""
    if url is None:
        return {}
    return {"BURSAR_DATABASE_URL": url, "PATH": f"{wheel_folder() / 'bin'}:/usr/bin:/bin"}


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_backup_under_load_is_restored_elsewhere_with_every_charge_seen_before_it(
    tmp_path: Path, urls: tuple[str | None, str | None]
):
    url, other = urls
    data, folder, new = tmp_path / "data", tmp_path / "backup", tmp_path / "new"
    seen = Seen()
    with RunningServer(data_dir=data, database_url=url, args=["--pace", "0"]) as server:
        email = server.users[0]["email"]
        added = bursar(
            "keys", "add", "--email", email, "--name", "ci", "--data-dir", data, "--json", env=env_of(url)
        ).json
        load = Load(server.ready, seen, 0)
        load.start()
        eventually(lambda: len(seen.ended) > 100)
        before = dict(seen.ended)
        made = bursar("backup", folder, "--data-dir", data, "--json", env=env_of(url)).succeeded().json
        eventually(lambda: len(seen.ended) > len(before) + 100)
        server.kill()
        load.join()
        assert load.failures == []
        assert len(seen.ended) > len(before), "it went on meanwhile"
        server.start()
        live = generations(url or data)
        secrets = [(data / "secret").read_text().strip(), added["key"], server.api_key, server.management_key]
        secrets += [user["sign_in_url"].partition("token=")[2] for user in server.users]
    assert f"{data / 'secret'}" in made["hint"]
    assert not [secret for secret in secrets if secret.encode() in all_bytes(folder)]
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}
    found = bursar("restore", folder, "--data-dir", new, "--json", env=env_of(other)).succeeded().json
    assert found["verified"]["drift"] == 0
    assert "secret" in found["hint"]
    shutil.copy(data / "secret", new / "secret")
    with RunningServer(data_dir=new, database_url=other, args=["--pace", "0"]) as restored:
        rows = generations(other or new)
        assert {identity: rows[identity][1] for identity in before} == before
        assert {identity for identity in rows if identity not in live} == set(), "nothing that never was"
        assert books(other or new).verification.drift == 0
        assert get(restored.api_base, "/key", added["key"]).json()["data"]["label"].startswith("sk-bursar")
    assert bursar("ledger", "verify", "--data-dir", new, "--json", env=env_of(other)).succeeded().json["ok"]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    """A data directory, and a backup of it."""
    data, folder = tmp_path / "data", tmp_path / "backup"
    bursar("migrate", "--data-dir", data).succeeded()
    bursar("users", "add", "--email", "ana@example.com", "--name", "Ana", "--data-dir", data).succeeded()
    bursar("backup", folder, "--data-dir", data).succeeded()
    return data, folder


def test_nothing_is_ever_overwritten(saved: tuple[Path, Path], tmp_path: Path):
    data, folder = saved
    assert "is not empty" in bursar("backup", folder, "--data-dir", data).refused(1).err
    assert "is not empty" in bursar("restore", folder, "--data-dir", data).refused(1).err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note.txt").write_text("mine")
    assert "is not empty" in bursar("restore", folder, "--data-dir", tmp_path / "other").refused(1).err
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["note.txt"]


def test_what_is_no_whole_backup_is_refused_before_anything_is_made(saved: tuple[Path, Path], tmp_path: Path):
    data, folder = saved
    new = tmp_path / "new"
    assert "no whole backup" in bursar("restore", data, "--data-dir", new).refused(3).err
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(json.dumps(json.loads(manifest) | {"schema": "v9999"}))
    assert "later Bursar" in bursar("restore", folder, "--data-dir", new).refused(3).err
    (folder / "manifest.json").write_text(manifest)
    with (folder / "bursar.db").open("r+b") as file:
        file.seek(5_000)
        file.write(b"x")
    assert "not as it was backed up" in bursar("restore", folder, "--data-dir", new).refused(3).err
    assert not new.exists()


def test_the_secret_may_be_there_first_and_has_to_be_the_right_one(saved: tuple[Path, Path], tmp_path: Path):
    data, folder = saved
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for new in (right, wrong):
        new.mkdir(mode=0o700)
    shutil.copy(data / "secret", right / "secret")
    (wrong / "secret").write_text("1" * 64)
    found = bursar("restore", folder, "--data-dir", right, "--json").succeeded().json
    assert found["hint"] == ""
    assert "ana@example.com" in bursar("users", "list", "--data-dir", right).succeeded().out
    assert "another secret" in bursar("restore", folder, "--data-dir", wrong).refused(3).err


def test_books_that_do_not_add_up_are_said_when_they_are_restored(saved: tuple[Path, Path], tmp_path: Path):
    from tests.cli.test_ledger import tamper

    data, _ = saved
    tamper(data, None, "INSERT INTO accounts VALUES ('org_x', 'credits', 5)")
    bursar("backup", tmp_path / "bad", "--data-dir", data).succeeded()
    assert "differ by 10 nanos" in bursar("restore", tmp_path / "bad", "--data-dir", tmp_path / "new").refused(1).err
