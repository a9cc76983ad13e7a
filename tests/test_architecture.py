"""The house stands: rooms on floors, entered by their front doors, each rule a sentence and each checker tried on a bad house."""

from pathlib import Path

import pytest

from tests.support import architecture as rules
from tests.support.architecture import House

SOURCE = Path(__file__).parents[1] / "src" / "bursar"


@pytest.fixture(scope="module")
def house() -> House:
    return House(SOURCE)


# The rules, on the house as it is.


def test_every_room_is_on_the_floor_plan_and_none_is_an_empty_shell(house):
    assert rules.floor_plan(house) == []


def test_a_room_imports_only_from_lower_floors(house):
    assert rules.floors(house) == []


def test_the_kernel_imports_the_standard_library_only(house):
    assert rules.kernel_is_self_contained(house) == []


def test_a_room_is_entered_by_its_front_door(house):
    assert rules.front_doors(house) == []


def test_a_front_door_exports_what_it_has(house):
    assert rules.exports_match(house) == []


def test_tables_are_read_by_their_room_and_reports(house):
    assert rules.tables_are_private(house) == []


def test_a_room_writes_only_its_own_tables(house):
    assert rules.rooms_write_their_own_tables(house) == []


def test_of_the_gateway_only_funds_and_apply_write(house):
    assert rules.gateway_writes_in_two_places(house) == []


def test_reports_only_read(house):
    assert rules.reports_only_read(house) == []


def test_no_transaction_is_open_across_the_network(house):
    assert rules.no_transaction_over_the_network(house) == []


def test_the_outside_never_sees_storage_and_actions_and_gateway_never_meet(house):
    assert rules.strangers_stay_strangers(house) == []


def test_pure_modules_are_pure(house):
    assert rules.pure_modules_are_pure(house) == []


def test_only_settings_reads_the_environment(house):
    assert rules.only_settings_reads_the_environment(house) == []


def test_only_the_clock_tells_the_time(house):
    assert rules.only_the_clock_tells_the_time(house) == []


def test_only_app_builds_what_lives_long(house):
    assert rules.only_app_builds(house) == []


def test_migrations_import_no_room(house):
    assert rules.migrations_stand_alone(house) == []


def test_money_is_never_a_float(house):
    assert rules.money_is_never_a_float(house) == []


# The checkers, on small houses. A bad house is a file, its text, and what the checker must say; a good house passes every rule.

TABLES = (
    "from sqlalchemy import Column, Integer, Table\n"
    "from bursar.storage import metadata\n"
    "accounts = Table('accounts', metadata, Column('id', Integer))\n"
)
GOOD = {
    "__init__.py": "__version__ = '0'\n",
    "kernel/__init__.py": "",
    "kernel/clock.py": "import time\nfrom datetime import UTC, datetime\ndef now():\n    return datetime.now(UTC), time.monotonic()\n",
    "kernel/money.py": "CENT = 10_000_000\ndef half(nanos: int) -> int:\n    return nanos // 2\n",
    "kernel/ids.py": "import os\ndef new_key_id():\n    return os.urandom(9)\n",
    "storage/__init__.py": "from bursar.storage._database import Database, Tx, metadata\n__all__ = ['Database', 'Tx', 'metadata']\n",
    "storage/_database.py": "class Database: ...\nclass Tx: ...\nmetadata = None\n",
    "storage/migrations/versions/v0001_first.py": 'from alembic import op\nop.execute("INSERT INTO accounts VALUES (1)")\n',
    "access/__init__.py": "from bursar.access._table import may\n__all__ = ['may']\n",
    "access/_table.py": "from bursar.kernel import ids\ndef may(key: 'ids.KeyId') -> bool:\n    return True\n",
    "ledger/__init__.py": "from bursar.ledger._store import transfer\n__all__ = ['transfer']\n",
    "ledger/_store.py": (
        "from bursar.ledger import tables\nfrom bursar.storage import Tx\n_accounts = tables.accounts\n"
        "async def transfer(tx: Tx, wait: float = 1.0):  # duration, not money\n"
        "    '''Runs UPDATE payments SET, in words.'''\n"
        "    await tx.execute(_accounts.update())\n    await tx.execute(tx.insert(_accounts))\n"
    ),
    "ledger/_rules.py": "from datetime import datetime\ndef due(at: datetime) -> bool:\n    return at.year > 1\n",
    "ledger/tables.py": TABLES,
    "processors/__init__.py": "def charge(): ...\n__all__ = ['charge']\n",
    "actions/__init__.py": "from bursar.actions import buy_credits\n__all__ = ['buy_credits']\n",
    "actions/buy_credits.py": (
        "from bursar import ledger, processors\n"
        "async def start(database):\n"
        "    async with database.begin() as tx:\n        await ledger.transfer(tx)\n"
        "    await processors.charge()\n"
    ),
    "reports/__init__.py": "from bursar.reports._billing import billing\n__all__ = ['billing']\n",
    "reports/_billing.py": "from bursar import ledger\nfrom bursar.ledger import tables\ndef billing():\n    return tables.accounts.select()\n",
    "gateway/__init__.py": "from bursar.gateway._funds import hold\n__all__ = ['hold']\n",
    "gateway/_funds.py": "from bursar.storage import Tx\nasync def hold(database, tx: Tx):\n    async with database.begin(): ...\n",
    "settings.py": "import os\nPORT = os.environ.get('PORT')\n",
    "app.py": "from bursar.ledger import tables\nfrom bursar.storage import Database\ndef build():\n    return Database(), tables\n",
    "__main__.py": "from bursar import app, settings\n",
}

