"""The plugins that prove who makes a request."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from loguru import logger

from gateway_core.api import ClientCertificate, Credentials, Principal, Reject
from gateway_core.errors import PLUGIN_FAILED, PluginError, RpcError
from gateway_core.hooks import Chain
from gateway_core.hooks.authenticators import declared_by
from gateway_core.hooks.hookspecs import hookimpl
from gateway_core.testing import configured, make_credentials, run_hook

ALICE = Principal.proven("alice", issuer="keys", groups=["staff"], scopes=["read"], claims={"team": ["a"]}, expires=9e9)


def plugin(verdict: Callable[[Credentials], Any], **attributes: Any) -> type:
    class Judge:
        @hookimpl
        def authenticate(self, credentials: Credentials) -> Any:
            return verdict(credentials)

    for name, value in attributes.items():
        setattr(Judge, name, value)
    return Judge


def chain(*plugins: type) -> Chain:
    return Chain([configured(each, name=f"auth_{number}") for number, each in enumerate(plugins)])


async def judged(*plugins: type, given: Credentials | None = None) -> tuple[str, Any]:
    return await chain(*plugins).authenticators.judge(given or make_credentials("Bearer token"))


class Other:
    """A plugin that does not authenticate."""

    credential_headers = ("x-other",)

    @hookimpl
    def before_call(self) -> None: ...


def test_only_plugins_that_authenticate_declare_what_proves_a_caller() -> None:
    keys = configured(plugin(lambda _: None, credential_headers=("x-key",)))
    assert declared_by([configured(Other), replace(keys, hooks=())]).headers == ["x-key"]


async def test_the_first_plugin_that_recognises_the_credentials_decides() -> None:
    asked: list[int] = []

    def judge(number: int, verdict: Any) -> type:
        def answer(_: Credentials) -> Any:
            asked.append(number)
            return verdict

        return plugin(answer)

    assert await judged(judge(0, None), judge(1, ALICE), judge(2, Reject("no"))) == ("auth_1", ALICE)
    assert asked == [0, 1]
    assert await judged(judge(3, None), judge(4, Reject("no")), judge(5, ALICE)) == ("auth_1", Reject("no"))
    assert await judged(judge(6, None)) == ("", None)
    assert await judged() == ("", None)


async def test_an_asynchronous_plugin_is_awaited() -> None:
    class Judge:
        @hookimpl
        async def authenticate(self, credentials: Credentials) -> Principal | None:
            await asyncio.sleep(0)
            return ALICE if credentials.bearer == "token" else None

    assert await judged(Judge) == ("auth_0", ALICE)


def test_hook_authenticate() -> None:
    judge = plugin(lambda credentials: ALICE if credentials.bearer == "token" else None)
    assert run_hook(judge, "authenticate", make_credentials("bearer  token ")) == ALICE
    assert run_hook(judge, "authenticate", make_credentials("Basic token")) is None


@pytest.mark.parametrize(
    "verdict",
    [
        "alice",
        Principal("alice@127.0.0.1"),
        Principal("alice|keys", subject="alice", issuer="keys"),
        Principal("bob|keys", verified=True, subject="alice", issuer="keys"),
        Principal.proven("", issuer="keys"),
        Principal.proven("alice", issuer=""),
        Principal.proven("alice", issuer="keys|other"),
        Principal.proven("alice\nbob", issuer="keys"),
        Principal.proven("a" * 513, issuer="keys"),
        Principal.proven("alice", issuer="keys", groups=[str(number) for number in range(1001)]),
        Principal("alice|keys", verified=True, subject="alice", issuer="keys", groups="admins"),  # type: ignore[arg-type]
        Principal("alice|keys", verified=True, subject="alice", issuer="keys", scopes=["read"]),  # type: ignore[arg-type]
        Principal.proven("alice", issuer="keys", claims={"big": "x" * 65536}),
        Principal.proven("alice", issuer="keys", claims={"odd": "\ud800"}),
        Principal.proven("alice", issuer="keys", expires=float("nan")),
        Reject(5),  # type: ignore[arg-type]
    ],
)
async def test_a_verdict_that_is_not_valid_proves_nothing(verdict: Any) -> None:
    with pytest.raises(RpcError) as caught:
        await judged(plugin(lambda _: verdict), plugin(lambda _: ALICE))
    assert caught.value.code == PLUGIN_FAILED


async def test_a_plugin_that_raises_or_is_slow_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.hooks.authenticators.AUTHENTICATE_TIMEOUT", 0.05)
    for verdict in (lambda _: 1 / 0, lambda _: asyncio.sleep(60), lambda _: asyncio.Event().wait()):
        with pytest.raises(RpcError, match="auth_0 failed in authenticate"):
            await judged(plugin(verdict), plugin(lambda _: ALICE))


async def test_a_plugin_that_keeps_failing_is_logged_once_a_minute() -> None:
    records: list[str] = []
    sink = logger.add(lambda message: records.append(str(message)), format="{message}")
    failing = chain(plugin(lambda _: 1 / 0)).authenticators
    for _ in range(20):
        with pytest.raises(RpcError):
            await failing.judge(make_credentials("Bearer token"))
    logger.remove(sink)
    (line,) = records
    assert line.startswith("plugin auth_0 failed in authenticate for a client at 127.0.0.1: raised ZeroDivisionError")
    assert line.endswith("; logged once a minute\n")


def test_plugins_declare_headers_challenges_and_documents() -> None:
    first = plugin(lambda _: None, credential_headers=("authorization", "x-api-key"), challenges=('Bearer realm="a"',))
    second = plugin(lambda _: None, well_known={"oauth-protected-resource/mcp": {"resource": "https://a.example/mcp"}})
    found = chain(first, second).authenticators
    assert found.headers == ("authorization", "x-api-key")
    assert found.challenges == ('Bearer realm="a"',)
    assert found.documents == {"oauth-protected-resource/mcp": b'{"resource":"https://a.example/mcp"}'}
    assert not chain().authenticators


@pytest.mark.parametrize(
    "attributes",
    [
        {"credential_headers": "authorization"},
        {"credential_headers": ("Authorization",)},
        {"credential_headers": ("x-request-id",)},
        {"challenges": ("Bearer\r\nX: y",)},
        {"challenges": "Bearer"},
        {"well_known": {"../admin": {}}},
        {"well_known": {"a": "text"}},
        {"well_known": {"a": {"b": object()}}},
        {"well_known": ["a"]},
    ],
)
def test_a_declaration_that_is_not_valid_stops_the_start(attributes: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match="auth_0 cannot be used: its"):
        chain(plugin(lambda _: None, **attributes))


def test_two_plugins_cannot_publish_one_document() -> None:
    one, two = (plugin(lambda _: None, well_known={"a": {"number": number}}) for number in range(2))
    with pytest.raises(PluginError, match=r"auth_1 cannot be used.*another plugin"):
        chain(one, two)


def test_credentials_are_not_shown() -> None:
    shown = repr(make_credentials("Bearer hunter2", certificate=ClientCertificate("CN=a")))
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "subject", ["alice|auth_0", "a|b|auth_1", "alice|proxy", "alice|HTTPS://login.example.com", "|proxy"]
)
async def test_a_subject_is_not_taken_for_the_id_of_another_principal(subject: str) -> None:
    name, verdict = await judged(plugin(lambda _: Principal.proven(subject, issuer="keys")), plugin(lambda _: None))
    assert name == "auth_0"
    assert isinstance(verdict, Reject)


@pytest.mark.parametrize(
    "subject", ["auth0|5f7c1234", "auth_0", "proxy", "a|b", "auth_0|a", "https://example.com/alice"]
)
async def test_other_subjects_with_a_separator_are_accepted(subject: str) -> None:
    _, verdict = await judged(plugin(lambda _: Principal.proven(subject, issuer="keys")))
    assert verdict.subject == subject
