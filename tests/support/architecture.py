"""The rules of the house, as checkers over a source tree: each takes a `House` and returns one line per violation.

They read the source and import nothing of it. Names are followed through imports (`from datetime import datetime as d` and
`d.now()` is `datetime.datetime.now`), wherever in a file they are written; what is built at run time from strings is not seen,
except `import_module`, which is refused unless its argument can be read.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"kernel"}),
    frozenset({"storage", "access"}),
    frozenset(
        {
            *("identity", "organizations", "ledger", "journal", "keys", "catalog", "policies"),
            *("activity", "payments", "audit", "mail", "providers", "processors"),
        }
    ),
    frozenset({"actions", "reports", "gateway"}),
    frozenset({"api", "web", "jobs"}),
    frozenset({"settings"}),
    frozenset({"app"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

READ_FOREIGN_TABLES = {"reports", "app"}
"""Reports join over them; app assembles them for migrations."""

WRITE_IN_GATEWAY = (
    "bursar.gateway._funds",
    "bursar.gateway._journaled",
    "bursar.gateway._leases",
    "bursar.gateway._purses",
    "bursar.gateway._apply",
)
NEVER = (
    ("providers", "storage"),
    ("processors", "storage"),
    ("mail", "storage"),
    ("actions", "gateway"),
    ("gateway", "actions"),
)

PURE = (
    "bursar.access",
    "bursar.ledger._rules",
    "bursar.ledger._windows",
    "bursar.organizations._rules",
    "bursar.catalog._pricing",
    "bursar.policies._evaluate",
    "bursar.gateway.plan",
    "bursar.gateway._plan",
)
IMPURE = (
    # storage and files
    *(
        "bursar.storage",
        "sqlalchemy",
        "alembic",
        "asyncpg",
        "aiosqlite",
        "sqlite3",
        "pathlib",
        "shutil",
        "tempfile",
        "io",
    ),
    # network and other processes
    *(
        "aiohttp",
        "httptools",
        "httpx2",
        "urllib.request",
        "http",
        "socket",
        "ssl",
        "smtplib",
        "aiosmtplib",
        "subprocess",
    ),
    # clock, waiting, randomness, the machine
    *("bursar.kernel.clock", "time", "asyncio", "anyio", "threading", "random", "secrets", "uuid.uuid1", "uuid.uuid4"),
    *("bursar.kernel.secrets.mint_token", "os", "sys"),
)
MINTS_IDS = re.compile(r"bursar\.kernel\.ids\.new_\w+")

ENVIRONMENT = (
    "os.environ",
    "os.environb",
    "os.getenv",
    "os.getenvb",
    "os.putenv",
    "os.path.expandvars",
    "pydantic_settings",
)
TIME = (
    *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns"),
    *("time.localtime", "time.gmtime", "time.ctime", "time.strftime", "time.clock_gettime", "time.clock_gettime_ns"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
)
BUILT_BY_APP = ("bursar.storage.Database", "bursar.kernel.clock.SystemClock")
LIVES_LONG = (
    *("sqlalchemy.create_engine", "sqlalchemy.ext.asyncio.create_async_engine", "aiohttp.ClientSession"),
    *("asyncio.Lock", "asyncio.Queue", "asyncio.Event", "asyncio.Semaphore", "asyncio.create_task"),
    *("threading.Thread", "threading.Lock", "concurrent.futures.ThreadPoolExecutor"),
)
NETWORK = ("bursar.providers", "bursar.processors", "bursar.mail", "aiohttp", "httpx2", "aiosmtplib")
NETWORK_WORDS = {"provider", "processor", "mailer", "upstream"}

FLOAT_COLUMN = re.compile(r"sqlalchemy(\.types)?\.(Float|REAL|Double|DOUBLE|DOUBLE_PRECISION)|operator\.truediv")
MONEY_PATHS = (
    *("bursar.kernel.money", "bursar.ledger", "bursar.catalog._pricing", "bursar.payments"),
    *("bursar.gateway._funds", "bursar.gateway._apply"),
)
NOT_MONEY = re.compile(r"#.*\b\w+, not money\b")
"""`timeout_seconds: float  # duration, not money`: one word that says what the number is instead, on the line it stands on."""

DRAWERS = {"util", "utils", "helper", "helpers", "service", "services", "common", "misc", "manager", "managers"}
UNREADABLE = "?"


def within(name: str, parents: str | Iterable[str]) -> bool:
    """Whether a dotted name is one of `parents` or lies inside it."""
    return any(name == p or name.startswith(p + ".") for p in ([parents] if isinstance(parents, str) else parents))


@dataclass(frozen=True)
class Mention:
    """A dotted name, followed through the imports of its module."""

    name: str
    line: int
    imported: bool
    """Whether it is an import statement, rather than a use of what one brought."""


@dataclass
class Module:
    root: Path
    path: Path
    source: str = field(repr=False)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, str(self.path))

    @cached_property
    def name(self) -> str:
        parts = self.path.relative_to(self.root.parent).with_suffix("").parts
        return ".".join(parts).removesuffix(".__init__")

    @cached_property
    def room(self) -> str:
        """The room it belongs to; empty for the package's own `__init__`."""
        return self.name.partition(".")[2].partition(".")[0]

    @property
    def is_front_door(self) -> bool:
        return self.path.name == "__init__.py"

    @cached_property
    def is_migration(self) -> bool:
        return within(self.name, "bursar.storage.migrations")

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(self.root.parent)}:{line}"

    @cached_property
    def aliases(self) -> dict[str, str]:
        """What each imported name stands for."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return found

    @cached_property
    def mentions(self) -> list[Mention]:
        found: list[Mention] = []
        inner: set[int] = set()
        for node in ast.walk(self.tree):  # a chain comes before its own parts
            if isinstance(node, ast.Import):
                found += [Mention(alias.name, node.lineno, imported=True) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found += [Mention(f"{node.module}.{alias.name}", node.lineno, imported=True) for alias in node.names]
            elif isinstance(node, ast.Call) and chain(node.func)[-1:] in (["import_module"], ["__import__"]):
                named = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else UNREADABLE
                found.append(Mention(str(named), node.lineno, imported=True))
            elif isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner and self.resolve(node):
                inner |= {id(below) for below in ast.walk(node)}
                found.append(Mention(self.resolve(node), node.lineno, imported=False))
        return found

    def resolve(self, node: ast.expr) -> str:
        """The dotted name that an expression stands for, if it starts at an import; else empty."""
        parts = chain(node)
        return ".".join([self.aliases[parts[0]], *parts[1:]]) if parts and parts[0] in self.aliases else ""

    def imports(self) -> Iterator[Mention]:
        return (mention for mention in self.mentions if mention.imported)


def chain(node: ast.expr) -> list[str]:
    """`a.b.c` → ["a", "b", "c"]; empty for anything that does not start at a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


