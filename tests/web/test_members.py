"""The page Members: who is there, inviting, roles, removing, leaving; what a member sees and is refused."""

import re

import pytest
from sqlalchemy import text

from bursar import actions, organizations
from bursar.access import Actor, Role
from bursar.keys import KeyKind
from bursar.storage import SYSTEM
from tests.web.cast import PASSWORD, Browser, hidden_fields, text_of

pytestmark = pytest.mark.anyio

HERE = "/orgs/acme/members"


async def invite(browser: Browser, addresses: str, role: str = "member"):
    return await browser.send(HERE, f"{HERE}/invitations", addresses=addresses, role=role)


async def pending(house, acme):
    async with house.database.snapshot(SYSTEM) as snapshot:
        return await organizations.list_pending(snapshot, acme.id)


async def role_of(house, acme, user):
    async with house.database.snapshot(SYSTEM) as snapshot:
        return await organizations.find_role(snapshot, acme.id, user.id)


async def set_cap(house, maximum):
    async with house.database.begin(SYSTEM) as tx:
        await tx.execute(text(f"UPDATE organizations SET seats_max = {maximum}"))


async def test_everybody_reads_who_is_there_and_how_many_seats_are_left(house, ana, max_, acme):
    await actions.invite_members(
        house.database,
        Actor.person(ana.id),
        organization=acme.id,
        addresses=["new@example.com"],
        role=Role.MEMBER,
        public_url="https://testserver",
    )
    for user, manages in ((ana, True), (max_, False)):
        page = await (await house.signed_in(user)).get(HERE)
        words = text_of(page)
        assert "ana@example.com" in words
        assert "max@example.com" in words
        assert "3 of 10 seats" in words
        assert 'value="30"' in page.text
        assert ("new@example.com" in words) == manages
        assert ("Invite people" in words) == manages
        assert ("Remove" in words) == manages
        assert ("Change role" in words) == manages
        assert 'href="/orgs/acme/leave"' in page.text


async def test_the_navigation_has_members_in_organizations_only_and_the_switcher_keeps_the_page(house, ana, acme):
    await house.add_organization("Globex", "globex", ana)
    browser = await house.signed_in(ana)
    page = (await browser.get(HERE)).text
    assert 'href="/orgs/globex/members"' in page
    assert 'href="/personal/overview"' in page
    assert "/personal/members" not in page
    assert "/members" not in (await browser.get("/personal/overview")).text.replace("/orgs/", "")
    assert (await browser.get("/personal/members")).status_code == 404


REFUSED = [
    ("POST", f"{HERE}/invitations"),
    ("POST", f"{HERE}/invitations/inv_{'0' * 26}/resend"),
    ("POST", f"{HERE}/invitations/inv_{'0' * 26}/revoke"),
    ("GET", f"{HERE}/user_{'0' * 26}/role"),
    ("POST", f"{HERE}/user_{'0' * 26}/role"),
    ("GET", f"{HERE}/user_{'0' * 26}/remove"),
    ("POST", f"{HERE}/user_{'0' * 26}/remove"),
]


async def test_a_member_is_refused_what_admins_do_and_told_whom_to_ask(house, ana, max_, acme):
    browser = await house.signed_in(max_)
    token = await browser.token()
    for method, path in REFUSED:
        refused = await browser.get(path) if method == "GET" else await browser.post(path, {"csrf": token})
        assert refused.status_code == 403, path
        assert "Only an admin can invite, promote and remove members." in text_of(refused)
        assert "Your admins: Ana Ruiz ( ana@example.com )." in text_of(refused)


