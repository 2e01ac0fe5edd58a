"""The rules of the configuration file: what loads, what is refused, and how it is said."""

from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import Config, ProxyConfig, UpstreamConfig, loads
from gateway_core.errors import ConfigError

FILE = Path("conf", "mcp-proxy.toml")
HEAD = "[mcp.proxy]\nenable = true\n"
STDIO = '[[mcp.proxy.upstreams]]\nname = "child"\ntransport = "stdio"\ncommand = "cat"\n'
HTTP = '[[mcp.proxy.upstreams]]\nname = "web"\ntransport = "http"\nurl = "http://localhost:8080/mcp"\n'
AUTH = (
    '[mcp.proxy.upstreams.auth]\nauth_type = "oauth"\ntoken_url = "https://auth.example.com/token"\n'
    'client_id = "gateway"\n'
)
CANARY = "cAnArY-7f3"


def load(text: str, **env: str) -> Config:
    return loads(text, FILE, env)


def problems(text: str, **env: str) -> list[str]:
    """The problems of a file, without the part up to the line number."""
    with pytest.raises(ConfigError) as caught:
        loads(text, FILE, env)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(problem.startswith(f"{FILE}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{FILE}:") for problem in caught.value.problems]


def problem(text: str, **env: str) -> str:
    found = problems(text, **env)
    assert len(found) == 1, found
    return found[0]


def upstream(text: str, **env: str) -> UpstreamConfig:
    return load(HEAD + text, **env).proxy.upstreams[0]


# Defaults and accepted values


def test_the_defaults_are_those_of_the_specification() -> None:
    proxy = load("[mcp.proxy]").proxy
    assert (proxy.enable, proxy.port, proxy.transport, proxy.max_connections) == (False, 3000, "http", 100)
    assert (proxy.host, proxy.separator, proxy.replicas) == ("127.0.0.1", "__", "intent")
    assert (proxy.timeout, proxy.max_timeout, proxy.drain_timeout) == (60.0, 300.0, 30.0)
    assert proxy.limits.model_dump() == {
        "memory": None,
        "request_body": 4 * 1024**2,
        "response_body": 16 * 1024**2,
        "in_flight": 1024,
        "sessions": 10_000,
        "sessions_per_principal": 100,
        "session_idle": 1800.0,
        "page_size": 1000,
        "parked_calls": 1000,
        "parked_per_principal": 32,
    }
    log = {"level": "INFO", "format": "text", "file": None, "max_bytes": 16 * 1024**2, "kept_files": 5}
    assert proxy.log.model_dump() == log
    assert proxy.security.model_dump() == {
        "log_requests": True,
        "log_responses": True,
        "redact_patterns": ("api[_-]?key", "password", "token"),
        "rate_limit_per_minute": 60,
    }
    assert proxy.upstreams == ()


def test_the_defaults_of_an_upstream_are_those_of_the_specification() -> None:
    one = upstream(HTTP)
    assert (one.priority, one.health_check_interval, one.tools, one.timeout) == (1, 30, None, None)
    assert (one.group, one.isolation, one.retry, one.trust_annotations) == (None, "shared", "never", False)
    assert (one.max_in_flight, one.auth, one.headers, one.env, one.args) == (None, None, {}, {}, ())


def test_whole_numbers_are_taken_for_times() -> None:
    assert upstream(HTTP + "timeout = 5\nhealth_check_interval = 0.5").timeout == 5


def test_a_call_may_take_as_long_as_the_maximum() -> None:
    assert load(HEAD + "timeout = 300\n" + HTTP + "timeout = 300").proxy.timeout == 300


def test_retry_is_one_word_or_a_table_of_tools() -> None:
    assert upstream(HTTP + 'retry = "safe"').retry == "safe"
    assert upstream(HTTP + 'retry = { a = "safe", b = "never" }').retry == {"a": "safe", "b": "never"}


def test_oauth_is_read_with_its_secret_hidden() -> None:
    auth = upstream(HTTP + AUTH + 'client_secret = "${S}"\nscope = "a b"', S=CANARY).auth
    assert auth is not None
    assert auth.client_secret.get_secret_value() == CANARY
    assert (auth.auth_type, auth.scope, auth.resource) == ("oauth", "a b", None)


