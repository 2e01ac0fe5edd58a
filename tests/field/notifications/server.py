"""Notifications with `params: null`, without params, or with `id: null`.

Seen in servers whose language writes absent values as null. The tool `grow` adds a tool to the list, or takes it away.
"""

import sys
from typing import Any

from tests.field.plain import Message, StdioServer, encoded, said

FORMS: dict[str, Message] = {
    "params-null": {"params": None},
    "id-null": {"id": None},
    "both-null": {"id": None, "params": None},
    "params-missing": {},
}


class Server(StdioServer):
    grown = False

    def identity(self, params: Message) -> Message:
        identity = super().identity(params)
        identity["capabilities"]["tools"] = {"listChanged": True}
        return identity

    def tools(self) -> list[Any]:
        return [*super().tools(), self.tool("grow"), *([self.tool("grown")] if self.grown else [])]

    def call(self, short: str, arguments: Message) -> Message:
        if short != "grow":
            return super().call(short, arguments)
        self.grown = not self.grown
        note = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", **FORMS[self.variant]}
        self.write(encoded(note) + b"\n")
        return said(f"grown: {self.grown}")


if __name__ == "__main__":
    Server(*sys.argv[1:]).run()
