"""The ledger's laws, on both databases: named cases first, then any sequence, then many at once."""

import asyncio
import itertools
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from bursar import ledger
from bursar.kernel.ids import GenerationId, OwnerId, new_generation_id
from bursar.kernel.money import NANOS_MAX, Nanos
from bursar.ledger import (
    Account,
    BalanceTooLarge,
    InsufficientFunds,
    Transfer,
    TransferConflict,
    TransferKind,
    Verification,
)
from bursar.storage import SYSTEM, Database, Scope
from tests.conftest import Cast, open_database
from tests.rooms.books import ACME, AT, GLOBEX, balance, grant, grant_of, hold_of, tamper, verify
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.anyio


async def hold(database: Database, owner: OwnerId, generation: str, amount: int) -> None:
    async with database.begin(Scope(owner)) as tx:
        await ledger.open_hold(tx, hold_of(owner, generation, amount))


async def extend(database: Database, owner: OwnerId, generation: str, extra: int, number: int = 1) -> None:
    async with database.begin(Scope(owner)) as tx:
        await ledger.extend_hold(tx, owner, GenerationId(generation), Nanos(extra), number)


async def settle(database: Database, owner: OwnerId, generation: str, charge: int) -> Nanos | None:
    async with database.begin(SYSTEM) as tx:
        return await ledger.settle_hold(tx, owner, GenerationId(generation), Nanos(charge))


async def void(database: Database, owner: OwnerId, generation: str) -> bool:
    async with database.begin(Scope(owner)) as tx:
        return await ledger.void_hold(tx, owner, GenerationId(generation))


async def test_a_grant_is_in_the_balance_and_the_books_add_up_to_zero(database: Database, cast: Cast):
    assert await balance(database, cast.owner) == (10_000_000_000, 0, 0)
    assert (await verify(database)).drift == 0


async def test_an_owner_that_never_had_money_has_none(database: Database):
    assert await balance(database, ACME) == (0, 0, 0)
    async with database.snapshot(SYSTEM) as snapshot:
        found = await ledger.balances(snapshot, [ACME, GLOBEX])
    assert {owner: kept.total for owner, kept in found.items()} == {ACME: 0, GLOBEX: 0}


async def test_a_request_holds_its_ceiling_and_pays_what_it_cost(database: Database):
    await grant(database, ACME, 100)
    await hold(database, ACME, "gen-1", 60)
    assert await balance(database, ACME) == (40, 60, 0)
    assert await settle(database, ACME, "gen-1", 25) == 25
    assert await balance(database, ACME) == (75, 0, 25)
    assert (await verify(database)).drift == 0


async def test_more_than_was_held_is_charged_as_far_as_the_credits_go(database: Database):
    await grant(database, ACME, 100)
    await hold(database, ACME, "gen-1", 60)
    assert await settle(database, ACME, "gen-1", 75) == 75
    assert await balance(database, ACME) == (25, 0, 75)
    await hold(database, ACME, "gen-2", 10)
    await hold(database, ACME, "gen-3", 10)
    assert await settle(database, ACME, "gen-2", 1_000) == 15
    assert await balance(database, ACME) == (0, 10, 90), "what another request holds is not taken"
    assert (await verify(database)).drift == 0


async def test_of_ten_that_cost_more_than_they_held_all_are_settled_and_nothing_is_overspent(database: Database):
    await grant(database, ACME, 100)
    for number in range(10):
        await hold(database, ACME, f"gen-{number}", 5)
    charged = await asyncio.gather(*(settle(database, ACME, f"gen-{number}", 20) for number in range(10)))
    assert all(amount is not None and 5 <= amount <= 20 for amount in charged)
    assert sum(amount or 0 for amount in charged) == 100
    assert await balance(database, ACME) == (0, 0, 100)
    assert (await verify(database)).drift == 0


async def test_a_charge_below_zero_credits_nobody(database: Database):
    await grant(database, ACME, 100)
    await hold(database, ACME, "gen-1", 60)
    with pytest.raises(ValueError, match="positive"):
        await settle(database, ACME, "gen-1", -5)
    assert await balance(database, ACME) == (40, 60, 0)


async def test_a_free_request_needs_no_credits_but_leaves_its_trace(database: Database):
    await hold(database, ACME, "gen-1", 0)
    assert (await verify(database)).open_holds == 1
    assert await settle(database, ACME, "gen-1", 0) == 0
    assert (await verify(database)).open_holds == 0
    assert await balance(database, ACME) == (0, 0, 0)