RULES = (
    rules.floor_plan,
    rules.floors,
    rules.kernel_is_self_contained,
    rules.front_doors,
    rules.exports_match,
    rules.tables_are_private,
    rules.rooms_write_their_own_tables,
    rules.gateway_writes_in_two_places,
    rules.reports_only_read,
    rules.no_transaction_over_the_network,
    rules.strangers_stay_strangers,
    rules.pure_modules_are_pure,
    rules.only_settings_reads_the_environment,
    rules.only_the_clock_tells_the_time,
    rules.only_app_builds,
    rules.migrations_stand_alone,
    rules.money_is_never_a_float,
)

BAD = [
    # rule 1
    (rules.floor_plan, "billing/__init__.py", "x = 1", "no room billing"),
    (rules.floor_plan, "helpers.py", "", "no room helpers"),
    (rules.floor_plan, "ledger/_utils.py", "", "utils is a drawer"),
    (rules.floor_plan, "audit/__init__.py", '"""Later."""', "an empty shell"),
    (rules.floor_plan, "audit/__init__.py", "__all__ = []", "an empty shell"),
    (rules.floor_plan, "audit/_store.py", "", "no front door"),
    (rules.floors, "ledger/_x.py", "from bursar import actions", "a higher floor"),
    (rules.floors, "ledger/_x.py", "import bursar.actions.buy_credits", "a higher floor"),
    (rules.floors, "ledger/_x.py", "from bursar.processors import charge", "the same floor"),
    (
        rules.floors,
        "ledger/_x.py",
        "def f():\n    from bursar import processors",
        "_x.py:2: ledger imports bursar.processors",
    ),
    (rules.floors, "ledger/_x.py", "if TYPE_CHECKING:\n    from bursar import reports", "a higher floor"),
    (
        rules.floors,
        "ledger/_x.py",
        "from importlib import import_module\nimport_module('bursar.web')",
        "a higher floor",
    ),
    (rules.floors, "ledger/_x.py", "import importlib\nimportlib.import_module(name)", "cannot be read"),
    (rules.floors, "reports/_x.py", "from bursar import gateway", "the same floor"),
    (rules.floors, "storage/_x.py", "from bursar import access", "the same floor"),
    (rules.floors, "web/_x.py", "from bursar import settings", "a higher floor"),
    (rules.floors, "settings.py", "from bursar import app", "a higher floor"),
    (rules.floors, "app.py", "from bursar import cli", "a higher floor"),
    (rules.floors, "ledger/_x.py", "from . import tables", "relative import"),
    (rules.floors, "ledger/_x.py", "from bursar.storage import *", "name what is needed"),
    (rules.floors, "ledger/_x.py", "import bursar", "name the room"),
    (rules.floors, "ledger/_x.py", "from bursar import treasury", "no room treasury"),
    (rules.floors, "__init__.py", "from bursar import kernel", "must cost nothing"),
    (rules.kernel_is_self_contained, "kernel/x.py", "import msgspec", "imports msgspec"),
    (rules.kernel_is_self_contained, "kernel/x.py", "from bursar import storage", "imports bursar.storage"),
    # rule 2
    (rules.front_doors, "actions/x.py", "from bursar.ledger._store import transfer", "by a window"),
    (rules.front_doors, "actions/x.py", "from bursar.ledger import _store", "by a window"),
    (rules.front_doors, "actions/x.py", "import bursar.ledger._store as s", "by a window"),
    (
        rules.front_doors,
        "actions/x.py",
        "from bursar import ledger\nledger._store.transfer()",
        "x.py:2: enters ledger by a window",
    ),
    (rules.front_doors, "web/x.py", "from bursar.actions import buy_credits as b\nb._check()", "by a window"),
    (rules.front_doors, "actions/x.py", "from bursar.ledger import refund", "does not export refund"),
    (rules.exports_match, "ledger/__init__.py", "from bursar.ledger._store import transfer", "no __all__"),
    (rules.exports_match, "ledger/__init__.py", "__all__ = ['transfer']", "exports transfer, which is not there"),
    (rules.exports_match, "ledger/__init__.py", "def f(): ...\n__all__ = ['f', 'f']", "twice"),
    (
        rules.exports_match,
        "ledger/__init__.py",
        "from bursar.ledger._store import a, b\n__all__ = ['a']",
        "has b, which",
    ),
    (rules.exports_match, "ledger/__init__.py", "def f(): ...\nclass C: ...\n__all__ = ['f']", "has C, which"),
    (rules.exports_match, "ledger/__init__.py", "def _f(): ...\n__all__ = ['_f']", "exports the private _f"),
    (
        rules.exports_match,
        "ledger/__init__.py",
        "from bursar.ledger.tables import accounts\n__all__ = ['accounts']",
        "exports the table accounts",
    ),
    # rule 3
    (
        rules.tables_are_private,
        "actions/x.py",
        "from bursar.ledger.tables import accounts",
        "reads the tables of ledger",
    ),
    (rules.tables_are_private, "gateway/x.py", "from bursar.ledger import tables", "reads the tables of ledger"),
    (
        rules.tables_are_private,
        "api/x.py",
        "from bursar import ledger\nledger.tables.accounts",
        "reads the tables of ledger",
    ),
    (
        rules.rooms_write_their_own_tables,
        "reports/x.py",
        "from sqlalchemy import insert\nfrom bursar.ledger.tables import accounts as a\ninsert(a)",
        "x.py:3: reports writes bursar.ledger.tables.accounts",
    ),
    (
        rules.rooms_write_their_own_tables,
        "reports/x.py",
        "from bursar.ledger import tables\nrows = tables.accounts\nrows.update().values(x=1)",
        "x.py:3: reports writes",
    ),
    (
        rules.rooms_write_their_own_tables,
        "reports/x.py",
        "from bursar import ledger\ndef f(tx):\n    tx.insert(ledger.tables.accounts)",
        "reports writes",
    ),
    (
        rules.rooms_write_their_own_tables,
        "actions/x.py",
        'q = "UPDATE accounts SET n = 0"',
        "actions writes accounts of ledger",
    ),
    (
        rules.rooms_write_their_own_tables,
        "actions/x.py",
        'q = f"delete from accounts {x}"',
        "writes accounts of ledger",
    ),
    # rule 4
    (rules.gateway_writes_in_two_places, "gateway/pipeline.py", "from bursar.storage import Tx", "names Tx"),
    (rules.gateway_writes_in_two_places, "gateway/pipeline.py", "def f(tx: 'Tx'): ...", "names Tx"),
    (rules.gateway_writes_in_two_places, "gateway/pipeline.py", "def f(d):\n    d.begin()", "names begin"),
    (rules.reports_only_read, "reports/x.py", "def f(d):\n    d.begin()", "names begin"),
    (rules.reports_only_read, "reports/x.py", "from bursar import storage\ndef f(tx: storage.Tx): ...", "names Tx"),
    (
        rules.no_transaction_over_the_network,
        "actions/x.py",
        "from bursar import processors as p\nasync def f(d):\n    async with d.begin() as tx:\n        await p.charge()",
        "x.py:4: p.charge is awaited",
    ),
    (
        rules.no_transaction_over_the_network,
        "actions/x.py",
        "async def f(self):\n    async with self.d.snapshot() as s:\n        if s:\n            x = await self._processor.charge()",
        "self._processor.charge is awaited",
    ),
    (
        rules.no_transaction_over_the_network,
        "gateway/_apply.py",
        "async def f(d, upstream):\n    async with d.begin():\n        async for c in upstream.stream():\n            pass",
        "upstream.stream is awaited",
    ),
    # rule 5
    (
        rules.strangers_stay_strangers,
        "providers/x.py",
        "from bursar.storage import Database",
        "providers must never know storage",
    ),
    (rules.strangers_stay_strangers, "mail/x.py", "from bursar import storage", "mail must never know storage"),
    (rules.strangers_stay_strangers, "processors/x.py", "import sqlalchemy as sa", "must never know a database"),
    (rules.strangers_stay_strangers, "actions/x.py", "import bursar.gateway", "actions must never know gateway"),
    (
        rules.strangers_stay_strangers,
        "gateway/x.py",
        "from bursar.actions import buy_credits",
        "gateway must never know actions",
    ),
    # rule 6
    (rules.pure_modules_are_pure, "access/x.py", "from bursar.storage import Tx", "names bursar.storage.Tx"),
    (
        rules.pure_modules_are_pure,
        "access/x.py",
        "from bursar.kernel.clock import now",
        "names bursar.kernel.clock.now",
    ),
    (rules.pure_modules_are_pure, "access/x.py", "from bursar.kernel import ids\nids.new_key_id()", "mints an id"),
    (rules.pure_modules_are_pure, "catalog/_pricing.py", "import random", "names random"),
    (rules.pure_modules_are_pure, "policies/_evaluate.py", "def f():\n    import asyncio", "names asyncio"),
    (rules.pure_modules_are_pure, "organizations/_rules.py", "import time as t", "names time"),
    (rules.pure_modules_are_pure, "gateway/plan.py", "import aiohttp", "names aiohttp"),
    (rules.pure_modules_are_pure, "gateway/_plan.py", "from os import path", "names os.path"),
    (rules.pure_modules_are_pure, "gateway/_plan.py", "def f():\n    return open('x')", "calls open"),
    (
        rules.pure_modules_are_pure,
        "ledger/_rules.py",
        "from bursar.ledger import _store",
        "through bursar.ledger._store",
    ),
    (
        rules.pure_modules_are_pure,
        "ledger/_rules.py",
        "from bursar.ledger.tables import accounts",
        "through bursar.ledger.tables",
    ),
    # rule 7
    (rules.only_settings_reads_the_environment, "app.py", "import os\nos.environ['X']", "app.py:2: only settings"),
    (rules.only_settings_reads_the_environment, "cli/x.py", "from os import getenv as g\ng('X')", "names os.getenv"),
    (rules.only_settings_reads_the_environment, "cli/x.py", "from os import environ", "names os.environ"),
    (
        rules.only_settings_reads_the_environment,
        "cli/x.py",
        "import os as o\ndef f():\n    return dict(o.environ)",
        "os.environ",
    ),
    (
        rules.only_settings_reads_the_environment,
        "cli/x.py",
        "import typer\nx = typer.Option(envvar='X')",
        "has an envvar",
    ),
    (
        rules.only_settings_reads_the_environment,
        "mail/x.py",
        "from pydantic_settings import BaseSettings",
        "pydantic_settings",
    ),
    (rules.only_the_clock_tells_the_time, "ledger/x.py", "import time\ntime.time()", "names time.time"),
    (rules.only_the_clock_tells_the_time, "ledger/x.py", "from time import monotonic as m", "names time.monotonic"),
    (rules.only_the_clock_tells_the_time, "kernel/x.py", "import time\ntime.time_ns()", "names time.time_ns"),
    (
        rules.only_the_clock_tells_the_time,
        "web/x.py",
        "import datetime as d\nd.datetime.now(d.UTC)",
        "datetime.datetime.now",
    ),
    (rules.only_the_clock_tells_the_time, "web/x.py", "from datetime import datetime\nf = datetime.utcnow", "utcnow"),
    (
        rules.only_the_clock_tells_the_time,
        "web/x.py",
        "from datetime import date\ndate.today().isoformat()",
        "date.today",
    ),
    (rules.only_app_builds, "keys/x.py", "def f():\n    global cache\n    cache = {}", "keeps state in a module"),
    (
        rules.only_app_builds,
        "cli/x.py",
        "from bursar.storage import Database\ndef f():\n    Database()",
        "only app builds",
    ),
    (rules.only_app_builds, "jobs/x.py", "import asyncio\nlock = asyncio.Lock()", "while it is imported"),
    (
        rules.migrations_stand_alone,
        "storage/migrations/env.py",
        "from bursar.ledger import tables",
        "imports bursar.ledger.tables",
    ),
    (
        rules.migrations_stand_alone,
        "storage/migrations/versions/x.py",
        "from bursar.storage import Tx",
        "a migration imports",
    ),
    # rule 8
    (rules.money_is_never_a_float, "kernel/money.py", "x = 0.5", "the float 0.5"),
    (rules.money_is_never_a_float, "ledger/deep/x.py", "x = float('1')", "float in a money path"),
    (rules.money_is_never_a_float, "payments/x.py", "def f(amount: float): ...", "float in a money path"),
    (
        rules.money_is_never_a_float,
        "catalog/_pricing.py",
        "def f(a, b):\n    return a / b",
        "_pricing.py:2: true division",
    ),
    (rules.money_is_never_a_float, "gateway/_funds.py", "def f(a):\n    a /= 2", "true division"),
    (rules.money_is_never_a_float, "gateway/_apply.py", "x = 10 ** -9", "a negative power"),
    (rules.money_is_never_a_float, "ledger/x.py", "from sqlalchemy import Float", "sqlalchemy.Float in"),
    (rules.money_is_never_a_float, "ledger/x.py", "x = 0.5  # money", "the float 0.5"),
]


