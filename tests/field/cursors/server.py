"""Pages of a list whose cursors are no text.

Seen in servers that use an offset as the cursor (a number), or send null or "" on the last page.
"""

from typing import Any

from tests.field.plain import HttpServer, Message

CURSORS: dict[str, Any] = {"number": 1, "text": "1"}
LAST: dict[str, Any] = {"null": None, "empty": "", "false": False}


class Server(HttpServer):
    def result(self, method: str, params: Message) -> Any:
        if method != "tools/list":
            return super().result(method, params)
        if self.variant in LAST:
            return {"tools": self.tools(), "nextCursor": LAST[self.variant]}
        if "cursor" not in params:
            return {"tools": self.tools()[:1], "nextCursor": CURSORS[self.variant]}
        if params["cursor"] != CURSORS[self.variant]:
            return {"tools": []}
        return {"tools": self.tools()[1:]}
