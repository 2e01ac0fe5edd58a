"""What counts as a secret of a configuration, and what stays readable."""

import pytest

from gateway_core.concealing import MARKER
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.config.models import AuthConfig
from gateway_core.config.secrets import is_plain, private_values_of, secrets_of, secrets_of_upstream, without_secrets
from gateway_core.config.sections import PluginEntry


def found(**settings: object) -> set[str]:
    upstream = UpstreamConfig.model_validate({"name": "a", "transport": "stdio", "command": "x", **settings})
    return {secret.value for secret in secrets_of_upstream(upstream) if len(secret.value) >= 6}


def over_http(**settings: object) -> set[str]:
    upstream = UpstreamConfig.model_validate(
        {"name": "a", "transport": "http", "url": "http://localhost/mcp", **settings}
    )
    return {secret.value for secret in secrets_of_upstream(upstream) if len(secret.value) >= 6}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "correcthorse"),
        ("DB_PASSWORD", "hunter-hush"),
        ("DB_PASS", "hunterhush"),
        ("AIRTABLE_PAT", "hunterhush"),
        ("URL_SIG", "hunterhush"),
        ("GITHUB_TOKEN", "ghp_hu5hAbC9dEfGh1JkLmN0"),
        ("AWS_ACCESS_KEY_ID", "AKIAHU5HABC9DEFGH1JK"),
        ("SESSION_COOKIE", "hunterhush"),
        ("SETTING", "hu5hAbC9dEfGh1JkLmN0"),
        ("SETTING", "s3cr3t-v4lu3-he4r"),
        ("SETTING", "5ec4e70123456789abcdef"),
    ],
)
def test_secrets_of_the_environment(name: str, value: str) -> None:
    assert value in found(env={name: value})
    assert value in found(args=[f"--{name.lower().replace('_', '-')}", value])
    assert value in found(args=[f"{name}={value}"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TZ", "Europe/Oslo"),
        ("AWS_REGION", "eu-west-1"),
        ("NODE_ENV", "production"),
        ("BUCKET", "my-bucket-2024"),
        ("MODEL", "gpt-4o-mini"),
        ("MODEL", "claude-3-5-sonnet-20241022"),
        ("PROJECT_ID", "p7a4b8c9d0e1f2"),
        ("AZURE_TENANT_ID", "550e8400-e29b-41d4-a716-446655440000"),
        ("USER_EMAIL", "jane.doe42@example.com"),
        ("DATA_DIR", "/home/jane/data"),
        ("SSH_KEY_PATH", "/home/jane/.ssh/id_ed25519"),
        ("API_URL", "https://api.example.com/v2"),
        ("PORT", "8080"),
        ("START", "2024-01-01T00:00:00"),
        ("ACCOUNT", "123456789012"),
        ("GREETING", "hello, big world"),
        ("FLAGS", '{"level": "debug-all", "port": 80}'),
    ],
)
def test_what_stays_readable(name: str, value: str) -> None:
    assert found(env={name: value}) == set()
    assert found(args=[f"--{name.lower().replace('_', '-')}", value]) == set()


def test_of_a_url_only_credentials_and_secrets_in_the_query_count() -> None:
    assert found(env={"DATABASE_URL": "postgres://app:hush%2Fhush1@db/app?x=fast1234"}) == {
        "hush%2Fhush1",
        "hush/hush1",
        "fast1234",
    }
    assert over_http(url="http://localhost/mcp?api_key=hushhush&tenant=acme-corp") == {"hushhush"}


def test_the_members_of_json_count_by_their_names() -> None:
    account = '{"type": "service_account", "private_key": "-----BEGIN\\nhush\\n", "client_email": "a@example.com"}'
    assert found(env={"CREDENTIALS": account}) == {"-----BEGIN\nhush\n"}


def test_secrets_in_headers_with_and_without_their_scheme() -> None:
    headers = {"Authorization": "Basic amFuZTpodXNoaHVzaA==", "X-Api-Key": "hush-key", "Accept-Language": "english"}
    assert over_http(headers=headers) == {
        "Basic amFuZTpodXNoaHVzaA==",
        "amFuZTpodXNoaHVzaA==",
        "hushhush",
        "hush-key",
    }


