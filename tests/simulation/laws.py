"""The invariants of `money.md`, each checked against what clients were told, what providers sent, and the rows themselves.

The sums are added up here in SQL of its own: what is under test does not vouch for itself.
"""

from collections import defaultdict
from typing import Any

from bursar import ledger
from bursar.activity import Generation, GenerationStatus
from bursar.gateway import InsufficientCredits, Intent
from bursar.kernel.errors import Unavailable
from bursar.kernel.ids import GenerationId, OwnerId, new_generation_id
from bursar.kernel.money import Nanos
from bursar.storage import SYSTEM
from tests.simulation.node import Node
from tests.simulation.upstream import Sent
from tests.simulation.world import USER, Asked, Schedule

USABLE_PERCENT = 98

_AT_A_COMMIT = """
SELECT (SELECT coalesce(sum(balance_nanos), 0) FROM accounts),
       (SELECT count(*) FROM accounts WHERE owner_id <> 'system' AND balance_nanos < 0),
       (SELECT coalesce(sum(balance_nanos), 0) FROM accounts WHERE account = 'leased')
         - (SELECT coalesce(sum(amount_nanos), 0) FROM leases),
       (SELECT count(*) FROM transfers)
"""
_BALANCES_OFF = """
SELECT kept.owner_id, kept.account, kept.balance_nanos, coalesce(sum(entry.amount), 0) FROM accounts kept LEFT JOIN (
  SELECT CASE WHEN debit LIKE 'system:%' THEN 'system' ELSE owner_id END AS owner_id, debit AS account, -amount_nanos AS amount FROM transfers
  UNION ALL
  SELECT CASE WHEN credit LIKE 'system:%' THEN 'system' ELSE owner_id END, credit, amount_nanos FROM transfers
) entry ON entry.owner_id = kept.owner_id AND entry.account = kept.account
GROUP BY 1, 2, 3 HAVING kept.balance_nanos <> coalesce(sum(entry.amount), 0)
"""
_LEASES_OFF = """
SELECT a.owner_id, a.balance_nanos, coalesce(sum(l.amount_nanos), 0) FROM accounts a LEFT JOIN leases l ON l.owner_id = a.owner_id
WHERE a.account = 'leased' GROUP BY 1, 2 HAVING a.balance_nanos <> coalesce(sum(l.amount_nanos), 0)
"""
_ACTIVITY_BY_KEY_AND_DAY = """
SELECT g.owner_id, g.key_id, g.created_at / 86400000000, sum(g.cost_nanos) FROM generations g GROUP BY 1, 2, 3
"""
_CHARGES_BY_KEY_AND_DAY = """
SELECT t.owner_id, g.key_id, g.created_at / 86400000000, sum(t.amount_nanos) FROM transfers t
LEFT JOIN generations g ON g.owner_id = t.owner_id AND g.id = t.reference WHERE t.kind = 'charge' GROUP BY 1, 2, 3
"""
_ROLL_UPS_BY_KEY_AND_DAY = """
SELECT owner_id, key_id, hour / 86400000000, sum(cost_nanos) FROM usage_hours GROUP BY 1, 2, 3
"""


