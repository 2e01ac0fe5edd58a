"""The configuration file: its models, and how it is read and checked.

`load` reads the TOML (`source.py` knows on which line each key stands), fills in `${…}` (`interpolate.py`), checks
types and values (`models.py`, `fields.py`) and what holds between keys (`rules.py`), and reports every problem
at once in one form (`report.py`). `template.py` writes a new file, `docs.py` the reference page.
"""

from gateway_core.config.expand import DEFAULT_PLUGINS
from gateway_core.config.loader import RELATIVE_PATH, load, loads
from gateway_core.config.models import (
    AuthConfig,
    Config,
    LimitsConfig,
    LogConfig,
    PluginEntry,
    ProxyConfig,
    SecurityConfig,
    UpstreamConfig,
)
from gateway_core.config.sections import NamesConfig
from gateway_core.config.template import default_file

__all__ = [
    "DEFAULT_PLUGINS",
    "RELATIVE_PATH",
    "AuthConfig",
    "Config",
    "LimitsConfig",
    "LogConfig",
    "NamesConfig",
    "PluginEntry",
    "ProxyConfig",
    "SecurityConfig",
    "UpstreamConfig",
    "default_file",
    "load",
    "loads",
]
