"""What whoever asked for something wants written in the transaction that did it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from bursar.storage import Tx

Made = TypeVar("Made")

Then = Callable[[Tx, Made], Awaitable[None]]
"""Called with what was made, last in its transaction: what it writes is there if and only if the thing is, and what it raises undoes both."""
