"""Asks the authenticating plugins who makes a request, once for each combination of credentials.

Verdicts are remembered for a limited time, by a digest of the credentials: neither tokens nor keys are kept. All
refusals look the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Callable
from typing import Final

from loguru import logger

from gateway_core.api import AuthenticationEnded, ClientCertificate, Credentials, Principal, Reject
from gateway_core.downstream.auth.caller import Caller, caller_at
from gateway_core.downstream.auth.forwarded import TrustedProxies
from gateway_core.downstream.auth.memory import Memory, Verdict
from gateway_core.downstream.http_errors import busy
from gateway_core.errors import RpcError
from gateway_core.hooks.authenticators import Authenticators
from gateway_core.http1.application import Client
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.limits.pace import Pace
from gateway_core.limits.shares import network_of
from gateway_core.log.sparing import Sparing
from gateway_core.mcp.read_only import ReadOnlyDict

REFUSED_FOR: Final = 5.0
"""Seconds for which a refusal is remembered."""
MAX_ASKING: Final = 256
"""Combinations of credentials that plugins are asked about at a time."""
REFUSAL_RATE: Final = 2.0
REFUSAL_BURST: Final = 50.0
"""Refusals per second, and at once, after which a network has to wait before unknown credentials are looked at."""
STRANGERS: Final = "credentials that are not known yet"
"""Whom requests count for whose credentials no plugin has accepted, where credentials are required."""
MAX_NETWORKS: Final = 1024
"""Networks whose refusals are counted."""


class Authentication:
    """Knows the callers of requests, or finds them out."""

    def __init__(
        self,
        authenticators: Authenticators,
        proxies: TrustedProxies,
        *,
        anonymous: bool,
        generation: int = 1,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`anonymous`: whether a client without any credentials is served. `generation`: the number of the
        configuration, for the log and for observers."""
        self._authenticators = authenticators
        self.generation = generation
        """The number of the configuration that judges credentials now."""
        self._proxies = proxies
        self._required = bool(authenticators or proxies.names_people) and not anonymous
        self._now = now
        self._secret = secrets.token_bytes(32)
        self._memory = Memory()
        self._asking: dict[bytes, asyncio.Task[Verdict]] = {}
        self._refusals: dict[str, Pace] = {}
        self._spoken = Sparing()

    def use(self, authenticators: Authenticators, generation: int) -> None:
        """Ask the same plugins through the chain of another configuration; verdicts stay."""
        self._authenticators, self.generation = authenticators, generation

    def known(self, client: Client, head: RequestHead) -> Verdict | None:
        """The caller of a request, as far as it is known; None if the plugins have to be asked (`ask`).

        Raises `HttpError`: 401 for credentials that are refused, 400 for headers of a proxy that are not valid.
        """
        caller = self._proxies.caller(client.address, head)
        if caller.principal is not None:
            return Verdict(caller, math.inf)
        if not self._authenticators:
            if self._required:
                if self._spoken.due(f"refused {caller.address}"):
                    logger.bind(generation=self.generation).warning(
                        "a client at {} was refused: no trusted proxy names it (trusted_proxies.identity_header); "
                        "logged once a minute",
                        caller.address,
                    )
                raise self._refused()
            return Verdict(caller, math.inf)
        key = self._key(caller, head, self._certificate(client, head))
        verdict = self._memory.get(key)
        if verdict is None or verdict.until <= self._now():
            return None
        self._memory.used(key)
        if verdict.caller is None:
            raise self._refused()
        return verdict

    def counts_for(self, client: Client, head: RequestHead) -> str:
        """Whose share of every limit a request counts for while the plugins are asked. Raises `HttpError` (400).

        Credentials that were accepted before count for their caller. All others have one share together: without it,
        clients that prove nothing could take all of a limit, from a few addresses.
        """
        caller = self._proxies.caller(client.address, head)
        before = self._memory.get(self._key(caller, head, self._certificate(client, head)))
        if before is not None and before.caller is not None:
            return before.caller.network
        return STRANGERS if self._required else caller.network

    async def ask(self, client: Client, head: RequestHead, *, is_known: bool = False) -> Verdict:
        """The verdict of the plugins on a request, with a caller. `is_known`: its credentials were accepted before.

        Raises `HttpError`: 401 if the credentials are refused, 429 after many refusals for the client's network, 503 if
        a plugin failed or too many credentials are being looked at.
        """
        caller = self._proxies.caller(client.address, head)
        certificate = self._certificate(client, head)
        key, network = self._key(caller, head, certificate), network_of(caller.address)
        task = self._asking.get(key)
        if task is None:
            before = self._memory.get(key)
            if not is_known and (before is None or before.caller is None):  # what was accepted before is no guess
                self._admit(network)
            credentials = self._credentials(caller, head, certificate)
            task = asyncio.get_running_loop().create_task(self._judge(key, caller, credentials))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        verdict = await asyncio.shield(task)
        if verdict.caller is None:
            self._count_refusal(network)
            raise self._refused()
        return verdict

    async def proven(self, client: Client, head: RequestHead) -> Principal | None:
        """The principal that a request of a browser proves; None if it brings no credentials, or wrong ones."""
        try:
            caller = self._proxies.caller(client.address, head)
            if caller.principal is None and self._has_credentials(caller, client, head):
                verdict = self.known(client, head) or await self.ask(client, head)
                caller = verdict.caller_found
        except HttpError:
            return None
        return caller.principal

    def _has_credentials(self, caller: Caller, client: Client, head: RequestHead) -> bool:
        certificate = self._certificate(client, head)
        return certificate is not None or bool(self._credentials(caller, head, certificate).headers)

    def _admit(self, network: str) -> None:
        """Raise `HttpError` if unknown credentials from this network have to wait."""
        refusals = self._refusals.get(network)
        if refusals is not None and refusals.pause(0.0):
            raise busy("too many credentials from this address were refused", 429)
        if len(self._asking) >= MAX_ASKING:
            raise busy("too many credentials are being looked at")

    async def _judge(self, key: bytes, caller: Caller, credentials: Credentials) -> Verdict:
        authenticators, generation = self._authenticators, self.generation
        try:
            plugin, found = await authenticators.judge(credentials)
        except RpcError as error:
            raise busy(error.message) from None
        verdict, reason = self._verdict(plugin, found, caller, credentials, generation)
        observers = authenticators.observers
        if observers and (reason or plugin):
            principal = None if verdict.caller is None else verdict.caller.principal
            ended = AuthenticationEnded(caller.address, principal, plugin, reason, generation)
            await observers.authentication_ended(ended)
        before = self._memory.get(key)
        known = None if before is None else before.caller
        if known is not None and verdict.caller is not None and known.proves_same(verdict.caller):
            verdict = Verdict(known, verdict.until)  # what is kept for the earlier object stays in use
        self._memory.put(key, verdict)
        return verdict

    def _verdict(
        self, plugin: str, found: Principal | Reject | None, caller: Caller, credentials: Credentials, generation: int
    ) -> tuple[Verdict, str]:
        """The verdict, and the reason for a refusal."""
        now = self._now()
        if isinstance(found, Principal):
            left = math.inf if found.expires is None else found.expires - time.time()
            if left > 0:
                until = now + min(left, self._authenticators.remember(plugin))
                return Verdict(Caller(caller.address, found), until), ""
            found = Reject("the credentials have expired")
        if found is None and not self._required and not credentials.headers:
            return Verdict(caller_at(caller.address), math.inf), ""
        reason = "no plugin recognises its credentials" if found is None else f"{plugin}: {found.message}"
        if self._spoken.due(f"refused {caller.address} by {plugin}"):
            logger.bind(generation=generation).warning(
                "a client at {} was refused: {}; logged once a minute", caller.address, reason
            )
        return Verdict(None, now + REFUSED_FOR), reason

    def _certificate(self, client: Client, head: RequestHead) -> ClientCertificate | None:
        """The certificate of the caller; None if the connection is a proxy's, whose certificate is another's."""
        found = client.certificate
        return None if found is None or self._proxies.forwards(client.address, head) else found

    def _credentials(self, caller: Caller, head: RequestHead, certificate: ClientCertificate | None) -> Credentials:
        fields, repeated = head.fields, head.repeated
        names = (name for name in self._authenticators.headers if fields.get(name) and name not in repeated)
        return Credentials(ReadOnlyDict({name: fields[name] for name in names}), certificate, caller.address)

    def _key(self, caller: Caller, head: RequestHead, certificate: ClientCertificate | None) -> bytes:
        """The digest by which the credentials of a request are remembered."""
        fields, repeated = head.fields, head.repeated
        values = ["" if name in repeated else fields.get(name, "") for name in self._authenticators.headers]
        fingerprint = "" if certificate is None else certificate.fingerprint
        data = "\0".join((*values, fingerprint, caller.address))  # a header contains no NUL
        return hashlib.blake2b(data.encode("utf-8", "surrogateescape"), key=self._secret, digest_size=16).digest()

    def _refused(self) -> HttpError:
        challenges = self._authenticators.challenges or ("Bearer",)
        return HttpError(401, "authentication is required", headers={"WWW-Authenticate": ", ".join(challenges)})

    def _count_refusal(self, network: str) -> None:
        pace = self._refusals.get(network)
        if pace is None:
            pace = self._refusals[network] = Pace(REFUSAL_RATE, REFUSAL_BURST, self._now)
            if len(self._refusals) > MAX_NETWORKS:
                del self._refusals[next(iter(self._refusals))]
        pace.pause(1.0)