async def test_a_pasted_list_is_invited_and_what_is_wrong_stays_in_the_box(house, ana, acme):
    browser = await house.signed_in(ana)
    sent = await invite(browser, "Nora New <nora@example.com>, olga@example.com")
    assert sent.headers["location"] == HERE
    assert "2 invitations are on their way." in text_of(await browser.follow(sent))
    mixed = await invite(browser, "third@example.com\nno address; Max <max@example.com>", "admin")
    words = text_of(mixed)
    assert "The invitation to third@example.com is on its way." in words
    assert "no address : That is not an e-mail address" in words
    assert "max@example.com : Max Weber is a member already." in words
    box = re.search(r"<textarea[^>]*>(.*?)</textarea>", mixed.text, re.DOTALL)
    assert box is not None
    assert box.group(1).split("\n") == ["no address", "max@example.com"]
    assert '<option value="admin" selected>' in mixed.text
    assert [each.email for each in await pending(house, acme)] == [
        "nora@example.com",
        "olga@example.com",
        "third@example.com",
    ]
    assert [mail["to"] for mail in await house.mails()][-1] == "third@example.com"


async def test_an_empty_list_is_wrong_in_its_field(house, ana, acme):
    wrong = await invite(await house.signed_in(ana), " , ")
    assert wrong.status_code == 400
    assert "Enter at least one e-mail address." in text_of(wrong)
    odd = await invite(await house.signed_in(ana), "new@example.com", "owner")
    assert odd.status_code == 400
    assert "A role is admin or member." in text_of(odd)
    assert "new@example.com" in odd.text


async def test_when_no_seat_is_left_the_page_says_what_to_do_and_offers_no_form(house, ana, acme):
    await set_cap(house, 3)
    browser = await house.signed_in(ana)
    mixed = await invite(browser, "one@example.com, two@example.com")
    assert "two@example.com : All 3 seats are taken, 1 of them by invitations that wait." in text_of(mixed)
    page = await browser.get(HERE)
    assert "All 3 seats are taken." in text_of(page)
    assert "<textarea" not in page.text


async def test_an_invitation_is_sent_again_not_too_often_and_revoked(house, ana, acme, monkeypatch):
    browser = await house.signed_in(ana)
    await invite(browser, "new@example.com")
    [waiting] = await pending(house, acme)
    base = f"{HERE}/invitations/{waiting.id}"
    early = await browser.follow(await browser.send(HERE, f"{base}/resend"))
    assert "It was sent a moment ago." in text_of(early)
    from datetime import timedelta

    from bursar.organizations import _invitations

    monkeypatch.setattr(_invitations, "RESEND_AFTER", timedelta(0))
    again = await browser.follow(await browser.send(HERE, f"{base}/resend"))
    assert "A new invitation is on its way to new@example.com" in text_of(again)
    gone = await browser.follow(await browser.send(HERE, f"{base}/revoke"))
    assert "The invitation of new@example.com is revoked" in text_of(gone)
    assert "Invitations that wait" not in text_of(gone)
    twice = await browser.post(f"{base}/revoke", {"csrf": await browser.token()})
    assert "This invitation was revoked." in text_of(await browser.follow(twice))
    absent = await browser.post(f"{HERE}/invitations/inv_{'0' * 26}/revoke", {"csrf": await browser.token()})
    assert absent.status_code == 404


async def test_an_admin_promotes_and_demotes_by_a_page_that_says_what_it_means(house, ana, max_, acme):
    browser = await house.signed_in(ana)
    page = f"{HERE}/{max_.id}/role"
    assert "can also remove other admins" in text_of(await browser.get(page))
    promoted = await browser.follow(await browser.send(page, page, role="admin"))
    assert "Max Weber is an admin now." in text_of(promoted)
    await house.add_key(acme.id, max_, "robot", kind=KeyKind.MANAGEMENT)
    assert "The management keys they created stop working: robot." in text_of(await browser.get(page))
    own = f"{HERE}/{ana.id}/role"
    assert "another admin has to" in text_of(await browser.get(own))
    demoted = await browser.follow(await browser.send(own, own, role="member"))
    assert "You are a member now." in text_of(demoted)
    assert await role_of(house, acme, ana) is Role.MEMBER
    last = await (await house.signed_in(max_)).send(f"{HERE}/{max_.id}/role", f"{HERE}/{max_.id}/role", role="member")
    assert last.status_code == 409
    assert "This is the organization's only admin" in text_of(last)


