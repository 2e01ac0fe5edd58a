"""The servers of the page on profiles, on the light server. Argument: `tickets` or `wiki`."""

import sys
from typing import Any

sys.path.insert(0, __file__.rpartition("/tests/")[0])

from tests.servers.light import Light

NAME = sys.argv[1]
server = Light(NAME, "1.0", f"The instructions of {NAME}.")

if NAME == "tickets":

    @server.tool
    def search_issues(project: str, query: str, token: str, limit: int = 5) -> str:
        """Search the issues of a project."""
        return f"{query} in {project}, at most {limit}, with a token of {len(token)} characters: {token}"

    @server.tool
    def create_issue(project: str, title: str) -> str:
        """Create an issue."""
        return f"{title} in {project}"

    @server.tool
    def delete_issue(project: str, number: int) -> str:
        """Delete an issue."""
        return f"{number} of {project} is deleted"

    @server.prompt
    def triage() -> str:
        """Sort tickets."""
        return "Sort them."
else:

    @server.tool
    def search(query: str) -> str:
        """Search the pages."""
        return f"no page has {query}"

    @server.tool
    def edit(page: str) -> str:
        """Edit a page."""
        return f"{page} is changed"

    @server.tool
    def related() -> list[Any]:
        """Show related pages."""
        uris = ("page://home", "page://notes/a", "https://example.org/a")
        links = [{"type": "resource_link", "name": uri, "uri": uri} for uri in uris]
        inside = {"uri": "page://notes/b", "text": "The notes of b."}
        return [*links, {"type": "resource", "resource": inside}]

    @server.prompt
    def tour() -> list[Any]:
        """Show the notes."""
        link = {"type": "resource_link", "name": "a", "uri": "page://notes/a"}
        return [{"role": "user", "content": link}]

    @server.resource("page://home")
    def home() -> str:
        """The first page."""
        return "Welcome."

    @server.resource("page://notes/{name}")
    def notes(name: str) -> str:
        """Notes."""
        return f"The notes of {name}."


server.run()
