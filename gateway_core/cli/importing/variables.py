"""The variables of the environment that take the place of secrets in the imported configuration."""

from __future__ import annotations

import re
from typing import Final

_NOT_A_NAME: Final = re.compile(r"[^A-Z0-9_]+")


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
