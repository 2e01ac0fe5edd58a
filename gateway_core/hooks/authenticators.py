"""The plugins that prove who makes a request: what they declare, and their verdict on credentials."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from gateway_core.api import Credentials, Principal, Reject
from gateway_core.api.identity import PROXY, reads_as_id
from gateway_core.errors import RpcError
from gateway_core.hooks.failures import FailureLog, Misuse, Own, brief, refusal
from gateway_core.hooks.implementations import Hook, LoadedPlugin, Refuse, implementations, refused
from gateway_core.hooks.observers import Observers
from gateway_core.hooks.verdicts import await_verdict, check_refusal, check_text, kind
from gateway_core.http1.head import VARYING
from gateway_core.http1.tokens import TOKEN
from gateway_core.mcp import jsonrpc

AUTHENTICATE_TIMEOUT: Final = 10.0
"""Seconds that a plugin may take to judge credentials."""
MAX_NAMES: Final = 1000
"""Maximum number of groups, and of scopes."""
REMEMBER: Final = 300.0
"""Seconds for which the verdict of a plugin is remembered, unless the plugin has `remember`."""
MAX_CLAIMS: Final = 64 * 1024
"""Maximum bytes of the claims, as JSON."""
_FIELD_NAME: Final = re.compile(rf"(?!.*[A-Z]){TOKEN}")
_FIELD_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
SECRETS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "mcp-session-id"})
"""Headers with credentials, whether an authenticator looks at them or not."""
_PATH: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")


class Authenticators:
    """The enabled plugins with `authenticate`, in the order of the TOML."""

    def __init__(self, hooks: Sequence[Hook], observers: Observers | None = None, generation: int = 1) -> None:
        """`observers`: the hooks to which `Authentication` reports how it ended. `generation`: for the log.

        Raises `PluginError` for a plugin whose declarations are not valid.
        """
        self._hooks = tuple(hooks)
        self.issuers: Final = frozenset({PROXY, *(hook.plugin.name for hook in hooks)})
        """The issuers of principals that are no URLs."""
        self.judging = 0
        """Number of credentials that the plugins look at right now."""
        self.observers: Final = Observers(()) if observers is None else observers
        self._failures = FailureLog(generation)
        declared = declared_by([hook.plugin for hook in hooks])
        self._remember: Final = declared.remember
        self.headers: Final = tuple(declared.headers)
        """The names of the headers that any of them looks at."""
        self.challenges: Final = tuple(declared.challenges)
        """The values of `WWW-Authenticate`."""
        self.documents: Final[Mapping[str, bytes]] = declared.documents
        """The JSON documents that are public, by path below `/.well-known/`."""

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def asks_as(self, other: Authenticators) -> bool:
        """Whether both ask the same plugins in the same order, so that verdicts of one hold for the other."""
        mine, its = ([(id(it.plugin.instance), it.plugin.on_error) for it in each._hooks] for each in (self, other))
        return mine == its

    def remember(self, plugin: str) -> float:
        """The seconds for which a verdict of a plugin may be remembered."""
        return self._remember[plugin]

    async def judge(self, credentials: Credentials) -> tuple[str, Principal | Reject | None]:
        """The name of the plugin that recognised the credentials, and its verdict; empty and None if none did.

        Raises `RpcError(PLUGIN_FAILED)` if a plugin failed: nothing is proven then.
        """
        self.judging += 1
        try:
            return await self._judge(credentials)
        finally:
            self.judging -= 1

    async def _judge(self, credentials: Credentials) -> tuple[str, Principal | Reject | None]:
        own = Own()
        for hook in self._hooks:
            try:
                async with asyncio.timeout(AUTHENTICATE_TIMEOUT):
                    verdict = hook.function(credentials)
                    if hook.is_async or hasattr(verdict, "__await__"):
                        verdict = await await_verdict(verdict)
                if verdict is not None:
                    return hook.plugin.name, self._distinct(checked_identity(verdict))
            except BaseException as error:
                if own.end(error):
                    raise
                self._failures.add(hook, error, f"a client at {credentials.address or 'an unknown address'}")
                raise refusal(hook, "it is not known who makes the request") from None
        return "", None

    def _distinct(self, verdict: Principal | Reject) -> Principal | Reject:
        """The verdict; a refusal for a subject that could be mistaken for another principal."""
        if isinstance(verdict, Principal) and reads_as_id(verdict.subject, self.issuers):
            return Reject("its subject has the form of an id of another principal (SUBJECT|ISSUER)")
        return verdict


def checked_identity(verdict: Any) -> Principal | Reject:
    """The verdict of `authenticate`. Raises `Misuse` if it is not valid."""
    if isinstance(verdict, Reject):
        check_refusal(verdict)
        return verdict
    if not isinstance(verdict, Principal):
        raise Misuse(f"returned {kind(verdict)} instead of None, a Principal or a Reject")
    if verdict.verified is not True or verdict.id != f"{verdict.subject}|{verdict.issuer}":
        raise Misuse("returned a Principal that was not made with Principal.proven()")
    for what in ("subject", "issuer"):
        text = getattr(verdict, what)
        check_text(text, f"a Principal whose {what}")
        most = Principal.MAX_SUBJECT
        if not 0 < len(text) <= most or not text.isprintable():
            raise Misuse(f"returned a Principal whose {what} is empty, longer than {most}, or not printable")
    if "|" in verdict.issuer:
        raise Misuse("returned a Principal whose issuer has a |")
    for names in (verdict.groups, verdict.scopes):
        if not isinstance(names, frozenset) or not all(isinstance(name, str) for name in names):
            raise Misuse("returned a Principal whose groups or scopes are no frozenset of texts")
        if len(names) > MAX_NAMES:
            raise Misuse(f"returned a Principal with more than {MAX_NAMES} groups or scopes")
    expires = verdict.expires
    if not (expires is None or (isinstance(expires, int | float) and math.isfinite(expires))):
        raise Misuse("returned a Principal whose expires is neither None nor a finite number of seconds")
    _check_claims(verdict.claims)
    return verdict


def _check_claims(claims: Mapping[str, Any]) -> None:
    try:
        size = len(jsonrpc.encode(claims))
    except Exception as problem:
        raise Misuse("returned a Principal whose claims cannot be written as JSON") from problem
    if size > MAX_CLAIMS:
        raise Misuse(f"returned a Principal whose claims are larger than {MAX_CLAIMS} bytes")


# -- what the plugins declare -----------------------------------------------------------------------------------------


class Declared(msgspec.Struct):
    """What the authenticating plugins declare in their attributes."""

    headers: list[str] = []
    """The names of the headers that any of them looks at, each once."""
    challenges: list[str] = []
    """The values of `WWW-Authenticate`."""
    remember: dict[str, float] = {}
    """Plugin -> the seconds for which its verdicts are remembered."""
    documents: dict[str, bytes] = {}
    """The JSON documents that are public, by path below `/.well-known/`."""


def declared_by(plugins: Sequence[LoadedPlugin], refuse: Refuse = refused) -> Declared:
    """What the plugins with `authenticate` declare. `refuse` gets those whose declarations are wrong."""
    found = Declared()
    for plugin in plugins:
        if "authenticate" not in dict(implementations(type(plugin.instance))):
            continue
        wrong = partial(refuse, plugin)
        found.headers.extend(name for name in _header_names(plugin, wrong) if name not in found.headers)
        challenges = _texts(plugin, "challenges", (), _FIELD_VALUE, wanted="values of WWW-Authenticate", wrong=wrong)
        found.challenges.extend(challenges)
        found.remember[plugin.name] = _seconds(plugin, wrong)
        for path, document in _documents(plugin, wrong):
            if path in found.documents:
                wrong(f"its well_known has {path!r}, and so has that of another plugin")
            found.documents[path] = document
    return found


def call_headers(
    plugins: Sequence[LoadedPlugin], refuse: Refuse = refused, forwarded: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Plugin -> the headers that it sees in `Call.headers`, for plugins that name some.

    `refuse` gets those that name a header with credentials: one of `SECRETS`, one that an authenticator looks at, or
    one of `forwarded`, which upstreams get.
    """
    secret = SECRETS.union(declared_by(plugins, lambda plugin, what: None).headers)
    found = {}
    for plugin in plugins:
        wrong = partial(refuse, plugin)
        names = _texts(plugin, "call_headers", (), _FIELD_NAME, wanted="names of headers in lower case", wrong=wrong)
        for name in secret.intersection(names):
            wrong(f"its call_headers cannot have {name}, which proves who calls; call.principal says who that is")
        for name in sorted(set(forwarded).difference(secret).intersection(names)):
            wrong(f"its call_headers cannot have {name}, which forward of an upstream passes on as a secret; remove it")
        if names:
            found[plugin.name] = names
    return found


