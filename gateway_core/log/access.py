"""Access log fields that identify a call: its method, its name, its principal and its session."""

from __future__ import annotations

import re
from hashlib import blake2s
from typing import Any, Final

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


def completed(fields: dict[str, Any], generation: int, profile: str) -> dict[str, Any]:
    """The fields of a call's line, which end with the generation and with the agent's profile if it has one.

    `generation`: the number of the configuration that the call was judged and served by.
    """
    fields["generation"] = generation
    if profile:
        fields["profile"] = profile
    return fields


def members(method: str, name: str, principal: str, session_id: str | None) -> dict[str, str | int]:
    """The JSON-only members of a call's line. `name`: from `shown_name`. `session_id`: that of a legacy agent.

    A session id grants access to its session, so the log has a digest of it.
    """
    found: dict[str, str | int] = {"method": method}
    if name:
        found[_NAME_KEYS.get(method, "name")] = name
    found["principal"] = principal
    if session_id is not None:
        found["session"] = blake2s(session_id.encode(), digest_size=6).hexdigest()
    return found
