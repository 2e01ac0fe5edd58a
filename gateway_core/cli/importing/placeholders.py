"""Placeholders in the texts of a client's settings, such as `${env:NAME}` and `${workspaceFolder}`."""

from __future__ import annotations

import re
from typing import Final

from gateway_core.cli.importing.client_file import ClientFile
from gateway_core.cli.importing.secrets import has_secret_shape, is_secret, secret_spans
from gateway_core.cli.importing.variables import Variables, variable_name

_PLACEHOLDER: Final = re.compile(r"\$\{([^{}]*)\}")
_VARIABLE: Final = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

_SHORT: Final = re.compile(r"[A-Za-z]+:[\w.-]{1,40}|[\w+]{1,12}")


class Placeholders:
    """Converts the texts of one server."""

    def __init__(self, file: ClientFile, server: str, variables: Variables, notes: list[str]) -> None:
        """`notes`: gets a line for each placeholder that has no meaning for the gateway."""
        self._file = file
        self._server = server
        self._variables = variables
        self._notes = notes

    def convert(self, text: str, own: set[str], place: str) -> str:
        """`text` with variables in place of secrets, placeholders in the gateway's form, and any other `${` escaped.

        References to the names in `own` stay for the program, which has these variables itself. `place`: what the
        text is, for example `url`.
        """
        position, result = 0, []
        for span in secret_spans(text):
            result.append(self._without_secrets(text[position : span.start], own))
            secret = text[span.start : span.end]
            result.append(self._variables.hold(secret, self.own_name(span.name), self._server, place))
            position = span.end
        return "".join([*result, self._without_secrets(text[position:], own)])

    def own_name(self, name: str) -> str:
        """A name for a variable of this server alone; the name of an environment variable stays."""
        prefixed = name.isupper() or variable_name(name).startswith(variable_name(self._server))
        return name if prefixed else f"{self._server}_{name}"

    def _without_secrets(self, text: str, own: set[str]) -> str:
        position, result = 0, []
        for found in _PLACEHOLDER.finditer(text):
            result.append(text[position : found.start()].replace("${", "$${"))
            result.append(self._converted(found[1], own))
            position = found.end()
        return "".join([*result, text[position:].replace("${", "$${")])

    def _converted(self, inner: str, own: set[str]) -> str:
        workspace = self._file.workspace
        simple = {
            "workspaceFolder": str(workspace),
            "workspaceRoot": str(workspace),
            "workspaceFolderBasename": workspace.name,
            "pathSeparator": "/",
            "/": "/",
        }
        purpose = f"used by {self._server}"
        if inner in simple:
            return simple[inner]
        if inner == "userHome":
            return self._variables.refer("HOME", "your home folder")
        if inner.startswith("input:"):
            identifier = inner.removeprefix("input:")
            return self._variables.refer(variable_name(identifier), self._file.inputs.get(identifier) or purpose)
        variable = _VARIABLE.fullmatch(inner)
        if variable is None:
            shown = f"${{{inner}}}" if _SHORT.fullmatch(inner) else "a ${…}"
            self._notes.append(f"{shown} has no meaning here and was kept as it is")
        elif variable[1] not in own:
            return self._variables.refer(variable[1], purpose, self._default(variable[1], variable[2]))
        return f"$${{{inner}}}"

    def _default(self, name: str, default: str | None) -> str | None:
        """The default of a variable, unless it looks like a secret or has several lines."""
        if default is None or not (is_secret(name, default) or secret_spans(default) or "\n" in default):
            return default
        self._notes.append(f"not carried over: the default of {name}")
        return None


def only_own(value: str, own: set[str]) -> bool:
    """Whether every secret of `value` is a reference to one of the program's own variables."""
    names = [found[1] for found in _PLACEHOLDER.finditer(value)]
    return bool(names) and set(names) <= own and not has_secret_shape(value)
