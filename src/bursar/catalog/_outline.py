"""Where each table and key of a TOML text stands: `tomllib` says what is written, not on which line.

Reads only text that `tomllib` has accepted, so it may skim: statements start where no string or bracket is open.
"""

import re
from dataclasses import dataclass, field


@dataclass(slots=True)
class Table:
    """One `[[name]]` (or `[name]`): the line of its header and of each key."""

    name: str
    line: int
    keys: dict[str, int] = field(default_factory=dict)

    def line_of(self, key: str) -> int:
        return self.keys.get(key, self.line)


@dataclass(slots=True)
class Outline:
    top: Table
    tables: list[Table]

    def named(self, name: str) -> list[Table]:
        return [table for table in self.tables if table.name == name]

    def line_of(self, name: str) -> int:
        """The first line where a top-level name appears."""
        heads = [table.line for table in self.tables if table.name.split(".")[0] == name]
        return min([*heads, *([self.top.keys[name]] if name in self.top.keys else [])], default=1)


def outline(text: str) -> Outline:
    text = text.replace("\r\n", "\n")
    found = Outline(Table("", 1), [])
    current = found.top
    for start, end in _statements(text):
        line = text.count("\n", 0, start) + 1
        statement = text[start:end]
        if statement.startswith("["):
            current = Table(_header_name(statement), line)
            _note_subtable(found, current)
            found.tables.append(current)
        else:
            current.keys.setdefault(_key_name(statement), line)
    return found


def _note_subtable(found: Outline, table: Table) -> None:
    """`[provider.extra]` below a `[[provider]]` is its key `extra`."""
    parent, _, key = table.name.partition(".")
    above = found.named(parent) if key else []
    if above:
        above[-1].keys.setdefault(key.split(".")[0], table.line)


def _statements(text: str) -> list[tuple[int, int]]:
    spans = []
    at = 0
    while at < len(text):
        if text[at] in " \t\n":
            at += 1
        elif text[at] == "#":
            at = _end_of_line(text, at)
        else:
            end = _end_of_statement(text, at)
            spans.append((at, end))
            at = end
    return spans


def _end_of_statement(text: str, at: int) -> int:
    depth = 0
    while at < len(text):
        character = text[at]
        if character in "\"'":
            at = _end_of_string(text, at)
            continue
        if character == "#":
            at = _end_of_line(text, at)
            continue
        if character == "\n" and depth <= 0:
            return at
        depth += (character in "[{") - (character in "]}")
        at += 1
    return at


def _end_of_string(text: str, at: int) -> int:
    quote = text[at]
    fence = quote * 3 if text.startswith(quote * 3, at) else quote
    at += len(fence)
    while at < len(text):
        if text[at] == "\\" and quote == '"':
            at += 2
        elif text.startswith(fence, at):
            at += len(fence)
            while len(fence) == 3 and text.startswith(
                quote, at
            ):  # """ may close with one or two quotes of its own before
                at += 1
            return at
        else:
            at += 1
    return at


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _header_name(statement: str) -> str:
    inner = statement.partition("#")[0].strip().strip("[]")
    return ".".join(part.strip().strip("\"'") for part in inner.split("."))


def _key_name(statement: str) -> str:
    if statement[0] in "\"'":
        return statement[1 : _end_of_string(statement, 0) - 1]
    return re.split("[=.]", statement, maxsplit=1)[0].strip()
