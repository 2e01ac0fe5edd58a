"""The types of configuration values, each with the rule that checks it.

A rule that fails raises `mistake(...)`: a sentence that says what would be right. It never repeats the value, which may
be a secret; `report.py` decides what to show of it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError

from gateway_core import patterns
from gateway_core.config.forwarding.sources import FORM, ForwardSource
from gateway_core.config.keys import algorithms
from gateway_core.http1.hosts import leads_to_loopback
from gateway_core.http1.tokens import is_token

NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SEPARATOR = re.compile(r"[A-Za-z0-9._-]{1,8}")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_OWN_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "cookie", "host", "keep-alive"}
    | {"last-event-id", "te", "trailer", "transfer-encoding", "upgrade"}
)
_PLACEHOLDER = re.compile(
    r"<.*>|x{3,}|\*+|\.{3,}|change[-_ ]?(me|it|this)|placeholder|todo|your[-_ ].*|replace[-_ ]?me|"
    r"(client[-_ ])?secret[-_ ](goes[-_ ])?here|insert[-_ ].*",
    re.IGNORECASE | re.DOTALL,
)

MIN_KEY = 32
"""Minimum characters of a key in `state_keys`, so that it cannot be guessed."""

RetryRule = Literal["never", "safe"]
ClientAuthentication = Annotated[
    Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
    "of the gateway",  # `typing` caches equal literals: the SDK's, in another order, could take the place of this one
]
"""The values of `token_endpoint_auth_method` (RFC 7591) that the gateway supports."""
SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # RFC 7518, section 3.1, and RFC 8037


def mistake(message: str, detail: str = "") -> PydanticCustomError:
    """The error that a rule raises. `detail` is shown unless the value came from `${…}`."""
    return PydanticCustomError("rule", "{message}", {"message": message, "detail": detail})


def as_tuple(value: Any) -> Any:
    """Turn a list into a tuple, because TOML has only lists and strict mode rejects a list for a tuple."""
    return tuple(value) if isinstance(value, list) else value


def matching(pattern: re.Pattern[str], message: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise mistake(message)
        return value

    return check


def _filled(value: str) -> str:
    if not value.strip():
        raise mistake("must not be empty")
    return _no_nul(value)


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise mistake("must not hold a NUL character")
    return value


def _env_name(value: str) -> str:
    if not value or "=" in value or "\0" in value:
        raise mistake('is not a name of an environment variable: it must not be empty nor hold "="')
    return value


def _header_name(value: str) -> str:
    if not is_token(value):
        raise mistake("is not a header name: letters, digits and hyphens, for example X-Api-Key")
    if value.lower() in _OWN_HEADERS or value.lower().startswith("mcp-"):
        raise mistake("is a header that the gateway writes itself; remove it")
    return value


def _header_value(value: str) -> str:
    if any(ord(char) < 32 and char != "\t" for char in value) or "\x7f" in value:
        raise mistake("must not hold line breaks or other control characters")
    if value != value.strip():
        raise mistake("must not begin or end with white space")
    return value


def _forward_name(value: str) -> str:
    if _header_name(value).lower() in ("proxy-authorization", "proxy-connection", "forwarded", "via"):
        raise mistake("is a header for proxies on the way, not for the upstream; choose another name")
    return value


def _forward_source(value: str) -> str:
    source = ForwardSource.parse(value)
    if source is None:
        raise mistake(f"must be {FORM}")
    if source.is_forbidden:
        raise mistake(
            "names a header that is for the gateway or for the connection to it, and is never passed on; "
            "let agents send the value in a header of its own name, such as X-Tracker-Key"
        )
    return value


def split_url(value: str) -> SplitResult:
    """Split an absolute http or https URL. Raises a `mistake` for anything else."""
    if any(ord(char) <= 32 or ord(char) == 127 for char in value):
        raise mistake("must be a URL without spaces or control characters")
    try:
        url = urlsplit(value)
        valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise mistake("must be an absolute http:// or https:// URL with a host and, if any, a port from 1 to 65535")
    if url.username is not None or url.password is not None:
        raise mistake(
            "must not hold a user name or password: URLs end up in logs; "
            'send them with headers = { Authorization = "${NAME}" } or [mcp.proxy.upstreams.auth]'
        )
    if url.fragment:
        raise mistake('must not have a fragment (the part after "#"): it is never sent')
    return url


def _url(value: str) -> str:
    split_url(value)
    return value


def _proxy_url(value: str) -> str:
    if value == "none":
        return value
    try:
        url = urlsplit(value)
        valid = url.scheme == "http" and bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid or url.path not in ("", "/") or url.query or url.fragment:
        raise mistake('must be "http://HOST:PORT", with "USER:PASSWORD@" before the host if needed, or "none"')
    if any(ord(char) <= 32 or ord(char) >= 127 for char in value):
        raise mistake("must be ASCII without spaces; write other characters of a password as %XX")
    return value


def _token_url(value: str) -> str:
    url = split_url(value)
    if url.scheme != "https" and not leads_to_loopback(url.hostname or ""):
        raise mistake("must be an https:// URL, because the client secret is sent to it (http:// only on loopback)")
    return value


def _issuer(value: str) -> str:
    url = split_url(value)
    if url.scheme != "https" and not leads_to_loopback(url.hostname or ""):
        raise mistake("must be an https:// URL, because it decides who gets the credentials (http:// only on loopback)")
    if url.query:
        raise mistake('must not have a query (the part after "?"): an issuer has none')
    return value


def _document_url(value: str) -> str:
    url = split_url(value)
    if url.scheme != "https" or url.path in ("", "/"):
        raise mistake("must be an https:// URL with a path, because the URL itself is the client identifier")
    return value


def _redirect_uri(value: str) -> str:
    url = split_url(value)
    if url.scheme != "http" or url.hostname not in ("127.0.0.1", "::1", "localhost") or url.query:
        raise mistake(
            "must be an http:// URL on this machine, without a query: http://127.0.0.1/callback, or with a port"
        )
    return value


def _public_url(value: str) -> str:
    url = split_url(value)
    if url.scheme != "https" and not leads_to_loopback(url.hostname or ""):
        raise mistake("must be an https:// URL, because people log in and enter keys there (http:// only on loopback)")
    if url.query or url.path not in ("", "/"):
        raise mistake('must be an address without a path: write "https://gateway.example.com"')
    return value.rstrip("/")


def _resource(value: str) -> str:
    return _url(value) if value else value


def _private_key(value: SecretStr) -> SecretStr:
    try:
        algorithms(value.get_secret_value())
    except ValueError as error:
        raise mistake(str(error)) from None
    return value


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not text:
        raise mistake("must not be empty")
    if _PLACEHOLDER.fullmatch(text):
        raise mistake("is still a placeholder; put the real secret into an environment variable or a file")
    return value


def _state_key(value: SecretStr) -> SecretStr:
    if len(_secret(value).get_secret_value().strip()) < MIN_KEY:
        raise mistake(f"must have at least {MIN_KEY} characters; `openssl rand -base64 32` makes one")
    return value


def _pattern(value: str) -> str:
    if not value:
        raise mistake("must not be empty: an empty pattern matches every key")
    try:
        patterns.check(value)
    except patterns.WrongPattern as wrong:
        raise mistake(wrong.what, wrong.reason) from None
    return value


def _pattern_list(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        patterns.Patterns(value)
    except ValueError as error:  # about all of them together
        raise mistake(str(error)) from None
    return value


def _host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOST.fullmatch(value):
            raise mistake("must be an IP address or a host name, without scheme and port") from None
    return value


def _allowed_host(value: str) -> str:
    name, _, port = value.rpartition(":")
    host = name if port.isdecimal() and (name.endswith("]") or ":" not in name) else value
    _host(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    return value


def _origin(value: str) -> str:
    try:
        url = urlsplit(value)
        valid = bool(url.scheme and url.hostname) and url.port != 0 and value == f"{url.scheme}://{url.netloc}"
    except ValueError:
        valid = False
    if not valid or "@" in value or "*" in value:
        raise mistake('must be "scheme://host" or "scheme://host:port", without a path and without wildcards')
    return value


_OF_CLIENTS: Final = frozenset(
    {"authorization", "cookie", "forwarded", "origin", "referer", "user-agent", "via", "x-forwarded-for", "x-real-ip"}
)
"""Headers with another meaning, in which clients choose the value or a part of it."""


def _identity_header(value: str) -> str:
    from gateway_core.http1.head import VARYING  # noqa: PLC0415 - a start without this key does not need it

    name = _header_name(value).lower()
    if name in VARYING or name in _OF_CLIENTS:
        raise mistake("must be a header that carries nothing else, not one that clients send or that varies")
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise mistake("must be an address or a network, such as 10.0.0.0/8, without bits beyond its length") from None


def _retry(value: Any) -> Any:
    rules = list(value.values()) if isinstance(value, dict) else [value]
    if any(rule not in ("never", "safe") for rule in rules):
        raise mistake('must be "never", "safe", or a table of tool names with one of these each')
    return value


Filled = Annotated[str, AfterValidator(_filled)]
Strings = Annotated[tuple[Filled, ...], BeforeValidator(as_tuple)]
Arguments = Annotated[tuple[Annotated[str, AfterValidator(_no_nul)], ...], BeforeValidator(as_tuple)]
Name = Annotated[
    str,
    AfterValidator(
        matching(
            NAME_PATTERN,
            'must be 1 to 64 letters, digits, ".", "_" or "-" (":" is kept for calls to upstream:tool)',
        )
    ),
]
Separator = Annotated[str, AfterValidator(matching(_SEPARATOR, 'must be 1 to 8 letters, digits, ".", "_" or "-"'))]
Host = Annotated[str, AfterValidator(_host)]
AllowedHosts = Annotated[tuple[Annotated[str, AfterValidator(_allowed_host)], ...], BeforeValidator(as_tuple)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(as_tuple)]
Environment = dict[Annotated[str, AfterValidator(_env_name)], Annotated[str, AfterValidator(_no_nul)]]
Headers = dict[Annotated[str, AfterValidator(_header_name)], Annotated[str, AfterValidator(_header_value)]]
Forward = dict[Annotated[str, AfterValidator(_forward_name)], Annotated[str, AfterValidator(_forward_source)]]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(as_tuple)]
IdentityHeader = Annotated[str, AfterValidator(_identity_header)]
Url = Annotated[str, AfterValidator(_url)]
ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
TokenUrl = Annotated[str, AfterValidator(_token_url)]
DocumentUrl = Annotated[str, AfterValidator(_document_url)]
RedirectUri = Annotated[str, AfterValidator(_redirect_uri)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Issuer = Annotated[str, AfterValidator(_issuer)]
Resource = Annotated[str, AfterValidator(_resource)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
StateKeys = Annotated[tuple[Annotated[SecretStr, AfterValidator(_state_key)], ...], BeforeValidator(as_tuple)]
PrivateKey = Annotated[SecretStr, AfterValidator(_private_key)]
Patterns = Annotated[
    tuple[Annotated[str, AfterValidator(_pattern)], ...], BeforeValidator(as_tuple), AfterValidator(_pattern_list)
]
Retry = Annotated[RetryRule | dict[str, RetryRule], BeforeValidator(_retry)]
