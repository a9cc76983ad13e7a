"""Every verb that changes money, rights, settings or secrets writes one audit event in its transaction; none holds a secret."""

import ast
import inspect
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bursar import actions, audit, identity, reports
from bursar.access import Actor, Role
from bursar.actions import Allowing, KeyChanges
from bursar.audit import REDACTED, WORDS, Change, EventFilter, Kind
from bursar.identity import LinkPurpose, Passwords
from bursar.kernel import secrets
from bursar.kernel.errors import Unavailable
from bursar.kernel.ids import SYSTEM_OWNER, OwnerId
from bursar.kernel.money import Nanos
from bursar.keys import KeyChecker, KeyKind
from bursar.ledger import Period
from bursar.reports.audit_words import SENTENCES
from bursar.storage import SYSTEM, Database
from tests.conftest import Cast

ACTIONS = Path(actions.__file__).parent

AUDITED: dict[str, set[str]] = {
    "accept_invitation": {"invitation.accepted", "user.verified"},
    "accept_waiting_invitation": {"invitation.accepted"},
    "add_member": {"member.added"},
    "add_user": {"user.added"},
    "answer_credit_move": {"credits.moved", "credits.move_refused"},
    "become_operator": {"operator.made"},
    "change_password": {"user.password_changed"},
    "change_role": {"member.role_changed", "key.disabled"},
    "confirm_by_link": {"user.proved"},
    "confirm_correction": {"correction.confirmed"},
    "confirm_email_change": {"user.email_changed"},
    "confirm_identity": {"user.proved"},
    "create_key": {"key.created", "limit.set"},
    "create_organization": {"organization.created"},
    "decline_invitation": {"invitation.declined"},
    "decline_waiting_invitation": {"invitation.declined"},
    "delete_account": {"user.deleted", "credits.given_up", "credits.move_withdrawn", "key.deleted", "member.left"},
    "delete_key": {"key.deleted"},
    "delete_organization": {"organization.deleted", "credits.move_refused"},
    "end_grace": {"key.grace_ended"},
    "end_other_sessions": {"session.others_ended"},
    "end_session_of": {"session.ended"},
    "forget_node": {"node.forgotten"},
    "grant_credits": {"credits.granted"},
    "invite_members": {"invitation.created"},
    "join_by_invitation": {
        "user.signed_up",
        "user.verified",
        "user.password_set",
        "key.disabled",
        "invitation.accepted",
    },
    "leave_organization": {"member.left", "key.disabled"},
    "make_sign_in_link": {"user.sign_in_link_made"},
    "propose_correction": {"correction.proposed"},
    "receive_event": {"purchase.paid"},
    "remove_member": {"member.removed", "key.disabled", "key.handed_over"},
    "rename_user": {"user.renamed"},
    "renew_recovery_codes": {"user.recovery_codes_renewed"},
    "request_credit_move": {"credits.move_requested"},
    "request_email_change": {"user.email_change_asked"},
    "request_reset": {"user.reset_asked"},
    "resend_invitation": {"invitation.resent"},
    "reset_second_factor": {"user.second_factor_reset"},
    "reset_user": {"user.reset"},
    "revoke_invitation": {"invitation.revoked"},
    "rotate_key": {"key.rotated"},
    "set_budget": {"limit.set", "limit.removed"},
    "set_key_disabled": {"key.disabled", "key.enabled"},
    "set_password": {"user.password_set", "key.disabled"},
    "set_seats": {"organization.seats_changed"},
    "settle_organization": {"credits.settled", "credits.received"},
    "sign_in": {"user.signed_in"},
    "sign_in_by_link": {"user.signed_in"},
    "sign_in_second": {"user.signed_in"},
    "sign_out_user": {"session.all_ended"},
    "sign_up": {"user.signed_up"},
    "start_purchase": {"purchase.started"},
    "undo_email_change": {"user.email_change_undone"},
    "turn_off_second_factor": {"user.second_factor_off"},
    "turn_on_second_factor": {"user.second_factor_on"},
    "update_key": {"key.changed", "key.disabled", "key.enabled", "limit.set", "limit.removed"},
    "update_organization": {"organization.changed"},
    "verify_email": {"user.verified"},
    "withdraw_correction": {"correction.withdrawn"},
    "withdraw_credit_move": {"credits.move_withdrawn"},
}
"""By verb of `actions`: what it writes down."""

