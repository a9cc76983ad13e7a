"""Tables to download."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from tempfile import SpooledTemporaryFile

from starlette.responses import Response, StreamingResponse

EXPORT_MEMORY_BYTES = 4 * 1024 * 1024
EXPORT_CHUNK_BYTES = 64 * 1024
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Rows = Sequence[Sequence[object]]


async def csv_answer(name: str, columns: Sequence[str], batches: AsyncIterator[Rows]) -> Response:
    """A file of this name. Written aside, as the caller's snapshot is open, and sent afterwards, so that a slow download holds no
    connection to the database."""
    file = SpooledTemporaryFile(max_size=EXPORT_MEMORY_BYTES, mode="w+b")  # noqa: SIM115 - closed when it was sent
    file.write(_lines([columns]))
    async for batch in batches:
        file.write(_lines(batch))
    file.seek(0)
    return StreamingResponse(
        _chunks(file),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def harmless(text: str) -> str:
    """Names are typed by people, and a spreadsheet would run one that starts like a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _lines(rows: Rows) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


async def _chunks(file: "SpooledTemporaryFile[bytes]") -> AsyncIterator[bytes]:
    with file:
        while chunk := file.read(EXPORT_CHUNK_BYTES):
            yield chunk
