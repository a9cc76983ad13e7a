"""What others made is shipped as it was looked at: every file is listed, with its checksum and its licence's text."""

import hashlib
import tomllib
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "src" / "bursar" / "web" / "static" / "vendor"
FILES = tomllib.loads((VENDOR / "VENDORED.toml").read_text(encoding="utf-8"))["file"]


def test_every_vendored_file_has_the_checksum_and_the_licence_that_the_list_says():
    for file in FILES:
        assert hashlib.sha256((VENDOR / file["path"]).read_bytes()).hexdigest() == file["sha256"], file["path"]
        assert file["licence_texts"], file["path"]
        for text in file["licence_texts"]:
            assert len((VENDOR / text).read_text(encoding="utf-8")) > 200, text


def test_no_vendored_file_is_missing_from_the_list():
    there = {path.name for path in VENDOR.iterdir() if path.is_file()} - {"VENDORED.toml"}
    assert there == {file["path"] for file in FILES}
