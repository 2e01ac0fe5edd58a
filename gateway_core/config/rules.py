"""Checks of relations between the keys of a file.

They run on TOML values with `${…}` filled in, beside the models, and assume nothing about types. So all problems are
reported at once, even if some values have the wrong type (which the models report).
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any, get_args
from urllib.parse import urlsplit

from gateway_core.config import return_address
from gateway_core.config.entries import check_names, check_profiles, tables_in
from gateway_core.config.expand import PLUGINS, SECURITY, SECURITY_KEYS
from gateway_core.config.fields import SigningAlgorithm
from gateway_core.config.forwarding.rules import check_exchange, check_forward
from gateway_core.config.keys import algorithms
from gateway_core.config.models import ProxyConfig
from gateway_core.config.report import Problem
from gateway_core.config.source import Path
from gateway_core.http1.hosts import leads_to_loopback
from gateway_core.mcp.profile_address import split_address

_PROXY: Path = ("mcp", "proxy")
_STDIO_ONLY = ("command", "args", "env", "cwd", "start", "idle_stop")
_HTTP_ONLY = ("url", "headers", "forward", "proxy", "tls")
_PROOFS = {
    "client_secret_basic": "client_secret",
    "client_secret_post": "client_secret",
    "private_key_jwt": "private_key",
    "none": None,
}
"""`token_endpoint_auth_method` -> the key it needs."""


def check(proxy: dict[str, Any], lines: dict[Path, int], secret: Container[Path] = ()) -> Iterator[Problem]:
    """Yield the problems between keys of `[mcp.proxy]`, given as TOML values. `secret`: paths of values from `${…}`."""
    yield from _times(proxy, secret)
    yield from _dots(proxy)
    yield from _control_port(proxy)
    if isinstance(tls := proxy.get("tls"), dict):
        yield from _server_tls(tls)
    if isinstance(proxies := proxy.get("trusted_proxies"), dict) and "identity_header" in proxies:
        yield from _naming_proxies(proxies.get("networks"), (*_PROXY, "trusted_proxies"))
    upstreams = tables_in(proxy, "upstreams")
    yield from check_names(upstreams, (*_PROXY, "upstreams"), lines)
    for index, upstream in upstreams:
        path: Path = (*_PROXY, "upstreams", index)
        yield from _separator(proxy, upstream, path, secret)
        yield from _transport(upstream, path)
        yield from _own_address(proxy, upstream, path)
        if isinstance(forward := upstream.get("forward"), dict):
            for name, what in check_forward(proxy, upstream, forward):
                yield Problem((*path, "forward", name), what)
        if isinstance(auth := upstream.get("auth"), dict):
            yield from _auth(auth, (*path, "auth"))
            yield from return_address.check(proxy, auth)
        if isinstance(tls := upstream.get("tls"), dict):
            yield from _tls(tls, upstream.get("url"), (*path, "tls"))
        yield from _upstream_time(proxy, upstream, path, secret)
    yield from check_profiles(proxy, lines)
    plugins = tables_in(proxy, "plugins")
    yield from check_names(plugins, PLUGINS, lines)
    if "plugins" in proxy:
        yield from _security(proxy, [plugin for _, plugin in plugins])


def _number(table: dict[str, Any], key: str) -> float | None:
    value = table.get(key)
    if value is None and key in ProxyConfig.model_fields:
        value = ProxyConfig.model_fields[key].default
    return value if isinstance(value, int | float) else None


def _shown(value: float | str, key: str, secret: Container[Path], form: str) -> str:
    """`form` with the value of a key of `[mcp.proxy]`; empty if the value came from `${…}`, as it may be a secret."""
    shown = value if isinstance(value, str) else f"{value:g}"
    return "" if (*_PROXY, key) in secret else form.format(shown)


def _times(proxy: dict[str, Any], secret: Container[Path]) -> Iterator[Problem]:
    timeout, hard = _number(proxy, "timeout"), _number(proxy, "max_timeout")
    if timeout is not None and hard is not None and timeout > hard:
        key = "timeout" if "timeout" in proxy else "max_timeout"
        less, more = _shown(timeout, "timeout", secret, " ({})"), _shown(hard, "max_timeout", secret, " ({})")
        yield Problem((*_PROXY, key), f"timeout{less} must not be more than max_timeout{more}; change one")


def _naming_proxies(networks: Any, path: Path) -> Iterator[Problem]:
    if not networks:
        yield Problem((*path, "identity_header"), "has no effect without networks, which names the proxies to believe")
    elif any(isinstance(it, str) and it.endswith("/0") for it in networks):
        problem = "contains every address, so that everybody could choose a name in identity_header"
        yield Problem((*path, "networks"), problem)


def _dots(proxy: dict[str, Any]) -> Iterator[Problem]:
    names, separator = proxy.get("names"), proxy.get("separator")
    if isinstance(names, dict) and names.get("dots") is False and isinstance(separator, str) and "." in separator:
        yield Problem(
            (*_PROXY, "separator"), 'must not contain a dot while mcp.proxy.names.dots is false; use for example "__"'
        )


def _control_port(proxy: dict[str, Any]) -> Iterator[Problem]:
    control = proxy.get("control")
    if not isinstance(control, dict) or control.get("port") != _number(proxy, "port"):
        return
    hosts = [table.get("host", ProxyConfig.model_fields["host"].default) for table in (proxy, control)]
    if hosts[0] == hosts[1] or any(host in ("0.0.0.0", "::") for host in hosts):
        yield Problem(
            (*_PROXY, "control", "port"), "is also mcp.proxy.port, where agents connect; choose another, or 0 for any"
        )


def _server_tls(tls: dict[str, Any]) -> Iterator[Problem]:
    path: Path = (*_PROXY, "tls")
    asks, given = tls.get("client_certificate"), "client_ca" in tls
    if asks == "none" and given:
        yield Problem(
            (*path, "client_certificate"), 'is "none", so that client_ca has no effect; remove one of the two'
        )
    elif asks in ("optional", "required") and not given:
        yield Problem(
            (*path, "client_ca"),
            f'is required for client_certificate = "{asks}": who issues the certificates of agents',
        )


def _upstream_time(
    proxy: dict[str, Any], upstream: dict[str, Any], path: Path, secret: Container[Path]
) -> Iterator[Problem]:
    timeout, hard = upstream.get("timeout"), _number(proxy, "max_timeout")
    if isinstance(timeout, int | float) and hard is not None and timeout > hard:
        limit = _shown(hard, "max_timeout", secret, " ({})")
        yield Problem(
            (*path, "timeout"),
            f"must not be more than mcp.proxy.max_timeout{limit}, where every call ends; raise that too",
        )


def _separator(
    proxy: dict[str, Any], upstream: dict[str, Any], path: Path, secret: Container[Path]
) -> Iterator[Problem]:
    name = upstream.get("name")
    separator = proxy.get("separator", ProxyConfig.model_fields["separator"].default)
    if isinstance(name, str) and isinstance(separator, str) and separator and separator in name:
        shown = _shown(separator, "separator", secret, ' "{}"')
        yield Problem(
            (*path, "name"),
            f"must not contain the separator{shown}, which splits prefixed names; "
            "rename it or set another mcp.proxy.separator",
        )


def _transport(upstream: dict[str, Any], path: Path) -> Iterator[Problem]:
    transport = upstream.get("transport")
    if transport == "stdio":
        yield from _stdio(upstream, path)
    elif transport in ("http", "sse"):
        if "url" not in upstream:
            yield Problem(
                (*path, "url"),
                f'is required for transport = "{transport}"; for example: url = "http://localhost:8080/mcp"',
            )
        for key in _STDIO_ONLY:
            if key in upstream:
                yield Problem(
                    (*path, key),
                    f'does not belong to transport = "{transport}"; remove it, or write transport = "stdio"',
                )
        headers = upstream.get("headers")
        if "auth" in upstream and isinstance(headers, dict):
            for name in headers:
                if name.lower() == "authorization":
                    yield Problem(
                        (*path, "headers", name), "is also written by this upstream's auth; remove one of the two"
                    )


def _own_address(proxy: dict[str, Any], upstream: dict[str, Any], path: Path) -> Iterator[Problem]:
    url, port = upstream.get("url"), _number(proxy, "port")
    host = proxy.get("host", ProxyConfig.model_fields["host"].default)
    if upstream.get("enabled") is False or not isinstance(url, str) or not isinstance(host, str):
        return
    if port is not None and leads_to_gateway(url, host, int(port)):
        yield Problem(
            (*path, "url"),
            "is the address of this gateway, which would be its own upstream; "
            "remove the upstream, or change its url or mcp.proxy.port",
        )


def leads_to_gateway(url: str, host: str, port: int) -> bool:
    """Whether `url` is an MCP endpoint of the gateway that listens on `host` and `port`."""
    try:
        parts = urlsplit(url)
        name, number = parts.hostname or "", parts.port
    except ValueError:
        return False
    if number is None:
        number = 443 if parts.scheme == "https" else 80
    if number != port or split_address(parts.path)[0].rstrip("/") not in ("", "/mcp", "/sse"):
        return False
    is_local = leads_to_loopback(host) or host in ("0.0.0.0", "::")
    return name == host.lower() or (is_local and leads_to_loopback(name))


def _stdio(upstream: dict[str, Any], path: Path) -> Iterator[Problem]:
    if "command" not in upstream:
        yield Problem((*path, "command"), 'is required for transport = "stdio"; for example: command = "uvx"')
    for key in _HTTP_ONLY:
        if key in upstream:
            yield Problem(
                (*path, key), 'does not belong to transport = "stdio"; remove it, or write transport = "http"'
            )
    if "auth" in upstream:
        yield Problem(
            (*path, "auth"),
            "is refused for stdio, which has no OAuth; remove it and hand credentials to the child through env",
        )


def _auth(auth: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check that the client has exactly the identifier and the credential that its grant and its method need."""
    is_login = auth.get("grant") == "authorization_code"
    given = [key for key in ("client_secret", "private_key") if key in auth]
    yield from _login(auth, path) if is_login else _no_login(auth, path)
    yield from (Problem((*path, key), what) for key, what in check_exchange(auth))
    method = auth.get("token_endpoint_auth_method")
    if method is None and len(given) > 1:
        yield Problem((*path, "private_key"), "stands beside client_secret, and only one can be used; remove one")
    elif method is None and not given and not is_login:
        yield Problem(
            (*path, "client_secret"),
            'is required, or private_key, or for a client without either token_endpoint_auth_method = "none"; '
            'for example: client_secret = "${CLIENT_SECRET}"',
        )
    elif isinstance(method, str) and method in _PROOFS:
        needed = _PROOFS[method]
        if needed is not None and needed not in given:
            yield Problem((*path, needed), f'is required for token_endpoint_auth_method = "{method}"')
        for key in given:
            if key != needed:
                yield Problem((*path, key), f'is not used by token_endpoint_auth_method = "{method}"; remove one')
    yield from _signing(auth, path)


