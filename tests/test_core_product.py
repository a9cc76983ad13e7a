"""The core product, sentence by sentence, on a running server with real pages and the real API.

Covered here, each by a test that says it. What later issues bring, and where its test will stand:

- *admins manage payment methods*: the issue on payments (until then purchases are the sandbox's);
- *admins get full analytics*: the issue on analytics;
- *admins control provider settings and privacy policies*: the issues on providers and privacy.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.person import Person
from tests.support.server import RunningServer, clean_environment

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="module", params=BACKENDS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    if request.param == "sqlite":
        with RunningServer(args=["--pace", "0"]) as running:
            yield running
        return
    postgres = request.getfixturevalue("postgres")
    url = postgres.create_database("core_product")
    with RunningServer(args=["--pace", "0"], database_url=url) as running:
        yield running
    postgres.drop_database(url)


@pytest.fixture(scope="module")
def admin(server: RunningServer) -> Iterator[Person]:
    with Person.signed_in(server, server.user("admin")["sign_in_url"]) as person:
        yield person


@pytest.fixture(scope="module")
def member(server: RunningServer) -> Iterator[Person]:
    with Person.signed_in(server, server.user("member")["sign_in_url"]) as person:
        yield person


def command(server: RunningServer, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """An operator's command beside the running server."""
    done = subprocess.run(
        [sys.executable, "-m", "bursar", *arguments, "--data-dir", str(server.data_dir), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        timeout=60,
    )
    assert done.returncode == exit_code, done.stderr + done.stdout
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def new_person(server: RunningServer, name: str, *, verified: bool = True) -> Person:
    """Somebody with a password of their own: added by the operator, or (unverified) signed up on the page."""
    email = f"{name.lower()}@example.com"
    person = Person(server)
    if verified:
        added = command(server, "users", "add", "--email", email, "--name", name)
        path = added["set_password_url"].removeprefix(server.base_url)
        person.post("/set-password", path, token=path.partition("token=")[2], password="a long enough password")
    else:
        person.post("/sign-up", name=name, email=email, password="a long enough password")
    answer = (
        person.post("/sign-in", email=email, password="a long enough password") if not verified else person.get("/")
    )
    if verified and "/sign-in" in answer.headers.get("location", ""):
        answer = person.post("/sign-in", email=email, password="a long enough password")
    assert answer.status_code == 303, answer.text
    return person


def secret_on(page: httpx2.Response) -> str:
    found = re.search(r"sk-bursar-v1-[\w-]{51}", page.text)
    assert found is not None, page.text
    return found.group()


def create_key(person: Person, base: str, name: str) -> str:
    form_id = re.search(r'name="form_id" value="([^"]+)"', person.get(f"{base}/keys").text)
    assert form_id is not None
    return secret_on(person.post(f"{base}/keys", name=name, kind="inference", form_id=form_id.group(1)))


def ask(server: RunningServer, key: str, model: str = "demo/flat-1", text: str = "Hello") -> httpx2.Response:
    return httpx2.post(
        f"{server.api_base}/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        json={"model": model, "messages": [{"role": "user", "content": text}]},
        timeout=30,
    )


def credits_left(server: RunningServer) -> float:
    answer = httpx2.get(
        f"{server.api_base}/credits", headers={"Authorization": f"Bearer {server.management_key}"}
    ).json()
    return round(answer["data"]["total_credits"] - answer["data"]["total_usage"], 9)


# Organizations


def test_an_organization_is_created_under_settings_preferences(server: RunningServer):
    with new_person(server, "Carla") as carla:
        assert "Create Organization" in carla.get("/settings/preferences").text
        answer = carla.post(
            "/settings/preferences/organizations",
            "/settings/preferences/organizations/new",
            name="Carla's",
            slug="carlas",
        )
        assert answer.status_code == 303
        assert answer.headers["location"] == "/orgs/carlas/overview"
        assert carla.get("/orgs/carlas/overview").status_code == 200


def test_creating_an_organization_needs_a_verified_address(server: RunningServer):
    with new_person(server, "Ulla", verified=False) as ulla:
        answer = ulla.post("/settings/preferences/organizations", "/settings/preferences", name="Ulla's", slug="ullas")
        assert answer.status_code == 403
        assert "erify your e-mail" in answer.text
        assert ulla.get("/orgs/ullas/overview").status_code == 404


# Switcher


def test_the_switcher_is_on_every_page_and_offers_personal_and_each_organization(admin: Person):
    for base in ("/personal", "/orgs/acme"):
        for page in ("overview", "activity", "keys", "credits"):
            text = admin.get(f"{base}/{page}").text
            assert f'href="/personal/{page}"' in text
            assert f'href="/orgs/acme/{page}"' in text


def test_what_is_done_in_organization_context_affects_the_organization_only(server: RunningServer, admin: Person):
    before = credits_left(server)
    create_key(admin, "/orgs/acme", "only in acme")
    assert "only in acme" in admin.get("/orgs/acme/keys").text
    assert "only in acme" not in admin.get("/personal/keys").text
    personal = create_key(admin, "/personal", "only mine")
    assert "only mine" not in admin.get("/orgs/acme/keys").text
    refused = ask(server, personal)
    assert refused.status_code == 402  # the person has no credits of their own, whatever the organization has
    assert credits_left(server) == before


# Shared credits


def test_credits_bought_by_an_organization_serve_every_member(server: RunningServer, admin: Person, member: Person):
    before = credits_left(server)
    page = admin.get("/orgs/acme/credits").text
    purchase = re.search(r'name="purchase_id" value="([^"]+)"', page)
    assert purchase is not None
    checkout = admin.post(
        "/orgs/acme/credits/purchases", "/orgs/acme/credits", purchase_id=purchase.group(1), amount="10"
    )
    assert checkout.status_code == 303
    paid = admin.post(checkout.headers["location"], checkout.headers["location"], outcome="pay")
    assert paid.status_code == 303
    assert credits_left(server) == before + 10
    key = create_key(member, "/orgs/acme", "a member's key")
    assert ask(server, key).status_code == 200
    assert credits_left(server) == round(before + 10 - 0.01, 9)


def test_only_admins_buy_credits_and_members_are_told_whom_to_ask(server: RunningServer, member: Person):
    page = member.get("/orgs/acme/credits").text
    assert "Only an admin can buy credits" in page
    assert "Ana Ruiz" in page
    before = credits_left(server)
    answer = member.post(
        "/orgs/acme/credits/purchases", "/orgs/acme/keys", purchase_id="pur_01m86xr1654043cfq4na32x9sp", amount="10"
    )
    assert answer.status_code == 403
    assert "Ana Ruiz" in answer.text
    assert credits_left(server) == before


def test_only_admins_see_billing_details(admin: Person, member: Person):
    assert "Welcome to the demo" in admin.get("/orgs/acme/credits").text
    assert "Welcome to the demo" not in member.get("/orgs/acme/credits").text


def test_a_person_buys_credits_for_themself_in_personal_context(server: RunningServer, member: Person):
    purchase = re.search(r'name="purchase_id" value="([^"]+)"', member.get("/personal/credits").text)
    assert purchase is not None
    checkout = member.post(
        "/personal/credits/purchases", "/personal/credits", purchase_id=purchase.group(1), amount="10"
    )
    organization_before = credits_left(server)
    member.post(checkout.headers["location"], checkout.headers["location"], outcome="pay")
    assert ask(server, create_key(member, "/personal", "mine")).status_code == 200
    assert credits_left(server) == organization_before


def ask_to_move(server: RunningServer, person: Person, amount: str) -> httpx2.Response:
    page = person.get("/personal/credits").text
    move = re.search(r'name="move_id" value="([^"]+)"', page)
    assert move is not None
    return person.post(
        "/personal/credits/moves",
        "/personal/credits",
        move_id=move.group(1),
        organization=server.organization["id"],
        move_amount=amount,
        note="",
    )


def test_moving_credits_to_an_organization_is_a_request_and_never_happens_by_itself(
    server: RunningServer, member: Person
):
    command(server, "credits", "grant", "--user", "tomas@example.com", "--amount", "9", "--reason", "for the test")
    before = credits_left(server)
    assert ask_to_move(server, member, "4").status_code == 303
    page = member.get("/personal/credits").text
    assert "Waits for the operator" in page
    waiting = command(server, "credits", "moves", "list")["moves"]
    found = [(each["from"], each["organization"], each["amount_nanos"]) for each in waiting]
    assert ("tomas@example.com", "acme", 4_000_000_000) in found
    assert credits_left(server) == before
    # On the organization's page it is said where this is done, and there is no form.
    page = member.get("/orgs/acme/credits").text
    assert 'href="/personal/credits#move"' in page
    assert "Ask to move" not in page


def test_the_operator_carries_a_move_out_or_refuses_it_on_request(server: RunningServer, member: Person):
    command(server, "credits", "grant", "--user", "tomas@example.com", "--amount", "9", "--reason", "for the test")
    before = credits_left(server)
    assert ask_to_move(server, member, "4").status_code == 303
    move = command(server, "credits", "moves", "list")["moves"][-1]
    done = command(server, "credits", "moves", "carry-out", move["move"], "--note", "As you wished")
    assert done["state"] == "carried_out"
    command(server, "credits", "moves", "carry-out", move["move"], exit_code=1)
    assert credits_left(server) == round(before + 4, 9)
    assert "As you wished" in member.get("/personal/credits").text
    assert ask_to_move(server, member, "1").status_code == 303
    move = command(server, "credits", "moves", "list")["moves"][-1]
    command(server, "credits", "moves", "refuse", move["move"], "--note", "Not this time")
    assert "Not this time" in member.get("/personal/credits").text
    assert credits_left(server) == round(before + 4, 9)


# Organization management


def test_an_admin_renames_an_organization_sets_its_billing_contact_and_its_address_and_members_are_refused(
    server: RunningServer,
):
    with new_person(server, "Rita") as rita, new_person(server, "Rolf") as rolf:
        rita.post(
            "/settings/preferences/organizations",
            "/settings/preferences/organizations/new",
            name="Rita's",
            slug="ritas",
        )
        command(server, "members", "add", "--organization", "ritas", "--email", "rolf@example.com")
        refused = rolf.get("/orgs/ritas/settings")
        assert refused.status_code == 403
        assert "Rita" in refused.text
        assert "rita@example.com" in refused.text
        saved = rita.post(
            "/orgs/ritas/settings",
            "/orgs/ritas/settings",
            name="Rita & Co",
            slug="rita-co",
            billing_email="bills@rita.example",
        )
        assert saved.headers["location"] == "/orgs/rita-co/settings"
        assert rita.get("/orgs/ritas/overview").status_code == 404
        assert "bills@rita.example" in rolf.get("/orgs/rita-co/credits").text


def test_the_operator_raises_the_number_of_members_of_one_organization(server: RunningServer):
    with new_person(server, "Sven") as sven:
        sven.post(
            "/settings/preferences/organizations",
            "/settings/preferences/organizations/new",
            name="Sven's",
            slug="svens",
        )
        assert "1 of 10 in use" in sven.get("/orgs/svens/settings").text
        assert command(server, "organizations", "seats", "svens", "12")["seats"] == 12
        assert "1 of 12 in use" in sven.get("/orgs/svens/settings").text
        command(server, "organizations", "seats", "svens", "0", exit_code=1)


def test_an_organization_is_deleted_when_no_credits_are_left_and_the_personal_account_stays(server: RunningServer):
    with new_person(server, "Dora") as dora:
        dora.post(
            "/settings/preferences/organizations",
            "/settings/preferences/organizations/new",
            name="Dora's",
            slug="doras",
        )
        key = create_key(dora, "/orgs/doras", "theirs")
        command(server, "credits", "grant", "--organization", "doras", "--amount", "3", "--reason", "Welcome")
        assert ask(server, key).status_code == 200
        delete = "/orgs/doras/settings/delete"
        assert "of credits are left" in dora.get(delete).text
        assert dora.post(delete, "/orgs/doras/settings", confirmation="doras").status_code == 409
        settled = command(
            server, "organizations", "settle", "doras", "--to-user", "dora@example.com", "--reason", "It ends"
        )
        assert 0 < settled["amount_nanos"] < 3_000_000_000
        answer = dora.post(delete, delete, confirmation="doras")
        assert answer.status_code == 303, answer.text
        assert dora.get("/orgs/doras/overview").status_code == 404
        assert ask(server, key).status_code == 401
        assert ask(server, create_key(dora, "/personal", "mine")).status_code == 200
        assert "doras" not in str(command(server, "organizations", "list"))


# API keys


def test_every_member_creates_keys_and_sees_only_their_own(admin: Person, member: Person):
    create_key(admin, "/orgs/acme", "the admin's own")
    create_key(member, "/orgs/acme", "the member's own")
    page = member.get("/orgs/acme/keys").text
    assert "the member&#39;s own" in page
    assert "the admin&#39;s own" not in page


def test_admins_see_and_manage_all_keys(server: RunningServer, admin: Person, member: Person):
    key = create_key(member, "/orgs/acme", "to be disabled")
    page = admin.get("/orgs/acme/keys").text
    found = re.search(r"/orgs/acme/keys/(key_\w+)/disable", page[page.index("to be disabled") :])
    assert found is not None
    assert ask(server, key, "demo/free-1").status_code == 200
    assert admin.post(f"/orgs/acme/keys/{found.group(1)}/disable", "/orgs/acme/keys").status_code == 303
    assert ask(server, key, "demo/free-1").status_code == 401


def test_a_member_manages_no_key_of_others(server: RunningServer, admin: Person, member: Person):
    key = create_key(admin, "/orgs/acme", "not the member's")
    page = admin.get("/orgs/acme/keys").text
    found = re.search(r"/orgs/acme/keys/(key_\w+)/disable", page[page.index("not the member&#39;s") :])
    assert found is not None
    assert member.post(f"/orgs/acme/keys/{found.group(1)}/disable", "/orgs/acme/keys").status_code == 404
    assert ask(server, key, "demo/free-1").status_code == 200


def test_a_key_of_any_member_works_for_whoever_holds_it_and_is_billed_to_the_pool(
    server: RunningServer, member: Person
):
    before = credits_left(server)
    key = create_key(member, "/orgs/acme", "passed around")
    answer = ask(server, key)  # nobody is signed in here: holding the key is enough
    assert answer.status_code == 200
    assert credits_left(server) == round(before - 0.01, 9)
    described = httpx2.get(f"{server.api_base}/key", headers={"Authorization": f"Bearer {key}"}).json()["data"]
    assert described["organization_id"] == server.organization["id"]
    assert described["usage"] == 0.01


# Activity


def test_every_member_sees_everyones_activity_with_models_costs_and_metadata(
    server: RunningServer, admin: Person, member: Person
):
    key = create_key(admin, "/orgs/acme", "seen by all")
    ask(server, key, "demo/scholar-1")
    page = member.get("/orgs/acme/activity").text
    row = page[page.index("seen by all", page.index("<tbody")) - 2000 :]
    assert "demo/scholar-1" in row
    assert "Ana Ruiz" in row
    assert re.search(r"\$0\.0\d+", row)


def test_activity_filters_by_api_key(server: RunningServer, admin: Person):
    first, second = create_key(admin, "/orgs/acme", "filter-one"), create_key(admin, "/orgs/acme", "filter-two")
    ask(server, first, "demo/echo-1")
    ask(server, second, "demo/free-1")
    key_id = re.search(r'<option value="(key_\w+)"[^>]*>filter-one', admin.get("/orgs/acme/activity").text)
    assert key_id is not None
    rows = admin.get(f"/orgs/acme/activity.csv?key={key_id.group(1)}").text
    assert "filter-one" in rows
    assert "filter-two" not in rows
    page = admin.get(f"/orgs/acme/activity?key={key_id.group(1)}").text
    table = page[page.rindex("<tbody") :]
    assert "filter-one" in table
    assert "filter-two" not in table


def test_activity_is_the_contexts_own(server: RunningServer, admin: Person):
    ask(server, create_key(admin, "/orgs/acme", "org-only-activity"))
    assert "org-only-activity" not in admin.get("/personal/activity").text


# Roles and limits


def test_there_are_two_roles_admin_and_member(server: RunningServer):
    refused = command(
        server, "members", "add", "--organization", "acme", "--email", "ana@example.com", "--role", "owner", exit_code=1
    )
    assert refused["error"]["remedy"] == "Use admin or member."


def test_an_organization_has_at_most_ten_members(server: RunningServer):
    for number in range(8):  # the admin and the member are there already
        email = f"seat{number}@example.com"
        command(server, "users", "add", "--email", email, "--name", f"Seat {number}")
        command(server, "members", "add", "--organization", "acme", "--email", email)
    command(server, "users", "add", "--email", "eleventh@example.com", "--name", "Eleventh")
    refused = command(
        server, "members", "add", "--organization", "acme", "--email", "eleventh@example.com", exit_code=1
    )
    assert refused["error"]["name"] == "OrganizationFull"


def test_nobody_gets_into_an_organization_by_an_address_they_did_not_prove(server: RunningServer):
    with new_person(server, "Pretender", verified=False):
        refused = command(
            server, "members", "add", "--organization", "acme", "--email", "pretender@example.com", exit_code=1
        )
    assert refused["error"]["name"] == "AddressUnproven"


def test_a_person_can_be_in_many_organizations(server: RunningServer, member: Person):
    for number in range(12):
        command(server, "organizations", "add", "--name", f"Many {number}", "--admin", "tomas@example.com")
    page = member.get("/personal/overview").text
    assert all(f'href="/orgs/many-{number}/overview"' in page for number in range(12))
    assert member.get("/orgs/many-11/overview").status_code == 200


def test_an_organization_that_is_not_ones_own_answers_like_one_that_is_not_there(server: RunningServer, admin: Person):
    command(server, "users", "add", "--email", "other@example.com", "--name", "Other")
    command(server, "organizations", "add", "--name", "Foreign", "--slug", "foreign", "--admin", "other@example.com")
    admin.get("/personal/overview")  # takes along whatever an earlier page wanted to say
    foreign, absent = admin.get("/orgs/foreign/overview"), admin.get("/orgs/absent/overview")
    assert foreign.status_code == absent.status_code == 404
    assert foreign.text.replace("foreign", "absent") == absent.text


# Members


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.DOTALL)
    assert match is not None, text
    return match.group(1)


