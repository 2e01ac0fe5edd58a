"""Turns servers of a client's settings into `[[mcp.proxy.upstreams]]`.

Each server stands for itself: one that cannot be converted is reported and left out, and so is each member for which
the gateway has no key. No secret of the settings reaches the result or a message.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from gateway_core.cli.importing.client_file import ClientFile, ClientServer
from gateway_core.cli.importing.placeholders import Placeholders, only_own
from gateway_core.cli.importing.spans import secret_spans
from gateway_core.cli.importing.variables import Variables, is_secret, is_secret_name
from gateway_core.config.report import one_line, toml_value
from gateway_core.config.rules import leads_to_gateway
from gateway_core.config.secrets import is_plain

_TYPES: Final = {
    "stdio": "stdio",
    "http": "http",
    "streamable-http": "http",
    "streamable_http": "http",
    "streamablehttp": "http",
    "sse": "sse",
}
_TYPE_KEYS: Final = ("type", "transport", "transportType")
_URL_KEYS: Final = ("url", "serverUrl", "httpUrl", "baseUrl", "uri")
_READ: Final = frozenset({*_TYPE_KEYS, *_URL_KEYS, "command", "args", "env", "cwd", "headers", "disabled", "enabled"})
_IGNORED: Final = frozenset({"name", "description", "source"})
"""Members that say nothing about how the server runs."""
_OWN_HEADERS: Final = frozenset({"accept", "content-type", "connection", "host", "content-length"})
_SCHEME: Final = re.compile(r"(Bearer|Basic|Token|token|ApiKey)\s+(?=\S)")
_CREDENTIALS: Final = re.compile(r"[^\s:/]+:(?!\d+$)[^\s/].*")
_SCHEMED: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MAX_NAME: Final = 64


class CannotConvertError(Exception):
    """A server that cannot be converted; the text is the reason."""


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
            reader = _Reader(file, server, name, found.variables)
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


class _Reader:
    """Converts one server."""

    def __init__(self, file: ClientFile, server: ClientServer, name: str, variables: Variables) -> None:
        if not isinstance(server.members, dict):
            raise CannotConvertError("is not an object")
        self.notes: list[str] = []
        self._server = server
        self._name = name
        self._members: dict[str, Any] = dict(server.members)
        self._variables = variables
        self._placeholders = Placeholders(file, name, variables, self.notes)
        command = self._members.get("command")
        if isinstance(command, dict):  # older settings of Zed
            self._members |= {key: command[key] for key in ("args", "env") if key in command}
            self._members["command"] = command.get("path")

    def upstream(self) -> dict[str, Any]:
        """Keys and values of the upstream. Raises `CannotConvertError`."""
        transport = self._transport()
        result: dict[str, Any] = {"name": self._name, "transport": transport}
        result |= self._stdio() if transport == "stdio" else self._remote()
        if self._name != self._server.name:
            self.notes.append(f'the client calls it "{self._server.name}"')
        self._report_the_rest()
        return result

    def leads_to(self, host: str, port: int) -> bool:
        """Whether the server is the gateway at this address, directly or through a program such as `mcp-remote`."""
        args = self._members.get("args")
        urls = [self._url(), *(args if isinstance(args, list) and args else str(self._members.get("command")).split())]
        return any(leads_to_gateway(url, host, port) for url in urls if isinstance(url, str) and "://" in url)

    def _transport(self) -> str:
        named = next((self._members[key] for key in _TYPE_KEYS if isinstance(self._members.get(key), str)), None)
        if named is not None:
            transport = _TYPES.get(named.lower())
            if transport is None and "command" not in self._members:
                raise CannotConvertError(f'type "{one_line(named[:40])}" is not supported')
            if transport is not None and (transport == "stdio") == (self._url() is None):
                return transport
        if isinstance(self._members.get("command"), str):
            return "stdio"
        url = self._url()
        if url is None:
            raise CannotConvertError("has neither command nor url")
        if (scheme := _SCHEMED.match(url)) and scheme[1].lower() not in ("http", "https"):
            raise CannotConvertError(f"a url with {scheme[0]} is not supported")
        return "sse" if urlsplit(url).path.rstrip("/").endswith("/sse") else "http"

    def _url(self) -> str | None:
        return next((self._members[key] for key in _URL_KEYS if isinstance(self._members.get(key), str)), None)

    @property
    def is_off(self) -> bool:
        return self._members.get("disabled") is True or self._members.get("enabled") is False

    def _stdio(self) -> dict[str, Any]:
        command = self._members.get("command")
        if not isinstance(command, str) or not command.strip():
            raise CannotConvertError("its command is not text")
        args = self._members.get("args", [])
        if not isinstance(args, list) or not all(isinstance(arg, str | int | float) for arg in args):
            raise CannotConvertError("its args are not a list of texts")
        if not args and " " in command.strip() and not Path(command).exists():
            command, *args = _words(command)
        args = [str(arg) for arg in args]
        if PurePath(command).name in ("rad", "rad.exe") and args[:2] == ["mcp", "proxy"]:
            raise CannotConvertError("is this gateway")
        env = self._env()
        found: dict[str, Any] = {"command": self._text(command, set(), f"the command of {self._name}")}
        if args:
            found["args"] = self._args(args, set(self._pairs("env")))
        if env:
            found["env"] = env
        cwd = self._members.get("cwd")
        if isinstance(cwd, str) and cwd:
            found["cwd"] = self._text(cwd, set(), f"cwd of {self._name}")
        elif "/" in command and not PurePath(command).is_absolute() and not command.startswith(("~", "${")):
            shown = found["command"]
            self.notes.append(f"the command is relative: set cwd, or write the whole path in place of {shown}")
        if any(PurePath(arg.partition("@")[0]).name == "mcp-remote" for arg in args):
            url = next((arg for arg in found["args"] if arg.startswith(("http://", "https://"))), None)
            if url is not None:
                self.notes.append(
                    f'unless it needs a login in a browser, transport = "http", url = "{url}" replace mcp-remote'
                )
        return found

    def _env(self) -> dict[str, str]:
        found = {}
        for name, value in self._pairs("env").items():
            if not name or "=" in name or "\0" in name + value:
                self.notes.append(f"not carried over: env.{name[:40]}, which is no environment variable")
            elif is_secret(name, value):
                found[name] = self._variables.hold(value, name, self._name, f"env.{name} of {self._name}")
            else:
                found[name] = self._text(value, set(), f"env.{name} of {self._name}")
        return found

    def _args(self, args: list[str], own: set[str]) -> list[str]:
        """The arguments. The program itself may expand `${NAME}` for the names in `own`, its own variables."""
        found = []
        option = ""  # the option whose value the next argument is
        for arg in args:
            name, equals, value = arg.partition("=")
            if option and not arg.startswith("-"):
                found.append(self._option_value(option, arg, own))
                option = ""
                continue
            option = ""
            if equals and re.fullmatch(r"-{0,2}[A-Za-z][\w-]*", name):
                found.append(f"{name}={self._option_value(name.lstrip('-'), value, own)}")
            elif arg.startswith("-"):
                found.append(self._text(arg, own))
                option = arg.lstrip("-") if found[-1] == arg else ""
            else:
                found.append(self._option_value("", arg, own))
        return found

    def _option_value(self, option: str, value: str, own: set[str]) -> str:
        header, colon, content = value.partition(":")
        if option in ("header", "H") and colon:
            space = " " if content.startswith(" ") else ""
            return f"{header}:{space}{self._header_value(header, content.strip(), own)}"
        name, equals, content = value.partition("=")
        if option in ("e", "env") and equals and re.fullmatch(r"\w+", name):
            return f"{name}={self._option_value(name, content, own)}"
        if self._is_whole_secret(option, value) and not only_own(value, own):
            wanted = self._placeholders.own_name(option or "argument")
            return self._variables.hold(value, wanted, self._name, f"an argument of {self._name}")
        return self._text(value, own)

    def _is_whole_secret(self, option: str, value: str) -> bool:
        """Whether all of an argument is a secret; else only its parts may be."""
        if option in ("u", "user") and _CREDENTIALS.fullmatch(value):
            return True
        has_parts = value.startswith(("http://", "https://", "{", "[")) or " " in value
        return is_secret(option, value) and (is_secret_name(option) or not has_parts)

    def _remote(self) -> dict[str, Any]:
        url = self._url()
        assert url is not None, "its transport follows from it"
        headers = {}
        for name, value in self._pairs("headers").items():
            if name.lower() in _OWN_HEADERS or name.lower().startswith("mcp-"):
                self.notes.append(f"not carried over: headers.{name}, which the gateway writes itself")
            else:
                headers[name] = self._header_value(name, value.strip(), set())
        url, basic = self._split_credentials(url)
        if basic:
            headers.setdefault("Authorization", f"Basic {basic}")
        found: dict[str, Any] = {"url": url}
        if headers:
            found["headers"] = headers
        return found

    def _header_value(self, name: str, value: str, own: set[str]) -> str:
        if not is_secret(name, value) or only_own(value, own):
            return self._text(value, own, f"headers.{name} of {self._name}")
        scheme = _SCHEME.match(value)
        start = scheme.group() if scheme else ""
        wanted = self._placeholders.own_name("token" if name.lower() == "authorization" else name)
        return start + self._variables.hold(value[len(start) :], wanted, self._name, f"headers.{name} of {self._name}")

    def _split_credentials(self, url: str) -> tuple[str, str]:
        """The URL without secrets; and a reference to its user name and password in base64, or an empty text."""
        try:
            parts = urlsplit(url)
            user, password = parts.username, parts.password
        except ValueError:
            raise CannotConvertError("its url is not a URL") from None
        basic = ""
        if user is not None:
            pair = base64.b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
            basic = self._variables.hold(
                pair, f"{self._name}_basic", self._name, f"user:password of the url of {self._name}, in base64"
            )
            parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        return self._text(parts._replace(fragment="").geturl(), set(), f"the url of {self._name}"), basic

    def _pairs(self, key: str) -> dict[str, str]:
        value = self._members.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.notes.append(f"not carried over: {key}, which is not an object")
            return {}
        return {name: _as_text(item) for name, item in value.items() if item is not None}

    def _text(self, text: str, own: set[str], place: str = "") -> str:
        return self._placeholders.convert(text, own, place or f"an argument of {self._name}")

    def _report_the_rest(self) -> None:
        rest = []
        for key, value in self._members.items():
            if key in _READ or key in _IGNORED or value in (None, [], {}, ""):
                continue
            shown = isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 60)
            safe = shown and not is_secret_name(key) and is_plain(str(value)) and not secret_spans(str(value))
            rest.append(f"{key} = {toml_value(value)}" if safe else key)
        if rest:
            self.notes.append(f"not carried over: {', '.join(rest)}")


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        raise CannotConvertError("its command has a quote that is not closed") from None


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
