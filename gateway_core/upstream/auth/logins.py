"""The logins at upstreams: who logged in where, as which client, and the tokens.

A login belongs to an identity and an upstream. The identity is the gateway, or the id of a verified principal.
`Logins` keeps them in memory and in an encrypted file (`vault.py`), which several processes of one configuration share:
`rad mcp proxy login` writes it, and a running gateway notices the change within `POLL` seconds.

The logins of principals are bounded. Beyond that, those whose tokens were not renewed for longest are forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Literal

import msgspec
from loguru import logger

from gateway_core.concealing import HeldSecrets
from gateway_core.files import Unusable
from gateway_core.supervised import poll, run_all
from gateway_core.upstream.auth.vault import MAX_FILE, Vault

GATEWAY: Final = "gateway"
"""The identity of the gateway itself, for which its operator logs in."""
POLL: Final = 1.0
"""Seconds between two looks at the file."""
MAX_LOGINS: Final = 1000
"""Logins of principals."""
MAX_BYTES: Final = MAX_FILE * 5 // 8
"""Bytes of all logins; the file that encrypts them is larger by a third."""


class Client(msgspec.Struct, frozen=True, omit_defaults=True):
    """The OAuth client of a login."""

    id: str
    kind: Literal["configured", "document", "registered"] = "configured"
    secret: str = ""
    """Of a registered client; the secret of a configured one stays in the configuration."""
    method: str = ""
    """`token_endpoint_auth_method` of a registered client."""
    redirect_uri: str = ""
    """The redirect URI of a registered client."""
    expires_at: float = 0.0
    """Time at which the secret of a registered client expires, in seconds since 1970; 0: never."""

    def __repr__(self) -> str:
        return f"Client({self.id!r}, {self.kind!r})"


class Login(msgspec.Struct, frozen=True, omit_defaults=True):
    """One login at an upstream. Times are seconds since 1970."""

    since: float
    """When the person logged in."""
    url: str
    """The upstream's URL: the tokens are sent to no other."""
    issuer: str
    """The authorization server; empty if the operator configured its endpoints without the issuer."""
    client: Client
    access_token: str = ""
    refresh_token: str = ""
    expires_at: float | None = None
    """When the access token expires; None if the authorization server did not say."""
    scopes: tuple[str, ...] = ()
    """The scopes that the access token has, as far as the authorization server said."""
    wanted: tuple[str, ...] = ()
    """Scopes that the upstream asked for since the login; the next login requests them, too."""
    ended: str = ""
    """Why the login is of no use any more; empty while it is."""
    leased_until: float = 0.0
    """Time until which a process renews the access token."""
    renewed: float = 0.0
    """When its tokens were renewed last; 0 before the first time."""

    @property
    def stamp(self) -> tuple[float, str]:
        """A value that differs for each login and after its end, but not after a renewal."""
        return (self.since, self.ended)

    def __repr__(self) -> str:
        return f"Login(issuer={self.issuer!r}, client={self.client!r}, since={self.since!r})"


class _Content(msgspec.Struct):
    """What the file holds."""

    logins: dict[str, dict[str, Login]] = {}
    """Identity -> upstream -> login."""

    def of(self, key: tuple[str, str]) -> Login | None:
        identity, upstream = key
        return self.logins.get(identity, {}).get(upstream)


Change = Callable[[Login | None], Login | None]
OnChange = Callable[[str, str], None]
"""Called with the identity and the upstream of a login that was made, has ended, or was deleted."""


