"""Everybody × every door × whose thing, on both databases: who gets in, who is told to ask, and for whom nothing is there.

The doors come from the route tables themselves; what is expected of each is `doors.py`. A refusal changes nothing, and somebody
else's thing answers exactly like one that does not exist.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from bursar.kernel.ids import (
    new_credit_move_id,
    new_generation_id,
    new_invitation_id,
    new_key_id,
    new_organization_id,
    new_purchase_id,
    new_session_id,
    new_user_id,
)
from bursar.storage import Database
from bursar.web._routes import ROUTES
from tests.authorization.doors import (
    API,
    ELSEWHERE,
    IN_CONTEXT,
    ONLY_ORGANIZATION,
    ONLY_PERSONAL,
    Door,
    Reach,
    Who,
)
from tests.authorization.scene import ACTORS, KEYS, SIGNED_IN, Scene, installation, make_scene

pytestmark = pytest.mark.anyio

PERSONAL, ORGANIZATION, API_BASE = "/personal", "/orgs/{slug}", "/api/v1"
SAFE = ("GET", "HEAD")
WHOSE = ("own", "colleague", "foreign", "absent")


class Outcome(Enum):
    IN = "gets in"
    SIGN_IN = "is sent to sign in"
    KEYLESS = "is told that no valid key came: 401"
    DENIED = "is told who may: 403"
    ABSENT = "is told that there is no such thing: 404"
    NOT_HERE = "is told that a personal account has no such thing: 400 or 404"
    PUBLIC = "is let in or sent on; nobody is asked who they are"
    OUT = "gets in, and is sent to sign in again"


@dataclass(frozen=True)
class Case:
    """One door in one context; `place` is "personal", "organization", "elsewhere" or "api"."""

    method: str
    path: str
    place: str
    door: Door

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def declared() -> dict[str, set[str]]:
    """Every door that the code has, by place and without its base."""
    found: dict[str, set[str]] = {"personal": set(), "organization": set(), "elsewhere": set(), "api": set()}
    for route in ROUTES:
        place, path = "elsewhere", route.path
        for base, name in ((PERSONAL, "personal"), (ORGANIZATION, "organization")):
            if route.path.startswith(f"{base}/"):
                place, path = name, route.path.removeprefix(base)
        found[place].add(f"{route.method} {path}")
    for path, operations in _described()["paths"].items():
        found["api"] |= {f"{method.upper()} {path.removeprefix(API_BASE)}" for method in operations}
    return found


def _described() -> Mapping[str, Any]:
    """The API's own description; nothing is asked, so nothing need be there."""
    from bursar.api import ApiParts, create_api

    class Nobody:
        changes = None

    parts: Any = ApiParts(Nobody(), Nobody(), Nobody(), Nobody(), Nobody, Nobody, "")  # type: ignore[arg-type]
    return create_api(parts).openapi()


def _cases() -> Iterator[Case]:
    tables = {
        "personal": ({**IN_CONTEXT, **ONLY_PERSONAL}, PERSONAL),
        "organization": ({**IN_CONTEXT, **ONLY_ORGANIZATION}, ORGANIZATION),
        "elsewhere": (ELSEWHERE, ""),
        "api": (API, API_BASE),
    }
    for place, (table, base) in tables.items():
        for name, door in table.items():
            method, _, path = name.partition(" ")
            yield Case(method, base + path, place, door)


def test_every_door_has_a_line_and_every_line_a_door():
    found = declared()
    assert found["personal"] == set(IN_CONTEXT) | set(ONLY_PERSONAL)
    assert found["organization"] == set(IN_CONTEXT) | set(ONLY_ORGANIZATION)
    assert found["elsewhere"] == set(ELSEWHERE)
    assert found["api"] == set(API)


def test_every_parameter_that_names_a_thing_is_tried():
    constant = {"slug", "author", "model"}
    for case in _cases():
        named = set(re.findall(r"{(\w+)}", case.path)) - constant
        assert named <= {case.door.thing}, f"{case}: {named} is not tried with the things of others"


def expected(case: Case, actor: str, whose: str) -> Outcome:
    door = case.door
    if case.place == "api":
        return _expected_of_key(door, actor, whose)
    if door.who is Who.PUBLIC:
        return Outcome.PUBLIC
    if door.who is Who.MONITOR:
        return Outcome.ABSENT  # by none of these: `tests/web` shows who may
    if actor not in SIGNED_IN:
        return Outcome.SIGN_IN
    if door.who is Who.OPERATOR:
        return _expected_of_operator(door, actor, whose)
    if door.who is Who.ADMINS_OF_THING:
        return _expected_of_admins(actor, whose)
    if case.place == "organization":
        return _expected_in_organization(door, actor, whose)
    return Outcome.OUT if door.leads_out else _of_thing(door, whose, reaches_all=False, alone=True)


