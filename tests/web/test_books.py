"""Whether the books are right, for the operator; and the metrics, for whoever may monitor."""

import httpx2
import msgspec
import pytest

from bursar.gateway import JournalState
from bursar.jobs._books import BooksCheck
from tests.support.metrics import read_metrics
from tests.support.tampering import behind_their_backs
from tests.web.cast import ORIGIN, House, text_of

pytestmark = pytest.mark.anyio

TOKEN = "a token for monitoring"


async def metrics(app, address: str = "127.0.0.1", **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        return await client.get("/metrics", headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_the_books_are_for_the_operator_only(house, ana):
    operator = await house.signed_in(await house.add_user("Olga Operator", operator=True))
    await house.grant(ana.id, "5")
    page = await operator.get("/operator/books")
    assert "The first check runs a few seconds after the start." in text_of(page)
    await BooksCheck(house.database).run()
    assert "The books are right: drift 0" in text_of(await operator.get("/operator/books"))
    now = (await operator.get("/operator/books.json")).json()
    assert (now["ok"], now["drift"]) == (True, 0)
    await behind_their_backs(
        house.database, "UPDATE accounts SET balance_nanos = balance_nanos + 1 WHERE account = 'credits'"
    )
    assert (await operator.get("/operator/books.json")).json()["ok"] is False
    assert "drift 0" in text_of(await operator.get("/operator/books")), "as it was found last"
    await BooksCheck(house.database).run()
    page = text_of(await operator.get("/operator/books"))
    assert "The books do not add up" in page
    assert "credits: the balance is" in page
    stranger = await house.signed_in(ana)
    for path in ("/operator/books", "/operator/books.json"):
        assert (await stranger.get(path)).status_code == 403
        assert (await house.browser().get(path)).status_code in (303, 401)


@pytest.mark.parametrize(
    ("parts", "address", "headers", "status"),
    [
        ({"is_public": False}, "127.0.0.1", {}, 200),
        ({"is_public": False}, "::1", {}, 200),
        ({"is_public": False}, "192.0.2.7", {}, 404),
        ({"is_public": False}, "127.0.0.1", {"x_forwarded_for": "192.0.2.7"}, 404),
        ({"is_public": True}, "127.0.0.1", {}, 404),
        ({"metrics_token": TOKEN}, "192.0.2.7", {"authorization": f"Bearer {TOKEN}"}, 200),
        ({"metrics_token": TOKEN}, "192.0.2.7", {"authorization": "Bearer other"}, 401),
        ({"metrics_token": TOKEN, "is_public": False}, "127.0.0.1", {}, 401),
    ],
)
async def test_the_metrics_are_not_for_strangers(database, parts, address, headers, status):
    house = House(database, **parts)
    answer = await metrics(house.app, address, **headers)
    assert answer.status_code == status
    assert ("bursar_database_up" in answer.text) == (status == 200)
    await house.close()


async def test_the_metrics_tell_the_books_the_journal_and_the_requests(database, cast):
    state = JournalState(lag=3, lag_since=None, open=2, held=None, oldest_open_at=None)
    house = House(database, is_public=False, tallies=lambda: {0: house.gateway.tally(state), 3: other})
    other = msgspec.structs.replace(house.gateway.tally(state), answered={200: 7}, running=4)
    house.gateway.counts.answered.update({200: 5, 402: 1})
    house.gateway.counts.refused.update({"InsufficientCredits": 1, "Overloaded": 2})
    house.gateway.counts.batches.update({1: 3, 100: 1})
    before = read_metrics((await metrics(house.app)).text)
    assert "bursar_ledger_drift_nanos" not in before, "unknown, and not 0"
    await behind_their_backs(
        database, "UPDATE accounts SET balance_nanos = balance_nanos + 1 WHERE account = 'credits'"
    )
    await BooksCheck(database).run()
    found = read_metrics((await metrics(house.app)).text)
    assert found["bursar_ledger_drift_nanos"] == 2
    assert found["bursar_ledger_differences"] == 2
    assert (found["bursar_ledger_check_age_seconds"], found["bursar_ledger_full_check_age_seconds"]) == (0, 0)
    assert found["bursar_database_up"] == 1
    assert (found["bursar_requests_total status=200 worker=0"], found["bursar_requests_total status=402 worker=0"]) == (
        5,
        1,
    )
    assert (found["bursar_requests_total status=200 worker=3"], found["bursar_running_requests worker=3"]) == (7, 4)
    assert found["bursar_refusals_total name=InsufficientCredits worker=0"] == 1
    assert found["bursar_shed_total worker=0"] == 2
    assert (found["bursar_journal_lag_records worker=0"], found["bursar_open_holds worker=3"]) == (3, 2)
    assert (
        found["bursar_batch_settlements_bucket le=64 worker=0"],
        found["bursar_batch_settlements_sum worker=0"],
    ) == (3, 103)
    await house.close()


async def test_without_a_database_the_metrics_say_so(database, monkeypatch):
    from bursar.kernel.errors import Unavailable

    def away(*_):
        raise Unavailable("The database does not answer.")

    house = House(database, is_public=False)
    monkeypatch.setattr(database, "snapshot", away)
    assert read_metrics((await metrics(house.app)).text)["bursar_database_up"] == 0
    await house.close()
