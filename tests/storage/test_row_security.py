"""PostgreSQL keeps owners apart by itself: statements here name no owner on purpose."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from bursar import actions, activity, identity, keys, ledger, payments
from bursar.access import Actor
from bursar.activity import Generation, GenerationStatus
from bursar.identity import LinkPurpose
from bursar.kernel.ids import GenerationId, OwnerId, UserId, WorkerId, new_generation_id, new_purchase_id
from bursar.kernel.money import Nanos
from bursar.keys import KeyChecker, KeyKind
from bursar.ledger import Batch, Limit, OpenHold, Period, Settlement, TransferKind
from bursar.storage import SYSTEM, Database, Scope, metadata
from tests.conftest import Cast, make_cast

pytestmark = pytest.mark.anyio

OWNED = sorted(table.name for table in metadata.tables.values() if "owner_id" in table.c)
PERSONAL = ("sessions", "links", "second_factors", "recovery_codes")
SHARED = {"memberships", "organizations", "invitations"}
OF_NOBODY = {"attempts", "holders", "users", "outbox", "changes", "installation", "workers", "price_versions"}
OF_THE_SYSTEM = {"batches"}
"""What names many owners: no owner sees it."""
APPEND_ONLY = ("transfers", "audit_events")
WORKER = WorkerId("node_test.1")


@dataclass(frozen=True)
class World:
    """Acme of the cast, and Globex of the stranger, each with at least one row in every table of owners."""

    database: Database
    cast: Cast
    mine: OwnerId
    other: OwnerId


@pytest.fixture
async def world(postgres_database: Database, checker: KeyChecker) -> World:
    database = postgres_database
    cast = await make_cast(database)
    globex = await actions.create_organization(
        database, cast.actor(cast.stranger), creator=cast.stranger.id, name="Globex", slug="globex"
    )
    for owner, user in ((cast.owner, cast.admin.id), (OwnerId(globex.id), cast.stranger.id)):
        await fill(database, checker, owner, user)
    return World(database, cast, cast.owner, OwnerId(globex.id))


async def fill(database: Database, checker: KeyChecker, owner: OwnerId, user: UserId) -> None:
    await actions.grant_credits(database, Actor.operator(), owner=owner, amount=Nanos(10**9), reason="to have some")
    async with database.begin(SYSTEM) as tx:
        generation = new_generation_id(tx.now)
        key, _ = await keys.create(tx, checker, owner=owner, creator=user, name="app", kind=KeyKind.INFERENCE)
        await ledger.open_hold(
            tx, OpenHold(owner, generation, Nanos(5), "node_test", "v1", key.id, user, "demo/echo-1", tx.now)
        )
        await ledger.register_worker(tx, WORKER, "node_test")
        await ledger.lease(tx, owner, WORKER, Nanos(7), transfer_id="lease-1")
        limit = Limit(owner, key.id, Nanos(9), Period.DAILY)

        async def nothing(_since: datetime) -> int:
            return 0

        await ledger.set_limit(tx, limit, spent=nothing)
        await ledger.lease_allowance(tx, limit.allowance_at(tx.now), WORKER, Nanos(3), move_id="move-1")
        await activity.record(
            tx, Generation(owner, generation, tx.now, key.id, user, GenerationStatus.OK, "demo/echo-1", "demo/echo-1")
        )
        await payments.open_purchase(
            tx,
            owner=owner,
            purchase=new_purchase_id(tx.now),
            amount=Nanos(10**10),
            processor="sandbox",
            created_by=user,
        )
        granted, *_ = await ledger.list_transfers(
            tx, owner, [TransferKind.GRANT], datetime.min.replace(tzinfo=UTC), tx.now
        )
        await ledger.propose_correction(tx, owner, granted.transfer.id, Nanos(1), reason="too much", by=user)
        await identity.open_session(tx, user, address=None, user_agent=None)
        await identity.mint_link(tx, user, LinkPurpose.SIGN_IN)
        for name, values in _more_rows(owner, user, tx.now).items():
            await tx.execute(insert(metadata.tables[name]).values(**values))


def _more_rows(owner: OwnerId, user: UserId, now: datetime) -> dict[str, dict[str, Any]]:
    return {
        "second_factors": {"user_id": user, "secret_sealed": b"sealed", "created_at": now, "last_step": 0},
        "recovery_codes": {"user_id": user, "code_hash": f"hash-{user}", "created_at": now},
        "invitations": {
            "organization_id": owner,
            "id": f"inv-{owner}"[:40],
            "email": "new@example.com",
            "email_normalized": "new@example.com",
            "role": "member",
            "token_hash": f"hash-{owner}",
            "invited_by": user,
            "created_at": now,
            "sent_at": now,
            "expires_at": now,
            "state": "pending",
        },
        "credit_moves": {
            "owner_id": owner,
            "id": f"mov-{owner}"[:40],
            "organization_id": owner,
            "amount_nanos": 1,
            "state": "open",
            "created_at": now,
        },
        "repeats": {
            "owner_id": owner,
            "caller": "key_1",
            "name_hash": f"hash-{owner}",
            "body_hash": "hash",
            "status": 201,
            "answer": "{}",
            "created_at": now,
        },
    }


async def rows(database: Database, scope: Scope, table: Table) -> list[dict[str, Any]]:
    async with database.snapshot(scope) as snapshot:
        return [row._asdict() for row in await snapshot.all(select(table))]


def differs(row: dict[str, Any], **other: Any) -> dict[str, Any]:
    """A copy of a row under another id, so that only the policy can refuse it."""
    fresh = {
        "code_hash": "x",
        "name_hash": "x",
        "id": "x_1",
        "generation_id": "gen-x",
        "token_hash": "x",
        "account": "spare",
        "worker": "x",
        "model": "demo/other",
        "subject": "key_x",
        "user_id": "user_x",
    }
    name = next(name for name in fresh if name in row)
    changed = row | {name: fresh[name]}
    changed |= {column: f"x-{row[column]}"[:40] for column in ("hash", "token_hash") if column in row}
    return changed | other


def test_every_table_is_known_here_so_that_a_new_one_is_not_forgotten():
    assert set(metadata.tables) == {*OWNED, *PERSONAL, *SHARED, *OF_THE_SYSTEM, *OF_NOBODY}
    assert len(OWNED) >= 8


async def test_the_application_is_a_role_that_owns_nothing_and_may_not_pass_the_policies(postgres_database: Database):
    async with postgres_database.snapshot(SYSTEM) as snapshot:
        assert await snapshot.scalar(text("SELECT current_user")) == "bursar_app"
        owned = await snapshot.all(
            text(
                "SELECT c.relname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = 'bursar_app'"
            )
        )
        role = await snapshot.first(
            text("SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = 'bursar_app'")
        )
        databases = await snapshot.scalar(
            text(
                "SELECT count(*) FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE r.rolname = 'bursar_app'"
            )
        )
    assert list(owned) == []
    assert role is not None
    assert not any(role)
    assert databases == 0


async def test_row_security_is_on_and_forced_on_every_table_that_belongs_to_somebody(postgres_database: Database):
    async with postgres_database.snapshot(SYSTEM) as snapshot:
        found = await snapshot.all(
            text(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relrowsecurity AND relforcerowsecurity "
                "AND relnamespace = current_schema()::regnamespace"
            )
        )
    assert {row.relname for row in found} == {*OWNED, *PERSONAL, *SHARED, *OF_THE_SYSTEM}


async def test_an_owner_sees_and_adds_nothing_of_what_is_the_systems(world: World):
    async with world.database.begin(SYSTEM) as tx:
        batch = Batch(1, 1, [Settlement(world.mine, GenerationId("gen-1"), Nanos(1))])
        await ledger.apply_batch(tx, WORKER, batch)
    for name in OF_THE_SYSTEM:
        assert len(await rows(world.database, SYSTEM, metadata.tables[name])) == 1
        assert await rows(world.database, Scope(world.mine), metadata.tables[name]) == []


async def test_one_owner_sees_only_their_rows_and_the_system_all(world: World):
    for name in OWNED:
        table = metadata.tables[name]
        everything = await rows(world.database, SYSTEM, table)
        assert {world.mine, world.other} <= {row["owner_id"] for row in everything}
        seen = await rows(world.database, Scope(world.mine), table)
        assert {row["owner_id"] for row in seen} == {world.mine}
        assert len(seen) == sum(row["owner_id"] == world.mine for row in everything)
        assert await rows(world.database, Scope(OwnerId("org_nobody")), table) == []


async def test_one_owner_changes_only_their_rows(world: World):
    for name in sorted(set(OWNED) - set(APPEND_ONLY)):
        table = metadata.tables[name]
        before = await rows(world.database, SYSTEM, table)
        mine = sum(row["owner_id"] == world.mine for row in before)
        async with world.database.begin(Scope(world.mine)) as tx:
            assert await tx.execute(update(table).values(owner_id=table.c.owner_id)) == mine
            assert await tx.execute(delete(table)) == mine
        after = await rows(world.database, SYSTEM, table)
        assert len(after) == len(before) - mine
        assert [row for row in before if row["owner_id"] != world.mine] == after


async def test_one_owner_cannot_add_rows_for_another(world: World):
    for name in OWNED:
        table = metadata.tables[name]
        mine = (await rows(world.database, Scope(world.mine), table))[0]
        with pytest.raises(DBAPIError, match="row-level security"):
            async with world.database.begin(Scope(world.mine)) as tx:
                await tx.execute(insert(table).values(**differs(mine, owner_id=world.other)))
        async with world.database.begin(
            Scope(world.mine)
        ) as tx:  # the same for oneself is fine: nothing else refused it
            await tx.execute(insert(table).values(**differs(mine)))


async def test_one_owner_cannot_give_their_rows_away(world: World):
    for name in sorted(set(OWNED) - set(APPEND_ONLY)):
        table = metadata.tables[name]
        with pytest.raises(DBAPIError, match="row-level security"):
            async with world.database.begin(Scope(world.mine)) as tx:
                await tx.execute(update(table).values(owner_id=world.other))


@pytest.mark.parametrize("name", PERSONAL)
async def test_sessions_and_links_are_seen_and_changed_by_their_person_only(world: World, name: str):
    table = metadata.tables[name]
    admin, stranger = world.cast.admin.id, world.cast.stranger.id
    assert {row["user_id"] for row in await rows(world.database, SYSTEM, table)} == {admin, stranger}
    seen = await rows(world.database, Scope(OwnerId(admin)), table)
    assert {row["user_id"] for row in seen} == {admin}
    assert await rows(world.database, Scope(world.mine), table) == []
    with pytest.raises(DBAPIError, match="row-level security"):
        async with world.database.begin(Scope(OwnerId(admin))) as tx:
            await tx.execute(insert(table).values(**differs(seen[0], user_id=stranger)))
    async with world.database.begin(Scope(OwnerId(admin))) as tx:
        assert await tx.execute(delete(table)) == len(seen)
    assert {row["user_id"] for row in await rows(world.database, SYSTEM, table)} == {stranger}


async def test_memberships_are_seen_by_the_organization_and_by_the_person(world: World):
    table = metadata.tables["memberships"]
    cast = world.cast
    of_acme = await rows(world.database, Scope(world.mine), table)
    assert {(row["organization_id"], row["user_id"]) for row in of_acme} == {
        (cast.acme.id, cast.admin.id),
        (cast.acme.id, cast.member.id),
    }
    of_tomas = await rows(world.database, Scope(OwnerId(cast.member.id)), table)
    assert [row["organization_id"] for row in of_tomas] == [cast.acme.id]
    async with world.database.begin(Scope(world.mine)) as tx:
        assert await tx.execute(update(table).values(ended_at=tx.now)) == 2
    assert [row["user_id"] for row in await rows(world.database, SYSTEM, table) if row["ended_at"] is None] == [
        cast.stranger.id
    ]


async def test_an_organization_cannot_enrol_members_elsewhere(world: World):
    table = metadata.tables["memberships"]
    row = (await rows(world.database, Scope(world.mine), table))[0]
    with pytest.raises(DBAPIError, match="row-level security"):
        async with world.database.begin(Scope(world.mine)) as tx:
            await tx.execute(insert(table).values(**row | {"organization_id": world.other}))


async def test_an_organization_is_seen_by_itself_and_by_its_people(world: World):
    table = metadata.tables["organizations"]
    cast = world.cast

    async def seen(owner: str) -> set[str]:
        return {row["slug"] for row in await rows(world.database, Scope(OwnerId(owner)), table)}

    assert await seen(world.mine) == {"acme"}
    assert await seen(world.other) == {"globex"}
    assert await seen(cast.member.id) == {"acme"}
    assert await seen(cast.stranger.id) == {"globex"}
    assert {row["slug"] for row in await rows(world.database, SYSTEM, table)} == {"acme", "globex"}
    async with world.database.begin(Scope(world.mine)) as tx:
        assert await tx.execute(update(table).values(name="Ours now")) == 1


async def test_a_connection_without_an_owner_sees_nothing_of_anybody(world: World):
    engine = world.database._writer
    async with engine.connect() as connection:
        for name in (*OWNED, *PERSONAL, *SHARED):
            found = (await connection.execute(select(metadata.tables[name]))).all()
            assert found == [], name


async def test_the_owner_of_one_transaction_is_forgotten_by_the_next_on_the_same_connection(world: World):
    for _ in range(40):  # more than the pool has, so that every connection was used before
        async with world.database.snapshot(SYSTEM) as snapshot:
            await snapshot.scalar(text("SELECT 1"))
    async with world.database._writer.connect() as connection:
        assert await connection.scalar(text("SELECT current_setting('bursar.owner', true)")) in (None, "")


async def test_a_strange_owner_is_a_value_and_nothing_more(world: World):
    for owner in ("*' OR '1'='1", "org_x'; --", '"', "%", "ORG_X"):
        assert await rows(world.database, Scope(OwnerId(owner)), metadata.tables["accounts"]) == []


@pytest.mark.parametrize("owner", ["", "*"])
def test_an_owner_without_a_name_is_refused_and_never_means_everybody(owner: str):
    with pytest.raises(ValueError, match="owner"):
        Scope(OwnerId(owner))
