"""How commands answer: a sentence for people, one JSON object with `--json`, and an exit code."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from bursar.kernel.errors import BursarError, InvalidInput, SettingsError

EXIT_REFUSED = 1
"""What was asked cannot be done; nothing was changed."""
EXIT_USAGE = 2
"""The command line itself is wrong."""
EXIT_SETTINGS = 3
"""The installation is half-configured, or the data directory or catalogue cannot be used."""


class InvalidOption(InvalidInput):
    """An option's value cannot be used."""


def answer(result: dict[str, Any], *, as_json: bool, text: str) -> None:
    """One flushed line of JSON, or the text."""
    print(json.dumps(result) if as_json else text, flush=True)


def fail(error: BursarError, *, as_json: bool) -> NoReturn:
    """Says what is wrong and what to do about it, and exits."""
    say(error, as_json=as_json)
    sys.exit(EXIT_SETTINGS if isinstance(error, SettingsError) else EXIT_REFUSED)


def say(error: BursarError, *, as_json: bool) -> None:
    """What is wrong, and what to do about it."""
    if as_json:
        about = {"name": error.name, "message": error.sentence, "remedy": error.remedy}
        print(json.dumps({"error": about}), flush=True)
    else:
        print(f"bursar: {error.sentence}", file=sys.stderr)
        if error.remedy and error.remedy not in error.sentence:
            print(f"        {error.remedy}", file=sys.stderr)


@contextmanager
def refusals(*, as_json: bool) -> Iterator[None]:
    """Whatever Bursar refuses inside the block becomes a sentence and an exit code, never a traceback."""
    try:
        yield
    except BursarError as error:
        fail(error, as_json=as_json)
