"""What runs when a right is taken away is cut: the client is told why, and what arrived until then is charged, once."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from bursar import actions, identity, keys
from bursar.access import Actor
from bursar.activity import GenerationStatus
from bursar.catalog import Catalog
from bursar.gateway import Caller
from bursar.kernel.errors import Unavailable
from bursar.kernel.ids import SessionId
from bursar.kernel.secrets import hash_secret
from bursar.keys import Key
from bursar.organizations import tables as organization_tables
from bursar.storage import SYSTEM
from tests.gateway.world import PRIME, World, chunk, endpoint, provider, usage, whole

pytestmark = pytest.mark.anyio

BODY = {"model": "acme/prime", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = json.dumps({**BODY, "stream": True}).encode()
WHOLE = json.dumps(BODY).encode()
CUT_SECONDS_MAX = 5.0
"""The bound is 2 s: `tests/cli/test_revocation.py` measures it. Here a machine that does much else must not matter."""

Deed = Callable[[World, Key], Awaitable[Any]]


async def forever() -> None:
    await asyncio.Event().wait()


async def key_of(world: World, secret: str | None = None) -> Key:
    async with world.database.snapshot(SYSTEM) as snapshot:
        found = await keys.find_by_hash(snapshot, hash_secret(secret or world.key))
    assert found is not None
    return found


async def disable(world: World, key: Key) -> None:
    await actions.set_key_disabled(world.database, Actor.operator(), owner=key.owner, key=key.id, disabled=True)


async def delete(world: World, key: Key) -> None:
    await actions.delete_key(world.database, Actor.operator(), owner=key.owner, key=key.id)


async def rotate(world: World, key: Key, grace: timedelta = timedelta(0)) -> str:
    _, secret = await actions.rotate_key(
        world.database, world.checker, Actor.operator(), owner=key.owner, key=key.id, grace=grace
    )
    return secret


async def end_grace(world: World, key: Key) -> None:
    await rotate(world, key, timedelta(hours=1))
    await actions.end_grace(world.database, Actor.operator(), owner=key.owner, key=key.id)


async def rotate_for_a_moment(world: World, key: Key) -> None:
    await rotate(world, key, timedelta(milliseconds=400))


DEEDS: dict[str, tuple[Deed, str]] = {
    "disabled": (disable, "This API key is disabled."),
    "deleted": (delete, "This API key does not exist any more."),
    "rotated": (rotate, "This API key was rotated"),
    "grace ended": (end_grace, "This API key was rotated"),
    "grace over": (rotate_for_a_moment, "This API key was rotated"),
}


class Stage:
    """A scripted provider that says "one two" and then nothing, until which `deed` is done."""

    def __init__(self) -> None:
        self.deed: Callable[[], Awaitable[Any]] | None = None
        self.done_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def act(self) -> None:
        """Beside the stream, as somebody elsewhere does it."""
        self._tasks.append(asyncio.create_task(self._act()))

    async def _act(self) -> None:
        await asyncio.sleep(0.05)
        assert self.deed is not None
        await self.deed()
        self.done_at = time.monotonic()


@pytest.mark.parametrize("deed", DEEDS)
async def test_a_stream_on_a_key_that_is_taken_away_is_cut_told_why_and_charged_for_what_arrived(
    scripted: Callable[..., Any], deed: str
):
    stage = Stage()
    world = await scripted([chunk("one two "), chunk("three"), stage.act, forever])
    key, (do, sentence) = await key_of(world), DEEDS[deed]
    stage.deed = lambda: do(world, key)
    answer = await world.post(STREAM)
    assert time.monotonic() - stage.done_at < CUT_SECONDS_MAX
    assert answer.complete
    last = answer.chunks[-2]
    assert last["choices"][0]["finish_reason"] == "error"
    assert last["error"]["code"] == 401
    assert last["error"]["message"].startswith(sentence)
    assert answer.chunks[-1]["usage"]["completion_tokens"] == 3
    assert world.upstream.closed == ["alpha"]
    row = await world.only_generation()
    assert (row.status, row.error_status, row.completion_tokens) == (GenerationStatus.FAILED, 401, 3)
    assert row.cost_nanos == answer.chunks[-1]["usage"]["cost"] * 10**9 > 0
    assert (await world.post(STREAM)).status == 401


@pytest.mark.parametrize("by", ["key", "chat"])
async def test_what_runs_for_an_organization_that_is_deleted_ends(scripted: Callable[..., Any], by: str):
    """It has no credits left, so that only a free model can run."""
    stage = Stage()
    alpha = provider("alpha")
    free = Catalog([alpha], [PRIME], [endpoint(PRIME, alpha, 0, 0)])
    world = await scripted([chunk("one two "), stage.act, forever], catalog=free)
    organization, admin = world.cast.acme, world.cast.admin

    async def end() -> None:
        await actions.delete_organization(
            world.database, Actor.person(admin.id), organization=organization.id, confirmation=organization.slug
        )

    await actions.settle_organization(
        world.database, Actor.operator(), organization=organization.id, to=None, reason="for tests"
    )
    stage.deed = end
    if by == "chat":
        _, answer = await chat(world, STREAM)
        assert b"You do not belong to this organization any more." in answer
    else:
        told = (await world.post(STREAM)).chunks[-2]["error"]["message"]
        assert told.startswith("This API key does not exist any more.")
        assert (await world.post(STREAM)).status == 401
    assert time.monotonic() - stage.done_at < CUT_SECONDS_MAX
    assert (await world.only_generation()).cost_nanos == 0


@pytest.mark.parametrize("body", [STREAM, WHOLE], ids=["stream", "whole"])
@pytest.mark.parametrize("deed", ["disabled", "grace over"])
async def test_what_has_no_output_yet_is_answered_with_401_and_costs_nothing(
    scripted: Callable[..., Any], deed: str, body: bytes
):
    stage = Stage()
    world = await scripted([stage.act, forever])
    key, (do, sentence) = await key_of(world), DEEDS[deed]
    stage.deed = lambda: do(world, key)
    answer = await world.post(body)
    assert time.monotonic() - stage.done_at < CUT_SECONDS_MAX
    assert answer.status == 401
    assert answer.error["message"].startswith(sentence)
    row = await world.only_generation()
    assert (row.status, row.error_status, row.cost_nanos) == (GenerationStatus.FAILED, 401, 0)


async def test_a_stream_on_a_key_that_expires_ends_with_it(scripted: Callable[..., Any]):
    world = await scripted([chunk("one two "), forever])
    for lifetime in (0.5, 5, 30):  # seconds; on a slow machine a short one may be over before the first word
        _, secret = await actions.create_key(
            world.database,
            world.checker,
            Actor.operator(),
            owner=world.cast.owner,
            creator=world.cast.admin.id,
            name=f"for {lifetime} s",
            expires_at=world.database.clock.now() + timedelta(seconds=lifetime),
        )
        begun = time.monotonic()
        answer = await world.post(STREAM, key=secret)
        assert time.monotonic() - begun < lifetime + CUT_SECONDS_MAX
        if answer.status == 200:
            break
    assert answer.chunks[-2]["error"]["message"].startswith("This API key expired at ")
    await world.books_are_right()
    assert max(row.cost_nanos for row in await world.generations()) > 0


@pytest.mark.parametrize("body", [STREAM, WHOLE], ids=["stream", "whole"])
async def test_what_does_not_take_the_key_away_cuts_nothing(scripted: Callable[..., Any], body: bytes):
    stage = Stage()

    async def wait() -> None:
        await asyncio.sleep(0.4)

    steps = [chunk("Hi"), stage.act, wait, chunk(finish="stop"), chunk(usage=usage(5, 2))]
    world = await scripted(steps if body is STREAM else [stage.act, wait, whole("Hi", usage=usage(5, 2))])
    key, other = await key_of(world), await key_of(world, await world.make_key())

    async def deeds() -> None:
        await rotate(world, key, timedelta(hours=1))
        await actions.set_key_disabled(world.database, Actor.operator(), owner=key.owner, key=key.id, disabled=False)
        await disable(world, other)
        async with world.database.begin(SYSTEM) as tx:
            await tx.announce("membership", key.creator)  # the key is the organization's: nobody's chat

    stage.deed = deeds
    answer = await world.post(body)
    assert stage.done_at
    assert answer.status == 200
    assert (await world.only_generation()).status is GenerationStatus.OK


async def chat(world: World, body: bytes, session: SessionId | None = None) -> tuple[int, bytes]:
    """As the page does for somebody signed in: Max, in the organization."""
    sent: list[dict[str, Any]] = []
    unread = [body]

    async def receive() -> dict[str, Any]:
        if not unread:
            await forever()
        return {"type": "http.request", "body": unread.pop(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/v1/chat/completions", "headers": []}
    await world.gateway.serve(scope, receive, send, Caller(world.cast.owner, world.cast.member.id, session=session))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize("body", [STREAM, WHOLE], ids=["stream", "whole"])
async def test_a_chat_in_an_organization_ends_with_the_membership(scripted: Callable[..., Any], body: bytes):
    stage = Stage()
    world = await scripted([chunk("one two "), stage.act, forever] if body is STREAM else [stage.act, forever])
    memberships = organization_tables.memberships

    async def end(user: str) -> None:
        async with world.database.begin(SYSTEM) as tx:
            await tx.execute(
                update(memberships).where(memberships.c.user_id == user).values(ended_at=world.database.clock.now())
            )
            await tx.announce("membership", user)

    stage.deed = lambda: end(world.cast.member.id)
    status, answer = await chat(world, body)
    assert time.monotonic() - stage.done_at < CUT_SECONDS_MAX
    assert status == (200 if body is STREAM else 403)
    assert b"You do not belong to this organization any more." in answer
    row = await world.only_generation()
    assert (row.error_status, row.cost_nanos > 0) == (403, body is STREAM)


@pytest.mark.parametrize("deed", ["signed out", "ended elsewhere", "all ended"])
async def test_a_chat_ends_with_the_session(scripted: Callable[..., Any], deed: str):
    stage = Stage()
    world = await scripted([chunk("one two "), stage.act, forever])
    member = world.cast.member.id
    async with world.database.begin(SYSTEM) as tx:
        token = await identity.open_session(tx, member, address=None, user_agent=None)
        other = await identity.open_session(tx, member, address=None, user_agent=None)
    async with world.database.snapshot(SYSTEM) as snapshot:
        session, kept = [await identity.find_session(snapshot, each) for each in (token, other)]
    assert session is not None
    assert kept is not None

    async def end() -> None:
        async with world.database.begin(SYSTEM) as tx:
            if deed == "signed out":
                await identity.end_session(tx, token)
            elif deed == "ended elsewhere":
                await identity.end_session_of(tx, member, session.id)
            else:
                await identity.end_sessions_of(tx, member, keep=kept.id)

    stage.deed = end
    beside = asyncio.create_task(chat(world, STREAM, kept.id))
    status, answer = await chat(world, STREAM, session.id)
    assert time.monotonic() - stage.done_at < CUT_SECONDS_MAX
    assert status == 200
    assert b"You were signed out. Sign in again" in answer
    await asyncio.sleep(0.1)
    assert not beside.done(), "the other session is another"
    await world.settled()
    await beside


async def test_a_chat_goes_on_when_somebody_elses_membership_ends(scripted: Callable[..., Any]):
    stage = Stage()

    async def wait() -> None:
        await asyncio.sleep(0.3)

    world = await scripted([stage.act, wait, whole("Hi", usage=usage(5, 2))])

    async def announce() -> None:
        async with world.database.begin(SYSTEM) as tx:
            await tx.announce("membership", world.cast.admin.id)
            await tx.announce("membership", world.cast.member.id)  # who is still a member: the role changed, say

    stage.deed = announce
    assert (await chat(world, WHOLE))[0] == 200
    assert stage.done_at


async def test_what_cannot_be_looked_up_after_a_change_is_cut_to_be_on_the_safe_side(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    stage = Stage()
    world = await scripted([chunk("one two "), stage.act, forever])
    key = await key_of(world)

    async def away(*_: Any) -> Any:
        raise Unavailable("The database does not answer.")

    async def disable_and_lose_the_database() -> None:
        monkeypatch.setattr(world.admission, "_look_up", away)
        await disable(world, key)

    stage.deed = disable_and_lose_the_database
    answer = await world.post(STREAM)
    assert time.monotonic() - stage.done_at < CUT_SECONDS_MAX
    assert answer.chunks[-2]["error"]["code"] == 503
    assert (await world.only_generation()).cost_nanos > 0


async def test_a_key_that_is_disabled_while_it_is_looked_up_is_not_admitted(scripted: Callable[..., Any]):
    """The look-up began before, and what it read was true then."""
    world = await scripted([whole("Hi", usage=usage(5, 2))] * 3)
    key = await key_of(world)
    real = world.admission._read

    async def read_and_then_wait(key_hash: str) -> Any:
        found = await real(key_hash)
        if found.caller is not None:
            await disable(world, key)
        return found

    world.admission._read = read_and_then_wait
    assert (await world.post(WHOLE)).status == 401
    assert world.admission.lookups == 2
    assert (await world.post(WHOLE)).status == 401
    assert world.admission.lookups == 2
