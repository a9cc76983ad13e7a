from pathlib import Path

from bursar.kernel.errors import SettingsError


class CatalogError(SettingsError):
    """The operator's catalogue file cannot be used: `path`, `line` (None when the file cannot be read at all), what, remedy.

    The sentence is whole: `catalog.toml, line 7: price "abc" is not an exact decimal; write USD per token in quotes, …`.
    """

    def __init__(self, path: Path, line: int | None, what: str, remedy: str) -> None:
        place = path.name if line is None else f"{path.name}, line {line}"
        super().__init__(f"{place}: {what}; {remedy}", remedy=remedy, path=str(path), line=line)
        self.path = path
        self.line = line
        self.what = what