class House:
    """The source tree below `root`, the folder named `bursar`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = [Module(root, path, path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.py"))]
        self.by_name = {module.name: module for module in self.modules}

    def of(self, *rooms: str) -> Iterator[Module]:
        return (module for module in self.modules if module.room in rooms)

    def exported(self, room: str) -> list[str] | None:
        """The `__all__` of a room's front door; None when there is none that can be read."""
        door = self.by_name.get(f"bursar.{room}")
        for node in door.tree.body if door else []:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and target.id == "__all__" and isinstance(value, ast.List | ast.Tuple):
                return [item.value for item in value.elts if isinstance(item, ast.Constant)]
        return None

    def tables(self) -> dict[str, str]:
        """Table names of the database, with the room that declares each."""
        found = {}
        for module in self.modules:
            for node in ast.walk(module.tree) if not module.is_migration else ():
                if isinstance(node, ast.Call) and module.resolve(node.func).endswith("sqlalchemy.Table") and node.args:
                    first = node.args[0]
                    if isinstance(first, ast.Constant) and isinstance(first.value, str):
                        found[first.value] = module.room
        return found


# Rule 1: floors.


def floor_plan(house: House) -> list[str]:
    """Every room is on the plan, is a package with a front door that exports something, and no room is a drawer."""
    found = []
    for module in house.modules:
        if module.room and module.room not in FLOOR:
            found.append(f"{module.at(1)}: the floor plan has no room {module.room}")
        words = {part.strip("_") for part in module.name.split(".")[1:]}
        found += [
            f"{module.at(1)}: {word} is a drawer; give it a name that says what is in it"
            for word in sorted(words & DRAWERS)
        ]
    for folder in sorted(path for path in house.root.iterdir() if path.is_dir() and path.name in FLOOR):
        if not any(folder.rglob("*.py")):
            continue
        if not (folder / "__init__.py").is_file():
            found.append(f"{folder.name}: no front door (__init__.py)")
        elif folder.name != "kernel" and not house.exported(folder.name):
            found.append(f"{folder.name}: an empty shell, its front door exports nothing")
    return found