QUIET: dict[str, str] = {
    "belongings": "reads",
    "ask_who_heard": "asks the servers whether they know what an action just took away; that is the event",
    "choose_password_instead": "mails a link; the password that is set by it is the event",
    "enter": "reads",
    "forget_ended": "deletes what ended by itself, by the clock",
    "invite_operator": "mints the link that this installation's own terminal prints; becoming the operator is the event",
    "look_at_node": "reads",
    "mail_proof": "mails a link; proving oneself by it is the event",
    "note_check": "writes what a check of the books found, by the clock; changes no right and no money",
    "note_seen": "when a session was last seen; changes no right",
    "peek_invitation": "reads",
    "prepare_second_factor": "shows a secret that is not in force; turning it on is the event",
    "require_own_address": "reads",
    "resend_verification": "mails a link again; verifying is the event",
    "sign_out": "ends the session that asks; ending others is the event",
}
"""Verbs that write nothing down, and why."""


def verbs() -> set[str]:
    return {name for name in actions.__all__ if inspect.iscoroutinefunction(getattr(actions, name))}


def recorded() -> set[str]:
    """Every action that the source hands to `audit.record`."""
    found: set[str] = set()
    for path in ACTIONS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                noun, _, verb = node.value.partition(".")
                if re.fullmatch(r"[a-z_]+\.[a-z_]+", node.value) and noun in NOUNS and verb:
                    found.add(node.value)
    return found


NOUNS = {word for words in WORDS.values() for word in words}


def test_every_verb_says_what_it_writes_down_or_why_it_writes_nothing():
    assert verbs() == AUDITED.keys() | QUIET.keys(), "list a new verb in AUDITED or QUIET"
    assert not AUDITED.keys() & QUIET.keys()


def test_whatever_is_written_down_is_some_verbs_and_has_a_sentence_and_a_kind():
    listed = {action for each in AUDITED.values() for action in each}
    assert recorded() == listed
    assert listed <= SENTENCES.keys(), "give a new action a line in reports.audit_words.SENTENCES"
    assert {action.partition(".")[0] for action in SENTENCES} <= NOUNS, "give a new noun a kind in audit.WORDS"
    assert WORDS.keys() == set(Kind)


def test_every_call_of_record_is_made_with_a_known_action():
    """So that `recorded` above sees all of them: nothing that is put together from parts."""
    for path in ACTIONS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "audit.record":
                action = node.args[3]
                literal = isinstance(action, ast.Constant | ast.IfExp | ast.Name | ast.Subscript)
                assert literal, f"{path.name}:{node.lineno}"


# Each of these does one thing.

Scene = Callable[["World"], Awaitable[object]]


class World:
    def __init__(self, database: Database, cast: Cast, checker: KeyChecker) -> None:
        self.database, self.cast, self.checker = database, cast, checker
        self.owner = cast.owner
        self.admin = cast.actor(cast.admin)
        self.told: list[str] = []
        """Secrets that were handed out."""

    async def key(self, **more: Any) -> Any:
        made, secret = await actions.create_key(
            self.database,
            self.checker,
            self.admin,
            **{"owner": self.owner, "creator": self.cast.admin.id, "name": "app", **more},
        )
        self.told.append(secret)
        return made

    async def update(self, key: Any, **changes: Any) -> None:
        await actions.update_key(self.database, self.admin, owner=self.owner, key=key.id, changes=KeyChanges(**changes))


async def events(database: Database) -> list[Any]:
    async with database.snapshot(SYSTEM) as snapshot:
        return list(await snapshot.all(text("SELECT * FROM audit_events ORDER BY at, id")))


@pytest.fixture
def world(database: Database, cast: Cast, checker: KeyChecker) -> World:
    return World(database, cast, checker)


async def done(world: World, scene: Awaitable[object]) -> list[str]:
    """The actions that the scene wrote down."""
    before = {row.id for row in await events(world.database)}
    await scene
    return sorted(row.action for row in await events(world.database) if row.id not in before)


pytestmark = pytest.mark.anyio