def invited_by_mail(server: RunningServer, email: str) -> str:
    """The path of the link in the newest mail to this address, as the console mailer printed it."""
    for _ in range(100):
        mails = re.findall(rf"--- mail to {re.escape(email)}:.*?\n---\n", server.stderr(), re.DOTALL)
        if mails:
            return found(r"https?://[^/]+(/invitations/accept\?token=\S+)", mails[-1])
        time.sleep(0.05)
    raise AssertionError(f"no mail to {email}")


def organization_of(person: Person, slug: str) -> str:
    person.post(
        "/settings/preferences/organizations", "/settings/preferences/organizations/new", name=slug.title(), slug=slug
    )
    return f"/orgs/{slug}"


def joins(server: RunningServer, admin: Person, base: str, name: str) -> Person:
    """Somebody new, by invitation: signs up by the link in the mail."""
    email = f"{name.lower()}@example.com"
    invited = admin.post(f"{base}/members/invitations", f"{base}/members", addresses=f"{name} <{email}>", role="member")
    assert invited.status_code == 303, invited.text
    assert f"The invitation to {email} is on its way." in admin.get(f"{base}/members").text
    link = invited_by_mail(server, email)
    person = Person(server)
    token = link.partition("token=")[2]
    joined = person.post("/invitations/accept", link, token=token, name=name, password="a long enough password")
    assert joined.headers["location"] == f"{base}/overview", joined.text
    return person