def _expected_in_organization(door: Door, actor: str, whose: str) -> Outcome:
    if actor not in ("member", "admin"):
        return Outcome.ABSENT
    if door.who is Who.ADMINS and actor != "admin":
        return Outcome.DENIED
    return _of_thing(door, whose, reaches_all=actor == "admin", alone=False)


def _expected_of_operator(door: Door, actor: str, whose: str) -> Outcome:
    if actor != "operator":
        return Outcome.DENIED
    return Outcome.ABSENT if door.thing is not None and whose == "absent" else Outcome.IN


def _expected_of_admins(actor: str, whose: str) -> Outcome:
    if (actor, whose) == ("foreign_admin", "own"):
        return Outcome.IN
    if actor not in ("member", "admin") or whose not in ("own", "colleague"):
        return Outcome.ABSENT
    return Outcome.IN if actor == "admin" else Outcome.DENIED


def _of_thing(door: Door, whose: str, *, reaches_all: bool, alone: bool) -> Outcome:
    if door.thing is None or whose == "own":
        return Outcome.IN
    if whose == "colleague" and not alone and door.reach is not Reach.ITSELF:
        return Outcome.IN if door.reach is Reach.ALL or reaches_all else Outcome.ABSENT
    return Outcome.ABSENT


def _expected_of_key(door: Door, actor: str, whose: str) -> Outcome:
    if door.who in (Who.PUBLIC, Who.MAYBE_KEY):
        return Outcome.PUBLIC
    if actor not in KEYS:
        return Outcome.KEYLESS
    if actor in ("disabled_key", "ex_members_key", "demoted_management_key"):
        return Outcome.KEYLESS
    if actor == "api_key":
        wrong = door.who in (Who.MANAGEMENT, Who.MANAGEMENT_OF_ORGANIZATION, Who.MANAGEMENT_OF_PERSON)
        if not door.offered:
            return Outcome.ABSENT
        return Outcome.DENIED if wrong else _of_thing(door, whose, reaches_all=True, alone=False)
    if door.who is Who.INFERENCE or (door.who is Who.MANAGEMENT_OF_PERSON and actor != "personal_management_key"):
        return Outcome.DENIED
    if door.who is Who.MANAGEMENT_OF_ORGANIZATION and actor == "personal_management_key":
        return Outcome.NOT_HERE
    return _of_thing(
        door, whose, reaches_all=True, alone=actor in ("personal_management_key", "foreign_management_key")
    )


def thing(scene: Scene, case: Case, actor: str, whose: str) -> str:
    """An id of the kind that the door takes: made by the actor, by a colleague where the door leads, by a stranger, by nobody."""
    kind = case.door.kind or case.door.thing
    assert kind is not None
    if whose == "absent":
        return ABSENT_THINGS[kind]
    if kind == "organization":
        return _organization(scene, actor, is_own=whose == "own")
    return scene.things[_places(scene, case, actor)[whose]][kind]


def _organization(scene: Scene, actor: str, *, is_own: bool) -> str:
    is_theirs = actor in ("foreign_admin", "foreign_management_key")
    return scene.theirs.id if is_theirs is is_own else scene.mine.id


def _places(scene: Scene, case: Case, actor: str) -> dict[str, tuple[str, str]]:
    """Where things of each kind lie: (owner, who made it)."""
    mine, theirs = scene.mine.id, scene.theirs.id
    of_person = case.place == "elsewhere" and case.door.who is not Who.ADMINS_OF_THING
    if case.place == "personal" or of_person or actor == "personal_management_key":
        person = actor if actor in SIGNED_IN else "admin"
        other = "member" if person != "member" else "admin"
        return {
            "own": (scene.people[person].id, person),
            "colleague": (scene.people[other].id, other),
            "foreign": (mine, other),
        }
    if actor in ("foreign_admin", "foreign_management_key"):
        return {"own": (theirs, "foreign_admin"), "colleague": (mine, "member"), "foreign": (mine, "admin")}
    person = actor if actor in ("member", "ex_member") else "admin"
    other = "member" if person != "member" else "admin"
    return {"own": (mine, person), "colleague": (mine, other), "foreign": (theirs, "foreign_admin")}


_SOMETIME = datetime(2026, 1, 1, tzinfo=UTC)
ABSENT_THINGS = {
    "key": new_key_id(_SOMETIME),
    "hash": "0" * 64,
    "generation": new_generation_id(_SOMETIME),
    "purchase": new_purchase_id(_SOMETIME),
    "user": new_user_id(_SOMETIME),
    "invitation": new_invitation_id(_SOMETIME),
    "waiting": new_invitation_id(_SOMETIME),
    "move": new_credit_move_id(_SOMETIME),
    "organization": new_organization_id(_SOMETIME),
    "session": new_session_id(_SOMETIME),
}


@dataclass(frozen=True)
class Knock:
    actor: str
    whose: str
    name: str
    """The thing's id, or "" where the door names none."""