async def test_who_is_nobody_there_answers_like_nobody_at_all(house, ana, sam, acme):
    browser = await house.signed_in(ana)
    answers = []
    for user in (sam.id, f"user_{'0' * 26}", "nonsense"):
        for what in ("role", "remove"):
            response = await browser.get(f"{HERE}/{user}/{what}")
            assert response.status_code == 404
            answers.append(text_of(response))
    assert len(set(answers)) == 1


async def test_removing_asks_what_becomes_of_the_keys(house, ana, max_, acme):
    key = await house.add_key(acme.id, max_, "production")
    browser, member = await house.signed_in(ana), await house.signed_in(max_)
    page = f"{HERE}/{max_.id}/remove"
    words = text_of(await browser.get(page))
    assert "1 API key was created by Max Weber" in words
    assert key.label in words
    odd = await browser.send(page, page, keys="burn")
    assert odd.status_code == 400
    assert await role_of(house, acme, max_) is Role.MEMBER
    removed = await browser.send(page, page, keys="hand_over")
    assert removed.headers["location"] == "/orgs/acme/keys"
    words = text_of(await browser.follow(removed))
    assert "Max Weber is no longer a member. You answer for 1 key now: rotate it." in words
    assert "production" in words
    gone = await member.get("/orgs/acme/overview")
    assert gone.status_code == 404
    assert 'href="/personal/overview"' in gone.text
    assert (await member.get("/personal/overview")).status_code == 200


async def test_unless_said_otherwise_the_keys_are_disabled(house, ana, max_, acme):
    await house.add_key(acme.id, max_, "production")
    browser = await house.signed_in(ana)
    page = f"{HERE}/{max_.id}/remove"
    words = text_of(await browser.follow(await browser.send(page, page)))
    assert "Max Weber is no longer a member. 1 key of theirs is disabled." in words
    keys = text_of(await browser.get("/orgs/acme/keys"))
    assert "Disabled" in keys


async def test_removing_oneself_is_leaving(house, ana, acme):
    browser = await house.signed_in(ana)
    assert (await browser.get(f"{HERE}/{ana.id}/remove")).headers["location"] == "/orgs/acme/leave"


async def test_leaving_says_what_stops_and_keeps_the_personal_account(house, ana, max_, acme):
    await house.add_key(acme.id, max_, "my-laptop")
    await house.add_key(max_.id, max_, "personal")
    browser = await house.signed_in(max_)
    words = text_of(await browser.get("/orgs/acme/leave"))
    assert "This key of yours stops working" in words
    assert "my-laptop" in words
    assert "Must something go on with it? Ask an admin to remove you instead" in words
    left = await browser.send("/orgs/acme/leave", "/orgs/acme/leave")
    assert left.headers["location"] == "/personal/overview"
    words = text_of(await browser.follow(left))
    assert "You left Acme Robotics. Your personal account is as it was." in words
    assert "/orgs/acme" not in (await browser.get("/personal/overview")).text
    assert (await browser.get("/orgs/acme/overview")).status_code == 404
    assert "personal" in text_of(await browser.get("/personal/keys"))
    told = [mail for mail in await house.mails() if mail["to"] == ana.email]
    assert told[-1]["subject"] == "Max Weber left Acme Robotics"


async def test_the_last_admin_is_told_how_to_leave_after_all(house, ana, max_, acme):
    browser = await house.signed_in(ana)
    assert "Make another member an admin first." in text_of(await browser.get("/orgs/acme/leave"))
    assert 'action="/orgs/acme/leave"' not in (await browser.get("/orgs/acme/leave")).text
    forced = await browser.post("/orgs/acme/leave", {"csrf": await browser.token()})
    assert forced.status_code == 409
    assert await role_of(house, acme, ana) is Role.ADMIN
    await actions.remove_member(
        house.database, Actor.person(ana.id), organization=acme.id, member=max_.id, public_url="https://testserver"
    )
    assert "You are its last member" in text_of(await browser.get("/orgs/acme/leave"))


