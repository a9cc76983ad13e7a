"""The HTML part of a message: the same words as its text, laid out.

The text is what is written, once; what its paragraphs are is seen from their shape:

    a line that is an address alone        a button, and the address below it for those who copy it
    lines that begin with "- "             a list; lines indented by two spaces belong to the item above
    lines indented by four spaces          a command
    everything else                        a paragraph; `words in backquotes` are code

Nothing of it is loaded from anywhere: no picture, no font, no pixel that tells who read it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from bursar.mail._messages import Message

_ADDRESS = re.compile(r"https?://\S+")
_LED_TO = re.compile(r"(Rotate it|Sign in here): (https?://\S+)")
"""The few lines in which an address follows words of ours. What people wrote themselves never becomes a link."""
_CODE = re.compile(r"`([^`]+)`")
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Block:
    """`kind`: button, list, command or paragraph. `lines`: of a list, one for each item's first line and what belongs to it."""

    kind: str
    lines: Sequence[Sequence[Markup]]
    address: str = ""


def html_of(message: Message) -> str:
    return _template().render(subject=message.subject, button=message.button, blocks=list(_blocks(message.text)))


@cache
def _template() -> jinja2.Template:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return made.get_template("message.html")


def _blocks(text: str) -> Iterator[Block]:
    items: list[list[Markup]] = []
    for paragraph in text.strip("\n").split("\n\n"):
        lines = paragraph.split("\n")
        if lines[0].startswith("- "):
            items += _items(lines)
            continue
        if items:
            yield Block("list", items)
            items = []
        if len(lines) == 1 and _ADDRESS.fullmatch(lines[0].strip()):
            yield Block("button", [], lines[0].strip())
        elif all(line.startswith("    ") for line in lines):
            yield Block("command", [[escape(line.strip()) for line in lines]])
        else:
            yield Block("paragraph", [[_written(line) for line in lines]])
    if items:
        yield Block("list", items)


def _items(lines: Sequence[str]) -> list[list[Markup]]:
    found: list[list[Markup]] = []
    for line in lines:
        if line.startswith("- "):
            found.append([])
        found[-1].append(_written(line.removeprefix("- ").strip()))
    return found


def _written(line: str) -> Markup:
    led_to = _LED_TO.fullmatch(line)
    if led_to is not None:
        return Markup('{}: <a href="{}" style="color:#4f46e5">{}</a>').format(led_to[1], led_to[2], led_to[2])
    pieces = _CODE.split(line)
    code = Markup('<code style="font-family:ui-monospace,Menlo,Consolas,monospace;font-size:13px">{}</code>')
    return Markup("").join(code.format(piece) if at % 2 else escape(piece) for at, piece in enumerate(pieces))
