"""Access log fields that identify a call: its method, its name and its principal."""

from __future__ import annotations

import re
from typing import Final

_NAME_KEYS: Final = {"tools/call": "tool", "prompts/get": "prompt", "resources/read": "uri"}
_USERINFO: Final = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY: Final = re.compile(r"\?.+", re.DOTALL)


def shown_name(method: str, name: str) -> str:
    """The requested name as the log may show it: without task ids, and without userinfo and query of a URI.

    A task id grants access to its task; userinfo and query may contain passwords and tokens.
    """
    if method.startswith("tasks/"):
        return ""
    return _QUERY.sub("?…", _USERINFO.sub("***@", name)) if ":" in name else name


def members(method: str, name: str, principal: str) -> dict[str, str]:
    """The JSON-only members of a call's line; in text, the message contains them. `name`: from `shown_name`."""
    key = _NAME_KEYS.get(method, "name")
    return {"method": method, key: name, "principal": principal} if name else {"method": method, "principal": principal}
