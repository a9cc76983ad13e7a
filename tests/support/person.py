"""A person at the pages of a running server: a browser without the browser, for tests about what pages answer."""

import html
import re
from types import TracebackType
from typing import Self

import httpx2

from tests.support.server import RunningServer

_CSRF = re.compile(r'name="csrf" value="([^"]*)"')


class Person:
    """Keeps cookies by hand: they are `__Host-` cookies, which a browser sends to loopback over plain HTTP and a client library does not."""

    def __init__(self, server: RunningServer) -> None:
        self._client = httpx2.Client(base_url=server.base_url, timeout=30)
        self._origin = server.base_url
        self._cookies: dict[str, str] = {}

    @classmethod
    def signed_in(cls, server: RunningServer, sign_in_url: str) -> Self:
        """By a one-time link."""
        person = cls(server)
        path = sign_in_url.removeprefix(server.base_url)
        person.get(path)
        answer = person.post("/link", path, token=path.partition("token=")[2])
        assert answer.status_code == 303, answer.text
        return person

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self._keep(self._client.get(path, headers={**self._headers(), **headers}))

    def post(self, path: str, form_page: str | None = None, **fields: str) -> httpx2.Response:
        """Sends a form as the page `form_page` (the path itself unless given) shows it: with that page's token."""
        found = _CSRF.search(self.get(form_page or path).text)
        assert found is not None, f"no form on {form_page or path}"
        data = {"csrf": html.unescape(found.group(1)), **fields}
        return self._keep(self._client.post(path, data=data, headers={**self._headers(), "Origin": self._origin}))

    def cookie(self, name: str) -> str:
        """Its value as the browser keeps it."""
        return self._cookies[name]

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _headers(self) -> dict[str, str]:
        return (
            {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())} if self._cookies else {}
        )

    def _keep(self, answer: httpx2.Response) -> httpx2.Response:
        for line in answer.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0]
            if "Max-Age=0" in line or not value.strip('"'):
                self._cookies.pop(name, None)
            else:
                self._cookies[name] = value
        return answer
