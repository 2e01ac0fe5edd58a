"""Secrets as whole values, and inside longer texts."""

import pytest

from gateway_core.cli.importing.secrets import has_secret_shape, is_secret, secret_spans

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def found_in(text):
    return [text[span.start : span.end] for span in secret_spans(text)]


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        (f"https://mcp.exa.ai/mcp?api_key={UUID}", [UUID]),
        (f"https://mcp.exa.ai/mcp?tools=a,b&exaApiKey={UUID}#x", [UUID]),
        ("https://x.example/mcp?token=plainsecret99", ["plainsecret99"]),
        ("https://x.example/mcp#access_token=abc1", ["abc1"]),
        ("https://me:pw12@x.example/mcp", ["pw12"]),
        ("https://a8f3c2@x.example/mcp", ["a8f3c2"]),
        (f"https://mcp.composio.dev/server/{UUID}/mcp", [UUID]),
        ("https://mcp.zapier.com/api/mcp/s/shortsecret/mcp", ["shortsecret"]),
        ("https://hooks.slack.com/services/T01/B02/abcdEFGH", ["T01/B02/abcdEFGH"]),
        ("https://discord.com/api/webhooks/123/abcDEF", ["123/abcDEF"]),
        ("https://api.telegram.org/bot12345:AAFx/send", ["bot12345:AAFx"]),
        ('{"apiToken": "abc", "region": "eu-1"}', ["abc"]),
        ('{"tokenSecret":"a\\"b"}', ['a\\"b']),
        ('{"a": {"password": "pw1", "list": [{"secret": "s2"}]}}', ["pw1", "s2"]),
        ('{"max_tokens": 1, "api_key": ["k1", "k2"]}', ["k1", "k2"]),
        ("jdbc:sqlserver://db.example;user=me;password=Passw0rd9", ["Passw0rd9"]),
        ("SENTRY_DSN=https://abc@sentry.example/1", ["https://abc@sentry.example/1"]),
        ('{"url": "https://x.example/?key=abc"}', ["abc"]),
        ("{'apiKey': 'abc'}", ["abc"]),
        ('{"pin": 4711}', ["4711"]),
        ('{\\"apiKey\\": \\"abc\\"}', ["abc"]),
        ("API_KEY=abc npx -y server --token def", ["abc", "def"]),
        ("API_KEY='a b' npx", ["a b"]),
        ("Server=db.example;User Id=me;Password=Passw0rd9;", ["Passw0rd9"]),
        ('env DB_CONN="Server=db;Password=Passw0rd9;" npx', ["Passw0rd9"]),
        ("Endpoint=sb://x.example/;SharedAccessKey=a1b2=", ["a1b2="]),
        ("curl -H 'Authorization: Bearer abc' https://x.example", ["abc"]),
        ("mysql -psecretpw99 shop", ["secretpw99"]),
        ("-psecretpw99", ["secretpw99"]),
        ("curl -u me:pw77 https://x.example", ["pw77"]),
        ("run ghp_0123456789abcdef now", ["ghp_0123456789abcdef"]),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"]),
    ],
)
def test_secrets_are_found(text, secrets):
    assert found_in(text) == secrets


@pytest.mark.parametrize(
    "text",
    [
        "https://mcp.linear.app/mcp",
        "https://server.smithery.ai/@modelcontextprotocol/server-filesystem/mcp",
        "http://localhost:3000/mcp?team=shop&project=my-long-project-name",
        f"https://x.example/mcp?project_id={UUID}",
        "git+ssh://git@github.com/org/repo",
        "https://x.example/mcp?token=${TOKEN}",
        "https://me:${PASSWORD}@x.example/",
        '{"apiKey": "${API_KEY}", "region": "eu"}',
        "API_KEY=$API_KEY npx -y server",
        "@modelcontextprotocol/server-filesystem",
        "/home/me/key:/etc/key",
        "ghcr.io/github/github-mcp-server:v1.2.3",
        "-p8080:80",
        "-p3000",
        "docker run -u 1000:1000 image",
        "-y",
        "--verbose",
        "docker run -p 8080:80 mcp-auth:latest",
        "--max-tokens=100",
        f"--project {UUID}",
    ],
)
def test_usual_texts_have_no_secret(text):
    assert found_in(text) == []


@pytest.mark.parametrize("text", ["a", '"a":', "a=", "https://", "-p ", "/s/"])
def test_a_text_that_is_too_long_to_search_counts_as_a_secret(text):
    secret_spans(text * (16_000 // len(text)))
    long = text * 20_000
    assert found_in(long) == [long]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "x"),
        ("GITHUB_PERSONAL_ACCESS_TOKEN", "<your token>"),
        ("apiKey", "x"),
        ("X-Api-Key", "x"),
        ("PGPASSWORD", "x"),
        ("client_secret", "x"),
        ("Authorization", "x"),
        ("AIRTABLE_PAT", "x"),
        ("PASSCODE", "x"),
        ("API_TOKENS", "one,two"),
        ("MINIO_TOKENS", "one,two"),
        ("SENTRY_DSN", "https://abc@sentry.example/1"),
        ("VALUE", "ghp_0123456789abcdef0123"),
        ("VALUE", "sk-ant-api03-abcdefgh"),
        ("VALUE", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"),
        ("VALUE", "postgres://me:pw@db/x"),
        ("VALUE", "redis://:pw@cache"),
        ("VALUE", "Bearer abcdefgh123"),
        ("VALUE", "0123456789abcdef0123456789abcdef"),
        ("VALUE", '{"Authorization": "Bearer abcdefgh123"}'),
    ],
)
def test_secrets_are_found_by_name_or_shape(name, value):
    assert is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEMORY_FILE_PATH", "/home/me/memory.json"),
        ("API_KEY", "${API_KEY}"),
        ("Authorization", "Bearer ${TOKEN}"),
        ("MAX_TOKENS", "100"),
        ("maxOutputTokens", "100"),
        ("maxtokens", "100"),
        ("KEY_FILE", "/etc/key.pem"),
        ("API_KEY", ""),
        ("AUTH_TYPE", "oauth"),
        ("TEAM_ID", "T01234567"),
        ("PROJECT", "123e4567-e89b-12d3-a456-426614174000"),
        ("URL", "https://example.com:8080/path"),
        ("LEVEL", "debug"),
        ("package", "@modelcontextprotocol/server-filesystem"),
        ("path", "/Users/someone/Documents/Projects2026/SomeClientName/data"),
    ],
)
def test_usual_values_are_no_secrets(name, value):
    assert not is_secret(name, value)


def test_a_reference_is_not_a_secret_shape():
    assert not has_secret_shape("postgres://${USER}:${PASSWORD}@db")
