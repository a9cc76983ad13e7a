"""Two organizations with everybody who might knock, made anew for each door that changes something."""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from sqlalchemy import select

from bursar import actions, identity, keys, organizations, payments
from bursar.access import Actor, Role
from bursar.api import ApiParts, create_api
from bursar.identity import User
from bursar.kernel.ids import OwnerId, new_credit_move_id, new_purchase_id
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.keys import Key, KeyKind
from bursar.organizations import Organization
from bursar.storage import SYSTEM, Database, metadata
from tests.web.cast import ORIGIN, House, hidden_fields

SIGNED_IN = ("member", "admin", "ex_member", "foreign_admin", "operator")
"""Whoever signs in. The operator is a person here who is in neither organization."""
PEOPLE = (*SIGNED_IN, "demoted")
KEYS = (
    "api_key",
    "management_key",
    "disabled_key",
    "ex_members_key",
    "demoted_management_key",
    "foreign_management_key",
    "personal_management_key",
)
"""Whoever comes with a key. The first five are of the organization that is knocked at."""
ACTORS = ("anonymous", *SIGNED_IN, *KEYS)

WATCHED = (
    "users",
    "organizations",
    "memberships",
    "invitations",
    "keys",
    "limits",
    "purchases",
    "credit_moves",
    "transfers",
    "second_factors",
)
"""What no refused request may have changed."""

_numbers = itertools.count(1)


@dataclass
class Scene:
    """`mine` is the organization that is knocked at, `theirs` another one. `things[owner, person][kind]` is an id for a
    path's parameter: what that person made there."""

    house: House
    app: Any
    mine: Organization
    theirs: Organization
    people: Mapping[str, User]
    sessions: Mapping[str, str]
    secrets: dict[str, str] = field(default_factory=dict)
    things: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, actor: str, method: str, path: str, *, form: Mapping[str, str] | None = None, json: Any = None
    ) -> httpx2.Response:
        headers = {"origin": ORIGIN, "sec-fetch-site": "same-origin"}
        cookies = {}
        if actor in self.sessions:
            cookies["__Host-bursar-session"] = self.sessions[actor]
        elif actor in self.secrets:
            headers["authorization"] = f"Bearer {self.secrets[actor]}"
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN, cookies=cookies) as http:
            if path.startswith("/api/"):
                return await http.request(method, path, headers=headers, json=json)
            if method == "GET":
                return await http.get(path, headers=headers)
            token = await self._token(actor, http)
            headers["x-csrf-token"] = token
            return await http.request(method, path, headers=headers, data={**(form or {}), "csrf": token})

    async def _token(self, actor: str, http: httpx2.AsyncClient) -> str:
        if actor not in self.sessions:  # bound to a cookie that this client now has
            return hidden_fields((await http.get("/sign-in")).text, "")["csrf"]
        if actor not in self._tokens:
            self._tokens[actor] = hidden_fields((await http.get("/settings/preferences")).text, "")["csrf"]
        return self._tokens[actor]

    async def watched(self) -> dict[str, list[Any]]:
        """Everything that a refusal must leave as it was."""
        async with self.house.database.snapshot(SYSTEM) as snapshot:
            found = {}
            for name in WATCHED:
                rows = await snapshot.all(select(metadata.tables[name]))
                found[name] = sorted(
                    ({k: v for k, v in row._asdict().items() if not k.startswith("last_used")} for row in rows),
                    key=repr,
                )
            return found


