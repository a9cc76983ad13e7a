"""The sandbox: a processor that moves no money. Its checkout is a page of Bursar's own, its events are signed like a real one's."""

import hmac
import json

from bursar.kernel import secrets
from bursar.kernel.ids import PurchaseId
from bursar.kernel.money import Nanos
from bursar.processors._protocol import Checkout, EventKind, InvalidEvent, ProcessorEvent


class SandboxProcessor:
    name = "sandbox"

    def __init__(self, installation_secret: bytes) -> None:
        self._secret = secrets.derive(installation_secret, "sandbox-events")

    async def checkout(self, purchase: PurchaseId, amount: Nanos) -> Checkout:
        del amount
        return Checkout(f"/sandbox/checkout/{purchase}")

    def event(self, kind: EventKind, purchase: PurchaseId, amount: Nanos) -> tuple[bytes, str]:
        """What the pretended processor sends when its button is pressed: body and signature."""
        body = json.dumps(
            {"id": f"sandbox-{kind.value}-{purchase}", "kind": kind.value, "purchase": purchase, "amount": amount}
        ).encode()
        return body, self._sign(body)

    def read_event(self, body: bytes, signature: str) -> ProcessorEvent:
        if not hmac.compare_digest(self._sign(body).encode(), signature.encode("utf-8", "replace")):
            raise InvalidEvent("The event's signature does not hold.")
        try:
            event = json.loads(body)
            return ProcessorEvent(
                event["id"], EventKind(event["kind"]), PurchaseId(event["purchase"]), Nanos(int(event["amount"]))
            )
        except (ValueError, KeyError, TypeError):
            raise InvalidEvent("The event cannot be read.") from None

    def _sign(self, body: bytes) -> str:
        return hmac.digest(self._secret, body, "sha256").hex()
