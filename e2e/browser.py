"""A person with a browser: `python browser.py URL` logs in on the pages of an authorization server, and prints the
address to which the browser is sent back.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx2

MAX_PAGES = 20


class Form(HTMLParser):
    """The first form of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and not self.action:
            self.action = given["action"]
        elif tag == "input" and "name" in given:
            self.fields[given["name"]] = given.get("value", "")


def log_in(url: str, person: str = "alice") -> str:
    """Open `url`, log in as `person`, allow what is asked, and return the address outside of that server."""
    origin = urlsplit(url).netloc
    with httpx2.Client(timeout=20) as client:
        response = client.get(url)
        for _ in range(MAX_PAGES):
            if response.is_redirect:
                target = urljoin(str(response.url), response.headers["location"])
                if urlsplit(target).netloc != origin:
                    return target
                response = client.get(target)
                continue
            form = Form(response.text)
            assert form.action, f"no form at {response.url}: HTTP {response.status_code} {response.text}"
            answers = {"login": person, "password": "any"}
            filled = {name: answers.get(name, value) for name, value in form.fields.items()}
            response = client.post(urljoin(str(response.url), form.action), data=filled)
    raise AssertionError(f"no end after {MAX_PAGES} pages")


if __name__ == "__main__":
    print(log_in(sys.argv[1]))
