"""The plugins that prove who makes a request: what they declare, and their verdict on credentials."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway_core.api import Credentials, Principal, Reject
from gateway_core.api.identity import PROXY, reads_as_id
from gateway_core.errors import PluginError, RpcError
from gateway_core.hooks.failures import FailureLog, Misuse, Own, refusal
from gateway_core.hooks.implementations import Hook
from gateway_core.hooks.observers import Observers
from gateway_core.hooks.verdicts import await_verdict, check_refusal, check_text, kind
from gateway_core.http1.head import VARYING
from gateway_core.mcp import jsonrpc

AUTHENTICATE_TIMEOUT: Final = 10.0
"""Seconds that a plugin may take to judge credentials."""
MAX_SUBJECT: Final = 512
"""Maximum characters of a subject, and of an issuer."""
MAX_NAMES: Final = 1000
"""Maximum number of groups, and of scopes."""
REMEMBER: Final = 300.0
"""Seconds for which the verdict of a plugin is remembered, unless the plugin has `remember`."""
MAX_CLAIMS: Final = 64 * 1024
"""Maximum bytes of the claims, as JSON."""
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FIELD_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_PATH: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")


class Authenticators:
    """The enabled plugins with `authenticate`, in the order of the TOML."""

    def __init__(self, hooks: Sequence[Hook], observers: Observers | None = None) -> None:
        """`observers`: those that `Authentication` tells how it ended.

        Raises `PluginError` for a plugin whose declarations are not valid.
        """
        self._hooks = tuple(hooks)
        self.issuers: Final = frozenset({PROXY, *(hook.plugin.name for hook in hooks)})
        """The issuers of principals that are no URLs."""
        self.judging = 0
        """Number of credentials that the plugins look at right now."""
        self.observers: Final = Observers(()) if observers is None else observers
        self._failures = FailureLog()
        headers: dict[str, None] = {}
        challenges: list[str] = []
        documents: dict[str, bytes] = {}
        self._remember: dict[str, float] = {}
        for hook in hooks:
            self._remember[hook.plugin.name] = _seconds(hook)
            headers |= dict.fromkeys(_header_names(hook))
            challenges += _challenges(hook)
            for path, document in _documents(hook):
                if path in documents:
                    raise _invalid(hook, f"its well_known has {path!r}, and so has that of another plugin")
                documents[path] = document
        self.headers: Final = tuple(headers)
        """The names of the headers that any of them looks at."""
        self.challenges: Final = tuple(challenges)
        """The values of `WWW-Authenticate`."""
        self.documents: Final[Mapping[str, bytes]] = documents
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
                    return hook.plugin.name, self._distinct(_checked(verdict))
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


def _checked(verdict: Any) -> Principal | Reject:
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
        if not 0 < len(text) <= MAX_SUBJECT or not text.isprintable():
            raise Misuse(f"returned a Principal whose {what} is empty, longer than {MAX_SUBJECT}, or not printable")
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


def _header_names(hook: Hook) -> tuple[str, ...]:
    found = _texts(hook, "credential_headers", ("authorization",), _FIELD_NAME, "names of headers in lower case")
    for name in VARYING.intersection(found):  # a connection keeps its caller while only these differ
        raise _invalid(hook, f"its credential_headers cannot have {name}, which varies between requests")
    return found


def _challenges(hook: Hook) -> tuple[str, ...]:
    return _texts(hook, "challenges", (), _FIELD_VALUE, "values of the header WWW-Authenticate")


def _seconds(hook: Hook) -> float:
    given: Any = getattr(hook.plugin.instance, "remember", REMEMBER)
    if not isinstance(given, int | float) or not 0 < given <= REMEMBER:
        raise _invalid(hook, f"its remember must be a number of seconds, at most {REMEMBER:g}")
    return float(given)


def _texts(hook: Hook, name: str, default: tuple[str, ...], form: re.Pattern[str], wanted: str) -> tuple[str, ...]:
    given: Any = getattr(hook.plugin.instance, name, default)
    if not isinstance(given, tuple | list) or not all(isinstance(it, str) and form.fullmatch(it) for it in given):
        raise _invalid(hook, f"its {name} must be a tuple of {wanted}")
    return tuple(given)


def _documents(hook: Hook) -> Iterator[tuple[str, bytes]]:
    given: Any = getattr(hook.plugin.instance, "well_known", {})
    if not isinstance(given, Mapping):
        raise _invalid(hook, "its well_known must be a mapping of paths to JSON objects")
    for path, document in given.items():
        if not (isinstance(path, str) and _PATH.fullmatch(path) and isinstance(document, dict)):
            raise _invalid(hook, "its well_known must be a mapping of paths to JSON objects")
        try:
            yield path, jsonrpc.encode(document)
        except (RpcError, TypeError, ValueError):
            raise _invalid(hook, f"its well_known has no JSON at {path!r}") from None


def _invalid(hook: Hook, what: str) -> PluginError:
    return PluginError(f"the plugin {hook.plugin.name} cannot be used: {what}")