async def test_a_hold_that_the_credits_do_not_cover_is_refused_and_leaves_no_trace(database: Database):
    await grant(database, ACME, 100)
    with pytest.raises(InsufficientFunds) as refusal:
        await hold(database, ACME, "gen-1", 101)
    assert refusal.value.status == 402
    assert await balance(database, ACME) == (100, 0, 0)
    assert (await verify(database)).open_holds == 0
    await hold(database, ACME, "gen-1", 100)


async def test_the_same_generation_is_held_once(database: Database):
    await grant(database, ACME, 100)
    await hold(database, ACME, "gen-1", 30)
    with pytest.raises(IntegrityError):
        await hold(database, ACME, "gen-1", 30)
    assert await balance(database, ACME) == (70, 30, 0)


async def test_an_extension_that_is_repeated_counts_once(database: Database):
    await grant(database, ACME, 100)
    await hold(database, ACME, "gen-1", 10)
    for _ in range(3):  # the answer of the first was lost on the way
        await extend(database, ACME, "gen-1", 20, 1)
    assert await balance(database, ACME) == (70, 30, 0)
    assert (await verify(database)).drift == 0
    assert await settle(database, ACME, "gen-1", 30) == 30


async def test_an_extension_that_the_credits_do_not_cover_leaves_the_hold_as_it_was(database: Database):
    await grant(database, ACME, 100)
    await hold(database, ACME, "gen-1", 90)
    with pytest.raises(InsufficientFunds):
        await extend(database, ACME, "gen-1", 11)
    assert await balance(database, ACME) == (10, 90, 0)
    assert (await verify(database)).drift == 0


async def test_what_was_resolved_cannot_be_extended_settled_or_voided_again(database: Database):
    await grant(database, ACME, 100)
    for generation, first in (("gen-1", settle(database, ACME, "gen-1", 5)), ("gen-2", void(database, ACME, "gen-2"))):
        await hold(database, ACME, generation, 10)
        await first
        before = await balance(database, ACME)
        assert await settle(database, ACME, generation, 7) is None
        assert await void(database, ACME, generation) is False
        await extend(database, ACME, generation, 7)
        assert await balance(database, ACME) == before


async def test_one_owners_hold_cannot_be_resolved_by_another(database: Database):
    await grant(database, ACME, 100)
    await hold(database, ACME, "gen-1", 10)
    assert await settle(database, GLOBEX, "gen-1", 5) is None
    assert await void(database, GLOBEX, "gen-1") is False
    assert await balance(database, ACME) == (90, 10, 0)


async def test_a_transfer_posted_again_is_skipped(database: Database):
    assert await grant(database, ACME, 100) == 1
    assert await grant(database, ACME, 100) == 0
    assert await balance(database, ACME) == (100, 0, 0)


@pytest.mark.parametrize(
    "other", [grant_of(ACME, "tr_1", 101), grant_of(ACME, "tr_1", 100, "another reason")], ids=["amount", "reason"]
)
async def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing(database: Database, other: Transfer):
    async with database.begin(SYSTEM) as tx:
        await ledger.post(tx, [grant_of(ACME, "tr_1", 100)])
    with pytest.raises(TransferConflict, match="tr_1") as refusal:
        async with database.begin(SYSTEM) as tx:
            await ledger.post(tx, [grant_of(ACME, "tr_0", 7), other])
    assert refusal.value.status == 409
    assert await balance(database, ACME) == (100, 0, 0)
    assert (await verify(database)).transfers == 1


async def test_two_owners_may_use_the_same_transfer_id(database: Database):
    assert await grant(database, ACME, 100) == await grant(database, GLOBEX, 50) == 1
    assert (await balance(database, ACME))[0] == 100
    assert (await balance(database, GLOBEX))[0] == 50


async def test_of_several_transfers_all_happen_or_none(database: Database):
    too_much = Transfer(ACME, "tr_2", TransferKind.HOLD, Account.CREDITS, Account.HELD, Nanos(101))
    with pytest.raises(InsufficientFunds):
        async with database.begin(SYSTEM) as tx:
            await ledger.post(tx, [grant_of(ACME, "tr_1", 100), too_much])
    assert (await verify(database)).transfers == 0
    assert await balance(database, ACME) == (0, 0, 0)


async def test_a_balance_that_does_not_fit_64_bits_is_refused_and_stays_an_integer(database: Database):
    await grant(database, ACME, NANOS_MAX, "tr_1")
    with pytest.raises(BalanceTooLarge):
        await grant(database, ACME, 1, "tr_2")
    with pytest.raises(BalanceTooLarge):
        await grant(database, GLOBEX, NANOS_MAX, "tr_3")  # the installation's own side is as wide
    async with database.snapshot(SYSTEM) as snapshot:
        kept = [row.balance_nanos for row in await snapshot.all(text("SELECT balance_nanos FROM accounts"))]
    assert sorted(kept) == [-NANOS_MAX, NANOS_MAX]
    assert all(type(value) is int for value in kept)


