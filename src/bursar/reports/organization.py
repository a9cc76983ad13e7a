"""One organization as a whole: what its settings show, and what goes with it when it is deleted."""

from dataclasses import dataclass

from sqlalchemy import func, select

from bursar import ledger, organizations
from bursar.kernel.ids import OrganizationId, OwnerId
from bursar.keys import tables as key_tables
from bursar.ledger import Balance
from bursar.organizations import Organization, Seats
from bursar.payments import tables as payment_tables
from bursar.storage import Snapshot

_keys = key_tables.keys
_purchases = payment_tables.purchases


@dataclass(frozen=True)
class Outline:
    """`keys` that are not deleted; `purchases` that wait for the processor."""

    organization: Organization
    seats: Seats
    balance: Balance
    keys: int
    purchases: int


async def outline(snapshot: Snapshot, organization: OrganizationId) -> Outline:
    """Raises `NoSuchOrganization`."""
    owner = OwnerId(organization)
    return Outline(
        organization=await organizations.get_organization(snapshot, organization),
        seats=await organizations.count_seats(snapshot, organization),
        balance=await ledger.balance(snapshot, owner),
        keys=int(
            await snapshot.scalar(
                select(func.count()).select_from(_keys).where(_keys.c.owner_id == owner, _keys.c.deleted_at.is_(None))
            )
        ),
        purchases=int(
            await snapshot.scalar(
                select(func.count())
                .select_from(_purchases)
                .where(_purchases.c.owner_id == owner, _purchases.c.state == "pending")
            )
        ),
    )