def build(folder: Path, files: dict[str, str]) -> House:
    for name, text in files.items():
        path = folder / "bursar" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return House(folder / "bursar")


def test_a_good_house_passes_every_rule(tmp_path):
    house = build(tmp_path, GOOD)
    assert {rule.__name__: rule(house) for rule in RULES if rule(house)} == {}


@pytest.mark.parametrize(
    ("rule", "file", "text", "said"), BAD, ids=[f"{rule.__name__}-{number}" for number, (rule, *_) in enumerate(BAD)]
)
def test_a_bad_house_is_caught(tmp_path, rule, file, text, said):
    found = rule(build(tmp_path, {**GOOD, file: text}))
    assert any(said in line and file in line for line in found) or any(
        said in line for line in found if "/" not in line
    ), found


def test_every_rule_is_tried_on_a_bad_house():
    assert {rule for rule, *_ in BAD} == {*RULES}


def test_a_house_with_few_rooms_is_judged_by_those(tmp_path):
    house = build(
        tmp_path,
        {"__init__.py": "", "ledger/__init__.py": "from bursar.storage import Tx\ndef f(): ...\n__all__ = ['f']"},
    )
    assert [line for rule in RULES for line in rule(house)] == []


def test_a_duration_may_be_a_float_on_a_line_that_says_so(tmp_path):
    lines = "timeout_seconds: float = 1.5  # duration, not money\nshare = 3 / 4  # proportion, not money\n"
    assert rules.money_is_never_a_float(build(tmp_path, {"payments/_x.py": lines})) == []
