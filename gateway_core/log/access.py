"""What the access log says about a call besides who served it and how it ended: its method, its name, its principal."""

from __future__ import annotations

import re
from typing import Final

_NAME_KEYS: Final = {"tools/call": "tool", "prompts/get": "prompt", "resources/read": "uri"}
_USERINFO: Final = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY: Final = re.compile(r"\?.+", re.DOTALL)


def shown_name(method: str, name: str) -> str:
    """The name that a call asks for, as the log may show it: no ids of tasks, no userinfo and no query of a URI.

    Whoever knows the id of a task may ask for it; passwords and tokens stand in the other two.
    """
    if method.startswith("tasks/"):
        return ""
    return _QUERY.sub("?…", _USERINFO.sub("***@", name)) if ":" in name else name


def members(method: str, name: str, principal: str) -> dict[str, str]:
    """The members that a line about a call has in JSON only; as text, the message holds them. `name` as it is shown."""
    key = _NAME_KEYS.get(method, "name")
    return {"method": method, key: name, "principal": principal} if name else {"method": method, "principal": principal}
