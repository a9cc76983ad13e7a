"""Mail: a real SMTP server on the loopback interface takes it, or refuses it, and no error repeats the message."""

import asyncio
import html
import inspect
import re
from collections.abc import Iterator
from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from bursar import mail
from bursar.access import Role
from bursar.mail import ConsoleMailer, MailNotSent, Message, SmtpMailer
from bursar.mail._html import html_of
from tests.support.server import free_port

pytestmark = pytest.mark.anyio

LINK = "https://b.example/verify?token=the-secret-part"
MESSAGE = mail.verify_email("ana@example.com", "Zoë Ruiz", LINK)


class Inbox:
    """What the server took; it refuses everybody named refused, and every message with the word `refuse` in it."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options):  # noqa: N802
        if address.startswith("refused@"):
            return "550 no such mailbox: see " + LINK
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if b"refuse this" in envelope.original_content:
            return "554 refused: " + LINK
        self.envelopes.append(envelope)
        return "250 OK"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def smtp_port(inbox: Inbox) -> Iterator[int]:
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port
    controller.stop()


def mailer(port: int, **other) -> SmtpMailer:
    given = {"username": None, "password": None, "security": "none"} | other
    return SmtpMailer(host="127.0.0.1", port=port, sender="Bursar <bursar@example.com>", **given)


async def test_a_message_arrives_as_it_was_written(smtp_port: int, inbox: Inbox):
    await mailer(smtp_port).send(MESSAGE)
    (envelope,) = inbox.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("bursar@example.com", ["ana@example.com"])
    arrived = message_from_bytes(envelope.original_content, policy=policy.default)
    assert arrived["To"] == "ana@example.com"
    assert arrived["Subject"] == "Verify your e-mail address for Bursar"
    assert arrived["Auto-Submitted"] == "auto-generated"
    assert arrived["Date"]
    assert arrived["Message-ID"]
    text, page = arrived.get_body(("plain",)), arrived.get_body(("html",))
    assert text.get_content().replace("\r\n", "\n") == MESSAGE.text
    assert f'href="{LINK}"' in page.get_content()
    assert [part.get_content_type() for part in arrived.iter_parts()] == ["text/plain", "text/html"]
    assert "Zoë Ruiz" in MESSAGE.text
    assert LINK in MESSAGE.text


@pytest.mark.parametrize(
    "message",
    [
        mail.verify_email("refused@example.com", "Ana", LINK),
        mail.set_password("ana@example.com", "refuse this", LINK),
        Message("ana@example.com\nBcc: eve@example.com", "two lines", LINK),
        Message("ana@example.com", "two\nlines", LINK),
        Message("", "to nobody", LINK),
        Message("ana@example.com", "half a character", LINK + "\ud800"),
    ],
    ids=["recipient", "content", "header in the address", "header in the subject", "nobody", "not text"],
)
async def test_what_is_not_sent_says_so_without_a_word_of_the_message(smtp_port: int, inbox: Inbox, message: Message):
    with pytest.raises(MailNotSent) as refusal:
        await mailer(smtp_port).send(message)
    said = f"{refusal.value!r} {refusal.value} {refusal.value.remedy} {refusal.value.ids}"
    assert "secret-part" not in said
    assert "127.0.0.1" in said
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__
    assert inbox.envelopes == []


async def test_a_server_that_is_not_there_is_a_mail_not_sent():
    with pytest.raises(MailNotSent):
        await mailer(free_port()).send(MESSAGE)


async def test_where_encryption_was_asked_for_nothing_is_sent_without(smtp_port: int, inbox: Inbox):
    for other in ({"security": "starttls"}, {"username": "u", "password": "the-password"}):
        with pytest.raises(MailNotSent) as refusal:
            await mailer(smtp_port, **other).send(MESSAGE)
        assert "the-password" not in repr(refusal.value)
    assert inbox.envelopes == []


async def test_ten_messages_at_once_all_arrive(smtp_port: int, inbox: Inbox):
    one = mailer(smtp_port)
    await asyncio.gather(*(one.send(mail.verify_email(f"u{number}@example.com", "U", LINK)) for number in range(10)))
    assert {envelope.rcpt_tos[0] for envelope in inbox.envelopes} == {f"u{number}@example.com" for number in range(10)}


async def test_the_console_prints_the_whole_message_to_standard_error(capsys: pytest.CaptureFixture[str]):
    await ConsoleMailer().send(MESSAGE)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"mail to ana@example.com: {MESSAGE.subject}" in printed.err
    assert LINK in printed.err


# The HTML part.

KEY = mail.KeyNote("ci & <b>", "sk-bursar-v1-abc…xyz", "Ana", "3 h ago", "12 requests", ("curl",), f"{LINK}&rotate")


def every_message() -> list[Message]:
    """One of each kind that there is, with names that somebody chose to do harm."""
    evil = '<img src="https://evil.example/x.png"> https://evil.example'
    words: dict[str, object] = {
        **dict.fromkeys(
            ("name", "organization", "inviter", "by", "who", "reason", "person", "note", "answer", "what"), evil
        ),
        **dict.fromkeys(("link", "url", "keys_page", "sign_in_url"), LINK),
        **dict.fromkeys(("to", "email", "old", "new"), "ana@example.com"),
        **dict.fromkeys(("disabled", "handed_over", "suspects"), (KEY,)),
        "role": Role.ADMIN,
        "removed_by": evil,
        "where": "written off",
        "amount": "$5.00",
        "drift": "$1.00",
        "lines": ["one is off", "another"],
        "days": 7,
        "id_": "org_1",
    }
    makers = [getattr(mail, name) for name in mail.__all__ if inspect.isfunction(getattr(mail, name))]
    return [maker(**{name: words[name] for name in inspect.signature(maker).parameters}) for maker in makers]


@pytest.mark.parametrize("message", every_message(), ids=lambda message: message.subject[-40:])
def test_every_message_says_the_same_in_html_and_loads_nothing(message: Message):
    page = html_of(message)
    body = page.partition("</h1>")[2].rpartition("</td></tr>\n<tr>")[0]
    seen = html.unescape(re.sub(r"<[^>]+>", " ", body))
    for word in message.text.replace("`", "").split():
        if word != "-":
            assert word in seen, word
    assert not re.search(r"<(img|script|link|iframe)|url\(|@import", page)
    assert set(re.findall(r'href="([^"]*)"', page)) <= {LINK, html.escape(f"{LINK}&rotate")}
    assert ("<a " in page) is (LINK in message.text)


def test_what_a_paragraph_is_is_seen_from_its_shape():
    page = html_of(
        Message(
            "a@example.com",
            "S",
            f"Hello,\n\n{LINK}\n\n- one\n  more of it\n\n- two\n\n    bursar `x`\n\nuse `it`\n",
            LINK,
            "Go",
        )
    )
    assert f'<a class="button" href="{LINK}"' in page
    assert ">Go</a>" in page
    assert page.count("<ul") == 1
    assert page.count("<li") == 2
    assert "more of it</span></li>" in page
    assert "bursar `x`</p>" in page
    assert ">it</code>" in page
