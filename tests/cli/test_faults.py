"""What `money.md` promises for the day things break, on a whole server under load: the disk, the clock, the database's connections."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bursar.cli._selftest import CrashLoop, Load
from tests.cli.support import ask
from tests.cli.test_kill import ROOT, FailingServer
from tests.support.postgres import PostgresServer
from tests.support.scale import SEED, scaled
from tests.support.server import clean_environment

ENV = {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB, real."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", tmp_path]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not allowed here: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_is_a_503_before_anything_is_dispatched_and_ends_by_itself(small_tmpfs: Path):
    with FailingServer(small_tmpfs / "data", clean_environment(ENV)) as server:
        loop = CrashLoop(server, random.Random(SEED))
        loop.begin()
        api_base, key = server.facts["api_base"], server.facts["api_key"]
        statuses: list[int] = []
        hog = small_tmpfs / "hog"
        with hog.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and statuses[-3:] != [503, 503, 503]:
            answer = ask(api_base, key, "[[tokens:20]] full disk " + "x" * 4_000)
            statuses.append(answer.status_code)
            if answer.status_code == 200:
                identity = answer.headers["x-generation-id"]
                loop.seen.ended[identity] = round(answer.json()["usage"]["cost"] * 10**9)
            else:
                assert answer.status_code == 503, answer.text
                assert 0 < int(answer.headers["retry-after"]) <= 30
        assert statuses[-3:] == [503, 503, 503], "it fills up"
        hog.unlink()
        deadline = time.monotonic() + 30
        while ask(api_base, key).status_code != 200:
            assert time.monotonic() < deadline, "room is there again, and nobody had to start it anew"
            time.sleep(0.2)
        server.kill()
        server.start()
        loop.compare()


def test_after_a_failed_fsync_nothing_is_promised_any_more_and_a_new_start_has_it_right(tmp_path: Path):
    with FailingServer(tmp_path / "data", clean_environment(ENV)) as server:
        loop = CrashLoop(server, random.Random(SEED))
        loop.begin()
        server.kill()
        for passes in (1, 40, 200)[: scaled(3, one_in=2)]:
            server.bomb = "fail:fdatasync", passes
            server.start()
            load = Load(server.facts, loop.seen, 0)
            load.start()
            assert server.wait(20), "it ends by itself"
            assert server.exit_code not in (0, None), "so that whoever supervises it starts it again"
            load.join()
            assert {failure[:3] for failure in load.failures} <= {"503"}, load.failures
            server.bomb = None
            server.start()
            loop.compare()
            server.kill()
        assert loop.seen.ended


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_clock_that_jumps_by_an_hour_costs_nobody_anything(
    tmp_path: Path, backend: str, request: pytest.FixtureRequest
):
    data, env = tmp_path / "data", clean_environment(ENV)
    if backend == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        env["BURSAR_DATABASE_URL"] = postgres.clone("template_bursar")
    with FailingServer(data, env) as server:
        loop = CrashLoop(server, random.Random(SEED))
        loop.begin()
        server.kill()
        server.bomb = "jump:clock", 250
        server.start()
        for _ in range(scaled(20)):
            loop.cycle()
        assert loop.seen.ended


def test_connections_that_are_cut_again_and_again_also_at_commit_charge_nobody_twice(
    tmp_path: Path, postgres: PostgresServer
):
    url = postgres.clone("template_bursar")
    with FailingServer(tmp_path / "data", clean_environment({**ENV, "BURSAR_DATABASE_URL": url})) as server:
        loop = CrashLoop(server, random.Random(SEED))
        loop.begin()
        load = Load(server.facts, loop.seen, 0)
        load.start()
        load.wait_until_answered()
        cut, until = 0, time.monotonic() + scaled(30)
        while time.monotonic() < until:
            time.sleep(loop.chance.uniform(0, 0.3))
            cut += int(
                postgres.ask(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'bursar'"
                )
            )
        server.kill()
        load.join()
        assert {failure[:3] for failure in load.failures} <= {"503"}, load.failures
        server.start()
        loop.compare()
        assert cut > 3
        assert loop.seen.ended