@pytest.mark.parametrize("amount", [0, -1, NANOS_MAX + 1])
def test_a_transfer_of_nothing_or_too_much_cannot_be_made(amount: int):
    with pytest.raises(ValueError, match="64-bit"):
        grant_of(ACME, "tr_1", amount)


async def test_open_holds_are_listed_oldest_first_by_node(database: Database):
    await grant(database, ACME, 100)
    async with database.begin(SYSTEM) as tx:
        for number, node in enumerate(("node_a", "node_b", "node_a")):
            made = hold_of(ACME, f"gen-{number}", 1, node)
            await ledger.open_hold(tx, made)
    await settle(database, ACME, "gen-2", 1)
    async with database.snapshot(SYSTEM) as snapshot:
        assert {found.generation for found in await ledger.list_open_holds(snapshot)} == {"gen-0", "gen-1"}
        assert [found.generation for found in await ledger.list_open_holds(snapshot, node="node_a")] == ["gen-0"]


async def test_transfers_are_listed_by_kind_and_time(fixed_database: Database, fixed_clock):
    await grant(fixed_database, ACME, 100)
    await hold(fixed_database, ACME, "gen-1", 10)
    now = fixed_clock.now()
    fixed_clock.set(now.replace(hour=14))
    await grant(fixed_database, ACME, 7, "tr_later")
    async with fixed_database.snapshot(Scope(ACME)) as snapshot:
        found = await ledger.list_transfers(snapshot, ACME, [TransferKind.GRANT], now, fixed_clock.now())
        assert [posted.transfer.id for posted in found] == ["tr_grant"]
        found = await ledger.list_transfers(snapshot, ACME, list(TransferKind), now, now.replace(hour=15))
        assert [posted.transfer.id for posted in found] == ["tr_later", "tr_grant", "hold-gen-1"]


# Verification.


WITHOUT_EFFECT = (
    "INSERT INTO transfers (owner_id, id, kind, debit, credit, amount_nanos, at) "
    f"VALUES ('{ACME}', 'x', 'grant', 'system:grants', 'credits', 2, 0)"
)


@pytest.mark.parametrize(
    ("statement", "drift"),
    [
        (f"UPDATE accounts SET balance_nanos = balance_nanos + 3 WHERE owner_id = '{ACME}' AND account = 'credits'", 6),
        ("UPDATE accounts SET balance_nanos = balance_nanos - 3 WHERE owner_id = 'system'", 6),
        (f"DELETE FROM accounts WHERE owner_id = '{ACME}' AND account = 'held'", 30),
        ("UPDATE holds SET amount_nanos = amount_nanos + 4", 4),
        ("UPDATE holds SET state = 'void'", 10),
        (f"INSERT INTO accounts (owner_id, account, balance_nanos) VALUES ('{GLOBEX}', 'credits', 5)", 10),
        (WITHOUT_EFFECT, 4),
    ],
    ids=["richer", "the far side", "no account", "hold", "hold lost", "out of nothing", "transfer without effect"],
)
async def test_whatever_is_changed_behind_the_ledgers_back_is_drift(database: Database, statement: str, drift: int):
    await grant(database, ACME, 100)
    await hold(database, ACME, "gen-1", 10)
    assert (await verify(database)).drift == 0
    await tamper(database, statement)
    assert (await verify(database)).drift == drift


async def test_what_one_account_gained_and_another_lost_is_drift_though_the_sum_is_zero(database: Database):
    await grant(database, ACME, 100, "tr_1")
    await grant(database, GLOBEX, 100, "tr_1")
    for owner, change in ((ACME, "+ 7"), (GLOBEX, "- 7")):
        await tamper(database, f"UPDATE accounts SET balance_nanos = balance_nanos {change} WHERE owner_id = '{owner}'")
    assert (await verify(database)).drift == 14


async def test_verification_says_how_things_stand(database: Database):
    await grant(database, ACME, 100)
    await hold(database, ACME, "gen-1", 10)
    await hold(database, ACME, "gen-2", 20)
    await settle(database, ACME, "gen-2", 15)
    found = await verify(database)
    assert found == Verification(
        drift=0,
        accounts=4,
        transfers=5,
        open_holds=1,
        held=10,
        available=75,
        spent=15,
        leased=0,
        workers=[],
        balances=dict.fromkeys(Account, 0) | {"credits": 75, "held": 10, "spent": 15, "system:grants": -100},
        oldest_hold_at=AT,
        differences=[],
    )


