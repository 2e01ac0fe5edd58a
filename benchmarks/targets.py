"""What can stand between the load and the upstream, and how each is started.

`direct` is the upstream itself; `nginx` and `aiohttp` are plain reverse proxies; the gateways differ in their plugins
only: `gateway-min` has a routing and a conflict strategy, `gateway` has the default set, which logs every payload, and
`gateway-quiet` the default set without that.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import processes
from processes import HERE, Process

_NGINX = """\
daemon off; master_process off; worker_processes 1; pid {scratch}/pid; error_log {scratch}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy; fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi; scgi_temp_path {scratch}/scgi;
  keepalive_requests 100000000; keepalive_timeout 3600;
  upstream mcp {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://mcp; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_buffers 16 64k; proxy_buffer_size 64k;
    }}
  }}
}}
"""

_GATEWAY = """\
[mcp.proxy]
enable = true
port = {port}
max_connections = 1000

[mcp.proxy.limits]
sessions_per_principal = 1000

[[mcp.proxy.upstreams]]
name = "bench"
transport = "http"
url = "http://127.0.0.1:{upstream}/mcp"
"""

_MINIMAL = """
[[mcp.proxy.plugins]]
name = "routing_priority"

[[mcp.proxy.plugins]]
name = "conflict_autoprefix"
"""

# a limit that no run reaches, so that the limiter does its work on every call
_DEFAULT = """
[mcp.proxy.security]
rate_limit_per_minute = 1000000000
"""
_QUIET = """\
log_requests = false
log_responses = false
"""


class Unavailable(Exception):
    """This machine lacks what the target needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Running:
    name: str
    port: int
    process: Process


def upstream(folder: Path, scratch: Path, eras: str, sse: bool) -> Running:
    port = processes.free_port()
    argv = [str(folder / "mcpup"), "-p", str(port), "-e", eras, *(["-s"] if sse else [])]
    return Running("direct", port, Process(argv, cpu=processes.cpus()[1], port=port, log=scratch / "upstream.log"))


def nginx(upstream_port: int, scratch: Path) -> Running:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise Unavailable("nginx is not installed (apt-get install nginx-light)")
    port = processes.free_port()
    config = scratch / "nginx.conf"
    config.write_text(_NGINX.format(scratch=scratch, upstream=upstream_port, port=port))
    argv = [program, "-c", str(config), "-p", str(scratch)]
    return Running("nginx", port, Process(argv, cpu=processes.cpus()[0], port=port, log=scratch / "nginx.log"))


def aiohttp(upstream_port: int, scratch: Path) -> Running:
    port = processes.free_port()
    argv = [sys.executable, str(HERE / "aiohttp_proxy.py"), str(port), f"http://127.0.0.1:{upstream_port}/mcp"]
    return Running("aiohttp", port, Process(argv, cpu=processes.cpus()[0], port=port, log=scratch / "aiohttp.log"))


def gateway_min(upstream_port: int, scratch: Path) -> Running:
    return _gateway("gateway-min", _MINIMAL, upstream_port, scratch)


def gateway_quiet(upstream_port: int, scratch: Path) -> Running:
    return _gateway("gateway-quiet", _DEFAULT + _QUIET, upstream_port, scratch)


def gateway(upstream_port: int, scratch: Path) -> Running:
    return _gateway("gateway", _DEFAULT, upstream_port, scratch)


def _gateway(name: str, plugins: str, upstream_port: int, scratch: Path) -> Running:
    program = Path(sys.executable).with_name("rad")
    if not program.exists():
        raise Unavailable(f"{program.name} is not installed next to {Path(sys.executable).name} (uv sync)")
    folder = scratch / name / ".radium"
    folder.mkdir(parents=True)
    port = processes.free_port()
    config = folder / "mcp-proxy.toml"
    config.write_text(_GATEWAY.format(port=port, upstream=upstream_port) + plugins)
    argv = [str(program), "mcp", "proxy", "start", "--config", str(config)]
    log = scratch / f"{name}.log"
    return Running(name, port, Process(argv, cpu=processes.cpus()[0], port=port, log=log, ready="/readyz"))


LAUNCHERS: dict[str, Callable[[int, Path], Running]] = {
    "nginx": nginx,
    "aiohttp": aiohttp,
    "gateway-min": gateway_min,
    "gateway-quiet": gateway_quiet,
    "gateway": gateway,
}
NAMES = ("direct", *LAUNCHERS)
