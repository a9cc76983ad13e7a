"""Behind every WHERE that names the owner stands row-level security: with those conditions cut out, PostgreSQL still shows nothing foreign.

SQLite has no such security. There the same mutant shows foreign rows, which proves that it bites.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Executable, true
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter

from bursar.storage import SYSTEM, Database, Snapshot, Tx
from tests.authorization.doors import API, IN_CONTEXT, ONLY_ORGANIZATION, Who
from tests.authorization.scene import Scene, installation, make_scene

pytestmark = pytest.mark.anyio

OWNERS = ("owner_id", "organization_id")


def without_owner(statement: Executable) -> Executable:
    """The statement with every `owner_id = …` and `organization_id = …` replaced by true."""

    def replacement(element: Any, **_: Any) -> Any:
        if (
            isinstance(element, BinaryExpression)
            and element.operator is operators.eq
            and getattr(element.left, "name", None) in OWNERS
            and isinstance(element.right, BindParameter)
        ):
            return true()
        return None

    mutated: Executable = visitors.replacement_traverse(statement, {}, replacement)  # type: ignore[type-var]
    return mutated


@contextmanager
def forgetful() -> Iterator[list[str]]:
    """No statement of an owner's scope names the owner any more; the list says which statements lost a condition."""
    mutated: list[str] = []

    def forgets(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def forgetting(self: Snapshot, statement: Executable, *more: Any) -> Any:
            if self.scope is not SYSTEM:
                changed = without_owner(statement)
                if str(changed) != str(statement):
                    mutated.append(str(statement))
                statement = changed
            return await call(self, statement, *more)

        return forgetting

    with pytest.MonkeyPatch.context() as patch:
        for name in ("all", "first", "scalar"):
            patch.setattr(Snapshot, name, forgets(getattr(Snapshot, name)))
        for name in ("execute", "execute_each", "returning"):
            patch.setattr(Tx, name, forgets(getattr(Tx, name)))
        yield mutated


async def test_with_the_owner_forgotten_in_every_where_nothing_foreign_is_shown_or_changed(database: Database):
    async with installation(database) as (house, app):
        scene = await make_scene(house, app)
        with forgetful() as mutated:
            read = await _everything_read(scene)
            seen = [marker for marker in _foreign(scene) if marker in read]
            changed = await _try_to_change(scene)
    assert len(set(mutated)) >= 10, "the mutant changed almost nothing"
    if database.dialect == "postgresql":
        assert seen == []
        assert not changed
    else:
        assert seen, "the mutant shows nothing foreign even where nothing stands behind the WHERE: it proves nothing"
        assert changed


def _foreign(scene: Scene) -> list[str]:
    """What only the other organization's pages and answers may show. Its admin's address is no secret: they are invited here."""
    things = scene.things[scene.theirs.id, "foreign_admin"]
    theirs = [things[kind] for kind in ("key", "hash", "generation", "purchase", "invitation")]
    return [*theirs, scene.theirs.name, "foreign_admin-inference"]


async def _everything_read(scene: Scene) -> str:
    """All that an admin and a management key can read in the organization, and what they are told of a foreign thing."""
    found: list[str] = []
    for name in {**IN_CONTEXT, **ONLY_ORGANIZATION}:
        method, _, path = name.partition(" ")
        if method == "GET" and "{" not in path:
            found.append((await scene.ask("admin", "GET", f"/orgs/{scene.mine.slug}{path}")).text)
    for name, door in API.items():
        method, _, path = name.partition(" ")
        if method == "GET" and "{" not in path and door.who is not Who.PUBLIC and not door.asked:
            found.append((await scene.ask("management_key", "GET", f"/api/v1{path}")).text)
    return "\n".join(found)


async def _try_to_change(scene: Scene) -> bool:
    """Whether an admin can disable another organization's key."""
    key = scene.things[scene.theirs.id, "foreign_admin"]["key"]
    before = await scene.watched()
    await scene.ask("admin", "POST", f"/orgs/{scene.mine.slug}/keys/{key}/disable")
    return await scene.watched() != before
