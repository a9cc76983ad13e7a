"""What a stranger sees in the first minute: the text that `bursar demo` prints works when it is pasted."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.clients import client_python
from tests.support.person import Person
from tests.support.server import clean_environment, free_port


@pytest.fixture(scope="module")
def welcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a plain `bursar demo` prints, while it runs."""
    folder = tmp_path_factory.mktemp("first-minute")
    command = [
        sys.executable,
        "-m",
        "bursar",
        "demo",
        "--port",
        str(free_port()),
        "--pace",
        "0",
        "--data-dir",
        str(folder),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=clean_environment()
    ) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            if "Stop with Ctrl+C" in line:
                break
        yield "".join(lines)
        running.terminate()
        assert running.wait(20) == 0


def test_the_curl_line_works_as_pasted(welcome: str):
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    pasted = re.search(r"^  curl .*?\n\n", welcome, re.DOTALL | re.MULTILINE)
    assert pasted is not None
    done = subprocess.run(["sh", "-c", pasted.group()], capture_output=True, text=True, check=True, timeout=30)
    assert '"object":"chat.completion"' in done.stdout


@pytest.mark.clients
def test_the_python_lines_work_as_pasted(welcome: str, tmp_path: Path):
    pasted = re.search(r"^  from openai.*?\n\n", welcome, re.DOTALL | re.MULTILINE)
    assert pasted is not None
    script = tmp_path / "pasted.py"
    script.write_text(re.sub(r"(?m)^  ", "", pasted.group()))
    done = subprocess.run([client_python("openai"), script], capture_output=True, text=True, check=True, timeout=60)
    assert len(done.stdout) > 20


@pytest.mark.parametrize("role", ["admin", "member", "operator"])
def test_the_sign_in_links_sign_in_once(welcome: str, role: str):
    found = re.search(rf"as {role} +(\S+)", welcome)
    assert found is not None
    link = found.group(1)

    class Address:
        base_url = link.partition("/link")[0]

    with Person.signed_in(Address, link) as person:  # type: ignore[arg-type]
        assert person.get("/personal/overview").status_code == 200
    again = httpx2.get(link)
    assert "already used" in again.text
    assert again.status_code == 400