class Logins:
    """The logins of one configuration file."""

    def __init__(self, path: Path | None = None, held: HeldSecrets | None = None) -> None:
        """Without `path`, logins are in memory only. `held` learns all tokens."""
        self._vault = None if path is None else Vault(path)
        self._held = held or HeldSecrets()
        self._content = _Content()
        self._stamp: tuple[int, ...] = ()
        self._changed = asyncio.Event()
        self._loading: asyncio.Future[None] | None = None
        self._on_change: OnChange = lambda identity, upstream: None
        self._unsaved: set[tuple[str, str]] = set()
        """Identity and upstream of the logins that could not be written."""

    def of(self, identity: str, upstream: str) -> Login | None:
        """The login of an identity at an upstream."""
        return self._content.of((identity, upstream))

    def when_changed(self, on_change: OnChange) -> None:
        """Call `on_change` for each login that is made or ends, in this process or another."""
        self._on_change = on_change

    def at(self, upstream: str) -> dict[str, Login]:
        """All logins at an upstream, by identity."""
        every = self._content.logins.items()
        return {identity: logins[upstream] for identity, logins in every if upstream in logins}

    async def load(self, patience: float | None = None) -> None:
        """Read the file. An unusable one is ignored, with a warning.

        `patience`: seconds to wait for it, because a keyring may ask a person first. Later, it still counts.
        """
        if self._vault is not None:
            load = partial(self._load, self._vault)
            self._loading = asyncio.ensure_future(run_all("reading the file of the logins", load))
            await asyncio.wait([self._loading], timeout=patience)

    async def use(self, path: Path, patience: float | None = None) -> None:
        """Keep logins in a file from now on, and read it; see `load`. No effect with a file."""
        if self._vault is None:
            self._vault = Vault(path)
            await self.load(patience)

    async def check(self) -> None:
        """Raise `Unusable` if there is a file that a new login could not be added to."""
        if self._vault is not None:
            try:
                await asyncio.to_thread(_read, self._vault)
            except Unusable as problem:
                if not problem.replaceable:
                    raise

    async def keep_polling(self) -> None:
        """Look at the file from time to time, until cancelled."""
        await poll("looking at the file of the logins", POLL, self._look)

    async def _look(self) -> None:
        if self._vault is None or self._vault.stamp() == self._stamp:
            return
        if self._loading is None or self._loading.done():
            await self.load()

    async def changed(self) -> None:
        """Wait until a login changes."""
        await self._changed.wait()

    async def change(self, identity: str, upstream: str, change: Change) -> Login | None:
        """Apply `change` to the login in the file, which other processes may have changed, and keep the result.

        Raises `Unusable` and `OSError` if the file cannot be written. Then the change applies in memory only.
        """
        key = (identity, upstream)
        try:
            if self._vault is not None:
                content, stamp = await asyncio.to_thread(self._change_file, self._vault, key, change)
                self._stamp = stamp
                self._unsaved.discard(key)
            else:
                content = _bounded(_with(self._content, key, change(self.of(*key))), key)
            self._adopt(self._merged(content))
        except (OSError, Unusable):
            self._unsaved.add(key)
            self._adopt(_with(self._content, key, change(self.of(*key))))
            raise
        return self.of(*key)

    def _change_file(self, vault: Vault, key: tuple[str, str], change: Change) -> tuple[_Content, tuple[int, ...]]:
        with vault.locked():
            try:
                content = _read(vault)
            except Unusable as problem:
                if not problem.replaceable:
                    raise
                content = _Content()
            before = content.of(key)
            after = change(self.of(*key) if key in self._unsaved else before)
            if after != before:
                content = _bounded(_with(content, key, after), key)
                vault.write(msgspec.json.encode(content))
            return content, vault.stamp()

    async def _load(self, vault: Vault) -> None:
        self._stamp = vault.stamp()
        try:
            content = await asyncio.to_thread(_read, vault)
        except Unusable as problem:
            logger.warning(
                "{} is ignored: {}; upstreams that need a login have none: log in again", vault.path, problem
            )
        else:
            self._adopt(self._merged(content))

    def _merged(self, content: _Content) -> _Content:
        """`content` of the file, with the logins that could not be written to it."""
        for key in self._unsaved:
            content = _with(content, key, self.of(*key))
        return content

    def _adopt(self, content: _Content) -> None:
        before, self._content = self._content, content
        for upstream, login in content.logins.get(GATEWAY, {}).items():
            learn_secrets(self._held, upstream, login)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for identity, upstream in _changed(before, content):
            self._on_change(identity, upstream)


def learn_secrets(held: HeldSecrets, upstream: str, login: Login) -> None:
    """Let `held` hide the secrets of a login."""
    for what, secret in (
        ("access token", login.access_token),
        ("refresh token", login.refresh_token),
        ("registered client secret", login.client.secret),
    ):
        if secret:
            held.learn(f"{what} of upstream {upstream}", secret)


def _changed(before: _Content, after: _Content) -> list[tuple[str, str]]:
    """Identity and upstream of the logins that were made, or have ended, or are gone."""
    was, now = (
        {(identity, name): it.stamp for identity, logins in content.logins.items() for name, it in logins.items()}
        for content in (before, after)
    )
    return [key for key in {**was, **now} if was.get(key) != now.get(key)]


def _bounded(content: _Content, kept: tuple[str, str]) -> _Content:
    """`content` without the logins of principals for which there is no room. The login `kept` stays."""
    every = {
        (identity, upstream): login
        for identity, logins in content.logins.items()
        if identity != GATEWAY
        for upstream, login in logins.items()
    }
    oldest = sorted(every, key=lambda key: max(every[key].since, every[key].renewed))
    count, size = len(every), len(msgspec.json.encode(content))
    for key in oldest:
        if count <= MAX_LOGINS and size <= MAX_BYTES:
            break
        if key != kept:
            logger.warning("the login of {} at upstream {} is forgotten: there are too many", *key)
            content = _with(content, key, None)
            count -= 1
            size -= len(msgspec.json.encode(every[key]))
    return content


def _with(content: _Content, key: tuple[str, str], login: Login | None) -> _Content:
    """A copy of `content` in which one login is replaced or removed."""
    identity, upstream = key
    logins = {name: dict(others) for name, others in content.logins.items()}
    logins.setdefault(identity, {}).pop(upstream, None)
    if login is not None:
        logins[identity][upstream] = login
    return _Content({name: others for name, others in logins.items() if others})


def _read(vault: Vault) -> _Content:
    data = vault.read()
    if data is None:
        return _Content()
    try:
        return msgspec.json.decode(data, type=_Content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Unusable("another version of the gateway wrote it", replaceable=True) from None