@asynccontextmanager
async def installation(database: Database) -> AsyncIterator[tuple[House, Any]]:
    """Pages, API and gateway in this process, one application as `app.Server` makes it."""
    house = House(database)
    api = create_api(
        ApiParts(
            database,
            house.admission,
            house.checker,
            house.health,
            lambda: house.catalog,
            house.gateway.caught_up,
            ORIGIN,
        )
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        part: Any = house.gateway if path in house.gateway.skins else api if path.startswith("/api/") else house.app
        await part(scope, receive, send)

    yield house, app
    await house.close()


async def make_scene(house: House, app: Any) -> Scene:
    number = next(_numbers)
    database = house.database
    people: dict[str, User] = {}
    sessions: dict[str, str] = {}
    async with database.begin(SYSTEM) as tx:
        for name in PEOPLE:
            people[name] = await identity.add_user(
                tx,
                email=f"{name}-{number}@example.com",
                name=f"{name} {number}".replace("_", " "),
                password_hash="plain:correct horse battery",
                verified=True,
                is_operator=name == "operator",
            )
            await identity.open_session(tx, people[name].id, address=None, user_agent=None)  # another browser of theirs
            sessions[name] = await identity.open_session(tx, people[name].id, address=None, user_agent=None)
        admin, foreign = people["admin"].id, people["foreign_admin"].id
        mine = await organizations.create(tx, name=f"Mine {number}", slug=f"mine-{number}", creator=admin)
        theirs = await organizations.create(tx, name=f"Theirs {number}", slug=f"theirs-{number}", creator=foreign)
        for name in ("member", "ex_member"):
            await organizations.add_member(tx, mine.id, people[name].id, Role.MEMBER)
        await organizations.add_member(tx, mine.id, people["demoted"].id, Role.ADMIN)
    scene = Scene(house, app, mine, theirs, people, sessions)
    await _fill(scene)
    return scene


async def _fill(scene: Scene) -> None:
    """Keys and what was done with them, in the organizations and in each person's own account; then somebody leaves, somebody is demoted."""
    house, people, mine, theirs = scene.house, scene.people, scene.mine.id, scene.theirs.id
    placed = [(mine, "member"), (mine, "admin"), (mine, "ex_member"), (theirs, "foreign_admin")]
    placed += [(people[name].id, name) for name in SIGNED_IN]
    for owner, name in placed:
        await house.grant(owner, "5")
        key, secret = await _key(scene, owner, name, KeyKind.INFERENCE)
        generation = await house.add_generation(owner, people[name], key)
        purchase = await _purchase(scene, owner, name)
        scene.things[owner, name] = {
            "key": key.id,
            "hash": key.hash,
            "generation": generation.id,
            "purchase": purchase,
            "user": people[name].id,
            "session": await _other_session(scene, name),
            "move": await _move(scene, name),
        }
        if owner == mine:
            scene.secrets |= {"admin": {"api_key": secret}, "ex_member": {"ex_members_key": secret}}.get(name, {})
    disabled, scene.secrets["disabled_key"] = await _key(scene, mine, "member", KeyKind.INFERENCE)
    for actor, owner, name in (
        ("management_key", mine, "admin"),
        ("demoted_management_key", mine, "demoted"),
        ("foreign_management_key", theirs, "foreign_admin"),
        ("personal_management_key", people["admin"].id, "admin"),
    ):
        _, scene.secrets[actor] = await _key(scene, owner, name, KeyKind.MANAGEMENT)
    async with house.database.begin(SYSTEM) as tx:
        await keys.set_disabled(tx, disabled, disabled=True)
    await _fill_invitations(scene)
    admin = Actor.person(people["admin"].id)
    by_admin = {"organization": mine, "public_url": ORIGIN}
    await actions.remove_member(house.database, admin, member=people["ex_member"].id, **by_admin)
    await actions.change_role(house.database, admin, member=people["demoted"].id, role=Role.MEMBER, **by_admin)


async def _fill_invitations(scene: Scene) -> None:
    """One to somebody new in each organization, and one that waits for each person, from the organization that they are not in."""
    address = {name: scene.people[name].email for name in SIGNED_IN}
    new = "new@example.com"
    to_theirs = await _invite(
        scene, scene.theirs, "foreign_admin", [new, *(address[name] for name in SIGNED_IN if name != "foreign_admin")]
    )
    to_mine = await _invite(scene, scene.mine, "admin", [new, address["foreign_admin"]])
    for (owner, name), things in scene.things.items():
        things["invitation"] = (to_theirs if owner == scene.theirs.id else to_mine)[new]
        things["waiting"] = (to_mine if name == "foreign_admin" else to_theirs)[address[name]]


async def _invite(scene: Scene, organization: Organization, by: str, addresses: Sequence[str]) -> Mapping[str, str]:
    """The invitations' ids by address."""
    invited = await actions.invite_members(
        scene.house.database,
        Actor.person(scene.people[by].id),
        organization=organization.id,
        addresses=addresses,
        role=Role.MEMBER,
        public_url=ORIGIN,
    )
    return {each.address: each.invitation.id for each in invited if each.invitation is not None}


async def _move(scene: Scene, name: str) -> str:
    person = scene.people[name].id
    async with scene.house.database.begin(SYSTEM) as tx:
        made, _ = await payments.open_move(
            tx,
            owner=OwnerId(person),
            move=new_credit_move_id(tx.now),
            organization=scene.mine.id,
            amount=Nanos(NANOS_PER_CREDIT),
            available=Nanos(5 * NANOS_PER_CREDIT),
            note=None,
        )
    return made.id


async def _other_session(scene: Scene, name: str) -> str:
    async with scene.house.database.snapshot(SYSTEM) as snapshot:
        return (await identity.list_sessions(snapshot, scene.people[name]))[-1].id


async def _key(scene: Scene, owner: str, name: str, kind: KeyKind) -> tuple[Key, str]:
    creator = scene.people[name].id
    return await actions.create_key(
        scene.house.database,
        scene.house.checker,
        Actor.person(creator),
        owner=OwnerId(owner),
        creator=creator,
        name=f"{name}-{kind}",
        kind=kind,
    )


async def _purchase(scene: Scene, owner: str, name: str) -> str:
    async with scene.house.database.begin(SYSTEM) as tx:
        purchase = new_purchase_id(tx.now)
        await payments.open_purchase(
            tx,
            owner=OwnerId(owner),
            purchase=purchase,
            amount=Nanos(5 * NANOS_PER_CREDIT),
            processor="sandbox",
            created_by=scene.people[name].id,
        )
    return purchase