def floors(house: House) -> list[str]:
    """A room imports only from lower floors, never from its own; imports are absolute and can be read."""
    found = []
    for module in house.modules:
        found += [
            f"{module.at(node.lineno)}: relative import"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ImportFrom) and node.level
        ]
        for mention in module.imports():
            fault = _unclear(mention.name) or _upwards(module.room, mention.name)
            if fault:
                found.append(f"{module.at(mention.line)}: {fault}")
    return found


def _unclear(target: str) -> str:
    if target == UNREADABLE:
        return "imports what cannot be read from the source"
    if target.endswith(".*"):
        return f"imports everything of {target[:-2]}; name what is needed"
    return "imports the whole house; name the room" if target == "bursar" else ""


def _upwards(here: str, target: str) -> str:
    if not within(target, "bursar"):
        return ""
    there = target.split(".")[1]
    if there in (here, "__version__"):
        return ""
    if there not in FLOOR:
        return f"imports {target}, and the floor plan has no room {there}"
    if not here:
        return f"importing the package must cost nothing, but it imports {target}"
    if FLOOR.get(here, len(FLOORS)) > FLOOR[there]:
        return ""
    return f"{here} imports {target} from {'the same' if FLOOR.get(here) == FLOOR[there] else 'a higher'} floor"


def kernel_is_self_contained(house: House) -> list[str]:
    """The kernel imports the standard library and itself."""
    return [
        f"{module.at(mention.line)}: the kernel imports {mention.name}, which is not in the standard library"
        for module in house.of("kernel")
        for mention in module.imports()
        if mention.name.split(".")[0] not in sys.stdlib_module_names and not within(mention.name, "bursar.kernel")
    ]


# Rule 2: the front door.


def front_doors(house: House) -> list[str]:
    """Another room is entered by what its front door exports, or by a public module of it, never by a private name."""
    found = []
    for module in house.modules:
        for mention in module.mentions:
            parts = mention.name.split(".")
            if parts[0] != "bursar" or len(parts) < 3 or parts[1] in ("", module.room):
                continue
            depth = 4 if ".".join(parts[:3]) in house.by_name else 3
            steps = parts[2:] if mention.imported else parts[2:depth]
            if any(step.startswith("_") and not step.startswith("__") for step in steps):
                found.append(f"{module.at(mention.line)}: enters {parts[1]} by a window: {mention.name}")
            elif mention.imported and not _exported(house, parts[1], parts[2]):
                found.append(f"{module.at(mention.line)}: {parts[1]} does not export {parts[2]}")
    return found


def _exported(house: House, room: str, name: str) -> bool:
    if f"bursar.{room}.{name}" in house.by_name or name in ("*", "tables") or f"bursar.{room}" not in house.by_name:
        return True  # a public module; what rule 1 and 3 judge; a room that is not built yet
    exported = house.exported(room)
    return exported is None or name in exported


