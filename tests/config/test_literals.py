"""The secrets that a file holds itself, also one that the models refuse."""

import pytest

from gateway_core.config.literals import commented_secrets, literal_secrets


def found(**upstream: object) -> set[str]:
    raw = {"mcp": {"proxy": {"upstreams": [{"name": "one", **upstream}]}}}
    return {secret.value for secret in literal_secrets(raw)}


@pytest.mark.parametrize(
    ("upstream", "secrets"),
    [
        ({"headers": {"Authorization": "Bearer s3cr3t-value-1"}}, {"Bearer s3cr3t-value-1", "s3cr3t-value-1"}),
        ({"headers": {"Authorization": "Bearer ${TOKEN}"}}, set()),
        ({"headers": {"Authorization": "Bearer ${TOKEN:-d3fault-t0ken}"}}, {"Bearer d3fault-t0ken", "d3fault-t0ken"}),
        ({"env": {"API_KEY": "${file:key}"}}, set()),
        ({"env": {"API_KEY": "prefix-9f8e7d6c${REST}"}}, {"prefix-9f8e7d6c"}),
        ({"args": ["--token", "a1b2c3d4e5"]}, {"a1b2c3d4e5"}),
        ({"url": "https://example.com/mcp?key=a1b2c3d4e5"}, {"a1b2c3d4e5"}),
        ({"auth": {"client_secret": "a1b2c3d4e5"}}, {"a1b2c3d4e5"}),
        ({"enabled": False, "env": {"API_KEY": "a1b2c3d4e5"}}, {"a1b2c3d4e5"}),
        ({"env": "no table", "headers": 7, "args": "x", "auth": [], "url": 1}, set()),
    ],
)
def test_secrets_of_an_upstream_that_stand_in_the_file(upstream: dict[str, object], secrets: set[str]) -> None:
    assert {one for one in found(**upstream) if one.strip()} == secrets


def test_secrets_of_the_other_tables() -> None:
    proxy = {
        "state_keys": ["0123456789abcdef0123456789abcdef", "${KEY}"],
        "profiles": [{"name": "p", "overrides": [{"tool": "t", "fixed": {"password": "a1b2c3d4e5"}}]}],
        "plugins": [{"name": "observe_metrics", "token": "b1c2d3e4f5", "path": "/metrics"}, "wrong"],
        "upstreams": "wrong",
    }
    values = {secret.value for secret in literal_secrets({"mcp": {"proxy": proxy}}) if secret.value}
    assert values == {"0123456789abcdef0123456789abcdef", "a1b2c3d4e5", "b1c2d3e4f5"}


@pytest.mark.parametrize("raw", [{}, {"mcp": 1}, {"mcp": {"proxy": []}}, []])
def test_what_is_no_configuration_has_no_secrets(raw: object) -> None:
    assert list(literal_secrets(raw)) == []


@pytest.mark.parametrize(
    ("comment", "secrets"),
    [
        ('# Authorization = "Bearer s3cr3t-value-1"', {"Bearer s3cr3t-value-1", "s3cr3t-value-1"}),
        ('# headers = { X-Api-Key = "a1b2c3d4e5" }', {"a1b2c3d4e5"}),
        ('#auth.client_secret = "a1b2c3d4e5"', {"a1b2c3d4e5"}),
        ('# url = "https://example.com/?key=a1b2c3d4e5"', {"a1b2c3d4e5"}),
        ("# the servers of the team", set()),
        ('# name = "github"', set()),
    ],
)
def test_secrets_in_keys_that_are_commented_out(comment: str, secrets: set[str]) -> None:
    assert {secret.value for secret in commented_secrets(comment) if secret.value.strip()} == secrets