def test_the_whole_configuration() -> None:
    auth = AuthConfig.model_validate({"client_id": "me", "client_secret": "hush-oauth"})
    upstream = UpstreamConfig(name="a", transport="http", url="http://localhost/mcp", auth=auth)
    plugin = PluginEntry(name="own", settings={"api_key": "hush-plugin", "patterns": ["x1y2z3x1y2z3"]})
    proxy = ProxyConfig.model_validate({"state_keys": ["hush-state-key-hush-state-key-01"]})
    proxy = proxy.model_copy(update={"upstreams": (upstream,), "plugins": (plugin,)})
    assert {secret.label: secret.value for secret in secrets_of(proxy)} == {
        "state_keys": "hush-state-key-hush-state-key-01",
        "auth.client_secret of upstream a": "hush-oauth",
        "a setting of plugin own": "hush-plugin",
    }


def test_operators_see_nothing_of_the_environment_headers_and_query() -> None:
    upstream = UpstreamConfig(name="a", transport="stdio", command="x", env={"TZ": "Europe/Oslo"})
    assert "Europe/Oslo" in set(private_values_of(upstream))
    web = UpstreamConfig(name="a", transport="http", url="http://h/mcp?a=b%2Fc", headers={"X-A": "Custom hush"})
    assert {"b%2Fc", "b/c", "Custom hush", "hush"} <= set(private_values_of(web))


@pytest.mark.parametrize("value", ["", "-", "word", "two words", "1.2.3", "v2", "us1-east", "~/notes", "a=b"])
def test_plain_values(value: str) -> None:
    assert is_plain(value)


@pytest.mark.parametrize("value", ["x1y2z3", "aB3-xY9q-Zz81", "XkJhGfDsAqWeRtYuIoPlK", "123456789012345678"])
def test_values_that_may_be_secrets(value: str) -> None:
    assert not is_plain(value)


@pytest.mark.parametrize(
    ("settings", "secrets"),
    [
        ({"header": "X-Api-Key", "headers": ["X-Api-Key", "X-User"]}, set()),
        ({"header": "Authorization: Bearer hush", "headers": {"X-Token": "hushhush"}}, {"hushhush"}),
        ({"key_file": "/etc/own.pem", "token_type": "access", "keys": ["hunterhush"]}, {"hunterhush"}),
    ],
)
def test_settings_of_plugins_that_only_name_a_secret_are_not_hidden(
    settings: dict[str, object], secrets: set[str]
) -> None:
    proxy = ProxyConfig().model_copy(update={"plugins": (PluginEntry(name="own", settings=settings),)})
    values = {secret.value for secret in secrets_of(proxy)}
    assert values - {"Authorization: Bearer hush"} == secrets
    assert ("Authorization: Bearer hush" in values) is ("Authorization: Bearer hush" in settings.values())


def test_the_headers_of_a_plugin_are_secret_unless_they_look_harmless() -> None:
    headers = {"x-honeycomb-team": "q1W2e3R4t5Y6", "Accept": "text/plain; q=0.5", "X-Tenant": "support"}
    settings = {"sinks": [{"extra_headers": headers}]}
    proxy = ProxyConfig().model_copy(update={"plugins": (PluginEntry(name="own", settings=settings),)})
    assert {secret.value for secret in secrets_of(proxy)} == {"q1W2e3R4t5Y6"}
    shown = {**headers, "x-honeycomb-team": MARKER}
    assert without_secrets({"headers": headers}) == {"headers": shown}


def test_settings_are_shown_without_secrets() -> None:
    shown = without_secrets(
        {
            "rate_limit_per_minute": 7,
            "api_token": "abc",
            "key_file": "keys.json",
            "password": "",
            "header": "X-Api-Key",
            "issuers": [{"name": "a", "client_secret": "hush", "audience": ["b"]}],
            "tokens": ["one", "two"],
        }
    )
    assert shown == {
        "rate_limit_per_minute": 7,
        "api_token": "[REDACTED]",
        "key_file": "keys.json",
        "password": "",
        "header": "X-Api-Key",
        "issuers": [{"name": "a", "client_secret": "[REDACTED]", "audience": ["b"]}],
        "tokens": ["[REDACTED]", "[REDACTED]"],
    }