# The link of an invitation.


async def link_for(house, ana, acme, email, role=Role.MEMBER):
    await actions.invite_members(
        house.database,
        Actor.person(ana.id),
        organization=acme.id,
        addresses=[email],
        role=role,
        public_url="https://testserver",
    )
    return await house.link()


async def test_somebody_with_an_account_signs_in_comes_back_and_accepts(house, ana, sam, acme):
    link = await link_for(house, ana, acme, "SAM@example.com")
    browser = house.browser()
    page = await browser.get(link)
    words = text_of(page)
    assert "Ana Ruiz invites you as a member." in words
    assert "Sign in to accept" in words
    sign_in = re.search(r'href="(/sign-in\?next=[^"]+)"', page.text)
    assert sign_in is not None
    back = await browser.send(sign_in.group(1), "/sign-in", email=sam.email, password=PASSWORD)
    assert back.headers["location"] == link
    assert await role_of(house, acme, sam) is None  # opening it changed nothing
    joined = await browser.send(link, "/invitations/accept")
    assert joined.headers["location"] == "/orgs/acme/overview"
    words = text_of(await browser.follow(joined))
    assert "Welcome to Acme Robotics. You are a member now." in words
    again = await browser.get(link)
    assert again.status_code == 400
    assert "was used already. Ask for a new one: Ana Ruiz (ana@example.com)." in text_of(again)


async def test_a_new_person_signs_up_by_it_and_is_in(house, ana, acme):
    link = await link_for(house, ana, acme, "nora@example.com", Role.ADMIN)
    browser = house.browser()
    page = await browser.get(link)
    assert "Create account and join" in text_of(page)
    assert 'value="nora@example.com"' in page.text
    wrong = await browser.send(link, "/invitations/accept", name="Nora New", password="short")
    assert wrong.status_code == 400
    assert 'value="Nora New"' in wrong.text
    assert "A password has at least" in text_of(wrong)
    joined = await browser.send(link, "/invitations/accept", name="Nora New", password=PASSWORD)
    assert joined.headers["location"] == "/orgs/acme/overview"
    words = text_of(await browser.follow(joined))
    assert "You are an admin now." in words
    assert "Verify your e-mail address" not in words
    assert (await house.browser().sign_in("nora@example.com")).status_code == 303


async def test_it_lets_a_new_person_in_also_where_sign_up_is_by_invitation(database, ana, acme):
    from tests.web.cast import House

    closed = House(database, sign_up_is_open=False)
    try:
        link = await link_for(closed, ana, acme, "nora@example.com")
        browser = closed.browser()
        joined = await browser.send(link, "/invitations/accept", name="Nora New", password=PASSWORD)
        assert joined.headers["location"] == "/orgs/acme/overview"
    finally:
        await closed.close()


async def test_somebody_else_is_told_and_may_switch(house, ana, max_, sam, acme):
    link = await link_for(house, ana, acme, "sam@example.com")
    browser = await house.signed_in(max_)
    page = await browser.get(link)
    assert "You are signed in as max@example.com . Only sam@example.com can accept." in text_of(page)
    assert 'action="/invitations/accept"' not in page.text
    token = hidden_fields(page.text, "/sign-out")["csrf"]
    forced = await browser.post("/invitations/accept", {"csrf": token, "token": link.partition("token=")[2]})
    assert forced.status_code == 403
    assert await role_of(house, acme, sam) is None
    switched = await browser.send(link, "/sign-out")
    assert switched.headers["location"] == link
    assert "Sign in to accept" in text_of(await browser.follow(switched))