async def test_a_key_from_its_making_to_its_end(world: World):
    assert await done(world, world.key()) == ["key.created"]
    key = await world.key()
    assert await done(world, world.update(key, name="other")) == ["key.changed"]
    assert await done(world, world.update(key, name="other", include_byok_in_limit=False)) == [], "nothing changed"
    assert await done(world, world.update(key, limit=Nanos(5))) == ["limit.set"]
    assert await done(world, world.update(key, limit=Nanos(5))) == [], "nothing changed"
    assert await done(world, world.update(key, limit=None)) == ["limit.removed"]
    assert await done(world, world.update(key, disabled=True)) == ["key.disabled"]
    assert await done(world, world.update(key, disabled=True)) == []
    assert await done(world, world.update(key, disabled=False)) == ["key.enabled"]
    rotate = actions.rotate_key(
        world.database, world.checker, world.admin, owner=world.owner, key=key.id, grace=timedelta(hours=1)
    )
    assert await done(world, rotate) == ["key.rotated"]
    end = actions.end_grace(world.database, world.admin, owner=world.owner, key=key.id)
    assert await done(world, end) == ["key.grace_ended"]
    delete = actions.delete_key(world.database, world.admin, owner=world.owner, key=key.id)
    assert await done(world, delete) == ["key.deleted"]


async def test_budgets_people_and_organizations(world: World):
    database, cast = world.database, world.cast
    budget = actions.set_budget(
        database, world.admin, organization=world.owner, member=cast.member.id, budget=Allowing(Nanos(7), Period.DAILY)
    )
    assert await done(world, budget) == ["limit.set"]
    assert await done(world, actions.rename_user(database, world.admin, cast.admin.id, "Ana R.")) == ["user.renamed"]
    assert await done(world, actions.rename_user(database, world.admin, cast.admin.id, "Ana R.")) == []
    made = actions.create_organization(database, world.admin, creator=cast.admin.id, name="Other", slug="other")
    assert await done(world, made) == ["organization.created"]
    added = actions.add_member(
        database, Actor.operator(), organization=cast.acme.id, user=cast.stranger.id, role=Role.MEMBER
    )
    assert await done(world, added) == ["member.added"]
    grant = actions.grant_credits(database, Actor.operator(), owner=world.owner, amount=Nanos(5), reason="r")
    assert await done(world, grant) == ["credits.granted"]


async def test_a_refusal_and_a_commit_that_fails_write_nothing(world: World, monkeypatch: pytest.MonkeyPatch):
    before = len(await events(world.database))
    with pytest.raises(actions.NotAMember):
        await world.key(creator=world.cast.stranger.id)
    stranger = world.cast.actor(world.cast.stranger)
    with pytest.raises(Exception, match="no such organization"):
        await actions.create_key(
            world.database, world.checker, stranger, owner=world.owner, creator=world.cast.stranger.id, name="x"
        )
    whole = Database._commit

    async def torn(*_: Any) -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(Database, "_commit", torn)
    with pytest.raises(Unavailable):
        await world.key()
    monkeypatch.setattr(Database, "_commit", whole)
    assert len(await events(world.database)) == before


async def test_an_event_says_who_where_and_what_was_before_and_after(world: World):
    key = await world.key(name="app")
    await world.update(key, name="other", limit=Nanos(5_000_000_000), period=Period.DAILY)
    await world.update(key, limit=Nanos(10_000_000_000))
    async with world.database.snapshot(SYSTEM) as snapshot:
        limit, *_ = await audit.list_events(snapshot, world.owner)
        renamed = (await audit.page_events(snapshot, world.owner, EventFilter(action="key.changed"), None)).items[0]
    assert (limit.actor.user, limit.actor.address, limit.owner) == (world.cast.admin.id, "192.0.2.1", world.owner)
    assert limit.details == {"amount_nanos": Change(5_000_000_000, 10_000_000_000), "period": Change("daily", "daily")}
    assert renamed.details == {"name": Change("app", "other")}


async def test_events_of_one_transaction_stand_in_the_order_they_were_recorded(fixed_database: Database):
    owner, names = OwnerId("org_1"), [f"key_{number}" for number in range(30)]
    async with fixed_database.begin(SYSTEM) as tx:
        for name in names:
            await audit.record(tx, Actor.system(), owner, "key.created", name)
    async with fixed_database.snapshot(SYSTEM) as snapshot:
        assert [event.subject for event in reversed(await audit.list_events(snapshot, owner))] == names


async def test_what_makes_an_operator_stands_in_the_installations_own_log(database: Database):
    url = await actions.invite_operator(database, public_url="https://bursar.test")
    assert url is not None
    await actions.become_operator(
        database,
        Passwords(),
        token=url.partition("token=")[2],
        email="olga@example.com",
        name="Olga",
        password="a long and rare passphrase",
        address="192.0.2.7",
    )
    async with database.snapshot(SYSTEM) as snapshot:
        [event] = await audit.list_events(snapshot, SYSTEM_OWNER)
        page = await audit.page_events(snapshot, None, EventFilter(kind=Kind.ACCOUNT), None)
    assert (event.action, event.actor.address) == ("operator.made", "192.0.2.7")
    assert [each.id for each in page.items] == [event.id]


