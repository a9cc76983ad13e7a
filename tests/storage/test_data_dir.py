"""The data directory: one server in it, its secret stable and for its owner only, and clear words where it cannot be used."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bursar.kernel.errors import SettingsError
from bursar.storage import DataDir, DataDirInUse
from bursar.storage._datadir import DataDirUnusable

HOLD = """
import sys, pathlib
from bursar.storage import DataDir
directory = DataDir(pathlib.Path(sys.argv[1]))
directory.lock()
print("locked", flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_with_its_parents_for_its_owner_only(tmp_path: Path):
    directory = DataDir(tmp_path / "a" / "b")
    assert directory.path.is_dir()
    assert mode(directory.path) == 0o700
    assert directory.database_url == f"sqlite:///{tmp_path}/a/b/bursar.db"


def test_a_second_lock_is_refused_and_names_the_process_that_has_it(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        second = DataDir(tmp_path)
        for _ in range(2):  # asking does not wear it out
            with pytest.raises(DataDirInUse, match=rf"in use by process {holder.pid}\b") as refusal:
                second.lock()
        assert "--data-dir" in (refusal.value.remedy or "")
    finally:
        holder.communicate()
    second.lock()  # it went with its process
    assert (tmp_path / "bursar.lock").read_text() == f"{os.getpid()}\n"
    second.unlock()


def test_a_lock_that_was_left_behind_by_a_dead_process_holds_nothing(tmp_path: Path):
    (tmp_path / "bursar.lock").write_text("999999999999\n")
    directory = DataDir(tmp_path)
    directory.lock()
    assert (tmp_path / "bursar.lock").read_text() == f"{os.getpid()}\n"
    directory.unlock()
    directory.unlock()


def test_the_secret_is_made_once_kept_and_readable_by_its_owner_only(tmp_path: Path):
    made = DataDir(tmp_path).secret(None)
    assert len(made) >= 32
    assert DataDir(tmp_path).secret(None) == made
    assert mode(tmp_path / "secret") == 0o600
    assert DataDir(tmp_path / "other").secret(None) != made


def test_a_configured_secret_is_used_as_it_is_and_not_written_down(tmp_path: Path):
    assert DataDir(tmp_path).secret("x" * 32) == b"x" * 32
    assert not (tmp_path / "secret").exists()


def test_a_short_configured_secret_is_refused_with_the_way_to_make_one(tmp_path: Path):
    with pytest.raises(SettingsError, match="BURSAR_SECRET") as refusal:
        DataDir(tmp_path).secret("x" * 31)
    assert "openssl" in (refusal.value.remedy or "")


def test_an_empty_secret_file_is_not_replaced_by_a_new_secret(tmp_path: Path):
    (tmp_path / "secret").touch()
    with pytest.raises(DataDirUnusable, match="empty") as refusal:
        DataDir(tmp_path).secret(None)
    assert "backup" in (refusal.value.remedy or "")


def test_the_name_of_the_node_is_stable_and_its_own(tmp_path: Path):
    name = DataDir(tmp_path).node()
    assert DataDir(tmp_path).node() == name
    assert DataDir(tmp_path / "other").node() != name


def test_a_file_in_its_place_is_a_clear_error(tmp_path: Path):
    (tmp_path / "data").write_text("a file")
    for path in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(DataDirUnusable, match="cannot be used") as refusal:
            DataDir(path)
        assert "--data-dir" in (refusal.value.remedy or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("bits", [0o000, 0o300, 0o500])
def test_a_directory_one_may_not_use_is_a_clear_error(tmp_path: Path, bits: int):
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(bits)
    try:
        with pytest.raises(DataDirUnusable, match="permission denied"):
            DataDir(directory)
    finally:
        directory.chmod(0o700)


def test_a_directory_one_may_not_use_is_a_clear_error_also_where_the_tests_run_as_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DataDirUnusable, match="permission denied"):
        DataDir(tmp_path)


@pytest.mark.parametrize("name", ["secret", "node", "bursar.lock"])
def test_a_file_in_it_that_cannot_be_read_is_a_clear_error(tmp_path: Path, name: str):
    (tmp_path / name).mkdir()
    directory = DataDir(tmp_path)
    use = {"secret": lambda: directory.secret(None), "node": directory.node, "bursar.lock": directory.lock}[name]
    with pytest.raises(DataDirUnusable, match=name):
        use()
