"""Keeps secrets out of the imported configuration: a variable of the environment takes the place of each.

What looks like a secret counts as one, by its name (`API_KEY`) or by its shape (`ghp_…`). If a harmless value counts as
a secret, the user sets one variable more; if a secret does not, it stands in the file.
"""

from __future__ import annotations

import re
from typing import Final

_SECRET_NAME = re.compile(
    r"api[_-]?key|secret|token|passw|passphrase|credential|private[_-]?key|authorization|cookie|"
    r"(^|[_-])(key|pat|pwd|pass|auth|bearer|dsn|pin|sig|signature|jwt)([_-]|$)",
    re.IGNORECASE,
)
_HARMLESS_NAME = re.compile(r"(^|[_-])(file|path|dir|folder|name|header|id|type|url|uri|host)$|tokens$", re.IGNORECASE)
SECRET_SHAPES: Final = re.compile(
    r"\b(gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|xapp-|sk[-_]|pk_live_|rk_live_|whsec_|hf_|npm_|pypi-|ntn_|lin_api_|"
    r"figd_|sbp_|shpat_|dop_v1_|patA?[A-Za-z0-9]{12,}\.|AKIA|ASIA|AIza|ya29\.|SG\.|tvly-|fc-|BSA)[A-Za-z0-9_\-.]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|://[^/@\s:]*:[^/@\s]+@"
    r"|\b[0-9a-fA-F]{32,}\b"
    r"|\b(?=[A-Za-z0-9+_-]*[0-9])(?=[A-Za-z0-9+_-]*[a-z])(?=[A-Za-z0-9+_-]*[A-Z])[A-Za-z0-9+_-]{36,}={0,2}"
)
UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
NO_SECRETS: Final = frozenset({"bearer", "basic", "token", "true", "false", "null", "none"})
"""Values that are not secrets, even under a name of a secret."""
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_REFERENCE = re.compile(r"\$\{[^{}]*\}")
_NOT_A_NAME = re.compile(r"[^A-Z0-9_]+")


def is_secret_name(name: str) -> bool:
    """Whether a variable, header or option of this name usually holds a secret."""
    words = _HUMP.sub("_", name)
    return bool(_SECRET_NAME.search(name) or _SECRET_NAME.search(words)) and not _HARMLESS_NAME.search(words)


def has_secret_shape(value: str) -> bool:
    """Whether `value` has a part that looks like a token, a key, or a password in a URL."""
    return bool(SECRET_SHAPES.search(UUID.sub("", _REFERENCE.sub("", value))))


def is_secret(name: str, value: str) -> bool:
    """Whether `value`, which is called `name`, must not stand in the configuration; references to variables may."""
    rest = _REFERENCE.sub("", value).strip()
    if not rest or rest.lower() in NO_SECRETS:
        return False
    return has_secret_shape(value) or is_secret_name(name)


def variable_name(text: str) -> str:
    """`text` as the name of a variable: `X-Api-Key` becomes `X_API_KEY`."""
    name = _NOT_A_NAME.sub("_", text.upper()).strip("_") or "VALUE"
    return f"_{name}" if name[0].isdigit() else name


class Variables:
    """The variables that the imported configuration refers to, and what each of them is for."""

    def __init__(self) -> None:
        self.purposes: dict[str, list[str]] = {}
        """Name -> the places whose value it holds, in the order of first use."""
        self._values: dict[str, str | None] = {}

    def hold(self, value: str, name: str, server: str, purpose: str) -> str:
        """A reference to the variable that holds `value`; equal values of one name share a variable."""
        wanted = variable_name(name)
        prefix = variable_name(server)
        candidates = [wanted] if wanted.startswith(prefix) else [wanted, f"{prefix}_{wanted}"]
        candidates += [f"{candidates[-1]}_{number}" for number in range(2, len(self._values) + 3)]
        chosen = next(one for one in candidates if self._values.get(one, value) == value)
        self._values[chosen] = value
        return self._reference(chosen, purpose)

    def refer(self, name: str, purpose: str, default: str | None = None) -> str:
        """A reference to a variable that the client's settings refer to. `default`: used while it is not set."""
        self._values.setdefault(name, None)
        if default is not None:
            return f"${{{name}:-{default}}}"
        return self._reference(name, purpose)

    def _reference(self, name: str, purpose: str) -> str:
        purposes = self.purposes.setdefault(name, [])
        if purpose not in purposes:
            purposes.append(purpose)
        return f"${{{name}}}"