def _attribute(plugin: LoadedPlugin, name: str, default: Any, wrong: Callable[[str], None]) -> Any:
    try:
        return getattr(plugin.instance, name, default)
    except Exception as error:  # noqa: BLE001 - a property of the plugin
        wrong(f"its {name} cannot be read: {brief(error)}")
        return default


def _header_names(plugin: LoadedPlugin, wrong: Callable[[str], None]) -> tuple[str, ...]:
    default, wanted = ("authorization",), "names of headers in lower case"
    found = _texts(plugin, "credential_headers", default, _FIELD_NAME, wanted=wanted, wrong=wrong)
    for name in VARYING.intersection(found):  # a connection keeps its caller while only these differ
        wrong(f"its credential_headers cannot have {name}, which varies between requests")
    return found


def _seconds(plugin: LoadedPlugin, wrong: Callable[[str], None]) -> float:
    given = _attribute(plugin, "remember", REMEMBER, wrong)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= REMEMBER:
        wrong(f"its remember must be a number of seconds, at most {REMEMBER:g}")
        return REMEMBER
    return float(given)


def _texts(
    plugin: LoadedPlugin,
    name: str,
    default: tuple[str, ...],
    form: re.Pattern[str],
    *,
    wanted: str,
    wrong: Callable[[str], None],
) -> tuple[str, ...]:
    given = _attribute(plugin, name, default, wrong)
    if not isinstance(given, tuple | list) or not all(isinstance(it, str) and form.fullmatch(it) for it in given):
        wrong(f"its {name} must be a tuple of {wanted}")
        return default
    return tuple(given)


def _documents(plugin: LoadedPlugin, wrong: Callable[[str], None]) -> Iterator[tuple[str, bytes]]:
    given = _attribute(plugin, "well_known", {}, wrong)
    if not isinstance(given, Mapping):
        wrong("its well_known must be a mapping of paths to JSON objects")
        return
    for path, document in given.items():
        if not (isinstance(path, str) and _PATH.fullmatch(path) and isinstance(document, dict)):
            wrong("its well_known must be a mapping of paths to JSON objects")
            continue
        try:
            yield path, jsonrpc.encode(document)
        except (RpcError, TypeError, ValueError):
            wrong(f"its well_known has no JSON at {path!r}")