def member_id(page: str, email: str) -> str:
    return found(rf"{re.escape(email)}.*?/members/(user_\w+)/remove", page)


def test_members_are_invited_by_their_address_and_join_by_the_link(server: RunningServer, admin: Person):
    base = organization_of(admin, "joining")
    with joins(server, admin, base, "Ines") as ines:
        assert ines.get(f"{base}/overview").status_code == 200
        page = ines.get(f"{base}/members").text
        assert "ines@example.com" in page
        assert "ana@example.com" in page
        # A member invites nobody, and is told who could.
        assert f'action="{base}/members/invitations"' not in page
        refused = ines.post(f"{base}/members/invitations", f"{base}/keys", addresses="x@example.com", role="member")
        assert refused.status_code == 403
        assert "Ana Ruiz" in refused.text
        assert "x@example.com" not in admin.get(f"{base}/members").text


def test_admins_promote_demote_and_remove_and_an_organization_always_has_an_admin(server: RunningServer, admin: Person):
    base = organization_of(admin, "ranks")
    with joins(server, admin, base, "Boris") as boris:
        of_boris = f"{base}/members/{member_id(admin.get(f'{base}/members').text, 'boris@example.com')}"
        assert admin.post(f"{of_boris}/role", f"{of_boris}/role", role="admin").status_code == 303
        of_ana = f"{base}/members/{member_id(boris.get(f'{base}/members').text, 'ana@example.com')}"
        assert boris.post(f"{of_ana}/role", f"{of_ana}/role", role="member").status_code == 303
        last = boris.post(f"{of_boris}/role", f"{of_boris}/role", role="member")
        assert last.status_code == 409
        assert "always has one" in last.text
        assert boris.post(f"{base}/leave", f"{base}/members").status_code == 409
        key = create_key(admin, base, "ana's production")
        assert boris.post(f"{of_ana}/remove", f"{of_ana}/remove", keys="hand_over").status_code == 303
        assert admin.get(f"{base}/overview").status_code == 404
        assert ask(server, key).status_code == 402  # it works on, and the organization has no credits
        assert "ana&#39;s production" in boris.get(f"{base}/keys").text


