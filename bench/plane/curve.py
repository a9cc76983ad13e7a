"""Does a request cost more in a large installation? The same load on a small one and on a large one, interleaved.

`python bench/plane/curve.py`; takes a few minutes, most of them to make the data.
"""

import os
import tempfile
from pathlib import Path

from measure import interleaved, report, running, start_bursar, start_upstream

SCALE = int(os.environ.get("SCALE", "1"))
"""So many times smaller is what is large: a look at whether this runs at all needs no million of anything."""
SIZES = {"small": (10, 100, 0), "large": (10_000 // SCALE, 1_000_000 // SCALE, 1_000_000 // SCALE)}
"""Organizations, keys (of which at most 1,000 are used), past generations."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = start_upstream(folder)
        subjects = {size: start_bursar(folder / size, upstream, size, counts=counts) for size, counts in SIZES.items()}
        with running(upstream.process, *(subject.process for subject in subjects.values())):
            rows = []
            for subject in subjects.values():
                subject.load(64, seconds=2)  # every key is in the cache
            for connections in (1, 64):
                cpu = {size: each["cpu_ms"] for size, each in interleaved(list(subjects.values()), connections).items()}
                growth = cpu["large"] / cpu["small"] - 1
                shown = f"{cpu['small']:.3f} -> {cpu['large']:.3f}  ({growth:+.0%})"
                rows.append((f"{connections} at once: CPU-ms per request, small -> large", shown))
            memory = {size: subject.rss_mb() for size, subject in subjects.items()}
            rows.append(("resident memory, small -> large", f"{memory['small']:.0f} -> {memory['large']:.0f} MB"))
    report("curve", rows)


if __name__ == "__main__":
    main()