async def test_somebody_who_has_yet_to_verify_is_verified_by_it(house, ana, acme):
    lea = await house.add_user("Lea Novak", verified=False)
    link = await link_for(house, ana, acme, lea.email)
    browser = await house.signed_in(lea)
    assert "Accept invitation" in text_of(await browser.get(link))
    joined = await browser.follow(await browser.send(link, "/invitations/accept"))
    assert "Verify your e-mail address" not in text_of(joined)
    assert await role_of(house, acme, lea) is Role.MEMBER
    # Signed out it would have been the form of a new person: the address was nobody's yet.
    other = await house.add_user("Lou Unproven", verified=False)
    link = await link_for(house, ana, acme, other.email)
    assert "Create account and join" in text_of(await house.browser().get(link))


async def test_declining_needs_no_account_and_a_reload_changes_nothing(house, ana, acme):
    link = await link_for(house, ana, acme, "nora@example.com")
    browser = house.browser()
    declined = await browser.send(link, "/invitations/decline")
    assert "The invitation is declined." in text_of(await browser.follow(declined))
    gone = await browser.get(link)
    assert gone.status_code == 400
    assert "This invitation to Acme Robotics was declined." in text_of(gone)
    for path in ("/invitations/accept", "/invitations/accept?token=nonsense"):
        assert (await browser.get(path)).status_code == 400


async def test_what_became_of_the_inviter_or_the_seats_is_said_on_the_page(house, ana, max_, sam, acme):
    link = await link_for(house, ana, acme, sam.email)
    await set_cap(house, 2)
    browser = await house.signed_in(sam)
    full = await browser.send(link, "/invitations/accept")
    assert full.status_code == 409
    assert "All 2 seats are taken" in text_of(full)
    await set_cap(house, 3)
    for member, role in ((max_, Role.ADMIN), (ana, Role.MEMBER)):
        await actions.change_role(
            house.database,
            Actor.operator(),
            organization=acme.id,
            member=member.id,
            role=role,
            public_url="https://testserver",
        )
    page = await (await house.signed_in(max_)).get(HERE)
    assert "no longer an admin: send it again" in text_of(page)
    refused = await browser.send(link, "/invitations/accept")
    assert refused.status_code == 403
    assert "no longer an admin there" in text_of(refused)
    assert "max@example.com" in text_of(refused)


async def test_preferences_list_what_waits_for_the_verified_address(house, ana, sam, acme):
    here = "/settings/preferences"
    await link_for(house, ana, acme, sam.email)
    lea = await house.add_user("Lea Novak", verified=False)
    await link_for(house, ana, acme, lea.email)
    mine, of_lea = await pending(house, acme)
    browser = await house.signed_in(sam)
    assert "Ana Ruiz invites you as a member" in text_of(await browser.get(here))
    assert "Ana Ruiz invites you" not in text_of(await (await house.signed_in(lea)).get(here))
    token = await browser.token()
    for foreign in (of_lea.id, f"inv_{'0' * 26}", "nonsense"):
        for what in ("accept", "decline"):
            refused = await browser.post(f"/settings/invitations/{foreign}/{what}", {"csrf": token})
            assert refused.status_code == 404
    joined = await browser.send(here, f"/settings/invitations/{mine.id}/accept")
    assert joined.headers["location"] == "/orgs/acme/overview"
    page = await browser.get(here)
    assert 'href="/orgs/acme/leave"' in page.text
    assert "Acme Robotics" in text_of(page)


async def test_what_waits_is_declined_from_preferences_too(house, ana, sam, acme):
    await link_for(house, ana, acme, sam.email)
    [mine] = await pending(house, acme)
    browser = await house.signed_in(sam)
    declined = await browser.send("/settings/preferences", f"/settings/invitations/{mine.id}/decline")
    assert "The invitation is declined." in text_of(await browser.follow(declined))
    assert await pending(house, acme) == []