async def test_no_secret_ever_reaches_the_log(world: World):
    database, cast, password = world.database, world.cast, "a long and rare passphrase"
    key = await world.key()
    await world.key(kind=KeyKind.MANAGEMENT)
    _, rotated = await actions.rotate_key(
        database, world.checker, world.admin, owner=world.owner, key=key.id, grace=timedelta(0)
    )
    world.told += [rotated, password]
    _, url = await actions.add_user(
        database, Actor.operator(), email="new@example.com", name="New", public_url="https://bursar.test"
    )
    world.told.append(str(url).partition("token=")[2])
    _, url = await actions.reset_user(
        database, Actor.operator(), email="new@example.com", public_url="https://bursar.test"
    )
    token = url.partition("token=")[2]
    world.told.append(token)
    passwords = Passwords()
    await actions.set_password(database, passwords, token=token, password=password, address=None)
    async with database.begin(SYSTEM) as tx:
        link = await identity.mint_link(tx, cast.admin.id, LinkPurpose.SIGN_IN)
    world.told += [link, await actions.sign_in_by_link(database, link, address=None, user_agent="x")]
    # pasted where it does not belong
    world.told.append(secrets.mint_token())
    async with database.begin(SYSTEM) as tx:
        for told in world.told:
            if told != password:
                await audit.record(
                    tx, world.admin, world.owner, "key.changed", key.id, name=Change(told, f"x {told} y"), label=told
                )
    rows = str(await events(database))
    assert len(world.told) > 8
    for told in world.told:
        assert told not in rows
        assert secrets.hash_secret(told) not in rows
    assert REDACTED in rows
    assert OwnerId(world.owner) in rows, "ids stay"


async def test_sentences_name_people_keys_and_organizations_and_lack_no_word(world: World):
    database, cast, admin, url = world.database, world.cast, world.admin, "https://bursar.test"
    acme = cast.acme.id
    key = await world.key(name="app", limit=Allowing(Nanos(5_000_000_000), Period.DAILY))
    await world.update(key, name="application", limit=Nanos(10_000_000_000), disabled=True)
    await actions.rotate_key(database, world.checker, admin, owner=world.owner, key=key.id, grace=timedelta(hours=2))
    await world.key(creator=cast.member.id, name="notebook")
    invited = await actions.invite_members(
        database, admin, organization=acme, addresses=["new@example.com"], role=Role.MEMBER, public_url=url
    )
    assert invited[0].invitation is not None
    await actions.revoke_invitation(database, admin, organization=acme, invitation=invited[0].invitation.id)
    await actions.change_role(
        database, admin, organization=acme, member=cast.member.id, role=Role.ADMIN, public_url=url
    )
    await actions.remove_member(
        database, admin, organization=acme, member=cast.member.id, hand_over_keys=True, public_url=url
    )
    await actions.update_organization(
        database, admin, organization=acme, name="Acme GmbH", billing_email="m@acme.example"
    )
    await actions.set_seats(database, Actor.operator(), organization=acme, seats=25)
    await actions.settle_organization(database, Actor.operator(), organization=acme, to=None, reason="closing")
    async with database.snapshot(SYSTEM) as snapshot:
        rows = (await reports.audit_log(snapshot, world.owner, EventFilter(), None, 100)).items
    told = [f"{row.actor} {row.sentence}" for row in reversed(rows)]
    assert set(told) >= {
        "Ana Test set the limit of key application to $5.00 daily",
        "Ana Test changed the limit of key application from $5.00 to $10.00 daily",
        "Ana Test changed key app: the name from app to application",
        "Ana Test gave key application a new secret; the old one works for 2 hours longer",
        "Ana Test handed key notebook over to Ana Test",
        "Ana Test invited new@example.com as member",
        "Ana Test revoked the invitation of new@example.com",
        "Ana Test changed the role of Tomas Test from member to admin",
        "Ana Test removed Tomas Test from Acme GmbH; keys disabled: 0, handed over: 1",
        "Ana Test changed the organization Acme GmbH: the name from Acme Robotics to Acme GmbH and the billing contact from none to m@acme.example",
        "The operator changed the seats of the organization Acme GmbH from 10 to 25",
        "The operator settled the $10.00 that were left, written off: closing",
    }
    for sentence in told:
        assert "–" not in sentence
        assert not re.search(r"_[0-9a-z]{26}", sentence), sentence
