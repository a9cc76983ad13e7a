"""Whatever is changed in the books behind Bursar's back is found, and named."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from bursar import ledger, reports
from bursar.activity import Generation, GenerationStatus
from bursar.gateway._apply import apply_settlements
from bursar.kernel.ids import GenerationId, KeyId, OwnerId, WorkerId
from bursar.kernel.money import Nanos
from bursar.ledger import Verification
from bursar.storage import SYSTEM, Database
from tests.conftest import Cast
from tests.support.tampering import behind_their_backs

pytestmark = pytest.mark.anyio

WORKER = WorkerId("node_test-0")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = KeyId("key_1")


@dataclass
class Books:
    """Acme has 10 credits, and three requests of 25, 4 and 0 nanos in two batches; a fourth cost 7 more than it was charged."""

    database: Database
    owner: OwnerId

    async def verify(self) -> Verification:
        async with self.database.snapshot(SYSTEM) as snapshot:
            return await reports.verify_all(snapshot)

    async def laws(self) -> dict[str, str]:
        """What is named, by law and subject."""
        return {f"{each.law}: {each.subject}": each.sentence for each in (await self.verify()).differences}


@pytest.fixture
async def books(database: Database, cast: Cast) -> Books:
    def served(name: str, cost: int, lost: int = 0, key: KeyId | None = KEY) -> Generation:
        return Generation(
            owner_id=cast.owner,
            id=GenerationId(name),
            created_at=NOON + timedelta(hours=int(name[-1])),
            key_id=key,
            user_id=cast.admin.id,
            status=GenerationStatus.OK,
            requested_model="demo/echo-1",
            model="demo/echo-1",
            cost_nanos=Nanos(cost),
            house_nanos=Nanos(lost),
        )

    async with database.begin(SYSTEM) as tx:
        await ledger.register_worker(tx, WORKER, "node_test")
        await ledger.lease(tx, cast.owner, WORKER, Nanos(1_000), transfer_id="lease-1")
        await apply_settlements(tx, WORKER, 1, 3, [served("gen-1", 25), served("gen-2", 4, key=None)])
        await apply_settlements(tx, WORKER, 4, 9, [served("gen-3", 0), served("gen-4", 5, 7)])
    return Books(database, cast.owner)


async def test_untouched_books_are_right_and_say_how_things_stand(books: Books):
    found = await books.verify()
    assert (found.drift, found.difference_count, found.differences) == (0, 0, [])
    assert (found.spent, found.losses, found.leases, found.leased) == (34, 7, 1, 966)
    assert found.balances["system:losses"] == -7
    assert sum(found.balances.values()) == 0


async def test_a_flipped_balance_is_named(books: Books):
    await behind_their_backs(
        books.database, "UPDATE accounts SET balance_nanos = balance_nanos + 3 WHERE account = 'spent'"
    )
    found = await books.verify()
    assert found.drift == 6
    assert [each.subject for each in found.differences] == [f"{books.owner} spent", "all accounts"]
    assert found.differences[0].sentence == "the balance is 37, its entries make 34"


async def test_a_deleted_entry_is_named_by_its_account_its_batch_and_its_day(books: Books):
    await behind_their_backs(books.database, "DELETE FROM transfers WHERE id = 'charge-gen-1'")
    assert await books.laws() == {
        f"balance: {books.owner} leased": "the balance is 966, its entries make 991",
        f"balance: {books.owner} spent": "the balance is 34, its entries make 9",
        f"charge: {books.owner} charge-gen-1": "the entry is 0, its batch says 25",
        f"activity: {books.owner} key_1 2026-11-24": "the activity of that day says 30, the charges make 5",
    }
    assert (await books.verify()).drift == 25 * 4


def altered(by: int) -> tuple[str, ...]:
    """An old charge is made dearer, and everything else that anybody looks at with it."""
    return (
        f"UPDATE transfers SET amount_nanos = amount_nanos + {by} WHERE id = 'charge-gen-1'",
        f"UPDATE accounts SET balance_nanos = balance_nanos + {by} WHERE account = 'spent'",
        f"UPDATE accounts SET balance_nanos = balance_nanos - {by} WHERE account = 'leased'",
        f"UPDATE leases SET amount_nanos = amount_nanos - {by}",
        f"UPDATE generations SET cost_nanos = cost_nanos + {by} WHERE id = 'gen-1'",
        f"UPDATE usage_hours SET cost_nanos = cost_nanos + {by} WHERE cost_nanos = 25",
    )


async def test_an_old_charge_that_was_altered_with_everything_to_match_differs_from_its_batch(books: Books):
    await behind_their_backs(books.database, *altered(100))
    found = await books.verify()
    assert [each.subject for each in found.differences] == [f"{books.owner} charge-gen-1"]
    assert found.differences[0].sentence == "the entry is 125, its batch says 25"
    assert found.drift == 100


async def test_who_alters_the_batch_as_well_breaks_its_hash(books: Books):
    contents = "UPDATE batches SET contents = replace(contents, 'gen-1 25 ', 'gen-1 125 ') WHERE first_lsn = 1"
    await behind_their_backs(books.database, *altered(100), contents)
    found = await books.verify()
    assert [(each.law, each.subject) for each in found.differences] == [("chain", f"{WORKER} 1-3")]
    assert (found.drift, found.difference_count) == (0, 1)


async def test_who_writes_that_hash_anew_breaks_the_next_ones_link_to_it(books: Books):
    contents = f"{books.owner} gen-1 125 0\n{books.owner} gen-2 4 0\n"
    forged = ledger.chain_after(ledger.CHAIN_START, WORKER, 1, 3, contents)
    change = f"UPDATE batches SET contents = '{contents}', hash = '{forged}' WHERE first_lsn = 1"
    await behind_their_backs(books.database, *altered(100), change)
    assert list(await books.laws()) == [f"chain: {WORKER} 4-9"]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM batches WHERE first_lsn = 1", [f"{WORKER} 4-9", WORKER]),
        ("DELETE FROM batches WHERE first_lsn = 4", [WORKER, WORKER]),
        ("UPDATE batches SET contents = 'nonsense'  WHERE first_lsn = 4", [f"{WORKER} 4-9", f"{WORKER} 4-9"]),
        (f"UPDATE workers SET chain = '{'1' * 64}'", [WORKER]),
        ("UPDATE workers SET watermark = 12", [WORKER]),
    ],
)
async def test_a_batch_that_is_missing_or_unreadable_is_named(books: Books, statement: str, named: list[str]):
    await behind_their_backs(books.database, statement)
    found = await books.verify()
    assert [each.subject for each in found.differences if each.law == "chain"] == named


@pytest.mark.parametrize(
    ("statement", "law", "subject", "sentence"),
    [
        (
            "UPDATE generations SET cost_nanos = 9 WHERE id = 'gen-2'",
            "activity",
            "(no key) 2026-11-24",
            "the activity of that day says 9, the charges make 4",
        ),
        (
            "DELETE FROM generations WHERE id = 'gen-1'",
            "charge",
            "charge-gen-1",
            "the activity says 0, the charge is 25",
        ),
        (
            "UPDATE generations SET house_nanos = 8 WHERE id = 'gen-4'",
            "losses",
            "key_1 2026-11-24",
            "the activity of that day says the house lost 8, the entries make 7",
        ),
        (
            "UPDATE usage_hours SET cost_nanos = 26 WHERE cost_nanos = 25",
            "roll-up",
            "key_1 2026-11-24",
            "the sums of that day say 31, its requests make 30",
        ),
        (
            "UPDATE generations SET id = 'gen-9' WHERE id = 'gen-1'",
            "activity",
            "key_1 2026-11-24",
            "the activity of that day says 30, the charges make 5",
        ),
    ],
    ids=["cost", "gone", "loss", "roll-up", "out of nothing"],
)
async def test_an_activity_that_says_otherwise_than_the_ledger_is_named(
    books: Books, statement: str, law: str, subject: str, sentence: str
):
    await behind_their_backs(books.database, statement)
    assert (await books.laws())[f"{law}: {books.owner} {subject}"] == sentence


async def test_a_correction_that_nobody_confirmed_is_named(books: Books):
    await behind_their_backs(
        books.database,
        "INSERT INTO transfers (owner_id, id, kind, debit, credit, amount_nanos, reference, reason, at) "
        f"VALUES ('{books.owner}', 'tr_x', 'correction', 'system:corrections', 'credits', 9, 'charge-gen-1', 'mine', 0)",
    )
    assert f"correction: {books.owner} tr_x" in await books.laws()


async def test_many_differences_all_count_and_the_first_hundred_are_named(books: Books):
    await behind_their_backs(
        books.database,
        *(f"INSERT INTO accounts VALUES ('org_{number:03}', 'credits', 2)" for number in range(150)),
    )
    found = await books.verify()
    assert (found.drift, len(found.differences)) == (150 * 2 + 300, 100)
    assert found.difference_count == 151


async def test_books_are_added_up_some_owners_at_a_time(books: Books, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(ledger._verify, "OWNERS_AT_ONCE", 2)
    async with books.database.begin(SYSTEM) as tx:
        for number in range(5):
            given = ledger.Transfer(
                OwnerId(f"org_{number}"),
                "tr_1",
                ledger.TransferKind.GRANT,
                ledger.Account.GRANTS,
                ledger.Account.CREDITS,
                Nanos(5),
            )
            await ledger.post(tx, [given])
    async with books.database.snapshot(SYSTEM) as snapshot:
        found = await reports.verify_all(snapshot, lambda *told: seen.append(told))
    assert (found.drift, found.accounts) == (0, 11)
    assert [done for what, done, _ in seen if what == "balances"] == [2, 4, 6, 7]
    await behind_their_backs(books.database, "UPDATE accounts SET balance_nanos = 6 WHERE owner_id = 'org_3'")
    assert [each.subject for each in (await books.verify()).differences] == ["org_3 credits", "all accounts"]


@pytest.mark.parametrize("change", ["amount_nanos = 3", "owner_id = 'org_none', id = 'another'"])
async def test_a_move_whose_sides_differ_is_named(books: Books, change: str):
    async with books.database.begin(SYSTEM) as tx:
        await ledger.move(tx, books.owner, OwnerId("user_1"), Nanos(4), name="mov_1", reason="asked for")
    assert (await books.verify()).difference_count == 0
    await behind_their_backs(
        books.database, f"UPDATE transfers SET {change} WHERE owner_id = 'user_1' AND id = 'mov_1'"
    )
    assert (await books.laws())["move: mov_1"].startswith("one owner gave 4, another got ")


async def test_amounts_whose_sum_exceeds_64_bits_are_added_up_all_the_same(database: Database):
    for number in range(3):
        async with database.begin(SYSTEM) as tx:
            much = Nanos(2**63 - 1 - number)
            owner = OwnerId("org_rich")
            accounts = ledger.Account
            kinds = ledger.TransferKind
            await ledger.post(
                tx, [ledger.Transfer(owner, f"in-{number}", kinds.GRANT, accounts.GRANTS, accounts.CREDITS, much)]
            )
            await ledger.post(
                tx, [ledger.Transfer(owner, f"out-{number}", kinds.GRANT, accounts.CREDITS, accounts.GRANTS, much)]
            )
    async with database.snapshot(SYSTEM) as snapshot:
        assert (await reports.verify_all(snapshot)).drift == 0
