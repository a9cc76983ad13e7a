from typing import Any

import pytest


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: uvloop is what serves, asyncio what remains where uvloop is not to be had."""
    return "asyncio", {"use_uvloop": request.param}