@pytest.mark.parametrize(
    "url", ["http://localhost:9/t", "http://127.0.0.9/t", "http://[::1]:9/t", "https://a.example/t"]
)
def test_a_token_url_is_https_or_loopback(url: str) -> None:
    text = AUTH.replace("https://auth.example.com/token", url) + 'client_secret = "s3"'
    auth = upstream(HTTP + text).auth
    assert auth is not None
    assert auth.token_url == url


def test_relative_paths_start_at_the_folder_of_the_file() -> None:
    config = load(HEAD + '[mcp.proxy.log]\nfile = "g.log"\n' + STDIO + 'cwd = "../data"')
    folder = FILE.absolute().parent
    assert config.path == FILE.absolute()
    assert config.proxy.log.file == str(folder / "g.log")
    assert config.proxy.upstreams[0].cwd == str(folder / "../data")
    assert upstream(STDIO + 'cwd = "/srv"').cwd == "/srv"
    assert upstream(STDIO).cwd is None


# What is refused, one rule each


REFUSED: dict[str, tuple[str, str]] = {
    "port 0": ("port = 0", "3: mcp.proxy.port: must be from 1 to 65535, but is 0; for example: port = 3000"),
    "port too high": ("port = 65536", "3: mcp.proxy.port: must be from 1 to 65535, but is 65536"),
    "port as text": ('port = "3000"', '3: mcp.proxy.port: must be a whole number, but is the text "3000"; for'),
    "port as boolean": ("port = true", "3: mcp.proxy.port: must be a whole number, but is true"),
    "connections": ("max_connections = 0", "3: mcp.proxy.max_connections: must be greater than 0, but is 0"),
    "no conversion": ("enable2 = 1", '3: mcp.proxy.enable2: is not a known key; did you mean "enable"?'),
    "transport": (
        'transport = "htp"',
        '3: mcp.proxy.transport: must be one of "http", "sse", but is the text "htp"; did',
    ),
    "stdio for agents": ('transport = "stdio"', '3: mcp.proxy.transport: must be one of "http", "sse"'),
    "host": ('host = "http://x:1"', "3: mcp.proxy.host: must be an IP address or a host name"),
    "separator": ('separator = ":"', "3: mcp.proxy.separator: must be 1 to 8 letters"),
    "empty separator": ('separator = ""', "3: mcp.proxy.separator: must be 1 to 8 letters"),
    "replicas": ('replicas = "all"', '3: mcp.proxy.replicas: must be one of "intent", "declared", "schema"'),
    "timeout": ("timeout = 0", "3: mcp.proxy.timeout: must be greater than 0, but is 0"),
    "infinite timeout": ("max_timeout = inf", "3: mcp.proxy.max_timeout: must be a finite number, but is inf"),
    "timeout above maximum": ("timeout = 301", "3: mcp.proxy.timeout: timeout (301) must not be more than max_timeout"),
    "maximum below timeout": ("max_timeout = 5", "3: mcp.proxy.max_timeout: timeout (60) must not be more than"),
    "drain": ("drain_timeout = -1", "3: mcp.proxy.drain_timeout: must be greater than 0, but is -1"),
    "origin": ('allowed_origins = ["*"]', '3: mcp.proxy.allowed_origins[0]: must be "scheme://host"'),
    "origin pattern": ('allowed_origins = ["https://*.example.com"]', "3: mcp.proxy.allowed_origins[0]: must be"),
    "origin with user": ('allowed_origins = ["https://a@b.example"]', "3: mcp.proxy.allowed_origins[0]: must be"),
    "origin with path": ('allowed_origins = ["https://a.example/"]', "3: mcp.proxy.allowed_origins[0]: must be"),
    "public url": ('public_url = "http://gateway.example.com"', "3: mcp.proxy.public_url: must be an https:// URL"),
    "public url with path": (
        'public_url = "https://a.example/gw"',
        "3: mcp.proxy.public_url: must be an address without",
    ),
    "allowed host": ('allowed_hosts = ["ok:80", "a/b"]', "3: mcp.proxy.allowed_hosts[1]: must be an IP address"),
    "not a list": ('allowed_hosts = "a"', "3: mcp.proxy.allowed_hosts: must be a list, but is"),
    "limit": ("limits.in_flight = 0", "3: mcp.proxy.limits.in_flight: must be greater than 0"),
    "size": ("limits.request_body = 1.5", "3: mcp.proxy.limits.request_body: must be a whole number, but is 1.5"),
    "log level": (
        'log.level = "info"',
        '3: mcp.proxy.log.level: must be one of "DEBUG", "INFO", "WARNING", "ERROR", but',
    ),
    "log format": ('log.format = "xml"', '3: mcp.proxy.log.format: must be one of "text", "json"'),
    "log table": ("log = 3", "3: mcp.proxy.log: must be a table, but is 3; write its keys below [mcp.proxy.log]"),
    "rate": (
        "security.rate_limit_per_minute = -1",
        "3: mcp.proxy.security.rate_limit_per_minute: must be 0 or more, but is -1",
    ),
    "pattern": (
        'security.redact_patterns = ["ok", "(a"]',
        "3: mcp.proxy.security.redact_patterns[1]: is not valid RE2, which has no look-around and no "
        "back-references: missing ): (a",
    ),
    "look-ahead": (
        'security.redact_patterns = ["(?=a)"]',
        "3: mcp.proxy.security.redact_patterns[0]: is not valid RE2",
    ),
    "pattern that quotes what follows": (
        "security.redact_patterns = ['ok', '\\Qabc']",
        "3: mcp.proxy.security.redact_patterns[1]: cannot be part of a list: missing )",
    ),
    "pattern that matches everything": (
        "security.redact_patterns = ['x*']",
        "3: mcp.proxy.security.redact_patterns[0]: matches everything; name a part of what is to match",
    ),
    "long pattern": (
        f"security.redact_patterns = ['{'x' * 1025}']",
        "3: mcp.proxy.security.redact_patterns[0]: has 1025 characters; the limit is 1024",
    ),
    "many patterns": (
        f"security.redact_patterns = {['x'] * 65}",
        "3: mcp.proxy.security.redact_patterns: 65 patterns are too many; the limit is 64",
    ),
    "empty pattern": ('security.redact_patterns = [""]', "3: mcp.proxy.security.redact_patterns[0]: must not be empty"),
    "one upstream table": (
        "[mcp.proxy.upstreams]",
        "3: mcp.proxy.upstreams: must be a list, but is a table; write its keys below [[mcp.proxy.upstreams]]",
    ),
    "other table": ("[other]\na = 1", "3: other: is not a known key; known here: mcp"),
    "other key of mcp": ("[mcp.gateway]\na = 1", "3: mcp.gateway: is not a known key; known here: proxy"),
    "key elsewhere": ("rate_limit_per_minute = 1", "is not a key of this table; it belongs in [mcp.proxy.security]"),
    "key in two tables": ("priority = 1", "is not a key of this table; it belongs in [[mcp.proxy.upstreams]]"),
    "misspelt table": (
        "[[mcp.proxy.upstream]]",
        '3: mcp.proxy.upstream: is not a known key; did you mean "upstreams"?',
    ),
    "internal field": ("settings = 1", "3: mcp.proxy.settings: is not a known key"),
    "plugin without name": ("[[mcp.proxy.plugins]]\nx = 1", "3: mcp.proxy.plugins[0].name: is required; for example"),
    "plugin name": ('[[mcp.proxy.plugins]]\nname = "a b"', "4: mcp.proxy.plugins[0].name: must be 1 to 64 letters"),
    "plugin not a table": ('plugins = ["a"]', "3: mcp.proxy.plugins[0]: must be a table, but is text"),
    "plugin twice": (
        '[[mcp.proxy.plugins]]\nname = "a"\n[[mcp.proxy.plugins]]\nname = "a"',
        '6: mcp.proxy.plugins[1].name: plugin "a": is taken on line 4: names must be unique',
    ),
    "plugin enabled": (
        '[[mcp.proxy.plugins]]\nname = "a"\nenabled = "no"',
        '5: mcp.proxy.plugins[0].enabled: plugin "a": must be true or false, but is the text "no"',
    ),
    "plugin on_error": (
        '[[mcp.proxy.plugins]]\nname = "a"\non_error = "fail"',
        '5: mcp.proxy.plugins[0].on_error: plugin "a": must be one of "reject", "ignore"',
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_line_path_and_what_would_be_right(text: str, message: str) -> None:
    assert message in problem(HEAD + text + "\n")


# Line 3 is the header of the upstream, 4 its name, 5 its transport, 6 its command or url, 7 what the case adds.
REFUSED_UPSTREAMS: dict[str, tuple[str, str]] = {
    "nothing": ("[[mcp.proxy.upstreams]]", "3: mcp.proxy.upstreams[0].name: is required; for example: name ="),
    "transport": (
        HTTP.replace('"http"', '"htp"'),
        '5: mcp.proxy.upstreams[0].transport: upstream "web": must be one of',
    ),
    "no command": (
        STDIO.replace("command", "#"),
        'command: upstream "child": is required for transport = "stdio"; for',
    ),
    "empty command": (
        STDIO.replace("cat", " "),
        '6: mcp.proxy.upstreams[0].command: upstream "child": must not be empty',
    ),
    "no url": (HTTP.replace("url", "#"), '3: mcp.proxy.upstreams[0].url: upstream "web": is required for transport ='),
    "no url for sse": (HTTP.replace("url", "#").replace('"http"', '"sse"'), 'is required for transport = "sse"'),
    "command for http": (
        HTTP + 'command = "x"',
        '7: mcp.proxy.upstreams[0].command: upstream "web": does not belong to',
    ),
    "args for http": (HTTP + 'args = ["x"]', "7: mcp.proxy.upstreams[0].args: upstream"),
    "env for http": (HTTP + "env = {}", "7: mcp.proxy.upstreams[0].env: upstream"),
    "cwd for http": (HTTP + 'cwd = "x"', "7: mcp.proxy.upstreams[0].cwd: upstream"),
    "url for stdio": (
        STDIO + 'url = "http://a/"',
        '7: mcp.proxy.upstreams[0].url: upstream "child": does not belong to',
    ),
    "headers for stdio": (STDIO + "headers = {}", "7: mcp.proxy.upstreams[0].headers: upstream"),
    "auth for stdio": (
        STDIO + AUTH + 'client_secret = "s3"',
        '7: mcp.proxy.upstreams[0].auth: upstream "child": is refused',
    ),
    "args not text": (
        STDIO + 'args = ["a", 1]',
        '7: mcp.proxy.upstreams[0].args[1]: upstream "child": must be text in',
    ),
    "env not text": (
        STDIO + "env = { P = 1 }",
        'env.P: upstream "child": must be text in quotes, but is a whole number',
    ),
    "env name": (
        STDIO + 'env = { "A=B" = "x" }',
        'env."A=B": upstream "child": is not a name of an environment variable',
    ),
    "scheme": (
        HTTP.replace("http:", "ftp:"),
        '6: mcp.proxy.upstreams[0].url: upstream "web": must be an absolute http://',
    ),
    "no host": (HTTP.replace("localhost:8080", ""), "6: mcp.proxy.upstreams[0].url: upstream"),
    "url port": (HTTP.replace("8080", "99999"), "6: mcp.proxy.upstreams[0].url: upstream"),
    "userinfo": (
        HTTP.replace("localhost", "u:p@localhost"),
        "must not hold a user name or password: URLs end up in logs",
    ),
    "fragment": (HTTP.replace("/mcp", "/mcp#x"), "must not have a fragment"),
    "space in url": (HTTP.replace("/mcp", "/m cp"), "must be a URL without spaces"),
    "header name": (HTTP + 'headers = { "a b" = "x" }', 'headers."a b": upstream "web": is not a header name'),
    "own header": (HTTP + 'headers = { mcp-session-id = "x" }', "is a header that the gateway writes itself"),
    "header value": (HTTP + 'headers = { a = "x\\r\\nb: c" }', "must not hold line breaks"),
    "priority": (HTTP + "priority = 0", '7: mcp.proxy.upstreams[0].priority: upstream "web": must be greater than 0'),
    "interval": (HTTP + "health_check_interval = 0", "health_check_interval: upstream"),
    "tools": (
        HTTP + 'tools = ["a", 2]',
        '7: mcp.proxy.upstreams[0].tools[1]: upstream "web": must be text in quotes, but',
    ),
    "isolation": (HTTP + 'isolation = "none"', 'must be one of "shared", "agent", "call"'),
    "retry": (HTTP + 'retry = "always"', 'must be "never", "safe", or a table of tool names'),
    "retry of a tool": (HTTP + 'retry = { a = "x" }', 'must be "never", "safe", or a table of tool names'),
    "in flight": (HTTP + "max_in_flight = 0", "max_in_flight: upstream"),
    "timeout": (HTTP + "timeout = 301", "must not be more than mcp.proxy.max_timeout (300), where every call ends"),
    "name": (
        HTTP.replace("web", "a:b"),
        '4: mcp.proxy.upstreams[0].name: must be 1 to 64 letters, digits, ".", "_" or',
    ),
    "long name": (HTTP.replace("web", "w" * 65), "4: mcp.proxy.upstreams[0].name: must be 1 to 64"),
    "separator in name": (HTTP.replace("web", "a__b"), 'must not contain the separator "__"'),
    "name twice": (
        HTTP + HTTP,
        '8: mcp.proxy.upstreams[1].name: upstream "web": is taken on line 4: names must be unique',
    ),
    "unknown key": (
        HTTP + 'ulr = "x"',
        '7: mcp.proxy.upstreams[0].ulr: upstream "web": is not a known key; did you mean "url"?',
    ),
    "auth without keys": (HTTP + 'auth = { auth_type = "oauth", client_secret = "s3" }', "client_id: up"),
    "auth type": (
        HTTP + AUTH.replace('"oauth"', '"basic"') + 'client_secret = "s3"',
        'auth_type: upstream "web": must be',
    ),
    "no client secret": (HTTP + AUTH, "7: mcp.proxy.upstreams[0].auth.client_secret: upstream"),
    "plain token url": (
        HTTP + AUTH.replace("https:", "http:") + 'client_secret = "s3"',
        '9: mcp.proxy.upstreams[0].auth.token_url: upstream "web": must be an https:// URL',
    ),
    "auth and header": (
        HTTP + 'headers = { authorization = "x" }\n' + AUTH + 'client_secret = "s3"',
        "7: mcp.proxy.upstreams[0].headers.authorization: upstream",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED_UPSTREAMS.values(), ids=REFUSED_UPSTREAMS)
def test_an_upstream_is_refused_with_line_path_name_and_what_would_be_right(text: str, message: str) -> None:
    found = problems(HEAD + text)
    assert message in found[0]
    assert len(found) == (2 if text == "[[mcp.proxy.upstreams]]" else 1), found


@pytest.mark.parametrize(
    "secret", ["changeme", "CHANGE_ME", "your-secret", "your_client_secret", "<client secret>", "xxx", "***", "", " "]
)
def test_a_placeholder_is_no_client_secret(secret: str) -> None:
    found = problem(HEAD + HTTP + AUTH + f'client_secret = "{secret}"')
    assert "11: mcp.proxy.upstreams[0].auth.client_secret: upstream" in found
    assert "is still a placeholder" in found or "must not be empty" in found


def test_a_bad_pattern_is_reported_and_nothing_else_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    problem(HEAD + 'security.redact_patterns = ["("]')
    assert capfd.readouterr() == ("", "")


def test_another_separator_frees_the_usual_one() -> None:
    assert load('[mcp.proxy]\nseparator = "."\n' + HTTP.replace("web", "a__b")).proxy.upstreams[0].name == "a__b"
    assert 'separator "."' in problem('[mcp.proxy]\nseparator = "."\n' + HTTP.replace("web", "a.b"))


@pytest.mark.parametrize("text", ["", "[mcp]", "# nothing"])
def test_a_file_without_its_table_is_refused(text: str) -> None:
    assert problem(text) == "1: mcp.proxy: is missing; write [mcp.proxy] and below it enable = true"


def test_a_misspelt_main_table_is_named() -> None:
    assert problems("[mcp.prxy]\nenable = true")[1] == '1: mcp.prxy: is not a known key; did you mean "proxy"?'


@pytest.mark.parametrize("value", ["3", '"x"', "[]", "1979-05-27"])
def test_values_in_place_of_tables_are_refused(value: str) -> None:
    assert "must be a table" in problems(f"mcp = {value}")[-1]
    assert "2: mcp.proxy: must be a table" in problem(f"[mcp]\nproxy = {value}")


# TOML errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mcp.proxy]\nname = github", "2: is not valid TOML: Invalid value at column 8; text needs quotes"),
        ("a = 1\na = 2", "2: is not valid TOML: Cannot overwrite a value"),
        ("[mcp.proxy.upstreams]\n[mcp.proxy.upstreams]", "2: is not valid TOML: Cannot declare"),
        ("a = [1,\n\n", "1: is not valid TOML: "),
        ('a = "C:\\dir"', "1: is not valid TOML: Unescaped '\\' in a string at column"),
        ("[mcp.proxy]\r\n\r\nx = y\r\n", "3: is not valid TOML: Invalid value"),
    ],
)
def test_toml_errors_have_their_line_and_a_hint(text: str, message: str) -> None:
    assert message in problem(text)


def test_absurd_toml_is_an_error_and_nothing_worse() -> None:
    for text in ("a = " + "[" * 100_000, "a = " + "9" * 5000):
        with pytest.raises(ConfigError):
            load(text)


# All at once, and nothing secret


def test_all_errors_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = (
        '[mcp.proxy]\nprot = 1\nport = "x"\n'
        '[[mcp.proxy.upstreams]]\nname = "a"\ntransport = "stdio"\nurl = "nonsense"\nenv = { K = "${GONE}" }\n'
        '[[mcp.proxy.upstreams]]\nname = "a"\ntransport = "http"\nurl = "${file:gone}"\npriority = -1\n'
        '[mcp.proxy.security]\nredact_patterns = ["("]\n[[mcp.proxy.plugins]]\n'
    )
    found = problems(text)
    lines = [int(text.split(":")[0]) for text in found]
    assert lines == sorted(lines)
    assert lines == [2, 3, 4, 7, 7, 8, 10, 12, 13, 15, 15, 16]


def test_what_could_not_be_filled_in_is_not_also_called_wrong() -> None:
    assert "environment variable GONE is not set" in problem(
        HEAD + HTTP.replace("http://localhost:8080/mcp", "${GONE}")
    )


SECRETS: dict[str, str] = {
    "client_secret of wrong type": HTTP + AUTH + f'client_secret = ["{CANARY}"]',
    "key beside client_secret": HTTP + AUTH + f'client_secret = "s3"\nclient_secrte = "{CANARY}"',
    "env": STDIO + f'env = {{ TOKEN = ["{CANARY}"] }}',
    "env as text": STDIO + f'env = "TOKEN={CANARY}"',
    "args": STDIO + f'args = "{CANARY}"',
    "headers": HTTP + f'headers = {{ Authorization = "{CANARY}\\n" }}',
    "headers as text": HTTP + f'headers = "{CANARY}"',
    "userinfo": HTTP.replace("localhost", f"user:{CANARY}@localhost"),
    "query": HTTP.replace("http:", "ftp:").replace("/mcp", f"/mcp?key={CANARY}"),
    "token_url": HTTP + AUTH.replace("https://", f"http://{CANARY}.example/") + 'client_secret = "s3"',
    "unknown secret keys": f'password = "{CANARY}"\napi_key = "{CANARY}"\ntoken = 1\nauthorization = "{CANARY}"',
    "filled in choice": 'transport = "${SECRET}"',
    "filled in name": HTTP.replace("web", "${SECRET} !"),
    "filled in pattern": 'security.redact_patterns = ["(${SECRET}"]',
    "filled in host": 'host = "${SECRET}/"',
    "filled in number": 'port = "${SECRET}"',
    "name of a broken upstream": HTTP.replace("web", "${SECRET}") + "priority = 0",
    "plugin setting": f'[[mcp.proxy.plugins]]\nname = "a"\nenabled = 3\napi_key = "{CANARY}"',
    "syntax": f'password = "{CANARY}" oops',
    "bare syntax": f"password = {CANARY}",
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_errors_never_show_a_secret(text: str) -> None:
    assert CANARY not in "\n".join(problems(HEAD + text, SECRET=CANARY))


def test_models_do_not_print_secrets() -> None:
    web = HTTP.replace("/mcp", f"/mcp?key={CANARY}") + f'headers = {{ X = "{CANARY}" }}\n' + AUTH
    child = STDIO + f'args = ["{CANARY}"]\nenv = {{ K = "{CANARY}" }}\n'
    plugin = f'[[mcp.proxy.plugins]]\nname = "a"\nkey = "{CANARY}"\n'
    config = load(HEAD + web + f'client_secret = "{CANARY}"\n' + child + plugin)
    assert CANARY not in repr(config)
    assert CANARY not in str(config.proxy)
    assert CANARY not in "".join(str(part) for part in (*config.proxy.upstreams, *config.proxy.plugins))


def test_models_made_in_code_do_not_print_secrets_either() -> None:
    with pytest.raises(ValueError, match="transport") as caught:
        UpstreamConfig.model_validate({"name": "a", "transport": "ftp", "env": {"K": [CANARY]}})
    assert CANARY not in str(caught.value)


def test_an_error_is_one_line_whatever_the_keys_and_values_hold() -> None:
    found = problems('[mcp.proxy]\n"a\\nb\\u001b[31m" = 1\nhost = "x\\n/\\u001b"\nsecurity.redact_patterns = ["(\\n"]')
    assert len(found) == 3
    assert all(text.isprintable() for text in found)


# Plugins and the short forms of their settings


def settings(text: str) -> dict[str, dict[str, Any]]:
    return {entry.name: entry.settings for entry in load(HEAD + text).proxy.plugins}


DEFAULTS = {
    "routing_priority": {},
    "conflict_autoprefix": {},
    "security_ratelimit": {"rate_limit_per_minute": 60},
    "security_redact": {
        "patterns": ["api[_-]?key", "password", "token"],
        "log_requests": True,
        "log_responses": True,
    },
}


def test_a_file_without_plugins_gets_the_default_set_in_order() -> None:
    assert settings("") == DEFAULTS
    assert list(settings("")) == list(DEFAULTS)


def test_security_keys_set_the_default_plugins() -> None:
    text = "[mcp.proxy.security]\nlog_requests = false\nredact_patterns = ['ssn']\nrate_limit_per_minute = 0"
    assert settings(text) == DEFAULTS | {
        "security_ratelimit": {"rate_limit_per_minute": 0},
        "security_redact": {"patterns": ["ssn"], "log_requests": False, "log_responses": True},
    }
    entry = load(HEAD + text).proxy.plugins[-1]
    assert (entry.line, entry.key_lines) == (None, {"log_requests": 4, "patterns": 5})


def test_an_empty_list_means_no_plugins() -> None:
    assert settings("plugins = []") == {}


def test_a_list_gets_the_security_keys_that_the_file_gives_and_no_others() -> None:
    text = (
        "[mcp.proxy.security]\nlog_responses = false\nrate_limit_per_minute = 5\n"
        '[[mcp.proxy.plugins]]\nname = "security_redact"\nlog_requests = true\nmore = 1\n'
        '[[mcp.proxy.plugins]]\nname = "security_ratelimit"\n'
    )
    assert settings(text) == {
        "security_redact": {"log_requests": True, "more": 1, "log_responses": False},
        "security_ratelimit": {"rate_limit_per_minute": 5},
    }
    redact, ratelimit = load(HEAD + text).proxy.plugins
    assert redact.key_lines == {"log_requests": 8, "more": 9, "log_responses": 4}
    assert ratelimit.line == 10


def test_a_list_without_security_keys_leaves_the_defaults_to_the_plugins() -> None:
    assert settings('[[mcp.proxy.plugins]]\nname = "security_redact"') == {"security_redact": {}}


@pytest.mark.parametrize("plugins", ["plugins = []\n", '[[mcp.proxy.plugins]]\nname = "security_redact"\n'])
def test_a_security_key_that_no_plugin_reads_is_an_error(plugins: str) -> None:
    text = f"[mcp.proxy.security]\nrate_limit_per_minute = 5\n{plugins}" if "[[" in plugins else plugins
    text += "" if "[[" in plugins else "security.rate_limit_per_minute = 5\n"
    found = problem(HEAD + text)
    assert found.startswith("4: mcp.proxy.security.rate_limit_per_minute: has no effect, because")
    assert 'add an entry with name = "security_ratelimit"' in found


def test_a_security_key_of_a_plugin_that_is_switched_off_is_an_error() -> None:
    text = "[mcp.proxy.security]\nrate_limit_per_minute = 5\n[[mcp.proxy.plugins]]\n"
    found = problem(f'{HEAD}{text}name = "security_ratelimit"\nenabled = false\n')
    assert found.startswith("4: mcp.proxy.security.rate_limit_per_minute: has no effect, because the entry of")
    assert "has enabled = false" in found


def test_a_setting_given_twice_is_an_error() -> None:
    text = (
        '[mcp.proxy.security]\nredact_patterns = ["a"]\n[[mcp.proxy.plugins]]\nname = "security_redact"\npatterns = []'
    )
    assert "because the entry of security_redact sets patterns itself; remove one" in problem(HEAD + text)


def test_plugin_settings_are_kept_with_their_lines() -> None:
    text = '[[mcp.proxy.plugins]]\nname = "x"\non_error = "ignore"\nline = "${V}"\nlist = [\n1,\n2]\nsub.key = 1\n'
    (entry,) = load(HEAD + text, V="filled").proxy.plugins
    assert (entry.name, entry.enabled, entry.on_error, entry.line) == ("x", True, "ignore", 3)
    assert entry.settings == {"line": "filled", "list": [1, 2], "sub": {"key": 1}}
    assert entry.key_lines == {"line": 6, "list": 7, "list[0]": 8, "list[1]": 9, "sub": 10, "sub.key": 10}


def test_models_can_be_made_in_code() -> None:
    one = UpstreamConfig(name="a", transport="http", url="http://localhost:1/mcp", tools=("t",))
    assert ProxyConfig(upstreams=(one,)).upstreams[0].tools == ("t",)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("port = 4000\n[mcp.proxy.control]\nport = 4000\n", True),
        ("[mcp.proxy.control]\nport = 3000\n", True),
        ('host = "0.0.0.0"\n[mcp.proxy.control]\nport = 3000\n', True),
        ('host = "10.0.0.1"\n[mcp.proxy.control]\nport = 3000\n', False),
        ("[mcp.proxy.control]\nport = 3001\n", False),
        ("[mcp.proxy.control]\nport = 0\n", False),
    ],
)
def test_the_two_planes_do_not_share_a_port(text: str, wrong: bool) -> None:
    if not wrong:
        assert loads(HEAD + text, Path("x.toml"), {}).proxy.control.host == "127.0.0.1"
        return
    with pytest.raises(ConfigError, match=r"mcp\.proxy\.control\.port: is also mcp\.proxy\.port"):
        loads(HEAD + text, Path("x.toml"), {})


def test_a_host_of_the_wrong_type_is_said_where_the_planes_share_a_port() -> None:
    with pytest.raises(ConfigError, match=r"mcp\.proxy\.host: must be text in quotes, but is a list"):
        loads(HEAD + "host = []\n[mcp.proxy.control]\nport = 3000\n", Path("x.toml"), {})
