"""What an operator scripts with: each command beside a running server, and without one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bursar.cli._main import _operate
from tests.cli.support import Done, ask, books, bursar, get
from tests.support.server import RunningServer


class Place:
    """A data directory, and the server that has it, if one does."""

    def __init__(self, data_dir: Path, server: RunningServer | None) -> None:
        self.data_dir = data_dir
        self.server = server
        self.name = "beside" if server else "alone"

    def run(self, *arguments: Any) -> Done:
        return bursar(*arguments, "--data-dir", self.data_dir)

    def json(self, *arguments: Any) -> Any:
        return self.run(*arguments, "--json").succeeded().json

    def prepare(self, operation: str, **arguments: Any) -> Any:
        """The same as the command does, without its process: for what a test needs and is not about."""
        return _operate(self.data_dir, as_json=True, operation=operation, **arguments)

    def person(self, name: str) -> str:
        email = f"{name}@example.com"
        self.prepare("users.add", email=email, name=name.title(), verified=True, operator=False)
        return email

    def organization(self, name: str, admin: str) -> None:
        self.prepare("organizations.add", name=name, slug="", admin=self.person(admin))

    def refusal(self, *arguments: Any, code: int = 1) -> dict[str, Any]:
        return dict(self.run(*arguments, "--json").refused(code).json["error"])


@pytest.fixture(scope="module", params=["beside a running server", "without a server"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    data = tmp_path_factory.mktemp("operations") / "data"
    if request.param == "without a server":
        bursar("migrate", "--data-dir", data).succeeded()
        yield Place(data, None)
        return
    with RunningServer(data_dir=data, args=["--pace", "0"]) as server:
        yield Place(data, server)


def test_a_person_is_added_listed_and_let_back_in(place: Place):
    added = place.json("users", "add", "--email", "Zoe@Example.com", "--name", "Zoe Zander", "--verified", "--operator")
    assert added.keys() == {"id", "email", "set_password_url"}
    assert added["email"] == "Zoe@Example.com", "as it was written; found however it is written"
    assert "/set-password?token=" in added["set_password_url"]
    if place.server is not None:
        assert added["set_password_url"].startswith(place.server.base_url)
    [found] = [user for user in place.json("users", "list")["users"] if user["id"] == added["id"]]
    assert found == {
        "id": added["id"],
        "email": "Zoe@Example.com",
        "name": "Zoe Zander",
        "verified": True,
        "operator": True,
    }
    again = place.json("users", "reset", "--email", "zoe@example.com")
    assert again["id"] == added["id"]
    assert again["set_password_url"] != added["set_password_url"]
    out = place.json("users", "sign-out", "--email", "zoe@example.com")
    assert out == {"id": added["id"], "email": "Zoe@Example.com", "sessions_ended": 0}
    none = place.refusal("users", "reset", "--email", "zoe@example.com", "--second-factor")
    assert none["message"] == "Zoe@Example.com has no second factor."
    plain = place.run("users", "list").succeeded()
    assert "Zoe@Example.com  Zoe Zander  operator" in plain.out

    twice = place.refusal("users", "add", "--email", "zoe@example.com", "--name", "Zoe Again")
    assert "zoe@example.com" in twice["message"]
    nobody = place.refusal("users", "reset", "--email", "nobody@example.com")
    assert nobody["message"]
    for email in ("not-an-address", "x" * 400 + "@example.com"):
        assert place.refusal("users", "add", "--email", email, "--name", "X")["message"]


def test_an_organization_is_filled_up_to_its_cap_and_never_past_it(place: Place):
    for number in range(11):
        place.person(f"m{number}")
    made = place.json("organizations", "add", "--name", "Full House", "--admin", "m0@example.com")
    assert (made["slug"], made["name"]) == ("full-house", "Full House")
    for number in range(1, 8):
        email = f"m{number}@example.com"
        place.prepare("members.add", organization="full-house", email=email, role="member")
    add = ("members", "add", "--organization", "full-house", "--email")
    assert place.json(*add, "m8@example.com", "--role", "admin")["role"] == "admin"
    assert place.json(*add, "m9@example.com")["role"] == "member"
    eleventh = place.refusal("members", "add", "--organization", "full-house", "--email", "m10@example.com")
    assert eleventh["name"] == "OrganizationFull"
    twice = place.refusal("members", "add", "--organization", "full-house", "--email", "m9@example.com")
    assert twice["message"]
    [listed] = [each for each in place.json("organizations", "list")["organizations"] if each["slug"] == "full-house"]
    assert (listed["members"], listed["seats"]) == (10, 10)
    assert "full-house  Full House  10 of 10 seats" in place.run("organizations", "list").succeeded().out
    for wrong in (
        ("members", "add", "--organization", "nowhere", "--email", "m10@example.com"),
        ("members", "add", "--organization", "full-house", "--email", "nobody@example.com"),
        ("members", "add", "--organization", "full-house", "--email", "m10@example.com", "--role", "owner"),
        ("organizations", "add", "--name", "Other", "--slug", "full-house", "--admin", "m0@example.com"),
        ("organizations", "add", "--name", "Other", "--admin", "nobody@example.com"),
        ("organizations", "add", "--name", "Other", "--slug", "Not A Slug!", "--admin", "m0@example.com"),
    ):
        assert place.refusal(*wrong)["message"], wrong


def test_people_are_invited_promoted_and_removed_from_the_command_line(place: Place):
    place.organization("Line Ltd", "ada")
    here = ("--organization", "line-ltd")
    place.json("users", "add", "--email", "bea@example.com", "--name", "Bea", "--verified")
    place.json("members", "add", *here, "--email", "bea@example.com")
    invited = place.json("members", "invite", *here, "Cleo <cleo@example.com>, bea@example.com, nonsense")
    assert [(each["email"], each["outcome"]) for each in invited["invitations"]] == [
        ("cleo@example.com", "invited"),
        ("bea@example.com", "already_member"),
        ("nonsense", "bad_address"),
    ]
    listed = place.json("members", "list", *here)
    assert [(each["email"], each["role"]) for each in listed["members"]] == [
        ("ada@example.com", "admin"),
        ("bea@example.com", "member"),
    ]
    assert [(each["email"], each["state"]) for each in listed["invitations"]] == [("cleo@example.com", "pending")]
    assert listed["seats"] == {"taken": 3, "maximum": 10}
    assert "cleo@example.com  invited as member, pending" in place.run("members", "list", *here).succeeded().out
    assert place.json("members", "revoke", *here, "--email", "CLEO@example.com")["state"] == "revoked"
    assert place.refusal("members", "revoke", *here, "--email", "cleo@example.com")["remedy"]
    last = place.refusal("members", "role", *here, "--email", "ada@example.com", "--role", "member")
    assert last["name"] == "LastAdminStays"
    assert place.json("members", "role", *here, "--email", "bea@example.com", "--role", "admin")["role"] == "admin"
    key = place.json("keys", "add", *here, "--email", "ada@example.com", "--name", "old")
    removed = place.json("members", "remove", *here, "--email", "ada@example.com")
    assert [each["name"] for each in removed["keys_disabled"]] == ["old"]
    assert key["id"] == removed["keys_disabled"][0]["id"]
    assert place.refusal("members", "remove", *here, "--email", "bea@example.com")["name"] == "LastAdminStays"


def test_credits_are_granted_once_per_transfer_id(place: Place):
    place.organization("Rich Corp", "rich")
    before = books(place.data_dir).verification.available
    grant = ("credits", "grant", "--organization", "rich-corp", "--amount", "12.50", "--reason", "first month")
    first = place.json(*grant, "--transfer", "grant-2026-11")
    assert place.json(*grant, "--transfer", "grant-2026-11") == first
    assert first["transfer"] == "grant-2026-11"
    assert first["amount_nanos"] == 12_500_000_000
    found = books(place.data_dir).verification
    assert (found.available - before, found.drift) == (12_500_000_000, 0)
    other = ("credits", "grant", "--organization", "rich-corp", "--amount", "13", "--reason", "first month")
    assert place.refusal(*other, "--transfer", "grant-2026-11")["name"] == "TransferConflict"
    place.json("credits", "grant", "--user", "rich@example.com", "--amount", "0.000000001", "--reason", "a nano")
    assert books(place.data_dir).verification.available - before == 12_500_000_001
    for amount in ("0", "-1", "1e99", "0.0000000001"):
        assert place.refusal(*grant[:4], f"--amount={amount}", "--reason", "x")["message"], amount
    assert place.refusal("credits", "grant", "--amount", "1", "--reason", "x")["message"]
    assert books(place.data_dir).verification.available - before == 12_500_000_001


def test_a_key_is_added_shown_once_and_disabled_at_once(place: Place):
    place.organization("Keyed Corp", "keyed")
    place.json("credits", "grant", "--organization", "keyed-corp", "--amount", "1", "--reason", "x")
    add = ("keys", "add", "--organization", "keyed-corp", "--email", "keyed@example.com")
    key = place.json(*add, "--name", "ci")
    assert key.keys() == {"id", "hash", "name", "kind", "key"}
    assert (key["name"], key["kind"]) == ("ci", "inference")
    management = place.json(*add, "--name", "terraform", "--management")
    assert management["kind"] == "management"
    personal = place.json("keys", "add", "--email", "keyed@example.com", "--name", "mine")
    printed = place.run(*add, "--name", "printed").succeeded().out.splitlines()
    assert printed[0].startswith("sk-bursar-v1-")
    if place.server is not None:
        api = place.server.api_base
        assert ask(api, key["key"]).status_code == 200
        assert ask(api, personal["key"]).status_code == 402
        assert get(api, "/credits", management["key"]).json()["data"]["total_credits"] == 1
    done = place.json("keys", "disable", "--hash", key["hash"])
    assert (done["disabled"], done["acknowledged"]) == (True, True)
    if place.server is not None:
        assert ask(api, key["key"]).status_code == 401
    assert place.json("keys", "enable", "--hash", key["hash"])["disabled"] is False
    rotated = place.json("keys", "rotate", "--hash", key["hash"], "--grace-seconds", "60")
    assert (rotated["id"], rotated["name"]) == (key["id"], "ci")
    assert rotated["hash"] != key["hash"]
    assert rotated["previous_until"] is not None
    if place.server is not None:
        assert [ask(api, each["key"]).status_code for each in (key, rotated)] == [200, 200]
    assert place.refusal("keys", "rotate", "--hash", key["hash"], "--grace-seconds", "700000")["message"]
    assert place.json("keys", "delete", "--hash", key["hash"])["deleted"] is True  # by its hash before
    if place.server is not None:
        assert [ask(api, each["key"]).status_code for each in (key, rotated)] == [401, 401]
    assert place.refusal("keys", "delete", "--hash", rotated["hash"])["name"] == "NoSuchKey"
    for wrong in ("tomorrow", "2027-01-01T00:00:00", "2020-01-01T00:00:00Z"):
        assert place.refusal(*add, "--name", "x", "--expires-at", wrong)["message"], wrong
    assert place.json(*add, "--name", "expires", "--expires-at", "2099-01-01T00:00:00Z")["key"]
    assert place.refusal("keys", "disable", "--hash", "0" * 64)["name"] == "NoSuchKey"
    place.person("outsider")
    outsider = ("keys", "add", "--organization", "keyed-corp", "--email", "outsider@example.com", "--name", "x")
    assert "not a member" in place.refusal(*outsider)["message"]
    assert place.refusal(*add, "--name", "")["message"]


def test_migrate_and_doctor_say_how_things_stand(place: Place):
    told = place.json("doctor")
    assert told["ok"] is True
    checks = {check["check"]: check["message"] for check in told["checks"]}
    assert list(checks) == ["settings", "data directory", "database", "catalogue", "mail"]
    assert "up to date" in checks["database"]
    lines = place.run("doctor").succeeded().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    if place.server is None:
        assert place.json("migrate")["schema"]
        assert "nobody serves from it" in checks["data directory"]
    else:
        assert f"process {place.server.pid}" in checks["data directory"]
        assert place.refusal("migrate")["name"] == "DataDirInUse"


def test_doctor_fails_when_something_is_missing(place: Place, tmp_path: Path):
    broken = tmp_path / "catalog.toml"
    broken.write_text('[[provider]]\nslug = "acme"\nprotocol = "carrier pigeon"\n')
    done = bursar("doctor", "--data-dir", place.data_dir, "--json", env={"BURSAR_CATALOG": str(broken)}).refused(1)
    failed = [check for check in done.json["checks"] if not check["ok"]]
    assert [check["check"] for check in failed] == ["catalogue"]
    assert "line 3" in failed[0]["message"] or ":3" in failed[0]["message"]


def test_a_command_without_a_data_directory_says_how_to_make_one(tmp_path: Path):
    done = bursar("users", "list", "--data-dir", tmp_path / "none").refused(3)
    assert "bursar migrate" in done.err
    assert not (tmp_path / "none").exists()


def test_what_a_dead_server_left_does_not_stop_a_command(tmp_path: Path):
    with RunningServer(data_dir=tmp_path / "data") as server:
        server.kill()
        assert (tmp_path / "data" / "bursar.sock").exists()
        assert bursar("users", "list", "--data-dir", tmp_path / "data", "--json").succeeded().json["users"]


def test_seats_are_set_and_never_below_those_in_use(place: Place):
    place.organization("Seated", "sid")
    assert place.json("organizations", "seats", "seated", "25")["seats"] == 25
    assert place.refusal("organizations", "seats", "seated", "0")["name"] in ("InvalidField", "SeatsTaken")
    assert place.refusal("organizations", "seats", "nowhere", "5")["name"] == "NoSuchOrganization"
    assert place.run("organizations", "seats", "seated", "26").succeeded().out == "seated has 26 seats now.\n"


def test_what_an_organization_has_left_is_settled_to_somebody_or_written_off_and_not_by_halves(place: Place):
    place.organization("Ending", "eva")
    place.prepare("credits.grant", organization="ending", email=None, amount="7", reason="for tests", transfer=None)
    why = ("--reason", "It ends")
    assert place.refusal("organizations", "settle", "ending", *why)["name"] == "InvalidOption"
    both = ("--write-off", "--to-user", "eva@example.com")
    assert place.refusal("organizations", "settle", "ending", *both, *why)["name"] == "InvalidOption"
    assert (
        place.refusal("organizations", "settle", "ending", "--to-user", "no@example.com", *why)["name"] == "NoSuchUser"
    )
    settled = place.json("organizations", "settle", "ending", "--to-user", "eva@example.com", *why)
    assert (settled["amount_nanos"], settled["to"]) == (7_000_000_000, "eva@example.com")
    assert place.refusal("organizations", "settle", "ending", "--write-off", *why)["name"] == "NothingToSettle"
    place.prepare("credits.grant", organization="ending", email=None, amount="2", reason="for tests", transfer=None)
    text = place.run("organizations", "settle", settled["organization"], "--write-off", *why).succeeded().out
    assert text == "$2.000000000 was written off.\n"


def test_there_is_nothing_to_answer_where_nobody_asked_and_no_request_of_a_made_up_id(place: Place):
    assert place.json("credits", "moves", "list", "--answered") == {"moves": []}
    assert place.run("credits", "moves", "list").succeeded().out == "None.\n"
    assert place.refusal("credits", "moves", "carry-out", "mov_none")["name"] == "NoSuchMove"
    assert place.refusal("credits", "moves", "refuse", "mov_none", "--note", "No")["name"] == "NoSuchMove"
