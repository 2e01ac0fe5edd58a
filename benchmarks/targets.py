"""What can stand between the load and the upstreams, and how each is started.

`direct` is the upstream itself; `nginx` and `aiohttp` are plain reverse proxies of the first upstream; the gateways
join all upstreams and differ in their plugins only: `gateway-min` has a routing and a conflict strategy and writes no
line per call; `gateway-quiet` has the default set without its payload log: routing, conflict, rate limit, redactor,
and a line about each call in a file; `gateway` is the whole default set, which also logs every payload, redacted.
`peers` has gateways by others.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import processes
from matrix import ERAS, Stage
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
      proxy_buffering off; proxy_buffers 8 64k; proxy_buffer_size 64k;
    }}
  }}
}}
"""

# Limits that no run reaches, so that what they guard is done for every call and none is refused.
GATEWAY = """\
[mcp.proxy]
enable = true
port = {port}
max_connections = 10000

[mcp.proxy.limits]
in_flight = 10000
sessions = 100000
sessions_per_principal = 100000

[mcp.proxy.log]
level = "{level}"
file = "gateway.log"
"""

UPSTREAM = """
[[mcp.proxy.upstreams]]
name = "bench{number}"
transport = "http"
url = "http://127.0.0.1:{port}/mcp"
group = "bench"
max_in_flight = 10000
"""

MINIMAL = """
[[mcp.proxy.plugins]]
name = "routing_priority"

[[mcp.proxy.plugins]]
name = "conflict_autoprefix"
"""

DEFAULT = """
[mcp.proxy.security]
rate_limit_per_minute = 1000000000
"""
QUIET = f"""{DEFAULT}\
log_requests = false
log_responses = false
"""


class Unavailable(Exception):
    """This machine lacks what the target needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Running:
    """A target that serves MCP on a port of this machine."""

    name: str
    port: int
    process: Process
    path: str = "/mcp"
    eras: tuple[str, ...] = ERAS


def upstreams(folder: Path, scratch: Path, stage: Stage, eras: str = "both") -> tuple[Running, list[int]]:
    """The upstreams of a stage, all in one process, as the target `direct`; and their ports."""
    ports = processes.free_ports(stage.upstreams)
    argv = [str(folder / "mcpup"), "-n", str(stage.tools), "-e", eras, *(["-s"] if stage.sse else [])]
    for port in ports:
        argv += ["-p", str(port)]
    process = Process(argv, cpu=processes.cpus()[1], port=ports[0], log=scratch / "upstream.log")
    return Running("direct", ports[0], process), ports


def _nginx_program() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def nginx_version() -> str:
    program = _nginx_program()
    if program is None:
        return ""
    told = subprocess.run([program, "-v"], check=True, capture_output=True, text=True, timeout=10).stderr
    return told.strip().rpartition("/")[2]


def nginx(upstream_ports: Sequence[int], scratch: Path) -> Running:
    program = _nginx_program()
    if program is None:
        raise Unavailable("nginx is not installed (apt-get install nginx-light)")
    port = processes.free_port()
    config = scratch / "nginx.conf"
    config.write_text(_NGINX.format(scratch=scratch, upstream=upstream_ports[0], port=port))
    argv = [program, "-c", str(config), "-p", str(scratch)]
    return Running("nginx", port, Process(argv, cpu=processes.cpus()[0], port=port, log=scratch / "nginx.log"))


def aiohttp(upstream_ports: Sequence[int], scratch: Path) -> Running:
    port = processes.free_port()
    argv = [sys.executable, str(HERE / "aiohttp_proxy.py"), str(port), f"http://127.0.0.1:{upstream_ports[0]}/mcp"]
    return Running("aiohttp", port, Process(argv, cpu=processes.cpus()[0], port=port, log=scratch / "aiohttp.log"))


def gateway_min(upstream_ports: Sequence[int], scratch: Path) -> Running:
    return gateway("gateway-min", MINIMAL, upstream_ports, scratch, level="WARNING")


def gateway_quiet(upstream_ports: Sequence[int], scratch: Path) -> Running:
    return gateway("gateway-quiet", QUIET, upstream_ports, scratch)


def gateway_default(upstream_ports: Sequence[int], scratch: Path) -> Running:
    return gateway("gateway", DEFAULT, upstream_ports, scratch)


def rad() -> str:
    """The gateway's command, of the environment that the benchmark runs in."""
    program = Path(sys.executable).with_name("rad")
    if not program.exists():
        raise Unavailable(f"{program.name} is not installed next to {Path(sys.executable).name} (make install)")
    return str(program)


def gateway(
    name: str,
    plugins: str,
    upstream_ports: Sequence[int],
    scratch: Path,
    *,
    level: str = "INFO",
    env: Mapping[str, str] = MappingProxyType({}),
) -> Running:
    """A gateway with these tables of TOML for its plugins, ready when its upstreams and its control plane are."""
    folder = scratch / name / ".radium"
    folder.mkdir(parents=True)
    port, control = processes.free_ports(2)
    servers = "".join(UPSTREAM.format(number=number, port=each) for number, each in enumerate(upstream_ports))
    config = folder / "mcp-proxy.toml"
    operators = f"\n[mcp.proxy.control]\nport = {control}\n"
    config.write_text(GATEWAY.format(port=port, level=level) + operators + servers + plugins)
    argv = [rad(), "mcp", "proxy", "start", "--config", str(config)]
    log = scratch / f"{name}.log"
    process = Process(argv, cpu=processes.cpus()[0], port=port, log=log, ready="/readyz", env=env)
    process.wait(control, "/healthz")  # it loads after the data plane listens, and no call should pay for that
    return Running(name, port, process)


Launcher = Callable[[Sequence[int], Path], Running]
LAUNCHERS: dict[str, Launcher] = {
    "nginx": nginx,
    "aiohttp": aiohttp,
    "gateway-min": gateway_min,
    "gateway-quiet": gateway_quiet,
    "gateway": gateway_default,
}
NAMES = ("direct", *LAUNCHERS)