def exports_match(house: House) -> list[str]:
    """A front door's `__all__` is what it brings from its own room and defines itself: no more, no less, none of it private."""
    found = []
    for module in house.modules:
        if not module.is_front_door or module.name.count(".") != 1 or module.room == "kernel":
            continue
        exported = house.exported(module.room)
        if exported is None:
            found.append(f"{module.at(1)}: no __all__ that can be read")
            continue
        own, bound = _bound(module)
        submodules = {name.split(".")[2] for name in house.by_name if name.startswith(module.name + ".")}
        found += [
            f"{module.at(1)}: __all__ names {name} twice"
            for name in sorted({n for n in exported if exported.count(n) > 1})
        ]
        found += [
            f"{module.at(1)}: exports {name}, which is not there" for name in sorted({*exported} - bound - submodules)
        ]
        found += [f"{module.at(1)}: exports the private {name}" for name in sorted(exported) if name.startswith("_")]
        found += [
            f"{module.at(1)}: has {name}, which __all__ does not name"
            for name in sorted(own - {*exported})
            if not name.startswith("_")
        ]
        tables = house.by_name.get(f"{module.name}.tables")
        declared = _bound(tables)[0] if tables else set()
        found += [
            f"{module.at(1)}: exports the table {name}, which is for its own room and reports"
            for name in sorted(declared & {*exported})
            if module.aliases.get(name, "").startswith(f"{module.name}.tables.")
        ]
    return found


