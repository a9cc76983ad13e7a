"""Nothing a request is made of waits for the garbage collector: what that costs grows with how much is there.

Asked for a model that there is not, so that no database, whose library makes garbage of its own, comes in between.
"""

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn

from bursar.cli._http import protocol_for
from bursar.cli._serving import bind
from tests.gateway.world import whole

pytestmark = pytest.mark.anyio
REQUESTS = 50


async def test_requests_leave_no_garbage_behind(scripted: Callable[..., Any]):
    world = await scripted([whole("Hi")])
    listening = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        world.gateway, loop="none", http=protocol_for(world.gateway), lifespan="off", ws="none", log_config=None
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    body = json.dumps({"model": "acme/none", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    request = (
        f"POST /api/v1/chat/completions HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {world.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
    reader, writer = await asyncio.open_connection(*listening.getsockname())

    async def ask() -> None:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 400"), head
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))

    await ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(REQUESTS):
            await ask()
        assert gc.collect() < REQUESTS
    finally:
        gc.enable()
        writer.close()
        server.should_exit = True
        await serving
