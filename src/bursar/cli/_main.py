"""The commands. Each reads its options, calls one operation, and answers."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from bursar import __version__
from bursar.cli._output import answer, refusals
from bursar.kernel.errors import SettingsError

app = typer.Typer(
    name="bursar",
    help="Bursar: a self-hosted LLM gateway for companies.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
users = typer.Typer(help="People.", no_args_is_help=True, rich_markup_mode=None)
organizations = typer.Typer(help="Organizations.", no_args_is_help=True, rich_markup_mode=None)
members = typer.Typer(help="Who is in which organization.", no_args_is_help=True, rich_markup_mode=None)
credits_ = typer.Typer(help="Credits.", no_args_is_help=True, rich_markup_mode=None)
ledger = typer.Typer(help="The books.", no_args_is_help=True, rich_markup_mode=None)
moves = typer.Typer(
    help="Personal credits that people ask to move to an organization.", no_args_is_help=True, rich_markup_mode=None
)
nodes = typer.Typer(help="Nodes and their workers.", no_args_is_help=True, rich_markup_mode=None)
keys = typer.Typer(help="API keys and management keys.", no_args_is_help=True, rich_markup_mode=None)
for name, group in (
    ("users", users),
    ("organizations", organizations),
    ("members", members),
    ("credits", credits_),
    ("keys", keys),
    ("ledger", ledger),
    ("nodes", nodes),
):
    app.add_typer(group, name=name)
credits_.add_typer(moves, name="moves")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The data directory (BURSAR_DATA_DIR, else ./data).", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Port = Annotated[
    int | None, typer.Option("--port", help="The port to listen on; 0 takes a free one.", show_default=False)
]
Host = Annotated[str | None, typer.Option("--host", help="The address to listen on.", show_default=False)]
OfOrganization = Annotated[str, typer.Option("--organization", help="The organization's slug.")]
Email = Annotated[str, typer.Option("--email")]
RoleName = Annotated[str, typer.Option("--role", help="admin or member.")]
User = Annotated[str | None, typer.Option("--user", help="A person's e-mail address.", show_default=False)]
Organization = Annotated[
    str | None, typer.Option("--organization", help="The organization's slug.", show_default=False)
]

Operator = Annotated[str, typer.Option("--operator", help="Your e-mail address, as an operator.")]


def run() -> None:
    """The entry point of the command."""
    app()


def _example(text: str) -> str:
    return f"Example: {text}"


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        print(f"bursar {__version__}")
        raise typer.Exit
    del context


@app.command(epilog=_example("bursar demo --port 8484 --data-dir ./data"))
def demo(
    port: Port = None,
    data_dir: DataDir = None,
    host: Host = None,
    as_json: Json = False,
    with_history: Annotated[
        bool, typer.Option("--with-history", help="Add a month of plausible activity, once.")
    ] = False,
    real_providers: Annotated[
        bool, typer.Option("--real-providers", help="Also use the providers whose API keys are in the environment.")
    ] = False,
    pace: Annotated[
        float, typer.Option("--pace", help="How slow the demo provider is: 1 human, 0 at once.", min=0)
    ] = 1.0,
) -> None:
    """Start a ready installation: an operator, an organization with an admin and a member, credits, a key."""
    from bursar.cli import _demo

    with refusals(as_json=as_json):
        _demo.run(
            port=port,
            data_dir=data_dir,
            host=host,
            as_json=as_json,
            with_history=with_history,
            real_providers=real_providers,
            pace=pace,
        )


@app.command(epilog=_example("BURSAR_PUBLIC_URL=https://bursar.example.com bursar serve --host 0.0.0.0"))
def serve(
    port: Port = None,
    data_dir: DataDir = None,
    host: Host = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="How many processes serve; more than one needs PostgreSQL.", show_default=False),
    ] = None,
) -> None:
    """Start Bursar for production. The first start prints a link that makes you its operator."""
    from bursar.cli import _serve

    with refusals(as_json=False):
        _serve.run(port=port, data_dir=data_dir, host=host, workers=workers)


@app.command(epilog=_example("bursar migrate --data-dir ./data"))
def migrate(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Bring the database's schema to this version's. `serve` does the same when it starts."""
    from bursar.app import open_installation
    from bursar.storage import head_revision

    async def work() -> None:
        await (await open_installation(_settings(data_dir))).close()

    with refusals(as_json=as_json):
        asyncio.run(work())
        head = head_revision()
        answer({"schema": head}, as_json=as_json, text=f"The schema is {head}.")


