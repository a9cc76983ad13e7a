"""Argon2id in a bounded pool: hashing takes a fifth of a second of one core and tens of megabytes, so only so many at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bursar.kernel.errors import TooMany

Result = TypeVar("Result")

PASSWORD_WORKERS = 2
WAITING_MAX = 64
"""Beyond this many sign-ins in line, a further one is refused at once instead of joining a queue nobody would wait out."""


class Passwords:
    """Hashes and verifies. One per process."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(PASSWORD_WORKERS, thread_name_prefix="passwords")
        self._waiting = 0
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """An Argon2id hash in its own text form, parameters included."""
        return await self._run(_hash, password)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether the password fits. Without a hash (no such user) it takes the same time and says no."""
        if hashed is None:
            if self._decoy is None:
                self._decoy = await self._run(_hash, "nobody has this password")
            await self._run(_verify, password, self._decoy)
            return False
        return await self._run(_verify, password, hashed)

    async def _run(self, function: Callable[..., Result], *arguments: str) -> Result:
        if self._waiting >= WAITING_MAX:
            raise TooMany("Too many sign-ins at once.", retry_after_seconds=5, remedy="Try again in a few seconds.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _hash(password: str) -> str:
    from pwdlib.hashers.argon2 import Argon2Hasher

    return Argon2Hasher().hash(password)


def _verify(password: str, hashed: str) -> bool:
    from pwdlib.hashers.argon2 import Argon2Hasher

    return Argon2Hasher().verify(password, hashed)
