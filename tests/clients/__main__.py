"""`.venv/bin/python -m tests.clients` runs every client and writes `docs/compatibility.md`."""

import sys

from tests.clients.matrix import PAGE, page
from tests.clients.suite import run_all

seen = run_all()
for client in seen:
    for operation, case in client.cases.items():
        if case["failed"]:
            print(f"{client.name}: {operation}\n{case['failed']}", file=sys.stderr)
PAGE.write_text(page(seen), encoding="utf-8")