# Any sequence, against a model that is three integers per owner.

OWNERS = ("one", "two", "three")
VERBS = ("grant", "purchase", "hold", "extend", "settle", "void", "again")
steps = st.lists(
    st.tuples(st.sampled_from(VERBS), st.sampled_from(OWNERS), st.integers(0, 5), st.integers(1, 120)),
    min_size=1,
    max_size=25,
)


@dataclass
class Books:
    """What the ledger should say, and which holds are open."""

    credits: int = 0
    spent: int = 0
    holds: dict[str, int | None] = field(default_factory=dict)
    """By generation; None once it was resolved."""
    extensions: dict[str, int] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(amount or 0 for amount in self.holds.values())

    @property
    def balance(self) -> tuple[int, int, int]:
        return self.credits, self.held, self.spent


class Model:
    """Does each step on the database and in the books, and compares."""

    def __init__(self, database: Database, prefix: str) -> None:
        self.database, self.prefix = database, prefix
        self.books = {name: Books() for name in OWNERS}
        self.numbers = itertools.count()
        self.last: Callable[[], Awaitable[None]] | None = None

    def owner(self, name: str) -> OwnerId:
        return OwnerId(f"org_{self.prefix}_{name}")

    async def step(self, verb: str, name: str, slot: int, amount: int) -> None:
        if verb == "again":
            if self.last is not None:
                await self.last()
            return
        await getattr(self, verb)(self.owner(name), self.books[name], f"gen-{self.prefix}-{name}-{slot}", amount)

    async def grant(self, owner: OwnerId, books: Books, _: str, amount: int, kind: str = "GRANT") -> None:
        far = Account.GRANTS if kind == "GRANT" else Account.PURCHASES
        transfer = Transfer(owner, f"tr_{next(self.numbers)}", TransferKind[kind], far, Account.CREDITS, Nanos(amount))

        async def post() -> int:
            async with self.database.begin(SYSTEM) as tx:
                return await ledger.post(tx, [transfer])

        async def again() -> None:
            assert await post() == 0

        assert await post() == 1
        books.credits += amount
        self.last = again

    async def purchase(self, owner: OwnerId, books: Books, generation: str, amount: int) -> None:
        await self.grant(owner, books, generation, amount, "PURCHASE")

    async def hold(self, owner: OwnerId, books: Books, generation: str, amount: int) -> None:
        amount -= 1  # holds of nothing belong to it
        if generation in books.holds:
            with pytest.raises(IntegrityError):
                await hold(self.database, owner, generation, amount)
        elif amount > books.credits:
            with pytest.raises(InsufficientFunds):
                await hold(self.database, owner, generation, amount)
        else:
            await hold(self.database, owner, generation, amount)
            books.credits -= amount
            books.holds[generation] = amount
            self.last = lambda: self.hold(owner, books, generation, amount + 1)

    async def extend(self, owner: OwnerId, books: Books, generation: str, amount: int) -> None:
        number = books.extensions.get(generation, 0) + 1
        held = books.holds.get(generation)
        if held is not None and amount > books.credits:
            with pytest.raises(InsufficientFunds):
                await extend(self.database, owner, generation, amount, number)
            return
        await extend(self.database, owner, generation, amount, number)
        if held is not None:
            books.credits -= amount
            books.holds[generation] = held + amount
            books.extensions[generation] = number
            self.last = lambda: extend(self.database, owner, generation, amount, number)

    async def settle(self, owner: OwnerId, books: Books, generation: str, amount: int) -> None:
        charged = await settle(self.database, owner, generation, amount)
        held = books.holds.get(generation)
        assert charged == (None if held is None else min(amount, held + books.credits))
        self._resolve(books, generation, charged or 0)
        self.last = lambda: self.settle(owner, books, generation, amount)

    async def void(self, owner: OwnerId, books: Books, generation: str, _: int) -> None:
        assert await void(self.database, owner, generation) is (books.holds.get(generation) is not None)
        self._resolve(books, generation, 0)
        self.last = lambda: self.void(owner, books, generation, 0)

    def _resolve(self, books: Books, generation: str, charged: int) -> None:
        held = books.holds.get(generation)
        if held is not None:
            books.credits += held - charged
            books.spent += charged
            books.holds[generation] = None

    async def compare(self) -> None:
        async with self.database.snapshot(SYSTEM) as snapshot:
            kept = await ledger.balances(snapshot, [self.owner(name) for name in self.books])
            drift = (await ledger.verify(snapshot)).drift
        for name, books in self.books.items():
            found = kept[self.owner(name)]
            assert (found.available, found.held, found.spent) == books.balance
            assert min(books.balance) >= 0
        assert drift == 0