class Laws:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.raw = schedule.server.raw
        self.violated = schedule.violated
        self._transfers = 0

    def at_a_commit(self) -> None:
        """1 conservation, 2 append-only, 3 never negative, 4 no overspend (which with 1 is the same), leases = account."""
        total, negative, apart, transfers = self.raw.execute(_AT_A_COMMIT).fetchone()
        if total:
            self.violated(f"conservation: all accounts sum to {total}")
        if negative:
            self.violated(f"never negative: {negative} accounts are below zero")
        if apart:
            self.violated(f"leases: the leased accounts have {apart} more than the leases")
        if transfers < self._transfers:
            self.violated("append-only: a transfer is gone")
        self._transfers = transfers

    async def when_quiet(self) -> None:
        self._sums()
        rows, charges = self._rows()
        for asked in self.schedule.asked:
            self._one(asked, rows.pop(asked.key, []), charges)
        for key in rows:
            self.violated(f"nobody asked for what stands in the activity under {key}")
        await self._usable()

    def _sums(self) -> None:
        for row in self.raw.execute(_BALANCES_OFF):
            self.violated(f"conservation: {row[0]} {row[1]} has {row[2]}, its entries sum to {row[3]}")
        for row in self.raw.execute(_LEASES_OFF):
            self.violated(f"leases: {row[0]} has {row[1]} leased, its leases sum to {row[2]}")
        activity = {row[:3]: row[3] for row in self.raw.execute(_ACTIVITY_BY_KEY_AND_DAY) if row[3]}
        charges = {row[:3]: row[3] for row in self.raw.execute(_CHARGES_BY_KEY_AND_DAY)}
        roll_ups = {row[:3]: row[3] for row in self.raw.execute(_ROLL_UPS_BY_KEY_AND_DAY) if row[3]}
        if activity != charges:
            self.violated(f"activity = ledger: {_apart(activity, charges)}")
        if activity != roll_ups:
            self.violated(f"activity = roll-ups: {_apart(activity, roll_ups)}")
        granted = dict(
            self.raw.execute("SELECT owner_id, sum(amount_nanos) FROM transfers WHERE kind = 'grant' GROUP BY 1")
        )
        if granted != self.schedule.granted:
            self.violated(f"top-up once: {granted}, not {self.schedule.granted}")

    def _rows(self) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[int]]]:
        cursor = self.raw.execute("SELECT * FROM generations")
        names = [column[0] for column in cursor.description]
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in cursor:
            found = dict(zip(names, row, strict=True))
            rows[found["key_id"]].append(found)
        charges: dict[str, list[int]] = defaultdict(list)
        for reference, amount in self.raw.execute(
            "SELECT reference, amount_nanos FROM transfers WHERE kind = 'charge'"
        ):
            charges[reference].append(amount)
        return rows, charges

    def _one(self, asked: Asked, rows: list[dict[str, Any]], charges: dict[str, list[int]]) -> None:
        schedule, name = self.schedule, f"request {asked.number}"
        sent = schedule.upstreams.sent.get(asked.number, [])
        node = next(each for each in schedule.nodes if each.name == asked.node)
        if not rows:
            # What a node had not applied is lost with it.
            if sent and not node.is_lost:
                self.violated(f"dispatched ⇒ traced: {name} went upstream and left no trace")
            if asked.told() is not None and not node.is_lost:
                self.violated(f"done ⇒ charged: {name} was told {asked.told()}, and there is no row")
            return
        if len(rows) > 1:
            self.violated(f"exactly once: {name} has {len(rows)} rows")
        row = rows[0]
        cost = row["cost_nanos"]
        charged = charges.get(row["id"], [])
        if len(charged) != (1 if cost else 0) or sum(charged) != cost:
            self.violated(f"exactly once: {name} cost {cost} and was charged {charged}")
        told = asked.told()
        may_fall_short = node.forgotten_at >= asked.at  # its lease had gone back: what is gone is the house's
        if told is not None and told != cost and not (may_fall_short and cost < told):
            self.violated(f"done ⇒ charged: {name} was told {told} and charged {cost}")
        if asked.status == 402 and cost:
            self.violated(f"failure ⇒ free: {name} was refused with {asked.status} and charged {cost}")
        self._proven(name, asked, row, sent, node, may_fall_short=may_fall_short)

    def _proven(
        self, name: str, asked: Asked, row: dict[str, Any], sent: list[Sent], node: Node, *, may_fall_short: bool
    ) -> None:
        cost, status = row["cost_nanos"], GenerationStatus(row["status"])
        answered = next((each for each in reversed(sent) if each.text or each.is_complete), None)
        if answered is None:
            if cost:
                self.violated(f"failure ⇒ free: {name} brought no output and was charged {cost}")
            return
        most = answered.most(asked.body_bytes)
        if status is GenerationStatus.INTERRUPTED:
            proof = node.proof.get(row["id"], 0)
            if cost > most or cost > proof or (cost < proof and not may_fall_short):
                self.violated(f"in doubt: {name} was charged {cost}, the journal proves {proof}, {most} arrived")
        elif row["usage_source"] == "reported":
            exact = answered.reported_cost
            held_enough = answered.reported is not None and answered.reported[0] <= asked.body_bytes
            if cost > exact or (cost < exact and held_enough and not may_fall_short):
                self.violated(f"charged ⇒ proven: {name} was charged {cost}, {answered.reported} cost {exact}")
        elif cost > most or (not cost and answered.text and status is GenerationStatus.OK and not may_fall_short):
            self.violated(f"charged ⇒ proven: {name} was charged {cost} where at most {most} arrived")

    async def _usable(self) -> None:
        """Of every owner's credits at least 98 % can be held by one worker, and not a nano more than there is by any."""
        nodes = [node for node in self.schedule.nodes if not node.is_lost]
        for owner in self.schedule.owners:
            async with self.schedule.operator.snapshot(SYSTEM) as snapshot:
                available = (await ledger.balance(snapshot, owner)).available
            if not available:
                continue
            for node in nodes:
                if await self._can_hold(node, owner, available + 1):
                    self.violated(f"no overspend: {node.name} holds more than the {available} that {owner} has")
            some = available * USABLE_PERCENT // 100
            for attempt in range(3):
                if await self._can_hold(nodes[attempt % len(nodes)], owner, some):
                    break
            else:
                self.violated(f"usable: {some} of {available} of {owner} cannot be held")

    async def _can_hold(self, node: Node, owner: OwnerId, amount: int) -> bool:
        assert node.process is not None
        return await node.process.spawn(self._hold_and_void(node, owner, amount))

    async def _hold_and_void(self, node: Node, owner: OwnerId, amount: int) -> bool:
        name = new_generation_id(node.clock.now())
        intent = Intent(owner, name, Nanos(amount), "price-none", None, USER, "acme/prime")
        try:
            hold = await node.funds.hold(intent)
        except (InsufficientCredits, Unavailable):
            return False
        await node.funds.void(hold, _nothing(owner, name, node))
        return True


def _nothing(owner: OwnerId, name: GenerationId, node: Node) -> Generation:
    return Generation(
        owner_id=owner,
        id=name,
        created_at=node.clock.now(),
        key_id=None,
        user_id=USER,
        status=GenerationStatus.FAILED,
        requested_model="acme/prime",
        model="acme/prime",
    )


def _apart(one: dict[Any, int], other: dict[Any, int]) -> str:
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return ", ".join(f"{name} {one.get(name)} and {other.get(name)}" for name in names[:3])