@app.command(epilog=_example("bursar doctor --data-dir ./data"))
def doctor(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check the settings, the data directory, the database, the catalogue and its credentials. Changes nothing."""
    from bursar.cli import _doctor

    with refusals(as_json=as_json):
        _doctor.run(data_dir=data_dir, as_json=as_json)


@app.command(epilog=_example("bursar selftest --kill --seconds 60"))
def selftest(
    kill: Annotated[bool, typer.Option("--kill", help="Kill a server of its own under load, again and again.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", help="For how long.", min=1)] = 60.0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The same moments as an earlier run.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show on this machine that charges survive kill -9 exactly once. Uses a scratch directory; touches no installation."""
    from bursar.cli import _selftest

    if not kill:
        raise typer.BadParameter("say what to test: --kill")
    with refusals(as_json=as_json):
        _selftest.run(seconds=seconds, seed=seed, as_json=as_json)


@app.command(epilog=_example("bursar backup /backups/2026-11-24 --data-dir ./data"))
def backup(
    folder: Annotated[Path, typer.Argument(help="A folder that is empty or does not exist.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Copy database and journals, beside a running server or without one. The installation's secret is not in it."""
    from bursar.cli import _backup

    with refusals(as_json=as_json):
        _backup.backup(folder, data_dir=data_dir, as_json=as_json)


@app.command(epilog=_example("bursar restore /backups/2026-11-24 --data-dir ./new"))
def restore(
    folder: Annotated[Path, typer.Argument(help="What `bursar backup` wrote.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Put a backup into an empty data directory (and an empty PostgreSQL database), and verify it."""
    from bursar.cli import _backup

    with refusals(as_json=as_json):
        _backup.restore(folder, data_dir=data_dir, as_json=as_json)


@users.command("add", epilog=_example("bursar users add --email ana@example.com --name 'Ana Ruiz'"))
def users_add(
    email: Email,
    name: Annotated[str, typer.Option("--name")],
    verified: Annotated[bool, typer.Option("--verified", help="You vouch for the address.")] = False,
    operator: Annotated[bool, typer.Option("--operator", help="Make the person an operator.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Add a person; prints the link by which they choose a password."""
    result = _operate(data_dir, as_json, "users.add", email=email, name=name, verified=verified, operator=operator)
    answer(
        result,
        as_json=as_json,
        text=f"Added {result['email']}. They choose a password here:\n{result['set_password_url']}",
    )


@users.command("reset", epilog=_example("bursar users reset --email ana@example.com"))
def users_reset(
    email: Email,
    second_factor: Annotated[
        bool, typer.Option("--second-factor", help="Instead: turn off the second factor of somebody who lost it.")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Print a new link to choose a password: the way back in."""
    if second_factor:
        result = _operate(data_dir, as_json, "users.reset_second_factor", email=email)
        answer(
            result,
            as_json=as_json,
            text=f"The second factor of {result['email']} is off and they are signed out. They were told by mail.",
        )
        return
    result = _operate(data_dir, as_json, "users.reset", email=email)
    answer(
        result, as_json=as_json, text=f"{result['email']} chooses a new password here:\n{result['set_password_url']}"
    )


@users.command("sign-out", epilog=_example("bursar users sign-out --email ana@example.com"))
def users_sign_out(email: Email, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Sign a person out everywhere, at once. API keys go on working."""
    result = _operate(data_dir, as_json, "users.sign_out", email=email)
    answer(result, as_json=as_json, text=f"{result['email']} is signed out: sessions ended {result['sessions_ended']}.")


@users.command("list", epilog=_example("bursar users list --json"))
def users_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List everybody."""
    result = _operate(data_dir, as_json, "users.list")
    lines = [f"{user['email']}  {user['name']}{'  operator' if user['operator'] else ''}" for user in result["users"]]
    answer(result, as_json=as_json, text="\n".join(lines) or "Nobody yet.")


@organizations.command(
    "add", epilog=_example("bursar organizations add --name 'Acme Robotics' --admin ana@example.com")
)
def organizations_add(
    name: Annotated[str, typer.Option("--name")],
    admin: Annotated[str, typer.Option("--admin", help="The e-mail address of its first admin.")],
    slug: Annotated[str, typer.Option("--slug", help="Its name in URLs; made from the name unless given.")] = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create an organization."""
    result = _operate(data_dir, as_json, "organizations.add", name=name, slug=slug, admin=admin)
    answer(result, as_json=as_json, text=f"Created {result['name']} as {result['slug']}.")


@organizations.command("list", epilog=_example("bursar organizations list"))
def organizations_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the organizations with their members and seats."""
    result = _operate(data_dir, as_json, "organizations.list")
    lines = [
        f"{each['slug']}  {each['name']}  {each['members']} of {each['seats']} seats"
        for each in result["organizations"]
    ]
    answer(result, as_json=as_json, text="\n".join(lines) or "None yet.")


@organizations.command("seats", epilog=_example("bursar organizations seats acme 25"))
def organizations_seats(
    organization: Annotated[str, typer.Argument(help="The organization's slug.")],
    seats: Annotated[int, typer.Argument(help="How many members it may have; never below the seats in use.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Raise or lower how many members an organization may have."""
    result = _operate(data_dir, as_json, "organizations.seats", organization=organization, seats=seats)
    answer(result, as_json=as_json, text=f"{result['slug']} has {result['seats']} seats now.")


@organizations.command(
    "settle",
    epilog=_example("bursar organizations settle acme --to-user ana@example.com --reason 'The contract ended'"),
)
def organizations_settle(
    organization: Annotated[str, typer.Argument(help="The organization's slug; or its id, when it was deleted.")],
    reason: Annotated[str, typer.Option("--reason", help="Stands in the statements, the audit log and the mails.")],
    to_organization: Annotated[
        str | None, typer.Option("--to-organization", help="The slug of who gets them.", show_default=False)
    ] = None,
    to_user: Annotated[
        str | None, typer.Option("--to-user", help="The e-mail address of who gets them.", show_default=False)
    ] = None,
    write_off: Annotated[bool, typer.Option("--write-off", help="Nobody gets them.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Move all credits that an organization has left to somebody, or write them off, so that it can be deleted."""
    result = _operate(
        data_dir,
        as_json,
        "organizations.settle",
        organization=organization,
        to_organization=to_organization,
        to_user=to_user,
        write_off=write_off,
        reason=reason,
    )
    where = "written off" if result["to"] is None else f"moved to {result['to']}"
    answer(result, as_json=as_json, text=f"{result['amount']} was {where}.")


@members.command(
    "add", epilog=_example("bursar members add --organization acme --email tomas@example.com --role member")
)
def members_add(
    organization: OfOrganization,
    email: Email,
    role: RoleName = "member",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Put a person into an organization; never past its cap."""
    result = _operate(data_dir, as_json, "members.add", organization=organization, email=email, role=role)
    answer(result, as_json=as_json, text=f"{email} is {result['role']} of {organization}.")


@members.command("list", epilog=_example("bursar members list --organization acme"))
def members_list(
    organization: OfOrganization,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List who is in an organization, and who is invited."""
    result = _operate(data_dir, as_json, "members.list", organization=organization)
    lines = [f"{result['seats']['taken']} of {result['seats']['maximum']} seats"]
    lines += [f"{each['email']}  {each['name']}  {each['role']}" for each in result["members"]]
    lines += [f"{each['email']}  invited as {each['role']}, {each['state']}" for each in result["invitations"]]
    answer(result, as_json=as_json, text="\n".join(lines))


@members.command(
    "invite", epilog=_example("bursar members invite --organization acme 'tomas@example.com, nora@example.com'")
)
def members_invite(
    addresses: Annotated[str, typer.Argument(help="E-mail addresses, separated by commas.")],
    organization: OfOrganization,
    role: RoleName = "member",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Invite people by e-mail: each gets a link that works once, for seven days."""
    result = _operate(data_dir, as_json, "members.invite", organization=organization, addresses=addresses, role=role)
    lines = [f"{each['email']}: {each['text'] or 'invited'}" for each in result["invitations"]]
    answer(result, as_json=as_json, text="\n".join(lines))


@members.command("revoke", epilog=_example("bursar members revoke --organization acme --email nora@example.com"))
def members_revoke(
    organization: OfOrganization,
    email: Annotated[str, typer.Option("--email", help="Who was invited.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Revoke an invitation that waits: its link is dead and its seat free."""
    result = _operate(data_dir, as_json, "members.revoke", organization=organization, email=email)
    answer(result, as_json=as_json, text=f"The invitation of {result['email']} is revoked.")


@members.command(
    "role", epilog=_example("bursar members role --organization acme --email tomas@example.com --role admin")
)
def members_role(
    organization: OfOrganization,
    email: Email,
    role: RoleName,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a member an admin, or an admin a member; never the last admin."""
    result = _operate(data_dir, as_json, "members.role", organization=organization, email=email, role=role)
    answer(result, as_json=as_json, text=f"{result['user']['email']} is {result['role']} of {organization}.")


@members.command("remove", epilog=_example("bursar members remove --organization acme --email tomas@example.com"))
def members_remove(
    organization: OfOrganization,
    email: Email,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Take a person out of an organization. The keys they created there are disabled; their personal account stays."""
    result = _operate(data_dir, as_json, "members.remove", organization=organization, email=email)
    keys = "".join(f"\nDisabled: {each['name']} ({each['label']})" for each in result["keys_disabled"])
    answer(result, as_json=as_json, text=f"{result['user']['email']} is no longer in {organization}.{keys}")


@credits_.command(
    "grant", epilog=_example("bursar credits grant --organization acme --amount 25 --reason 'first month'")
)
def credits_grant(
    amount: Annotated[str, typer.Option("--amount", help="Credits, like 25 or 0.50; 1 credit is 1 USD.")],
    reason: Annotated[str, typer.Option("--reason", help="Stands in the statement and the audit log.")],
    organization: Organization = None,
    user: User = None,
    transfer: Annotated[
        str | None,
        typer.Option(
            "--transfer", help="An id of your own: a repeat with the same id grants once.", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Give credits to an organization or a person."""
    result = _operate(
        data_dir,
        as_json,
        "credits.grant",
        organization=organization,
        email=user,
        amount=amount,
        reason=reason,
        transfer=transfer,
    )
    answer(result, as_json=as_json, text=f"Granted {result['amount']} ({result['transfer']}).")


@moves.command("list", epilog=_example("bursar credits moves list"))
def moves_list(
    answered: Annotated[
        bool, typer.Option("--answered", help="Those that were answered, not those that wait.")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the requests to move credits that wait for you."""
    result = _operate(data_dir, as_json, "credits.moves.list", answered=answered)
    lines = [
        f"{each['move']}  {each['amount']}  {each['from']} -> {each['organization']}  {each['state']}"
        + (f"  ({each['note']})" if each["note"] else "")
        for each in result["moves"]
    ]
    answer(result, as_json=as_json, text="\n".join(lines) or "None.")


@moves.command("carry-out", epilog=_example("bursar credits moves carry-out mov_01J8…"))
def moves_carry_out(
    move: Annotated[str, typer.Argument(help="The request's id.")],
    note: Annotated[str, typer.Option("--note", help="A word for the person.")] = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Move the credits, all of them or none, once."""
    result = _operate(data_dir, as_json, "credits.moves.answer", move=move, answer="carry_out", note=note)
    answer(result, as_json=as_json, text=f"{result['amount']} was moved to {result['organization']}.")


@moves.command("refuse", epilog=_example("bursar credits moves refuse mov_01J8… --note 'Promotional credits stay'"))
def moves_refuse(
    move: Annotated[str, typer.Argument(help="The request's id.")],
    note: Annotated[str, typer.Option("--note", help="Why, for the person who asked.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Let the credits stay where they are, and say why."""
    result = _operate(data_dir, as_json, "credits.moves.answer", move=move, answer="refuse", note=note)
    answer(result, as_json=as_json, text=f"Refused: {result['amount']} stays with {result['from']}.")


@ledger.command("verify", epilog=_example("bursar ledger verify --data-dir ./data --json"))
def ledger_verify(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Add everything up again, beside a running server or without one. Exits with 1 on drift, with 2 when it could not look."""
    from bursar.cli import _ledger

    _ledger.run(data_dir=data_dir, as_json=as_json)


@ledger.command(
    "export", epilog=_example("bursar ledger export --format beancount --from 2026-11-01 -o november.beancount")
)
def ledger_export(
    format_: Annotated[str, typer.Option("--format", help="beancount or csv.")],
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner", help="An organization's slug, a person's e-mail address, or an id.", show_default=False
        ),
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="The first day, UTC.", show_default=False)] = None,
    until: Annotated[str | None, typer.Option("--to", help="The day after the last.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file; stdout unless given.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Write the books as double entry, exact to the nano. Reads beside a running server."""
    from bursar.cli import _ledger

    with refusals(as_json=False):
        _ledger.export(data_dir=data_dir, format_=format_, owner=owner, since=since, until=until, output=output)


@ledger.command(
    "correct",
    epilog=_example(
        "bursar ledger correct --organization acme --transfer charge-gen-01k… --reason 'wrong price' --operator ana@example.com"
    ),
)
def ledger_correct(
    transfer: Annotated[str, typer.Option("--transfer", help="The transfer to reverse, or a part of it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; its owner reads it in the statement.")],
    operator: Operator,
    amount: Annotated[
        str | None, typer.Option("--amount", help="Credits; all that is left of the transfer unless given.")
    ] = None,
    organization: Organization = None,
    user: User = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Propose a correction. Nothing moves until it is confirmed."""
    result = _operate(
        data_dir,
        as_json,
        "ledger.correct",
        organization=organization,
        email=user,
        transfer=transfer,
        amount=amount,
        reason=reason,
        operator=operator,
    )
    text = f"Proposed {result['amount']} ({result['correction']}). Now another operator confirms it:\n"
    text += f"bursar ledger confirm --correction {result['correction']} --operator E-MAIL"
    answer(result, as_json=as_json, text=text)


@ledger.command("confirm", epilog=_example("bursar ledger confirm --correction tr_01k… --operator tomas@example.com"))
def ledger_confirm(
    correction: Annotated[str, typer.Option("--correction")],
    operator: Operator,
    alone: Annotated[
        bool, typer.Option("--alone", help="You proposed it, and are the installation's only operator.")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Carry out a correction that another operator proposed."""
    result = _operate(data_dir, as_json, "ledger.confirm", correction=correction, operator=operator, alone=alone)
    answer(result, as_json=as_json, text=f"Moved {result['amount']} from {result['from']} to {result['to']}.")


@ledger.command("withdraw", epilog=_example("bursar ledger withdraw --correction tr_01k… --operator ana@example.com"))
def ledger_withdraw(
    correction: Annotated[str, typer.Option("--correction")],
    operator: Operator,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Drop a correction that was proposed."""
    result = _operate(data_dir, as_json, "ledger.withdraw", correction=correction, operator=operator)
    answer(result, as_json=as_json, text=f"Withdrew {result['correction']}.")


@ledger.command("corrections", epilog=_example("bursar ledger corrections"))
def ledger_corrections(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List corrections, proposed and posted."""
    result = _operate(data_dir, as_json, "ledger.corrections")
    lines = [
        f"{each['correction']}  {each['state']}  {each['amount']} of {each['corrects']}: {each['reason']}"
        for each in result["corrections"]
    ]
    answer(result, as_json=as_json, text="\n".join(lines) or "None yet.")


@keys.command("add", epilog=_example("bursar keys add --organization acme --email ana@example.com --name ci"))
def keys_add(
    email: Annotated[str, typer.Option("--email", help="Whose key it is.")],
    name: Annotated[str, typer.Option("--name", help="What will use it.")],
    organization: Organization = None,
    management: Annotated[
        bool, typer.Option("--management", help="A management key, which never calls models.")
    ] = False,
    expires_at: Annotated[
        str | None,
        typer.Option("--expires-at", help="From then on it is refused: 2027-01-31T00:00:00Z.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it, once. Billed to the organization, or to the person without one."""
    result = _operate(
        data_dir,
        as_json,
        "keys.add",
        organization=organization,
        email=email,
        name=name,
        management=management,
        expires_at=expires_at,
    )
    answer(result, as_json=as_json, text=f"{result['key']}\nCopy it now: it is not stored and not shown again.")


KeyHash = Annotated[str, typer.Option("--hash", help="The key's SHA-256, as `keys add --json` prints it.")]


@keys.command("rotate", epilog=_example("bursar keys rotate --hash 4f0c… --grace-seconds 3600"))
def keys_rotate(
    key_hash: KeyHash,
    grace_seconds: Annotated[
        int, typer.Option("--grace-seconds", help="For so long the old secret still works; 0: it ends at once.")
    ] = 86_400,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Give a key a new secret and print it, once. It stays the same key; its hash is another from now on."""
    result = _operate(data_dir, as_json, "keys.rotate", key_hash=key_hash, grace_seconds=grace_seconds)
    ends = f"The old secret ends at {result['previous_until']}." if grace_seconds else _heard(result)
    answer(result, as_json=as_json, text=f"{result['key']}\nCopy it now: it is not stored and not shown again. {ends}")


@keys.command("disable", epilog=_example("bursar keys disable --hash 4f0c…"))
def keys_disable(key_hash: KeyHash, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Disable a key at once, on every node; streams on it are cut."""
    result = _operate(data_dir, as_json, "keys.disable", key_hash=key_hash, disabled=True)
    answer(result, as_json=as_json, text=f"Disabled {result['id']}. {_heard(result)}")


@keys.command("enable", epilog=_example("bursar keys enable --hash 4f0c…"))
def keys_enable(key_hash: KeyHash, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a disabled key work again."""
    result = _operate(data_dir, as_json, "keys.disable", key_hash=key_hash, disabled=False)
    answer(result, as_json=as_json, text=f"Enabled {result['id']}.")


@keys.command("delete", epilog=_example("bursar keys delete --hash 4f0c…"))
def keys_delete(key_hash: KeyHash, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Delete a key for good, on every node; streams on it are cut. Its activity stays."""
    result = _operate(data_dir, as_json, "keys.delete", key_hash=key_hash)
    answer(result, as_json=as_json, text=f"Deleted {result['id']}. {_heard(result)}")


def _heard(result: dict[str, Any]) -> str:
    """Whether every server knows."""
    if result["workers"] is None:
        return "Whether every server knows it could not be asked."
    return f"{result['acknowledged_by']} of {result['workers']} servers have confirmed it."


@nodes.command("list", epilog=_example("bursar nodes list"))
def nodes_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the nodes that serve, or served, from this database, with their workers, leases and lag."""
    result = _operate(data_dir, as_json, "nodes.list")
    lines = []
    for node in result["nodes"]:
        mark = " (this one)" if node["this"] else ""
        lines.append(f"{node['id']}{mark}  {node['host'] or 'unknown'}  seen {node['seen_seconds_ago']} s ago")
        for worker in node["workers"]:
            leases = worker["leases"]
            lines.append(
                f"  {worker['id']}  {worker['state']}  leases of {leases['owners']} owners, "
                f"{leases['amount']} credits  {worker['watermark_lag']} records behind"
            )
    answer(result, as_json=as_json, text="\n".join(lines) or "None yet.")


@nodes.command("forget", epilog=_example("bursar nodes forget node_5a9b75f7eb09b02f"))
def nodes_forget(
    node: Annotated[str, typer.Argument(help="A node, or one of its workers, as `nodes list` names them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Give up a node that never comes back: what it had reserved returns to the owners."""
    if not yes:
        plan = _operate(data_dir, as_json, "nodes.forget", node=node, confirmed=False)
        for each in plan["returns"]:
            typer.echo(f"{each['amount']} credits return to {each['owner']}", err=True)
        lost = "What these workers had not brought into the database yet is lost to the house: "
        typer.confirm(f"{lost}{', '.join(plan['workers'])}. Forget them?", abort=True, err=True)
    result = _operate(data_dir, as_json, "nodes.forget", node=node, confirmed=True)
    returned = [f"{each['amount']} credits returned to {each['owner']}." for each in result["returns"]]
    answer(result, as_json=as_json, text="\n".join([*returned, f"Forgot {', '.join(result['workers'])}."]))


def _settings(data_dir: Path | None) -> Any:
    from bursar.settings import read_settings

    return read_settings(data_dir=data_dir)


def _operate(data_dir: Path | None, as_json: bool, operation: str, **arguments: Any) -> dict[str, Any]:
    """In the running server if there is one, else here, holding the data directory meanwhile."""
    from bursar.cli import _socket

    with refusals(as_json=as_json):
        settings = _settings(data_dir)
        if not settings.data_dir.is_dir():
            raise SettingsError(
                f"There is no data directory {settings.data_dir}.",
                remedy="Name the right one with --data-dir, or make a new installation with: bursar migrate --data-dir DIR",
            )
        result = _socket.call(settings.data_dir.absolute() / "bursar.sock", operation, arguments)
        return result if result is not None else asyncio.run(_locally(settings, operation, arguments))
    raise AssertionError


async def _locally(settings: Any, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    from bursar.app import open_installation
    from bursar.cli._operations import operate

    installation = await open_installation(settings)
    try:
        return await operate(installation, operation, arguments)
    finally:
        await installation.close()
