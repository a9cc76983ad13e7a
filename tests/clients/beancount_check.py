"""Runs bean-check on the journal on standard input; prints what it said, and the balances that beancount makes of it."""

import json
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

from beancount import loader
from beancount.core.data import Transaction

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "books.beancount"
    file.write_text(sys.stdin.read(), encoding="utf-8")
    program = Path(sys.executable).with_name("bean-check")
    checked = subprocess.run([program, file], capture_output=True, text=True, check=False)
    entries, errors, _ = loader.load_file(str(file))
balances: dict[str, Decimal] = {}
for entry in entries:
    if isinstance(entry, Transaction):
        for posting in entry.postings:
            balances[posting.account] = balances.get(posting.account, Decimal(0)) + posting.units.number
print(
    json.dumps(
        {
            "code": checked.returncode,
            "said": checked.stdout + checked.stderr,
            "errors": [error.message for error in errors],
            "balances": {account: str(amount) for account, amount in balances.items()},
            "links": [
                [entry.narration, sorted(entry.links)]
                for entry in entries
                if isinstance(entry, Transaction) and entry.links
            ],
        }
    )
)
