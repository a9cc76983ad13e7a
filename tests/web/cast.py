"""A fixed cast on a real database: Ana is the admin of Acme, Max a member, Sam a stranger."""

import html
import re
from datetime import datetime, timedelta
from random import Random
from typing import Any

import httpx2

from bursar import actions, activity, identity, ledger, storage
from bursar.access import Actor, Role
from bursar.activity import Generation, GenerationStatus
from bursar.catalog import load
from bursar.gateway import Admission, DatabaseFunds, Dispatcher, EndpointHealth, Gateway, Live, StickySessions
from bursar.identity import Passwords, User
from bursar.kernel.ids import KeyId, OwnerId, new_generation_id
from bursar.kernel.money import Nanos, parse_credits
from bursar.keys import Key, KeyChecker, KeyKind
from bursar.ledger import Account, Transfer, TransferKind
from bursar.organizations import Organization
from bursar.processors import SandboxProcessor
from bursar.providers import Providers
from bursar.storage import SYSTEM, Database
from bursar.web import WebParts, create_web

SECRET = b"x" * 32
ORIGIN = "https://testserver"
PASSWORD = "correct horse battery"


class FastPasswords(Passwords):
    """Real in shape, cheap in time: what Argon2 does has its own tests."""

    async def hash(self, password: str) -> str:
        return f"plain:{password}"

    async def verify(self, password: str, hashed: str | None) -> bool:
        return hashed == f"plain:{password}"


