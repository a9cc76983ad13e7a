"""Buying credits.

1. `start_purchase`: a page posts a purchase id made when the page was rendered (a double click is the same id); the purchase
   is pending; after the commit the processor's checkout begins.
2. The processor's signed event arrives, as often and in whatever order it likes: `receive_event`.
3. pending → paid in one conditional update, and in the same transaction the transfer with the purchase's id.
"""

from bursar import audit, identity, ledger, organizations, payments
from bursar.access import Actor, Permission
from bursar.actions._mails import notify
from bursar.actions._standing import enter, require_open
from bursar.kernel.errors import Forbidden
from bursar.kernel.ids import OrganizationId, OwnerId, PurchaseId, UserId
from bursar.kernel.money import format_credits
from bursar.ledger import Account, Transfer, TransferKind
from bursar.mail import paid_after_deletion
from bursar.organizations import NoSuchOrganization
from bursar.payments import Purchase
from bursar.processors import Checkout, EventKind, InvalidEvent, Processor
from bursar.storage import SYSTEM, Database, Scope, Tx


class PurchasesOff(Forbidden):
    """This installation sells no credits."""


async def start_purchase(
    database: Database, processor: Processor | None, actor: Actor, *, owner: OwnerId, purchase: PurchaseId, amount: str
) -> Checkout:
    """Raises `PermissionDenied`, `InvalidField`, `PurchasesOff`, `PurchaseConflict`."""
    async with database.begin(Scope(owner)) as tx:
        await enter(tx, actor, owner, Permission.BUY_CREDITS)
        if processor is None:
            raise PurchasesOff("Buying credits is turned off here.", remedy="Ask the operator to grant credits.")
        if actor.user is None:
            raise PurchasesOff("Only a person can buy credits.", remedy="Sign in.")
        nanos = payments.require_amount(amount)
        opened = await payments.open_purchase(
            tx, owner=owner, purchase=purchase, amount=nanos, processor=processor.name, created_by=UserId(actor.user)
        )
        await audit.record(tx, actor, owner, "purchase.started", purchase, amount_nanos=nanos, processor=processor.name)
    return await processor.checkout(opened.id, opened.amount)


async def receive_event(database: Database, processor: Processor, body: bytes, signature: str) -> Purchase | None:
    """Takes a processor's event; the purchase as it is afterwards, or None for one that is not ours.

    Raises `InvalidEvent` when the signature does not hold or the amount is another than was asked for.
    """
    event = processor.read_event(body, signature)
    async with database.begin(SYSTEM) as tx:
        purchase = await payments.find_purchase(tx, event.purchase)
        if purchase is None or purchase.processor != processor.name:
            return None
        if event.kind is EventKind.CANCELLED:
            await payments.mark_cancelled(tx, purchase.owner, purchase.id)
        else:
            if event.amount != purchase.amount:
                raise InvalidEvent("The amount paid is not the amount asked for.", purchase=purchase.id)
            # First, so that whoever deletes the organization waits for these credits, or we for the deletion.
            is_open = await _is_open(tx, purchase.owner)
            if await payments.mark_paid(tx, purchase.owner, purchase.id, event.id):
                await ledger.post(tx, [_credit(purchase)])
                await audit.record(
                    tx, Actor.system(), purchase.owner, "purchase.paid", purchase.id, amount_nanos=purchase.amount
                )
                if not is_open:
                    await _tell_operators(tx, purchase)
        return await payments.get_purchase(tx, purchase.owner, purchase.id)


async def _is_open(tx: Tx, owner: OwnerId) -> bool:
    try:
        await require_open(tx, owner)
    except NoSuchOrganization:
        return False
    return True


async def _tell_operators(tx: Tx, purchase: Purchase) -> None:
    """Money that was taken is never kept for nothing: it is credited where nobody spends it, and the operator settles it."""
    organization = OrganizationId(purchase.owner)
    name, amount = await organizations.get_name(tx, organization), format_credits(purchase.amount)
    operators = await identity.list_operators(tx)
    await notify(tx, [paid_after_deletion(each.email, each.name, amount, name, organization) for each in operators])


def _credit(purchase: Purchase) -> Transfer:
    return Transfer(
        purchase.owner, purchase.id, TransferKind.PURCHASE, Account.PURCHASES, Account.CREDITS, purchase.amount
    )
