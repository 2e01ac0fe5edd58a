"""Turns the servers of a client's settings into `[[mcp.proxy.upstreams]]`; `server` converts each of them.

Each server stands for itself: one that cannot be converted is reported and left out. No secret of the settings reaches
the result or a message.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway_core.cli.importing.client_file import ClientFile
from gateway_core.cli.importing.server import CannotConvertError, ServerReader
from gateway_core.cli.importing.variables import Variables
from gateway_core.config.report import one_line, toml_value

_MAX_NAME: Final = 64


@dataclass(slots=True)
class Conversion:
    """The result for all servers of a file."""

    upstreams: list[dict[str, Any]] = field(default_factory=list)
    """Keys and values of each upstream, in the order of the file."""
    comments: dict[str, list[str]] = field(default_factory=dict)
    """Upstream name -> lines about it."""
    left_out: list[str] = field(default_factory=list)
    """`place: reason` of each server that was not converted."""
    present: list[str] = field(default_factory=list)
    """Names of the upstreams that the configuration already has in the same form."""
    variables: Variables = field(default_factory=Variables)

    def toml(self) -> str:
        """The upstreams as TOML."""
        return "\n\n".join(map(self._block, self.upstreams)) + "\n"

    def leave_out(self, name: str, reason: str) -> None:
        """Leave out an upstream after all."""
        self.upstreams = [upstream for upstream in self.upstreams if upstream["name"] != name]
        source = self.comments.pop(name)[0].removeprefix("from ")
        self.left_out.append(f"{source}: {reason}")

    def _block(self, upstream: Mapping[str, Any]) -> str:
        table = ["[[mcp.proxy.upstreams]]", *(f"{key} = {toml_value(value)}" for key, value in upstream.items())]
        comments = [f"# {one_line(comment)}" for comment in self.comments[upstream["name"]]]
        return "\n".join([*comments, *table])


def convert(
    file: ClientFile,
    *,
    taken: Iterable[str] = (),
    present: Container[str] = (),
    address: tuple[str, int] = ("127.0.0.1", 3000),
) -> Conversion:
    """Convert every server of `file`.

    `taken`: names that the configuration already has; these are left out. `present`: the names among them of the same
    servers. `address`: host and port of this gateway, which is left out too.
    """
    found = Conversion()
    kept = set(taken)
    names: set[str] = set()
    for server in file.servers:
        try:
            name = _upstream_name(server.name)
            if name in present:
                found.present.append(name)
                continue
            if name in kept:
                raise CannotConvertError(f'the configuration already has an upstream "{name}"')
            name = _distinct(name, names | kept)
            reader = ServerReader(file, server, name, found.variables)
            if reader.leads_to(*address):
                raise CannotConvertError("is this gateway")
            upstream = reader.upstream()
        except CannotConvertError as error:
            found.left_out.append(f"{server.place}: {error}")
            continue
        names.add(name)
        if reader.is_off:
            upstream["enabled"] = False
            reader.notes.append("is switched off in the client, so it has enabled = false")
        found.upstreams.append(upstream)
        found.comments[name] = [f"from {server.place}", *reader.notes]
    return found


def _upstream_name(name: str) -> str:
    """`name` in the form that upstream names have: without other characters, and without the separator `__`."""
    plain = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9._-]+", "-", name))
    return plain[:_MAX_NAME].strip("-._") or "server"


def _distinct(name: str, names: set[str]) -> str:
    if name not in names:
        return name
    return next(
        candidate
        for number in range(2, len(names) + 3)
        if (candidate := f"{name[: _MAX_NAME - 5]}-{number}") not in names
    )
