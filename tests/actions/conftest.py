"""Passwords of one process, hashed quickly: what is tested here is not how long Argon2 takes."""

from collections.abc import Iterator

import pytest

from bursar.identity import Passwords
from bursar.identity import _passwords as module


@pytest.fixture
def passwords(monkeypatch: pytest.MonkeyPatch) -> Iterator[Passwords]:
    from pwdlib.hashers.argon2 import Argon2Hasher

    quick = Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(module, "_hash", quick.hash)
    made = Passwords()
    yield made
    made.close()