def _login(auth: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check the keys of `grant = "authorization_code"`."""
    identifiers = [key for key in ("client_id", "client_metadata_url") if key in auth]
    if len(identifiers) > 1:
        yield Problem((*path, "client_metadata_url"), "stands beside client_id, and only one can be used; remove one")
    for key in ("client_secret", "private_key", "token_endpoint_auth_method"):
        if key in auth and not identifiers:
            yield Problem((*path, key), "belongs to a client that is registered beforehand; add its client_id")
    if "client_secret" in auth and identifiers == ["client_metadata_url"]:
        yield Problem((*path, "client_secret"), "cannot be used with client_metadata_url; remove it")
    for key, other in (("token_url", "authorization_url"), ("authorization_url", "token_url")):
        if key in auth and other not in auth:
            yield Problem((*path, other), f'is required beside {key} for grant = "authorization_code"')
    if "token_url" in auth and "authorization_url" in auth and "client_id" not in auth:
        yield Problem((*path, "client_id"), "is required beside token_url, without which a client could be registered")


def _no_login(auth: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check the keys of the client-credentials grant."""
    if "client_id" not in auth:
        yield Problem(
            (*path, "client_id"),
            'is required; for example: client_id = "gateway". If a person has to log in, write grant = '
            '"authorization_code" instead',
        )
    for key in ("authorization_url", "client_metadata_url", "identity", "redirect_uri"):
        if key in auth:
            yield Problem((*path, key), 'has no effect without grant = "authorization_code"; remove it')


def _tls(tls: dict[str, Any], url: Any, path: Path) -> Iterator[Problem]:
    if isinstance(url, str) and url.startswith("http://"):
        yield Problem(path, "has no effect for an http:// url; write https://, or remove it")
    if "key" in tls and "cert" not in tls:
        yield Problem((*path, "key"), "has no effect without cert, the certificate that it belongs to")
    if "ca" in tls and tls.get("verify") is False:
        yield Problem((*path, "verify"), "is false, so that ca has no effect; remove one of the two")


def _signing(auth: dict[str, Any], path: Path) -> Iterator[Problem]:
    key, algorithm = auth.get("private_key"), auth.get("signing_algorithm")
    for name in ("key_id", "signing_algorithm"):
        if name in auth and key is None:
            yield Problem((*path, name), "has no effect without private_key; remove it")
    if not isinstance(key, str) or not isinstance(algorithm, str):
        return
    try:
        possible = algorithms(key)
    except ValueError:
        return  # the model reports the key
    if algorithm in get_args(SigningAlgorithm) and algorithm not in possible:
        yield Problem(
            (*path, "signing_algorithm"), f"does not go with private_key, which signs with {' or '.join(possible)}"
        )


def _security(proxy: dict[str, Any], plugins: list[dict[str, Any]]) -> Iterator[Problem]:
    """With a plugin list, each security key needs its plugin in the list, whose entry must not set it too."""
    security = proxy.get("security")
    if not isinstance(security, dict):
        return
    entries = {plugin["name"]: plugin for plugin in reversed(plugins) if isinstance(plugin.get("name"), str)}
    for key, (plugin, setting) in SECURITY_KEYS.items():
        if key not in security:
            continue
        if plugin not in entries:
            yield Problem(
                (*SECURITY, key),
                f"has no effect, because [[mcp.proxy.plugins]] does not list {plugin}, and a list replaces the default "
                f'set; remove it, or add an entry with name = "{plugin}"',
            )
        elif entries[plugin].get("enabled") is False:
            yield Problem(
                (*SECURITY, key),
                f"has no effect, because the entry of {plugin} has enabled = false; remove one of the two",
            )
        elif setting in entries[plugin]:
            yield Problem(
                (*SECURITY, key),
                f"has no effect, because the entry of {plugin} sets {setting} itself; remove one of the two",
            )
