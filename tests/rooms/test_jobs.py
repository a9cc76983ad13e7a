"""The jobs: mail that waits is sent by whatever delivers here, once, and what needs no sending any more is not."""

import asyncio
import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from bursar import actions, identity, storage
from bursar.access import Actor
from bursar.identity import LinkPurpose
from bursar.jobs import Jobs
from bursar.kernel.errors import BursarError
from bursar.mail import ConsoleMailer, MailNotSent, Message, SmtpMailer
from bursar.storage import SYSTEM, Database
from tests.rooms.test_mail import Inbox, inbox, smtp_port  # noqa: F401 - fixtures
from tests.storage.at_rest import everything_stored

pytestmark = pytest.mark.anyio

SECONDS_MAX = 10


class Collected:
    """A mailer that keeps what it is given, or fails as it is told."""

    def __init__(self, error: Exception | None = None, *, delivers: bool = True) -> None:
        self.error, self.delivers = error, delivers
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(message)


async def invite(database: Database, email: str = "ana@example.com") -> str:
    _, url = await actions.add_user(database, Actor.operator(), email=email, name="Ana", public_url="https://b.example")
    assert url is not None
    return url


async def states(database: Database) -> list[tuple[str, bool]]:
    """Of every message: its state, and whether there is something sealed in it."""
    async with database.snapshot(SYSTEM) as snapshot:
        return [(row.state, row.sealed is not None) for row in await snapshot.all(text("SELECT * FROM outbox"))]


async def until(condition: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < SECONDS_MAX
        await asyncio.sleep(0.02)


async def test_what_smtp_took_is_emptied(database: Database, inbox: Inbox, smtp_port: int):  # noqa: F811
    url = await invite(database)
    mailer = SmtpMailer(
        host="127.0.0.1", port=smtp_port, sender="b@example.com", username=None, password=None, security="none"
    )
    jobs = Jobs(database, mailer)
    assert await jobs.send_due() == 1
    assert await jobs.send_due() == 0
    assert url.encode() in inbox.envelopes[0].original_content.replace(b"=\r\n", b"").replace(b"=3D", b"=")
    assert await states(database) == [("done", False)]
    assert url.partition("token=")[2] not in await everything_stored(database)


async def test_what_could_only_be_printed_is_kept_sealed_until_its_link_is_used(
    database: Database, capsys: pytest.CaptureFixture[str]
):
    url = await invite(database)
    assert await Jobs(database, ConsoleMailer()).send_due() == 1
    assert url in capsys.readouterr().err
    assert await states(database) == [("kept", True)]
    assert [kept.payload["link"] for kept in await storage.list_kept(database)] == [url]
    async with database.begin(SYSTEM) as tx:
        await identity.spend_link(tx, url.partition("token=")[2], LinkPurpose.SET_PASSWORD)
    assert await states(database) == [("done", False)]
    assert list(await storage.list_kept(database)) == []


async def test_a_message_whose_link_was_used_before_is_not_sent(database: Database):
    url = await invite(database)
    async with database.begin(SYSTEM) as tx:
        await identity.spend_link(tx, url.partition("token=")[2], LinkPurpose.SET_PASSWORD)
    mailer = Collected()
    assert await Jobs(database, mailer).send_due() == 0
    assert mailer.sent == []


async def test_a_message_emptied_while_it_waited_to_be_tried_again_is_not_sent(database: Database):
    url = await invite(database)
    (taken,) = await storage.take(database)
    async with database.begin(SYSTEM) as tx:
        await identity.spend_link(tx, url.partition("token=")[2], LinkPurpose.SET_PASSWORD)
    await storage.mark_failed(database, taken, "too late")
    async with database.begin(SYSTEM) as tx:
        await tx.execute(text("UPDATE outbox SET next_attempt_at = 0"))
    mailer = Collected()
    assert await Jobs(database, mailer).send_due() == 1
    assert mailer.sent == []
    assert await states(database) == [("done", False)]


@pytest.mark.parametrize("error", [MailNotSent("The mail server refused."), OSError("reset"), ValueError("bad")])
async def test_a_message_that_fails_is_tried_again_and_the_others_are_sent(database: Database, error: Exception):
    for number in range(3):
        await invite(database, f"u{number}@example.com")

    class Picky(Collected):
        async def send(self, message: Message) -> None:
            if message.to == "u1@example.com":
                raise error
            await super().send(message)

    mailer = Picky()
    assert await Jobs(database, mailer).send_due() == 3
    assert {message.to for message in mailer.sent} == {"u0@example.com", "u2@example.com"}
    assert sorted(await states(database)) == [("done", False), ("done", False), ("waiting", True)]
    async with database.snapshot(SYSTEM) as snapshot:
        said = await snapshot.scalar(text("SELECT last_error FROM outbox WHERE state = 'waiting'"))
    assert said
    assert "token=" not in said


async def test_two_nodes_that_send_at_once_send_each_message_once(database: Database):
    for number in range(10):
        await invite(database, f"u{number}@example.com")
    mailer = Collected()
    nodes = [Jobs(database, mailer) for _ in range(2)]
    await asyncio.gather(*(node.send_due() for node in nodes for _ in range(3)))
    assert sorted(message.to for message in mailer.sent) == [f"u{number}@example.com" for number in range(10)]


async def test_the_loop_sends_what_is_put_in_at_once_and_survives_a_failure(database: Database):
    mailer = Collected()
    jobs = Jobs(database, mailer)
    jobs.start()
    try:
        await invite(database, "first@example.com")
        await until(lambda: len(mailer.sent) == 1)
        mailer.error = BursarError("as if everything were wrong")
        await invite(database, "failing@example.com")
        await asyncio.sleep(0.1)
        mailer.error = None
        await invite(database, "last@example.com")
        await until(lambda: len(mailer.sent) == 2)
    finally:
        await jobs.stop()
    assert [message.to for message in mailer.sent] == ["first@example.com", "last@example.com"]