def test_leaving_revokes_access_and_keeps_the_personal_account(server: RunningServer, admin: Person):
    base = organization_of(admin, "parting")
    command(server, "credits", "grant", "--organization", "parting", "--amount", "5", "--reason", "to part with")
    with joins(server, admin, base, "Pia") as pia:
        key, personal = create_key(pia, base, "pia's key"), create_key(pia, "/personal", "pia's own")
        assert ask(server, key).status_code == 200
        left = pia.post(f"{base}/leave", f"{base}/leave")
        assert left.headers["location"] == "/personal/overview"
        # The pages, the API and the chat of the organization are shut; the personal account is as it was.
        for page in ("overview", "chat", "keys", "activity", "credits", "members"):
            gone = pia.get(f"{base}/{page}")
            assert gone.status_code == 404
            assert "/personal/overview" in gone.text
        assert ask(server, key).status_code == 401
        assert ask(server, personal).status_code == 402
        assert "pia&#39;s own" in pia.get("/personal/keys").text
        page = admin.get(f"{base}/members").text
        assert "pia@example.com" not in page
        assert f"{base}/overview" not in pia.get("/personal/overview").text


# The same over the API, with management keys: one of a person's own account, or one of an organization


def manage(server: RunningServer, key: str, method: str, path: str, body: Any = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.request(method, f"{server.api_base}{path}", headers=headers, json=body, timeout=30)


def told(server: RunningServer, key: str, method: str, path: str, body: Any = None) -> Any:
    answer = manage(server, key, method, path, body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def management_key(server: RunningServer, email: str, organization: str | None = None) -> str:
    where = () if organization is None else ("--organization", organization)
    made = command(server, "keys", "add", *where, "--email", email, "--name", "automation", "--management")
    return str(made["key"])


def founder(server: RunningServer, name: str) -> tuple[str, dict[str, Any], str]:
    """A person who created an organization over the API: their own management key, the organization, and a management key of it."""
    email = f"{name.lower()}@example.com"
    command(server, "users", "add", "--email", email, "--name", name, "--verified")
    own = management_key(server, email)
    made = told(server, own, "POST", "/organizations", {"name": f"{name}'s"})["data"]
    return own, made, management_key(server, email, made["slug"])


def joined(server: RunningServer, organization_key: str, name: str, role: str = "member") -> tuple[str, str]:
    """Somebody who was invited and accepted, over the API: their id and their own management key."""
    email = f"{name.lower()}@example.com"
    added = command(server, "users", "add", "--email", email, "--name", name, "--verified")
    own = management_key(server, email)
    told(server, organization_key, "POST", "/invitations", {"emails": [email], "role": role})
    [waiting] = told(server, own, "GET", "/invitations")["data"]
    told(server, own, "POST", f"/invitations/{waiting['id']}/accept")
    return added["id"], own


def test_an_organization_is_created_and_found_over_the_api_by_a_verified_person(server: RunningServer):
    own, made, key = founder(server, "Fay")
    assert (made["role"], made["slug"]) == ("admin", "fay-s")
    told(server, own, "POST", "/organizations", {"name": "Another", "slug": "fays-other"})
    assert [each["slug"] for each in told(server, own, "GET", "/organizations")["data"]] == ["fays-other", "fay-s"]
    assert [each["slug"] for each in told(server, key, "GET", "/organizations")["data"]] == ["fay-s"]
    command(server, "users", "add", "--email", "uma@example.com", "--name", "Uma")
    refused = manage(
        server, management_key(server, "uma@example.com"), "POST", "/organizations", {"name": "Uma's", "slug": "umas"}
    )
    assert (refused.status_code, "Verify" in refused.text) == (403, True)


def test_over_the_api_too_a_context_affects_itself_only(server: RunningServer):
    own, _, key = founder(server, "Gus")
    told(server, key, "POST", "/keys", {"name": "the organization's"})
    told(server, own, "POST", "/keys", {"name": "his own"})
    assert [each["name"] for each in told(server, own, "GET", "/keys")["data"]] == ["his own"]
    assert [each["name"] for each in told(server, key, "GET", "/keys")["data"]] == ["the organization's"]
    assert manage(server, own, "GET", "/organization/members").status_code == 404


def test_members_are_invited_over_the_api_ten_at_most(server: RunningServer):
    _, _, key = founder(server, "Hana")
    emails = [f"hana{number}@example.com" for number in range(10)]
    outcomes = [each["outcome"] for each in told(server, key, "POST", "/invitations", {"emails": emails})["data"]]
    assert outcomes == ["invited"] * 9 + ["no_seat"], "the founder has the tenth seat"


def test_admins_control_members_and_their_roles_over_the_api(server: RunningServer):
    _, _, key = founder(server, "Ivan")
    jo, _ = joined(server, key, "Jo")
    listed = told(server, key, "GET", "/organization/members")
    assert [(each["first_name"], each["role"]) for each in listed["data"]] == [
        ("Ivan", "org:admin"),
        ("Jo", "org:member"),
    ]
    assert manage(server, key, "PATCH", f"/memberships/{jo}", {"role": "owner"}).status_code == 400
    assert told(server, key, "PATCH", f"/memberships/{jo}", {"role": "admin"})["data"]["role"] == "admin"
    assert told(server, key, "PATCH", f"/memberships/{jo}", {"role": "member"})["data"]["role"] == "member"
    assert told(server, key, "DELETE", f"/memberships/{jo}")["deleted"] is True
    assert told(server, key, "GET", "/memberships")["total_count"] == 1


def test_only_admins_manage_over_the_api(server: RunningServer):
    _, made, key = founder(server, "Kim")
    leo, _ = joined(server, key, "Leo", "admin")
    theirs = management_key(server, "leo@example.com", made["slug"])
    assert told(server, theirs, "GET", "/memberships")["total_count"] == 2
    told(server, key, "PATCH", f"/memberships/{leo}", {"role": "member"})
    assert manage(server, theirs, "GET", "/memberships").status_code in (401, 403)
    inference = told(server, key, "POST", "/keys", {"name": "app"})["key"]
    assert manage(server, inference, "GET", "/memberships").status_code == 403
    assert ask(server, key).status_code == 403, "and a management key calls no models"


def test_keys_are_managed_over_the_api_with_their_limits_expiry_and_rotation(server: RunningServer):
    key = server.management_key
    made = told(server, key, "POST", "/keys", {"name": "api key", "limit": 0.01, "limit_reset": "daily"})
    data, secret = made["data"], made["key"]
    assert (data["limit"], data["limit_reset"], data["creator_user_id"]) == (0.01, "daily", server.user("admin")["id"])
    assert ask(server, secret).status_code == 200  # a cent
    assert ask(server, secret).status_code == 403, "the limit is spent"
    told(server, key, "PATCH", f"/keys/{data['hash']}", {"limit": 1, "name": "renamed"})
    rotated = told(server, key, "POST", f"/keys/{data['hash']}/rotate", {"grace_seconds": 3600})
    assert (rotated["data"]["name"], rotated["data"]["usage_daily"]) == ("renamed", 0.01)
    assert ask(server, secret).status_code == ask(server, rotated["key"]).status_code == 200, "both, for a while"
    told(server, key, "PATCH", f"/keys/{rotated['data']['hash']}", {"disabled": True})
    assert ask(server, secret).status_code == ask(server, rotated["key"]).status_code == 401
    told(server, key, "DELETE", f"/keys/{rotated['data']['hash']}")
    assert manage(server, key, "GET", f"/keys/{rotated['data']['hash']}").status_code == 404


def test_admins_see_every_members_keys_over_the_api(server: RunningServer, member: Person):
    create_key(member, "/orgs/acme", "a member's, seen by admins")
    listed = told(server, server.management_key, "GET", "/keys")["data"]
    assert "a member's, seen by admins" in [each["name"] for each in listed]


def test_who_leaves_over_the_api_loses_the_organization_and_keeps_their_own_account(server: RunningServer):
    _, made, key = founder(server, "Mia")
    assert manage(server, key, "POST", "/organization/leave").status_code == 409, "the last admin stays"
    _, own = joined(server, key, "Nia", "admin")
    theirs = management_key(server, "nia@example.com", made["slug"])
    inference = command(
        server, "keys", "add", "--organization", made["slug"], "--email", "nia@example.com", "--name", "app"
    )["key"]
    assert ask(server, inference, "demo/free-1").status_code == 200
    gone = told(server, theirs, "POST", "/organization/leave")
    assert {each["name"] for each in gone["keys_disabled"]} == {"automation", "app"}
    assert ask(server, inference, "demo/free-1").status_code == 401
    assert manage(server, theirs, "GET", "/memberships").status_code == 401
    assert told(server, own, "GET", "/organizations")["data"] == []
    assert told(server, own, "GET", "/keys")["data"] == [], "their own account answers as before"


def test_what_changed_is_in_the_audit_log_on_the_page_and_over_the_api(server: RunningServer, admin: Person):
    told(server, server.management_key, "POST", "/keys", {"name": "audited"})
    event = told(server, server.management_key, "GET", "/audit-events?kind=keys&limit=1")["data"][0]
    assert event["sentence"] == "Ana Ruiz (key Demo management key) created the API key audited"
    assert "created the API key audited" in admin.get("/orgs/acme/audit?kind=keys").text
