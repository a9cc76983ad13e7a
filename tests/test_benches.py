"""The data plane's benches start, and measure something: a migration or a name that moves must not break them unseen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLANE = Path(__file__).parents[1] / "bench" / "plane"
ROWS = {
    "run": ["whole, 64 at once: CPU-ms per request", "stream, 64 at once, 5 ms apart: CPU-us per event"],
    "curve": ["64 at once: CPU-ms per request, small -> large"],
    "durable": [
        "durable, 500 requests/s: added p50, p99",
        "PostgreSQL, 500 requests/s each: looks that found a wait for a lock",
    ],
}


@pytest.mark.parametrize("bench", ROWS)
def test_a_bench_runs_through(bench: str, tmp_path: Path):
    small = {"ROUNDS": "1", "SECONDS": "0.1", "SCALE": "1000", "BENCH_RESULTS": str(tmp_path / "results")}
    done = subprocess.run(
        [sys.executable, str(PLANE / f"{bench}.py")],
        env={**os.environ, **small},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (kept,) = (tmp_path / "results").iterdir()
    rows = json.loads(kept.read_text())["rows"]
    assert not [row for row in ROWS[bench] if not rows.get(row)], list(rows)
