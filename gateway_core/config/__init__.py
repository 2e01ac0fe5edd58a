"""The configuration file: its models, and how it is read and checked.

`load` reads the TOML (`source.py` finds the line of each key), fills in `${…}` (`placeholders/`), checks types and
values (`models.py`, `fields.py`) and relations between keys (`rules.py`), and reports all problems at once in one form
(`report.py`). `expand.py` adds the default plugins. `template.py` writes a new file, `docs.py` the reference page.
"""

from gateway_core.config.auth import AuthConfig
from gateway_core.config.expand import DEFAULT_PLUGINS
from gateway_core.config.exposure import exposure, forwarded_headers, is_local, passes_credentials_on, unprotected
from gateway_core.config.loader import (
    RELATIVE_PATH,
    load,
    loads,
    plugin_entries,
    profile_names,
    read_file,
    text_of,
)
from gateway_core.config.models import Config, ProxyConfig, UpstreamConfig
from gateway_core.config.profiles import OverrideConfig, ProfileConfig
from gateway_core.config.sections import (
    LimitsConfig,
    LogConfig,
    NamesConfig,
    PluginEntry,
    SecurityConfig,
    TrustedProxiesConfig,
)
from gateway_core.config.template import default_file

__all__ = [
    "DEFAULT_PLUGINS",
    "RELATIVE_PATH",
    "AuthConfig",
    "Config",
    "LimitsConfig",
    "LogConfig",
    "NamesConfig",
    "OverrideConfig",
    "PluginEntry",
    "ProfileConfig",
    "ProxyConfig",
    "SecurityConfig",
    "TrustedProxiesConfig",
    "UpstreamConfig",
    "default_file",
    "exposure",
    "forwarded_headers",
    "is_local",
    "load",
    "loads",
    "passes_credentials_on",
    "plugin_entries",
    "profile_names",
    "read_file",
    "text_of",
    "unprotected",
]
