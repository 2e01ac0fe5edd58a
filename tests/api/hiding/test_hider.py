"""What a person would hide is hidden, and what a person wants to read stays readable."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_core import Hider
from gateway_core.patterns import MAX_LENGTH, MAX_PATTERNS

_LETTERS = "hu5hAbC9dEfGh1JkLmN0pQrStUvWxYz27aBcDeF4"
"""What no log may hold; put together here, so that no scanner takes this file for a leak."""
_HEX = "5ec4e7" + "0123456789abcdef" * 3
_PEM = "-----{} RSA PRIVATE KEY-----"
_KEY = f"{_PEM.format('BEGIN')}\nMIIEow{_LETTERS}+/{_LETTERS}\n{_LETTERS}==\n{_PEM.format('END')}"

NAMED = [
    "secret",
    "client_secret",
    "clientSecret",
    "Authorization",
    "proxy-authorization",
    "private_key",
    "privateKey",
    "cookie",
    "Set-Cookie",
    "passphrase",
    "passwd",
    "pwd",
    "DB_PASS",
    "smtpPassword",
    "user_password",
    "PGPASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "secretAccessKey",
    "access_key",
    "aws_session_token",
    "api-key",
    "X-API-Key",
    "apiKeys",
    "refreshToken",
    "id_token",
    "csrf_token",
    "xsrf",
    "bearer",
    "jwt",
    "credentials",
    "auth",
    "x-auth",
    "signing_key",
    "encryptionKey",
    "master_key",
    "AccountKey",
    "SharedAccessKey",
    "ssh_key",
    "webhook_secret",
    "connection_string",
    "ConnectionString",
    "SENTRY_DSN",
    "otp",
    "totp",
    "pin",
    "card_cvv",
    "mnemonic",
    "seed_phrase",
    "recovery_codes",
    "Ocp-Apim-Subscription-Key",
    "session_id",
    "token (old)",
]

SHAPED = [
    f"Bearer {_LETTERS}",
    f"Basic {_LETTERS}==",
    f"curl -H 'X: bearer {_LETTERS}'",
    f"ghp_{_LETTERS[:36]}",
    f"rad_{_LETTERS[:12]}_{(_LETTERS * 2)[:49]}",
    f"github_pat_11A_{_LETTERS}",
    f"glpat-{_LETTERS[:20]}",
    f"sk-{_LETTERS}",
    f"sk-proj-{_LETTERS}",
    f"sk-ant-api03-{_LETTERS}-AA",
    f"sk_live_{_LETTERS[:24]}",
    f"whsec_{_LETTERS[:32]}",
    f"xoxb-123456789012-{_LETTERS[:24]}",
    f"AKIA{_LETTERS[:16].upper()}",
    f"AIza{_LETTERS[:35]}",
    f"ya29.{_LETTERS}",
    f"GOCSPX-{_LETTERS[:28]}",
    f"npm_{_LETTERS[:36]}",
    f"pypi-AgEIcHlwaS5vcmc{_LETTERS}",
    f"hf_{_LETTERS[:34]}",
    f"SG.{_LETTERS[:22]}.{_LETTERS}",
    f"dop_v1_{_HEX}",
    f"shpat_{_HEX[:32]}",
    f"hvs.{_LETTERS}",
    f"dapi{_HEX[:32]}",
    f"SK{_HEX[:32]}",
    f"123456789:AA{_LETTERS[:33]}",
    f"AGE-SECRET-KEY-1{_LETTERS.upper()}",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx{_LETTERS}.{_LETTERS}",
    _KEY,
    _KEY.replace("RSA", "OPENSSH"),
    _KEY[:90],
    f"https://user:{_LETTERS}@host/path",
    f"postgres://app:{_LETTERS}@db.example.com:5432/app",
    f"mongodb+srv://u:p@{_LETTERS}@cluster.example.net",
    f"redis://:{_LETTERS}@localhost:6379/0",
    f"https://{_LETTERS}@github.com/o/r.git",
    f"https://hooks.slack.com/services/T000/B000/{_LETTERS}",
    f"https://discord.com/api/webhooks/1/{_LETTERS}",
    f"https://acc.blob.core.windows.net/c/b?sv=2024&sig={_LETTERS}%3D",
]

IN_TEXT = [
    f"Server=db;User Id=sa;Pwd={_LETTERS};",
    f"DefaultEndpointsProtocol=https;AccountKey={_LETTERS}==;EndpointSuffix=x",
    f"Endpoint=sb://x/;SharedAccessKeyName=Root;SharedAccessKey={_LETTERS}",
    f"export AWS_SECRET_ACCESS_KEY={_LETTERS}",
    f"Cookie: theme=dark; sid={_LETTERS}",
    f'curl -H "Authorization: Custom id=1, sig={_LETTERS}" https://host',
    f"private_key: {_LETTERS}",
    f"API key: {_LETTERS}",
    f"client secret = '{_LETTERS} {_LETTERS}'",
    f"passphrase: correct horse {_LETTERS}",
    f"deploy --token {_LETTERS} --verbose",
    f"max_tokens=5 secret={_LETTERS}",
    f"max_tokens=ghp_{_LETTERS}",
    f"https://host/cb?code={_LETTERS}&state=1",
    f"https://bucket.s3.amazonaws.com/x?X-Amz-Expires=9&X-Amz-Signature={_LETTERS}",
    f'{{"a": 1}} trailing "clientSecret": "{_LETTERS}"',
]

HARMLESS_MEMBERS = {
    "token_count": 17,
    "max_tokens": 4096,
    "maxTokens": 4096,
    "total_tokens": 123,
    "prompt_tokens": 1,
    "cache_read_input_tokens": 2,
    "tokens_per_second": 3.5,
    "tokenizer": "cl100k",
    "token_type": "Bearer",
    "token_url": "https://auth.example.com/token",
    "tokenization": "bpe",
    "secretary": "Ms. Jones",
    "secretaryName": "Ms. Jones",
    "secretariat": "UN",
    "secret_name": "db-credentials",
    "passport_number": "C01X00T47",
    "author": "Jane Doe",
    "authors": ["Jane Doe"],
    "authority": "city",
    "authorized": True,
    "oauth_flow": "code",
    "auth_method": "none",
    "keyboard": "qwerty",
    "primary_key": "id",
    "foreignKey": "user_id",
    "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBmQ",
    "partition_key": "2024",
    "cache_key": "home",
    "key": "Enter",
    "keys": ["a", "b"],
    "monkey": "george",
    "password_policy": "12 characters",
    "has_password": False,
    "passwordless": True,
    "password_updated_at": "2026-01-01",
    "cookies_enabled": True,
    "cookie_policy": "strict",
    "cookiecutter": "template",
    "PWD": "/home/jane",
    "bypass": "no",
    "low_pass": "20 Hz",
    "compass": "north",
    "spin": "up",
    "opinion": "good",
    "pinned": "yes",
    "shipping": "air",
    "robot": "r2",
    "side": "left",
    "description": "Sorts tokens and secrets of all kinds",
    "api_key_name": "ci",
    "authorization_endpoint": "https://auth.example.com/authorize",
}

HARMLESS_TEXTS = [
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8 by Jane",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "550e8400-e29b-41d4-a716-446655440000",
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsO",
    "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7",
    "https://example.com:8080/path/to?query=1&page=2#top",
    "see http://localhost:3000/mcp, or mail jane@example.com",
    "git@github.com:owner/repository.git",
    "ssh://git@github.com/owner/repository.git",
    "mongodb://localhost:27017/app",
    "https://medium.com/@jane/a-post",
    "npm_package_description and hf_hub_download_something",
    "task-force-2024-report and risk-assessment-2024-01",
    "sk-SK, en-GB and de-DE",
    "sk-loading-indicator-wrapper",
    "Basic authentication is explained in chapter 2",
    "the bearer of good news, 12 of them",
    'WWW-Authenticate says Bearer realm="x"',
    "total 42 tokens used; max_tokens: 4096",
    "The author: Jane; the keyboard: qwerty",
    "primary_key=id, foreign_key=user_id",
    "secretary: Ms. Jones",
    "for (const tokenizer of tokenizers) { count += 1 }",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 jane@host",
    "2026-01-01T12:00:00+00:00 INFO ready in 12 ms",
    "arn:aws:iam::123456789012:role/app",
    "AKIAH is a word, EYJAFJALLAJOKULL a volcano, eyJ no token",
    "ls --color auto --keyboard us",
    "opinion: good, spin=up, shipping: air",
    "1234567890",
    "{not json at all",
    "x = y == z",
    "a -> b => c",
]


def cleaned(value, patterns=(), *, handles=True, **options):
    """The JSON of `value` without secrets; checks that `clears` does not contradict it."""
    hider = Hider(patterns, handles=handles, **options)
    hidden = hider.value(value)
    if hider.clears(json.dumps(value, ensure_ascii=False).encode()):
        assert hidden is value
    return json.dumps(hidden, separators=(",", ":"), ensure_ascii=False)


def _is_hidden(line):
    return "[REDACTED]" in line and not any(part in line for part in (_LETTERS[:12], _LETTERS[:12].upper(), _HEX[:12]))


@pytest.mark.parametrize("patterns", [["api[_-]?key", "password", "token"], [], ["^mine$"]])
@pytest.mark.parametrize("name", NAMED)
def test_usual_names_of_secrets_are_hidden_whatever_patterns_the_file_has(name, patterns):
    assert _is_hidden(cleaned({name: _LETTERS}, patterns=patterns))
    assert _is_hidden(cleaned({"x": [{"name": name, "value": _LETTERS}]}, patterns=patterns))


@pytest.mark.parametrize("name", [name for name in NAMED if " " not in name])
def test_usual_names_of_secrets_are_hidden_in_text(name):
    assert _is_hidden(cleaned({"note": f"first line\n{name}: {_LETTERS} end"}))
    assert _is_hidden(cleaned({"note": f"x {name}={_LETTERS}"}))


@pytest.mark.parametrize("text", SHAPED + IN_TEXT)
def test_what_has_the_shape_of_a_secret_is_hidden_wherever_it_stands(text):
    assert _is_hidden(cleaned({"a": text}))
    assert _is_hidden(cleaned({"a": [f"see {text}"]}))
    assert _is_hidden(cleaned({"a": json.dumps({"b": f"\n{text}\n"})}))
    assert _is_hidden(cleaned({text: 1}))


def test_there_are_over_sixty_secrets_and_over_sixty_harmless_values():
    assert len(NAMED) + len(SHAPED) > 60
    assert len(HARMLESS_MEMBERS) + len(HARMLESS_TEXTS) > 60


@pytest.mark.parametrize("name", HARMLESS_MEMBERS)
def test_harmless_members_stay_readable(name):
    arguments = {name: HARMLESS_MEMBERS[name]}
    expected = json.dumps(arguments, separators=(",", ":"), ensure_ascii=False)
    assert cleaned(arguments) == expected
    text = f"{name}: {HARMLESS_MEMBERS[name]}"
    assert json.dumps(text)[1:-1] in cleaned({"a": text})


@pytest.mark.parametrize("text", HARMLESS_TEXTS)
def test_harmless_texts_stay_readable(text):
    for arguments in ({"a": text}, {"b": f"\n{text}\n"}):
        assert json.dumps(arguments, separators=(",", ":")) in cleaned(arguments).replace("\n", "\\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Bearer {_LETTERS}", "Bearer [REDACTED]"),
        (f"see postgres://app:{_LETTERS}@db:5432/x", "see postgres://app:[REDACTED]@db:5432/x"),
        (f"https://{_LETTERS}@github.com/o/r.git", "https://[REDACTED]@github.com/o/r.git"),
        (f"?a=1&sig={_LETTERS}&b=2", "?a=1&sig=[REDACTED]&b=2"),
        (f"a\n{_KEY}\nb", "a\n[REDACTED]\nb"),
        (f"--token {_LETTERS} --token --verbose", "--token [REDACTED] --token --verbose"),
        (f"Cookie: a=b; c={_LETTERS}\nHost: x", "Cookie: [REDACTED]\nHost: x"),
    ],
)
def test_what_surrounds_a_secret_stays_readable(text, shown):
    assert Hider().text(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Cookie: a={_LETTERS}; rm -rf /", "Cookie: [REDACTED]; rm -rf /"),
        (f"passphrase: {_LETTERS} rm -rf /", "passphrase: [REDACTED] rm -rf /"),
        (f'Authorization: Bearer "{_LETTERS}" | sh', 'Authorization: [REDACTED]" | sh'),
        (f"--token '{_LETTERS}' && rm -rf /", "--token [REDACTED]' && rm -rf /"),
        (f"token=[{_LETTERS}] x", "token=[REDACTED] x"),
        (f"max_tokens='; token={_LETTERS}; rm -rf /", "max_tokens='; token=[REDACTED]; rm -rf /"),
    ],
)
def test_for_questions_one_word_is_hidden_after_a_name(text, shown):
    assert Hider(for_questions=True).text(text) == shown


def test_a_null_stays_readable_whatever_its_name():
    assert (
        cleaned({"password": None, "name": "token", "value": None}) == '{"password":null,"name":"token","value":null}'
    )


def test_no_member_replaces_another_when_their_names_are_secrets():
    hidden = json.loads(cleaned({f"ghp_{_LETTERS}": 1, f"gho_{_LETTERS}": 2, "x": 3}))
    assert sorted(hidden.values()) == [1, 2, 3]
    assert _LETTERS not in str(hidden)


def test_as_many_patterns_as_are_allowed_can_be_used_with_everything_else():
    patterns = [f"own_{number}_" for number in range(MAX_PATTERNS)]
    for builtin in (False, True):
        hider = Hider(patterns, builtin=builtin, handles=True)
        assert hider.value({"own_63_x": "a", "taskId": "b"}) == {"own_63_x": "[REDACTED]", "taskId": "[REDACTED]"}


@pytest.mark.parametrize("pattern", ["^+pin", "^{2}pin", "^pin", "pin"])
def test_a_pattern_may_repeat_its_anchor(pattern):
    hider = Hider([pattern], builtin=False)
    assert hider.value({"pin": "1234", "other": "x"}) == {"pin": "[REDACTED]", "other": "x"}


@pytest.mark.parametrize("pattern", ["(", "x*", "", "x" * (MAX_LENGTH + 1)])
def test_patterns_that_cannot_be_used_are_refused(pattern):
    with pytest.raises(ValueError, match="pattern"):
        Hider([pattern])


def test_the_argument_of_an_option_is_hidden():
    line = cleaned({"args": ["run", "--password", _LETTERS, "--token", "--port", "80"]})
    assert line.endswith('["run","--password","[REDACTED]","--token","--port","80"]}')


def test_without_the_builtin_set_only_the_patterns_count():
    arguments = {"secret": "a", "max_tokens": 1, "b": f"ghp_{_LETTERS}"}
    line = cleaned(arguments, ["token"], builtin=False)
    assert line.endswith(f'{{"secret":"a","max_tokens":"[REDACTED]","b":"ghp_{_LETTERS}"}}')


def test_a_pattern_of_the_file_counts_without_exceptions():
    assert _is_hidden(cleaned({"max_tokens": _LETTERS}, patterns=["max_"]))
    assert _is_hidden(cleaned({"a": f"max_tokens={_LETTERS}"}, patterns=["max_"]))


_PARTS = ["ghp_", _LETTERS, "://u", ":", "@", "token", "Token", "pin", "Pin", "PIN", "max_", "s", "=", " ", '"', "\n"]
_PARTS += ["--", "Bearer ", "-----BEGIN PRIVATE KEY-----", "secret", "ary", "name", "{", "[", "sk-", "1", "é", "AKIA"]
_TEXTS = st.lists(st.sampled_from(_PARTS), max_size=5).map("".join)


@given(
    st.dictionaries(st.one_of(_TEXTS, st.sampled_from(["name", "value"])), st.one_of(_TEXTS, st.lists(_TEXTS))),
    st.booleans(),
)
@example({"myPIN": "x"}, False)
@example({"a": ["--token", "x"]}, True)
def test_what_is_cleared_at_a_glance_holds_nothing_that_the_builtin_set_hides(value, handles):
    hider = Hider(handles=handles)
    if hider.clears(json.dumps(value, ensure_ascii=False).encode()):
        assert hider.value(value) is value


@given(st.dictionaries(_TEXTS, st.one_of(_TEXTS, st.lists(_TEXTS))))
def test_what_is_cleared_at_a_glance_holds_nothing_that_questions_hide(value):
    hider = Hider(["own"], for_questions=True)
    if hider.clears(json.dumps(value, ensure_ascii=False).encode()):
        assert hider.value(value) is value


@given(_TEXTS)
def test_hiding_twice_changes_nothing_more_than_once(text):
    hider = Hider()
    once = hider.text(text)
    assert hider.text(once) == once


@pytest.mark.parametrize(
    "part",
    ["max_tokens=[", "max_tokens='", "token=[", "://a:", "token", "-----BEGIN PRIVATE KEY-----", "--token ", "eyJ"],
)
@pytest.mark.parametrize("for_questions", [False, True])
def test_the_time_is_linear_in_the_text(part, for_questions):
    hider = Hider(for_questions=for_questions)

    def seconds(size):
        text = part * (size // len(part))
        begun = time.process_time()
        hider.text(text)
        return time.process_time() - begun

    seconds(10_000)
    small, large = (min(seconds(size) for _ in range(3)) for size in (16_000, 256_000))
    assert large < 80 * small + 0.05  # 16 times the text; 256 times the time would be a square
