"""Who used which key from where, remembered until somebody writes it down: a request pays for one entry in a dictionary."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from bursar.gateway._admit import Caller
from bursar.kernel.ids import KeyId, OwnerId

REMEMBERED_MAX = 100_000
"""Keys whose last written address is known: one that did not change is not written again."""


class Uses:
    """`trusted`: addresses and networks of the proxies whose X-Forwarded-For is believed."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._trusted = [ipaddress.ip_network(each, strict=False) for each in trusted]
        self._seen: dict[KeyId, tuple[OwnerId, Mapping[str, Any]]] = {}
        self._written: dict[KeyId, str] = {}

    def note(self, caller: Caller, scope: Mapping[str, Any]) -> None:
        """`scope` as ASGI has it; what it says of the client is looked at when the use is taken, not now."""
        if caller.key is not None:
            self._seen[caller.key] = (caller.owner, scope)

    def take(self) -> dict[tuple[OwnerId, KeyId], str]:
        """The addresses that are new since the last time, which counts as written."""
        seen, self._seen = self._seen, {}
        if len(self._written) > REMEMBERED_MAX:
            self._written.clear()
        new = {}
        for key, (owner, scope) in seen.items():
            address = self._address(scope)
            if address is not None and self._written.get(key) != address:
                self._written[key] = new[owner, key] = address
        return new

    def give_back(self, taken: Mapping[tuple[OwnerId, KeyId], str]) -> None:
        """They could not be written: the next use of each is new again."""
        for _, key in taken:
            self._written.pop(key, None)

    def _address(self, scope: Mapping[str, Any]) -> str | None:
        """The last address that no trusted proxy vouches for, as the server's own pages see it."""
        client = scope.get("client")
        if client is None:
            return None
        address = str(client[0])
        if self._is_trusted(address):
            told = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
            for each in reversed([part.strip() for part in told.split(",") if part.strip()]):
                if _parsed(each) is None:
                    break
                address = each
                if not self._is_trusted(each):
                    break
        return address

    def _is_trusted(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None