def knocks(scene: Scene, case: Case) -> list[Knock]:
    if case.door.thing is None:
        return [Knock(actor, "own", "") for actor in ACTORS]
    return [Knock(actor, whose, thing(scene, case, actor, whose)) for actor in ACTORS for whose in WHOSE]


async def knock(scene: Scene, case: Case, at: Knock) -> httpx2.Response:
    path = case.path.replace("{slug}", scene.mine.slug if "/api/" not in case.path else "echo-1").replace(
        "{author}", "demo"
    )
    path = path.replace("{model}", "echo-1").replace(f"{{{case.door.thing}}}", at.name)
    query = {**case.door.query, **({case.door.thing: at.name} if case.door.asked else {})}
    path += f"?{urlencode(query)}" if query else ""
    sent = dict(case.door.sent)
    return await scene.ask(at.actor, case.method, path, form=sent, json=sent if case.method not in SAFE else None)


def fits(answer: httpx2.Response, wanted: Outcome) -> bool:
    status = answer.status_code
    to_sign_in = status in (302, 303) and answer.headers.get("location", "").startswith("/sign-in")
    if wanted is Outcome.PUBLIC:
        return status < 500
    if wanted is Outcome.IN:
        return status < 500 and status not in (401, 403, 404) and not to_sign_in
    if wanted in (Outcome.SIGN_IN, Outcome.OUT):
        return to_sign_in or (wanted is Outcome.SIGN_IN and status == 401)
    statuses = {
        Outcome.KEYLESS: [401],
        Outcome.DENIED: [403],
        Outcome.ABSENT: [404, 204],  # 204: "not yet", for a script that asks again
        Outcome.NOT_HERE: [400, 404],
    }
    return status in statuses[wanted]


LET_IN = (Outcome.IN, Outcome.OUT, Outcome.PUBLIC)


def essence(answer: httpx2.Response, name: str) -> str:
    """What was answered, without what differs each time anyway: the asked id, tokens, ids, times."""
    text = answer.text.replace(name, "THING") if name else answer.text
    text = re.sub(r"[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]{20,}", "TOKEN", text)
    return f"{answer.status_code} {text}"


@pytest.mark.parametrize("place", ["personal", "organization", "elsewhere", "api"])
async def test_everybody_at_every_door(database: Database, place: str):
    cases = [case for case in _cases() if case.place == place]
    wrong: list[str] = []
    async with installation(database) as (house, app):
        shared = await make_scene(house, app)
        playground = Playground(await make_scene(house, app))
        cells = sum(len(knocks(shared, case)) for case in cases)
        for case in cases:
            wrong += await _refused(shared, case)
            wrong += await playground.let_in(case)
    print(f"{place}: {len(cases)} doors, {cells} cells")
    assert not wrong, f"{len(wrong)} of {cells} cells are wrong:\n" + "\n".join(wrong)


async def _refused(scene: Scene, case: Case) -> list[str]:
    """What is wrong with the cells that are to be refused: they share a scene, which stays as it was."""
    wrong: list[str] = []
    before = await scene.watched()
    told_of_nothing: dict[str, str] = {}
    for at in sorted(knocks(scene, case), key=lambda at: at.whose != "absent"):
        wanted = expected(case, at.actor, at.whose)
        if wanted in LET_IN:
            continue
        answer = await knock(scene, case, at)
        if not fits(answer, wanted):
            wrong.append(_complaint(case, at, wanted, answer))
        elif wanted is Outcome.ABSENT and at.name:
            told = essence(answer, at.name)
            if told_of_nothing.setdefault(at.actor, told) != told:
                wrong.append(f"{case} {at.actor} {at.whose}: answers otherwise than for what does not exist")
    if await scene.watched() != before:
        wrong.append(f"{case}: a refused request changed something")
    return wrong


class Playground:
    """Where cells that get in may change what they like. A cell that does not fit is tried once more in a new scene: the one before it
    may have taken away what it needs."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def let_in(self, case: Case) -> list[str]:
        """What is wrong with the cells that get in."""
        wrong: list[str] = []
        for number, first in enumerate(knocks(self._scene, case)):
            wanted = expected(case, first.actor, first.whose)
            if wanted in LET_IN:
                answer = await knock(self._scene, case, knocks(self._scene, case)[number])
                if not fits(answer, wanted):
                    self._scene = await make_scene(self._scene.house, self._scene.app)
                    answer = await knock(self._scene, case, knocks(self._scene, case)[number])
                if not fits(answer, wanted):
                    wrong.append(_complaint(case, first, wanted, answer))
        return wrong


def _complaint(case: Case, at: Knock, wanted: Outcome, answer: httpx2.Response) -> str:
    said = answer.headers.get("location") or " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())[-200:]
    return f"{case} {at.actor} {at.whose}: {wanted.name} expected, got {answer.status_code} {said}"