class Browser:
    """Keeps cookies, follows no redirect by itself, and sends a page's form with its hidden fields."""

    def __init__(self, app: Any, base_url: str = ORIGIN, address: str = "127.0.0.1") -> None:
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app, client=(address, 123)), base_url=base_url)

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.http.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def send(
        self, page: str, action: str, headers: dict[str, str] | None = None, **fields: str
    ) -> httpx2.Response:
        """Opens `page`, takes its token, and posts to `action` as its form would."""
        hidden = hidden_fields((await self.get(page)).text, action)
        return await self.post(action, {**hidden, **fields}, headers)

    async def post(self, action: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> httpx2.Response:
        sent = {"origin": ORIGIN, "sec-fetch-site": "same-origin", **(headers or {})}
        return await self.http.post(action, data=fields, headers=sent)

    async def follow(self, response: httpx2.Response) -> httpx2.Response:
        assert response.status_code == 303, f"{response.status_code}: {text_of(response)[:400]}"
        return await self.get(response.headers["location"])

    async def token(self, page: str = "/settings/preferences") -> str:
        return hidden_fields((await self.get(page)).text, "")["csrf"]

    async def sign_in(self, email: str, password: str = PASSWORD) -> httpx2.Response:
        return await self.send("/sign-in", "/sign-in", email=email, password=password)


def hidden_fields(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the form that posts to `action`, or of the first form for ""."""
    for attributes, content in re.findall(r"<form([^>]*)>(.*?)</form>", page, re.DOTALL):
        if 'method="post"' in attributes and (not action or f'action="{action}"' in attributes):
            return {
                name: html.unescape(value)
                for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', content)
            }
    return {}


def text_of(response: httpx2.Response) -> str:
    """What a person reads: no tags, single spaces."""
    body = re.search(r"<body>(.*)</body>", response.text, re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", body.group(1) if body else response.text).split()))


class House:
    """The installation under test, with the cast and what it takes to set a scene."""

    def __init__(self, database: Database, **changes: Any) -> None:
        self.database = database
        self.clock = database.clock
        self.checker = KeyChecker(SECRET)
        self.passwords = FastPasswords()
        self.sandbox = SandboxProcessor(SECRET)
        self.providers = Providers(clock=self.clock, pace=0)
        self.health = EndpointHealth(self.clock, Random())
        self.catalog = load(demo=True, file=None, environment={}, real_providers=False, clock=self.clock)
        self.admission = Admission(database, self.checker, self.clock)
        self.gateway = self._gateway()
        parts = {
            "database": database,
            "clock": self.clock,
            "passwords": self.passwords,
            "checker": self.checker,
            "gateway": self.gateway,
            "catalog": lambda: self.catalog,
            "health": self.health.look,
            "processor": self.sandbox,
            "sandbox": self.sandbox,
            "public_url": ORIGIN,
            "api_base": f"{ORIGIN}/api/v1",
            "example_model": lambda: "demo/echo-1",
            "sign_up_is_open": True,
            "mail_delivers": False,
            "support_email": "help@example.com",
            "secret": SECRET,
            "tallies": lambda: {0: self.gateway.tally(None)},
        }
        self.app = create_web(WebParts(**{**parts, **changes}))

    def _gateway(self) -> Gateway:
        """With the demo provider, which answers at once."""
        return Gateway(
            admission=self.admission,
            live=Live(self.database, self.admission, self.clock),
            funds=DatabaseFunds(self.database),
            dispatcher=Dispatcher(
                self.providers, lambda _provider: None, health=self.health, sessions=StickySessions(self.clock)
            ),
            catalog=lambda: self.catalog,
            clock=self.clock,
            credits_url=lambda caller: f"{ORIGIN}/credits?owner={caller.owner}",
        )

    async def close(self) -> None:
        await self.gateway.drain()
        await self.providers.close()

    def browser(self, address: str = "127.0.0.1") -> Browser:
        return Browser(self.app, address=address)

    async def signed_in(self, user: User) -> Browser:
        browser = self.browser()
        response = await browser.sign_in(user.email)
        assert response.status_code == 303, text_of(response)
        return browser

    async def add_user(self, name: str, *, verified: bool = True, operator: bool = False) -> User:
        async with self.database.begin(SYSTEM) as tx:
            return await identity.add_user(
                tx,
                email=f"{name.split(maxsplit=1)[0].lower()}@example.com",
                name=name,
                password_hash=f"plain:{PASSWORD}",
                verified=verified,
                is_operator=operator,
            )

    async def add_organization(self, name: str, slug: str, admin: User, *members: User) -> Organization:
        made = await actions.create_organization(
            self.database, Actor.person(admin.id), creator=admin.id, name=name, slug=slug
        )
        for member in members:
            await actions.add_member(
                self.database, Actor.operator(), organization=made.id, user=member.id, role=Role.MEMBER
            )
        return made

    async def grant(self, owner: str, amount: str) -> None:
        await actions.grant_credits(
            self.database, Actor.operator(), owner=OwnerId(owner), amount=parse_credits(amount), reason="to start with"
        )

    async def add_key(
        self,
        owner: str,
        creator: User,
        name: str,
        kind: KeyKind = KeyKind.INFERENCE,
        *,
        expires_at: datetime | None = None,
    ) -> Key:
        key, _ = await actions.create_key(
            self.database,
            self.checker,
            Actor.person(creator.id),
            owner=OwnerId(owner),
            creator=creator.id,
            name=name,
            kind=kind,
            expires_at=expires_at,
        )
        return key

    async def add_generation(
        self,
        owner: str,
        user: User,
        key: Key | None = None,
        *,
        days_ago: int = 0,
        cost: int = 1_594_321,
        **changes: Any,
    ) -> Generation:
        at = self.clock.now() - timedelta(days=days_ago)
        values: dict[str, Any] = {
            "owner_id": OwnerId(owner),
            "id": new_generation_id(at),
            "created_at": at,
            "key_id": KeyId(key.id) if key else None,
            "user_id": user.id,
            "status": GenerationStatus.OK,
            "requested_model": "demo/echo-1",
            "model": "demo/echo-1",
            "provider": "Demo",
            "finish_reason": "stop",
            "prompt_tokens": 1200,
            "completion_tokens": 340,
            "duration_ms": 2500,
            "cost_nanos": Nanos(cost),
        }
        generation = Generation(**{**values, **changes})
        async with self.database.begin(SYSTEM) as tx:
            await activity.record(tx, generation)
            if generation.cost_nanos:
                hold = f"hold-{generation.id}"
                await ledger.post(
                    tx,
                    [
                        Transfer(
                            generation.owner_id, hold, TransferKind.HOLD, Account.CREDITS, Account.HELD, Nanos(cost)
                        ),
                        Transfer(
                            generation.owner_id,
                            generation.id,
                            TransferKind.CHARGE,
                            Account.HELD,
                            Account.SPENT,
                            Nanos(cost),
                        ),
                    ],
                )
        return generation

    async def mails(self) -> list[dict[str, Any]]:
        """What waits in the outbox, opened."""
        return [message.payload for message in await storage.take(self.database)]

    async def link(self) -> str:
        """The path of the newest link that was mailed."""
        link = [mail["link"] for mail in await self.mails() if mail["link"]][-1]
        return str(link).removeprefix(ORIGIN)
