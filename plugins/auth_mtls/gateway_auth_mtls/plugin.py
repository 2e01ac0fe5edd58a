"""Authenticate agents by TLS client certificates.

The gateway's TLS has verified the certificate: an authority in `client_ca` issued it, it has not expired, and the agent
holds its key. This plugin decides which part of it names the agent, and which agents are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from gateway_core import (
    ClientCertificate,
    Credentials,
    Globs,
    Known,
    Note,
    Plugin,
    PluginConfig,
    Principal,
    Reject,
    hookimpl,
)

Kind = Literal["subject", "dns", "uri", "email"]

SEPARATORS: Final[dict[Kind, str]] = {"subject": ",+", "dns": ".", "uri": "/", "email": "@"}
"""Characters that `*` and `?` do not match, by the kind of subject.

Otherwise `CN=*,O=Example` would also match a certificate whose holder chose an organization such as `Evil,O=Example`,
written as `O=Evil\\,O=Example`.
"""
_PREFIXES: Final[dict[Kind, str]] = {"dns": "DNS:", "uri": "URI:", "email": "email:"}
_WORDS: Final[dict[Kind, str]] = {
    "subject": "a distinguished name",
    "dns": "a DNS name",
    "uri": "a URI",
    "email": "an email address",
}

_FORMS: Final[dict[Kind, re.Pattern[str]]] = {
    "subject": re.compile(r".*[=*?].*", re.DOTALL),
    "dns": re.compile(r"[\w.*?-]+"),
    "uri": re.compile(r".*[:*?].*", re.DOTALL),
    "email": re.compile(r".*[@*?].*", re.DOTALL),
}
"""The globs that a subject may match, by its kind."""
_WILDCARD: Final = re.compile(r"[*?]")

Glob = Annotated[str, Field(min_length=1, max_length=1024)]
Group = Annotated[str, Field(min_length=1, max_length=256)]
Groups = Annotated[tuple[Group, ...], Field(min_length=1)]


class Settings(PluginConfig):
    """Settings of `auth_mtls`."""

    subject: Kind = Field(
        default="subject",
        description="what names the agent: the distinguished name, or an alternative name of that kind",
    )
    allow: Annotated[Globs, Field(min_length=1)] | None = Field(
        default=None, description="globs of the subjects that are allowed; without it, all are"
    )
    groups: Annotated[dict[Glob, Annotated[tuple[Group, ...], Field(min_length=1)]], Field(max_length=1000)] = Field(
        default_factory=dict, description="glob of subjects -> groups that these agents are in"
    )


class MutualTls(Plugin[Settings]):
    """Makes a principal of a client certificate."""

    credential_headers = ()
    needs_client_certificates: ClassVar = True

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self._kind: Kind = config.subject
        self._allow = None if config.allow is None else self._globs(config.allow)
        self._groups = [(self._globs([glob]), groups) for glob, groups in config.groups.items()]

    def notes(self, known: Known) -> Iterator[Note]:
        """Globs that no subject of the configured kind can match, and groups that no agent can get."""
        config = self.config
        form = _FORMS[self._kind]
        listed = [(f"allow[{number}]", glob) for number, glob in enumerate(config.allow or ())]
        for setting, glob in (*listed, *(("groups", glob) for glob in config.groups)):
            if form.fullmatch(glob) is None:
                yield Note(f'"{glob}" matches no agent, because it is not {_WORDS[self._kind]}', setting)
        for glob in config.groups:
            if self._allow is not None and not _WILDCARD.search(glob) and not self._allow.matches(self._written(glob)):
                yield Note(f'"{glob}" matches no agent, because allow does not match it', "groups")

    @property
    def known_groups(self) -> frozenset[str]:
        """The groups of all certificates, for notes of other plugins."""
        return frozenset(group for _, groups in self._groups for group in groups)

    @hookimpl
    def authenticate(self, credentials: Credentials) -> Principal | Reject | None:
        certificate = credentials.certificate
        if certificate is None:
            return None
        subjects = list(self._subjects(certificate))
        if not subjects:
            return Reject(f"the client certificate has no {_WORDS[self._kind].partition(' ')[2]} that names the agent")
        subject = next((one for one in subjects if self._allows(one)), None)
        if subject is None:
            return Reject(f"allow matches no name of the client certificate: {subjects[0]!r}")
        return Principal.proven(
            subject,
            issuer="auth_mtls",
            groups=(group for globs, groups in self._groups if globs.matches(subject) for group in groups),
            claims={
                "subject": certificate.subject,
                "names": list(certificate.names),
                "fingerprint": certificate.fingerprint,
            },
            expires=certificate.expires,
        )

    def _written(self, subject: str) -> str:
        """A subject or a glob as it is compared."""
        return subject.lower() if self._kind == "dns" else subject

    def _globs(self, globs: Iterable[str]) -> Globs:
        return Globs(map(self._written, globs), separators=SEPARATORS[self._kind])

    def _subjects(self, certificate: ClientCertificate) -> Iterator[str]:
        """What may name the agent, in the order of the certificate."""
        prefix = _PREFIXES.get(self._kind)
        if prefix is None:
            found = [certificate.subject]
        else:
            found = [name.removeprefix(prefix) for name in certificate.names if name.startswith(prefix)]
        for name in found:
            if 0 < len(name) <= Principal.MAX_SUBJECT and name.isprintable():
                yield self._written(name)

    def _allows(self, subject: str) -> bool:
        return self._allow is None or self._allow.matches(subject)
