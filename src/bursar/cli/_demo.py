"""`bursar demo`: a ready installation in one command."""

import json
import sys
from pathlib import Path
from typing import Any

from bursar import actions, identity, keys, organizations
from bursar.access import Role
from bursar.app import DEMO_MARK, CatalogHolder, Installation, Server, open_installation, run_in_loop
from bursar.cli._operations import OPERATOR
from bursar.cli._serving import bind, log_to_stderr, serve
from bursar.identity import User
from bursar.kernel.ids import OwnerId
from bursar.kernel.money import NANOS_PER_CREDIT, Nanos
from bursar.keys import KeyKind
from bursar.organizations import Organization
from bursar.settings import read_settings
from bursar.storage import SYSTEM, remember

CAST = (
    ("operator", "operator@example.com", "Olivia Operator"),
    ("admin", "ana@example.com", "Ana Ruiz"),
    ("member", "tomas@example.com", "Tomás Weber"),
)
ORGANIZATION = ("Acme Robotics", "acme")
DEMO_CREDITS = Nanos(10 * NANOS_PER_CREDIT)
"""Granted once, under one transfer id."""


def run(
    *,
    port: int | None,
    data_dir: Path | None,
    host: str | None,
    as_json: bool,
    with_history: bool,
    real_providers: bool,
    pace: float,
) -> None:
    settings = read_settings(port=port, data_dir=data_dir, host=host)
    settings = settings.model_copy(update={"payments": "sandbox", "sign_up": "open"})
    log_to_stderr("warning" if settings.log_level == "info" else settings.log_level)
    listening = bind(settings.host, settings.port)
    base_url = settings.public_url or f"http://{settings.host}:{listening.getsockname()[1]}"

    async def work() -> None:
        installation = await open_installation(settings, public_url=base_url)
        try:
            catalog = CatalogHolder(settings, installation.clock, demo=True, real_providers=real_providers)
            await catalog.load()
            cast, organization = await _people(installation)
            if with_history:
                from bursar.cli._history import write_history

                await write_history(installation, organization, cast, catalog())
            facts = await _facts(installation, base_url, cast, organization)
        except BaseException:
            await installation.close()
            raise
        server = await Server.open(installation, catalog, pace=pace)

        def ready() -> None:
            if as_json:
                print(json.dumps(facts), flush=True)
            else:
                print(_welcome(facts, catalog.example_model(), sells=server.sells_credits), flush=True)

        await serve(server, listening, settings, ready)

    with listening:
        run_in_loop(work)
    print("Stopped. The data stays; the next start finds it.", file=sys.stderr)


async def _people(installation: Installation) -> tuple[dict[str, User], Organization]:
    """The cast, the organization and its credits; what is there already stays as it is."""
    database = installation.database
    async with database.begin(SYSTEM) as tx:
        await remember(tx, DEMO_MARK, "yes")
    cast: dict[str, User] = {}
    for role, email, name in CAST:
        async with database.snapshot(SYSTEM) as snapshot:
            found = await identity.find_by_email(snapshot, email)
        if found is None:
            found, _ = await actions.add_user(
                database,
                OPERATOR,
                email=email,
                name=name,
                public_url=installation.public_url,
                verified=True,
                is_operator=role == "operator",
                mail=False,
            )
        cast[role] = found
    name, slug = ORGANIZATION
    async with database.snapshot(SYSTEM) as snapshot:
        organization = await organizations.find_by_slug(snapshot, slug)
    if organization is None:
        organization = await actions.create_organization(
            database, OPERATOR, creator=cast["admin"].id, name=name, slug=slug
        )
        await actions.add_member(
            database, OPERATOR, organization=organization.id, user=cast["member"].id, role=Role.MEMBER
        )
    await actions.grant_credits(
        database,
        OPERATOR,
        owner=OwnerId(organization.id),
        amount=DEMO_CREDITS,
        reason="Welcome to the demo",
        transfer_id="grant-demo",
    )
    return cast, organization


async def _facts(
    installation: Installation, base_url: str, cast: dict[str, User], organization: Organization
) -> dict[str, Any]:
    """Fresh keys and sign-in links; earlier keys keep working."""
    database, owner, admin = installation.database, OwnerId(organization.id), cast["admin"].id
    plaintexts = {}
    for kind, name in ((KeyKind.INFERENCE, "Demo key"), (KeyKind.MANAGEMENT, "Demo management key")):
        _, plaintexts[kind] = await actions.create_key(
            database, installation.checker, OPERATOR, owner=owner, creator=admin, name=name, kind=kind
        )
    return {
        "base_url": base_url,
        "api_base": f"{base_url}/api/v1",
        "api_key": plaintexts[keys.KeyKind.INFERENCE],
        "management_key": plaintexts[keys.KeyKind.MANAGEMENT],
        "organization": {"id": organization.id, "slug": organization.slug},
        "users": [
            {
                "id": user.id,
                "email": user.email,
                "role": role,
                "sign_in_url": await actions.make_sign_in_link(database, user.id, public_url=base_url),
            }
            for role, user in cast.items()
        ],
    }


def _welcome(facts: dict[str, Any], model: str, *, sells: bool) -> str:
    links = {user["role"]: user["sign_in_url"] for user in facts["users"]}
    purchases = "" if sells else "\nSandbox purchases are off, because real providers are configured.\n"
    return f"""
Bursar is ready: {facts["base_url"]}

Sign in (each link works once; a restart prints new ones)
  as admin     {links["admin"]}
  as member    {links["member"]}
  as operator  {links["operator"]}
{purchases}
Your API key   {facts["api_key"]}

Try it with curl:

  curl {facts["api_base"]}/chat/completions \\
    -H "Authorization: Bearer {facts["api_key"]}" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

or with Python (pip install openai):

  from openai import OpenAI
  client = OpenAI(base_url="{facts["api_base"]}", api_key="{facts["api_key"]}")
  answer = client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Hello!"}}])
  print(answer.choices[0].message.content)

Then open the activity and see what it cost. Stop with Ctrl+C.
"""
