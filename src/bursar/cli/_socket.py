"""The operator's socket: how a command works beside a running server.

One JSON object per line each way, over a Unix socket in the data directory that only its owner can open. The database has one
writer then, the server, and what it caches hears of every change.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bursar.kernel.errors import BursarError

if TYPE_CHECKING:  # a command beside a server must not wait for the whole application to be imported
    from bursar.app import Installation

LINE_BYTES_MAX = 1024 * 1024
ANSWER_SECONDS_MAX = 60
BACKLOG = 64

_log = logging.getLogger("bursar.socket")


class RemoteRefusal(BursarError):
    """What the server refused with, under its own name."""

    def __init__(self, name: str, sentence: str, remedy: str | None) -> None:
        super().__init__(sentence, remedy=remedy)
        self._name = name

    @property
    def name(self) -> str:
        return self._name


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The same file by a name short enough for a socket address (108 bytes), however deep the data directory lies."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def bind(path: Path) -> socket.socket:
    """The socket at that place, listening. The data directory's lock is held, so whatever is left there is stale."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with _short(path) as name:
            listening.bind(name)
    finally:
        os.umask(before)
    listening.listen(BACKLOG)
    return listening


async def answer_on(listening: socket.socket, installation: "Installation") -> asyncio.Server:
    """Answers commands until closed; several processes may answer on one socket."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                writer.write(json.dumps(await _answer(installation, line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    return await asyncio.start_unix_server(serve, sock=listening, limit=LINE_BYTES_MAX)


def call(path: Path, name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """The running server's answer, or None when no server listens there. Raises `RemoteRefusal`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS_MAX)
        try:
            with _short(path) as short:
                connection.connect(short)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return None
        connection.sendall(json.dumps({"name": name, "arguments": arguments}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer: dict[str, Any] = json.loads(lines.readline(LINE_BYTES_MAX))
    if "error" in answer:
        raise RemoteRefusal(answer["error"]["name"], answer["error"]["message"], answer["error"]["remedy"])
    result: dict[str, Any] = answer["result"]
    return result


async def _answer(installation: "Installation", line: bytes) -> dict[str, Any]:
    from bursar.cli._operations import operate

    try:
        request = json.loads(line)
        return {"result": await operate(installation, request["name"], request["arguments"])}
    except BursarError as error:
        return {"error": {"name": error.name, "message": error.sentence, "remedy": error.remedy}}
    except Exception:  # noqa: BLE001 - the command gets an answer whatever happens; the server's log has the rest
        _log.exception("an operation failed")
        return {"error": {"name": "Broken", "message": "The server failed at this.", "remedy": "Its log says why."}}
