import pytest

from gateway_core.cli.importing.variables import Variables, has_secret_shape, is_secret, variable_name


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


def test_names_of_variables():
    assert variable_name("X-Api-Key") == "X_API_KEY"
    assert variable_name("7zip") == "_7ZIP"
    assert variable_name("über") == "BER"
    assert variable_name("!!") == "VALUE"


def test_a_name_that_is_referred_to_is_not_taken_for_another_value():
    variables = Variables()
    assert variables.refer("TOKEN", "x") == "${TOKEN}"
    assert variables.hold("abc", "TOKEN", "one", "y") == "${ONE_TOKEN}"
    assert variables.hold("def", "TOKEN", "one", "y") == "${ONE_TOKEN_2}"


def test_a_reference_is_not_a_secret_shape():
    assert not has_secret_shape("postgres://${USER}:${PASSWORD}@db")
