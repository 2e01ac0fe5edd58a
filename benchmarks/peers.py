"""Gateways by others, each in an environment of its own below benchmarks/; `make peers` installs them."""

from targets import Launcher

LAUNCHERS: dict[str, Launcher] = {}
NAMES = ("direct", "nginx", "gateway-quiet", *LAUNCHERS)


def versions(names):
    return {}
