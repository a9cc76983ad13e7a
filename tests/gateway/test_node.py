"""The workers of a node: who finds which journal, and who is a new worker when one was lost."""

from pathlib import Path

import pytest
from sqlalchemy import text

from bursar import actions, ledger
from bursar.access import Actor
from bursar.gateway import DatabaseFunds, Intent, JournalFunds, Node, Seat
from bursar.journal import RecordsMissing
from bursar.kernel.clock import SystemClock
from bursar.kernel.ids import WorkerId, new_generation_id
from bursar.kernel.money import Nanos
from bursar.ledger import HoldState, WorkerAlive
from bursar.storage import SYSTEM, Database
from tests.conftest import Cast

pytestmark = pytest.mark.anyio

OPERATOR = Actor.operator()


@pytest.fixture
def node(database: Database, tmp_path: Path) -> Node:
    return Node(database, tmp_path / "journal", host="here", on_failure=lambda: None)


def intent(cast: Cast, amount: int = 1_000) -> Intent:
    generation = new_generation_id(SystemClock().now())
    return Intent(cast.owner, generation, Nanos(amount), "v1", None, cast.admin.id, "demo/echo-1")


async def work(node: Node, cast: Cast, index: int = 0) -> JournalFunds:
    """A worker that has something running when it dies."""
    funds = await node.funds(Seat(index), "journal")
    assert isinstance(funds, JournalFunds)
    await funds.recover()
    await funds.hold(intent(cast))
    return funds


async def die(funds: JournalFunds) -> None:
    await funds._journal.close()


async def worker(database: Database, name: str) -> ledger.Worker | None:
    async with database.snapshot(SYSTEM) as snapshot:
        return await ledger.find_worker(snapshot, WorkerId(f"{database.node}-{name}"))


async def long_ago(database: Database) -> None:
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text("UPDATE workers SET seen_at = seen_at - 120000000"))


async def applied(database: Database, funds: JournalFunds) -> None:
    """As if it had gone on for a while: the database knows records that a lost journal does not."""
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text("UPDATE workers SET watermark = 40"))


async def unleased(database: Database, cast: Cast) -> int:
    async with database.snapshot(SYSTEM) as snapshot:
        return (await ledger.balance(snapshot, cast.owner)).unleased


async def test_a_seat_finds_its_journal_again(database: Database, cast: Cast, node: Node):
    await die(await work(node, cast))
    again = await node.funds(Seat(), "journal")
    assert await again.recover() == 1
    await again.close()
    assert await node.recover_left(1) == 0


async def test_a_seat_that_is_no_more_is_brought_in_by_the_first(database: Database, cast: Cast, node: Node):
    before = await unleased(database, cast)
    for index in (0, 3):
        await die(await work(node, cast, index))
    assert await unleased(database, cast) < before
    first = await node.funds(Seat(), "journal")
    assert await first.recover() == 1
    assert await node.recover_left(1) == 1
    await first.close()
    assert await unleased(database, cast) == before


async def test_whose_journal_was_lost_is_refused_until_it_is_forgotten_and_then_is_a_new_worker(
    database: Database, cast: Cast, node: Node, tmp_path: Path
):
    before = await unleased(database, cast)
    funds = await work(node, cast)
    await applied(database, funds)
    await die(funds)
    (tmp_path / "journal" / "0").rename(tmp_path / "lost")
    with pytest.raises(RecordsMissing) as refusal:
        await node.funds(Seat(), "journal")
    assert "bursar nodes forget" in (refusal.value.remedy or "")
    with pytest.raises(WorkerAlive):
        await actions.forget_node(database, OPERATOR, database.node)
    assert await unleased(database, cast) < before, "a refusal returns nothing"
    await long_ago(database)
    told = await actions.look_at_node(database, database.node)
    done = await actions.forget_node(database, OPERATOR, database.node)
    assert told.returns == done.returns
    assert [each.owner for each in done.returns] == [cast.owner]
    assert await unleased(database, cast) == before
    for _ in range(2):  # and stays it
        fresh = await work(node, cast)
        await die(fresh)
        assert await worker(database, "0.2") is not None
        assert await worker(database, "0.3") is None
    forgotten = await worker(database, "0")
    assert forgotten is not None
    assert forgotten.forgotten_at is not None


async def test_a_forgotten_worker_that_comes_back_with_its_journal_goes_on(database: Database, cast: Cast, node: Node):
    await die(await work(node, cast))
    await long_ago(database)
    await actions.forget_node(database, OPERATOR, f"{database.node}-0")
    again = await node.funds(Seat(), "journal")
    assert await again.recover() == 1
    await again.close()
    assert await worker(database, "0.2") is None


async def test_open_holds_of_a_forgotten_node_return_and_are_interrupted_requests(
    database: Database, cast: Cast, node: Node
):
    before = await unleased(database, cast)
    funds = [await node.funds(Seat(index), "database") for index in range(2)]
    for each in funds:
        assert isinstance(each, DatabaseFunds)
        await each.recover()
        await each.hold(intent(cast))
    assert await funds[0].recover() == 1, "its own"
    async with database.snapshot(SYSTEM) as snapshot:
        (left,) = await ledger.list_open_holds(snapshot, node=database.node)
    assert left.node == f"{database.node}-1", "a worker that starts leaves the others' alone"
    await long_ago(database)
    done = await actions.forget_node(database, OPERATOR, database.node)
    assert [(each.held, each.requests) for each in done.returns] == [(1_000, 1)]
    assert await unleased(database, cast) == before
    async with database.snapshot(SYSTEM) as snapshot:
        rows = await snapshot.all(text("SELECT status FROM generations"))
        audited = await snapshot.scalar(text("SELECT count(*) FROM audit_events WHERE action = 'node.forgotten'"))
        assert (await ledger.verify(snapshot)).drift == 0
    assert {row.status for row in rows} == {HoldState.INTERRUPTED.value}
    assert audited == 1


async def test_a_name_that_nobody_had_is_refused(database: Database):
    with pytest.raises(actions.NoSuchNode):
        await actions.forget_node(database, OPERATOR, "node_nowhere")


async def test_the_journal_of_an_installation_from_before_there_were_workers_is_found(
    node: Node, database: Database, cast: Cast, tmp_path: Path
):
    await die(await work(node, cast))
    old, first = tmp_path / "journal", tmp_path / "journal" / "0"
    for path in first.iterdir():
        path.rename(old / path.name)
    first.rmdir()
    funds = await node.funds(Seat(0), "journal")
    assert isinstance(funds, JournalFunds)
    assert await funds.recover() == 1, "what was interrupted is still known"
    assert not [path for path in old.iterdir() if path.is_file()]
    await die(funds)