async def walk(url: str, prefix: str, sequence: list[tuple[str, str, int, int]]) -> None:
    database = open_database(url)
    try:
        model = Model(database, prefix)
        for step in sequence:
            await model.step(*step)
            await model.compare()
    finally:
        await database.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=steps)
def test_after_any_sequence_the_books_are_right_on_sqlite(sqlite_template: Path, sequence):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(sqlite_template, Path(folder) / "bursar.db")
        asyncio.run(walk(f"sqlite:///{folder}/bursar.db", "s", sequence))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=steps)
def test_after_any_sequence_the_books_are_right_on_postgresql(postgres: PostgresServer, sequence):
    url = postgres.clone("template_bursar")
    try:
        asyncio.run(walk(url, "p", sequence))
    finally:
        postgres.drop_database(url)


# Many at once.


async def test_of_64_parallel_holds_on_credits_for_ten_exactly_ten_succeed(database: Database):
    await grant(database, ACME, 10 * 7)

    async def attempt(number: int) -> bool:
        try:
            await hold(database, ACME, f"gen-{number}", 7)
        except InsufficientFunds:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(number) for number in range(64)))) == 10
    assert await balance(database, ACME) == (0, 70, 0)
    assert (await verify(database)).drift == 0
    assert (await verify(database)).open_holds == 10


async def test_of_settling_and_voiding_at_once_exactly_one_wins(database: Database):
    await grant(database, ACME, 1_000)
    spent = 0
    for number in range(20):
        generation = f"gen-{number}"
        await hold(database, ACME, generation, 10)
        results = await asyncio.gather(
            settle(database, ACME, generation, 4),
            void(database, ACME, generation),
            settle(database, ACME, generation, 4),
            void(database, ACME, generation),
        )
        winners = [result for result in results if result not in (None, False)]
        assert len(winners) == 1, results
        spent += 0 if winners[0] is True else 4
        assert await balance(database, ACME) == (1_000 - spent, 0, spent)
    assert (await verify(database)).drift == 0


async def test_an_extension_raced_by_its_repeat_and_by_the_settlement_adds_up(database: Database):
    await grant(database, ACME, 10_000)
    for number in range(10):
        generation = f"gen-{number}"
        await hold(database, ACME, generation, 10)
        await asyncio.gather(
            *(extend(database, ACME, generation, 5, 1) for _ in range(3)),
            settle(database, ACME, generation, 1_000),
        )
        assert (await balance(database, ACME))[1] == 0
        assert (await verify(database)).drift == 0


async def test_one_transfer_posted_twenty_times_at_once_counts_once(database: Database):
    assert sum(await asyncio.gather(*(grant(database, ACME, 100) for _ in range(20)))) == 1
    assert await balance(database, ACME) == (100, 0, 0)


async def test_two_contents_under_one_id_at_once_post_one_of_them(database: Database):
    results = await asyncio.gather(
        *(grant(database, ACME, amount) for amount in (100, 200) for _ in range(5)), return_exceptions=True
    )
    assert sum(result == 1 for result in results) == 1
    assert sum(isinstance(result, TransferConflict) for result in results) == 5
    assert (await balance(database, ACME))[0] in (100, 200)


async def test_two_hundred_mixed_transactions_at_once_never_deadlock(database: Database):
    await grant(database, ACME, 10_000)
    await grant(database, GLOBEX, 10_000)
    chance = random.Random(database.dialect)
    names = [f"{new_generation_id(AT)}" for _ in range(20)]
    for name in names[:10]:
        await hold(database, ACME, name, 10)

    async def mixed(number: int) -> None:
        name, amount = chance.choice(names), chance.randint(1, 50)
        verb = number % 6
        with suppress(InsufficientFunds, IntegrityError):
            if verb == 0:
                await grant(database, chance.choice((ACME, GLOBEX)), amount, f"tr_{number}")
            elif verb == 1:
                await hold(database, ACME, name, amount)
            elif verb == 2:
                await extend(database, ACME, name, amount, chance.randint(1, 3) + 10 * number)
            elif verb == 3:
                await settle(database, ACME, name, amount)
            elif verb == 4:
                await void(database, ACME, name)
            else:
                await balance(database, ACME)

    async with asyncio.timeout(60):
        await asyncio.gather(*(mixed(number) for number in range(200)))
    found = await verify(database)
    assert found.drift == 0
    assert found.available >= 0
