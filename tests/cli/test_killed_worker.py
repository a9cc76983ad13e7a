"""One of four workers is killed under load, again and again: the others go on, and it comes back with its journal."""

import time
from pathlib import Path

from tests.cli.load import CLIENTS, PRICES, Load
from tests.cli.support import books, eventually, generations
from tests.cli.team import Provider, Team, children, kill
from tests.cli.test_workers import provider, url, workers  # noqa: F401 - fixtures
from tests.support.scale import scaled

WORKERS = 4
KILLS = 20
ANSWER_SECONDS_MAX = 5


def test_the_others_go_on_and_the_one_that_was_killed_comes_back_and_nobody_is_charged_twice(
    tmp_path: Path,
    url: str,  # noqa: F811
    provider: Provider,  # noqa: F811
):
    with Team(tmp_path / "data", provider, url, workers=WORKERS) as team:
        keys = [each["key"] for each in team.owner(amount="10000", keys=3)]
        with Load(team, keys) as load:
            eventually(lambda: load.clients_served == CLIENTS, 30)
            back_after = [_kill_one(team, load, url, number % WORKERS) for number in range(scaled(KILLS))]
        seen = load.statuses(0, time.monotonic())
    assert set(seen) <= {200, 0}, load.errors(0, time.monotonic())
    assert seen[0] <= len(back_after) * CLIENTS, "only what the killed one was answering broke"

    rows, kept, served = generations(url), books(url), load.served
    assert {name: rows[name] for name in served} == {name: ("ok", cost) for name, cost in served.items()}
    unseen = {name: row for name, row in rows.items() if name not in served}
    assert len(unseen) <= seen[0], "each belongs to an answer that broke"
    assert {status for status, _ in unseen.values()} <= {"ok", "interrupted"}
    assert max((cost for _, cost in unseen.values()), default=0) <= max(PRICES.values())
    assert kept.cost_nanos == kept.verification.spent
    assert (kept.verification.drift, kept.verification.leased) == (0, 0)
    print(
        f"{len(back_after)} kills of one of {WORKERS} workers: {seen[200]} answers ended, each charged once; {seen[0]} broke, of which "
        f"{kept.statuses.get('interrupted', 0)} were interrupted; back after {max(back_after):.2f} s at most; drift 0"
    )


def _kill_one(team: Team, load: Load, url: str, index: int) -> float:  # noqa: F811
    """Returns after how many seconds it was back."""
    victim, started, killed = team.processes[index], {worker.started_at for worker in workers(url)}, time.monotonic()
    kill(victim)
    eventually(lambda: victim not in children(team.pid))
    eventually(lambda: load.statuses(killed, time.monotonic())[200] >= CLIENTS, ANSWER_SECONDS_MAX)
    eventually(lambda: started != {worker.started_at for worker in workers(url)}, 30)
    back_after = time.monotonic() - killed
    eventually(lambda: len(team.processes) == WORKERS)
    assert team.health() == 200
    return back_after