def _bound(module: Module) -> tuple[set[str], set[str]]:
    """The names that a module defines or brings from its own room; and all that it binds at its top level."""
    own: set[str] = set()
    bound: set[str] = set()
    for node in _top_level(module.tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                bound.add(name)
                source = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                if within(source, f"bursar.{module.room}") and not source.endswith(".tables"):
                    own.add(name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            own |= {target.id for target in targets if isinstance(target, ast.Name) and not target.id.startswith("__")}
    return own, own | bound


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _top_level([*node.body, *node.orelse, *getattr(node, "finalbody", [])])


# Rule 3: tables.


def tables_are_private(house: House) -> list[str]:
    """A room's `tables` are read by the room itself, by reports, and by app, which assembles them."""
    return [
        f"{module.at(mention.line)}: reads the tables of {mention.name.split('.')[1]}"
        for module in house.modules
        if module.room not in READ_FOREIGN_TABLES
        for mention in module.mentions
        if re.match(r"bursar\.\w+\.tables(\.|$)", mention.name) and mention.name.split(".")[1] != module.room
    ]


WRITES = {"insert", "update", "delete"}
SQL_WRITE = re.compile(
    r'\b(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?)\s+"?(\w+)', re.IGNORECASE
)


def rooms_write_their_own_tables(house: House) -> list[str]:
    """Whoever may read another room's tables (and whoever writes SQL as text) does not write them. Migrations may."""
    found = []
    owners = house.tables()
    for module in house.modules:
        if module.is_migration:
            continue
        tables = _names_of_foreign_tables(module)
        documentation = _docstrings(module.tree)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and chain_end(node.func) in WRITES:
                receiver = [node.func.value] if isinstance(node.func, ast.Attribute) else []
                for part in [*receiver, *node.args[:1]]:
                    name = tables.get(".".join(chain(part))) or module.resolve(part)
                    if re.match(r"bursar\.\w+\.tables\.", name) and name.split(".")[1] != module.room:
                        found.append(f"{module.at(node.lineno)}: {module.room} writes {name}")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                found += [
                    f"{module.at(node.lineno)}: {module.room} writes {table} of {owners[table]}"
                    for table in SQL_WRITE.findall(node.value)
                    if owners.get(table, module.room) != module.room
                ]
    return found


def chain_end(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _names_of_foreign_tables(module: Module) -> dict[str, str]:
    """Names given to tables by plain assignment: `accounts = ledger.tables.accounts`."""
    found = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = module.resolve(node.value)
            if re.match(r"bursar\.\w+\.tables\.", name):
                found[node.targets[0].id] = name
    return found


def _docstrings(tree: ast.Module) -> set[int]:
    """Strings that stand alone as a statement."""
    return {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


# Rule 4: who writes.


def gateway_writes_in_two_places(house: House) -> list[str]:
    """Of the gateway only `_funds` and `_apply` name `Tx` or `begin`."""
    return [
        f"{module.at(line)}: the gateway writes only in _funds and _apply, but this names {name}"
        for module in house.of("gateway")
        if not within(module.name, WRITE_IN_GATEWAY)
        for name, line in _named(module, {"Tx", "begin"})
    ]


def reports_only_read(house: House) -> list[str]:
    """Reports read a `Snapshot`: they name neither `Tx` nor `begin`."""
    return [
        f"{module.at(line)}: reports only read, but this names {name}"
        for module in house.of("reports")
        for name, line in _named(module, {"Tx", "begin"})
    ]


def _named(module: Module, words: set[str]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.split(".")[-1] in words)
        elif isinstance(node, ast.Name) and node.id in words:
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and node.attr in words:
            yield node.attr, node.lineno
        elif isinstance(node, ast.Constant) and node.value in words:  # an annotation in quotes, or getattr
            yield node.value, node.lineno


def no_transaction_over_the_network(house: House) -> list[str]:
    """Nothing of providers, processors, mail or an HTTP client is awaited inside a `begin` or `snapshot` block.

    Sees names that come from those rooms, and names that say what they are (`self._processor.charge`).
    """
    found = []
    for module in house.modules:
        for block in ast.walk(module.tree):
            if not isinstance(block, ast.AsyncWith) or not any(map(_opens_transaction, block.items)):
                continue
            for statement in block.body:
                for call in _awaited(statement):
                    words = {word.strip("_") for word in chain(call.func)}
                    if words & NETWORK_WORDS or within(module.resolve(call.func), NETWORK):
                        name = ".".join(chain(call.func))
                        found.append(f"{module.at(call.lineno)}: {name} is awaited while a transaction is open")
    return found


def _opens_transaction(item: ast.withitem) -> bool:
    return isinstance(item.context_expr, ast.Call) and chain_end(item.context_expr.func) in ("begin", "snapshot")


def _awaited(statement: ast.stmt) -> Iterator[ast.Call]:
    for node in ast.walk(statement):
        expressions: list[ast.expr] = []
        if isinstance(node, ast.Await):
            expressions = [node.value]
        elif isinstance(node, ast.AsyncFor) or (isinstance(node, ast.comprehension) and node.is_async):
            expressions = [node.iter]
        elif isinstance(node, ast.AsyncWith):
            expressions = [item.context_expr for item in node.items]
        yield from (expression for expression in expressions if isinstance(expression, ast.Call))


# Rule 5: rooms that must never meet.


def strangers_stay_strangers(house: House) -> list[str]:
    """Providers, processors and mail never see storage or a database's driver; actions and gateway never see each other."""
    drivers = ("sqlalchemy", "alembic", "asyncpg", "aiosqlite", "sqlite3")
    found = []
    for module in house.modules:
        for mention in module.imports():
            for here, there in NEVER:
                if module.room == here and within(mention.name, f"bursar.{there}"):
                    found.append(f"{module.at(mention.line)}: {here} must never know {there}")
                elif module.room == here and there == "storage" and within(mention.name, drivers):
                    found.append(f"{module.at(mention.line)}: {here} must never know a database ({mention.name})")
    return sorted(set(found))


# Rule 6: pure modules.


def pure_modules_are_pure(house: House) -> list[str]:
    """Pure modules reach no storage, network, clock or randomness, nor do the modules of their own room that they import."""
    found = []
    for start in house.modules:
        if not within(start.name, PURE):
            continue
        seen, waiting = {start.name}, [start]
        while waiting:
            module = waiting.pop()
            through = "" if module is start else f" (through {module.name})"
            found += [f"{start.at(1)}: is pure, but {fault}{through}" for fault in _impurities(module)]
            for mention in module.imports():
                own = house.by_name.get(mention.name) or house.by_name.get(mention.name.rpartition(".")[0])
                if own and own.room == start.room and own.name not in seen:
                    seen.add(own.name)
                    waiting.append(own)
    return sorted(set(found))


def _impurities(module: Module) -> Iterator[str]:
    for mention in module.mentions:
        if within(mention.name, IMPURE):
            yield f"line {mention.line} names {mention.name}"
        elif MINTS_IDS.fullmatch(mention.name):
            yield f"line {mention.line} mints an id: {mention.name}"
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("open", "input", "print")
        ):
            yield f"line {node.lineno} calls {node.func.id}"


# Rule 7: one place each for the environment, for building, for the time.


def only_settings_reads_the_environment(house: House) -> list[str]:
    """Rooms get what they need. An option of the command line that names a variable would read it too."""
    found = []
    for module in house.modules:
        if module.room == "settings":
            continue
        found += [
            f"{module.at(mention.line)}: only settings reads the environment, but this names {mention.name}"
            for mention in module.mentions
            if within(mention.name, ENVIRONMENT)
        ]
        found += [
            f"{module.at(node.value.lineno)}: only settings reads the environment, but this option has an envvar"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.keyword) and node.arg == "envvar"
        ]
    return sorted(set(found))


def only_the_clock_tells_the_time(house: House) -> list[str]:
    """Everyone else is handed a `Clock`. An event loop's own time is allowed for time-outs."""
    return sorted(
        {
            f"{module.at(mention.line)}: only kernel/clock.py tells the time, but this names {mention.name}"
            for module in house.modules
            if module.name != "bursar.kernel.clock"
            for mention in module.mentions
            if within(mention.name, TIME)
        }
    )


def only_app_builds(house: House) -> list[str]:
    """Long-lived objects are built by app: the database and the clock nowhere else, and no module keeps one for itself."""
    found = []
    for module in house.modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Global):
                found.append(f"{module.at(node.lineno)}: keeps state in a module ({', '.join(node.names)})")
            elif isinstance(node, ast.Call) and module.room not in ("app", "storage", "kernel"):
                name = module.resolve(node.func)
                if within(name, BUILT_BY_APP):
                    found.append(f"{module.at(node.lineno)}: only app builds {name}")
        found += [
            f"{module.at(node.lineno)}: builds {module.resolve(node.func)} while it is imported"
            for node in _outside_functions(module.tree)
            if isinstance(node, ast.Call) and within(module.resolve(node.func), LIVES_LONG)
        ]
    return found


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _outside_functions(child)


def migrations_stand_alone(house: House) -> list[str]:
    """A migration says what was true when it was written, so it imports nothing of a house that changes."""
    return [
        f"{module.at(mention.line)}: a migration imports {mention.name}"
        for module in house.modules
        if module.is_migration
        for mention in module.imports()
        if within(mention.name, "bursar")
    ]


# Rule 8: no float in a money path.


def money_is_never_a_float(house: House) -> list[str]:
    """No float literal, no name `float`, no true division, no negative power of a whole number, no float column."""
    found = []
    for module in house.modules:
        if not within(module.name, MONEY_PATHS):
            continue
        lines = module.source.splitlines()
        for first, last, what in _floats(module):
            if not any(NOT_MONEY.search(line) for line in lines[first - 1 : last]):
                found.append(f"{module.at(first)}: {what} in a money path")
    return found


def _floats(module: Module) -> Iterator[tuple[int, int, str]]:
    """First line, last line and nature of each."""
    for mention in module.mentions:
        if FLOAT_COLUMN.fullmatch(mention.name):
            yield mention.line, mention.line, mention.name
    for node in ast.walk(module.tree):
        what = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            what = f"the float {node.value}"
        elif isinstance(node, ast.Name) and node.id == "float":
            what = "float"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            what = "true division"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and _is_negative(node.right):
            exact = isinstance(node.left, ast.Call) and module.resolve(node.left.func) == "decimal.Decimal"
            what = "" if exact else "a negative power"
        if what and isinstance(node, ast.expr | ast.stmt):
            yield node.lineno, node.end_lineno or node.lineno, what


def _is_negative(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
