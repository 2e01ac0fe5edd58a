"""The keys of issuers: real servers that rotate keys, and are slow, gone, or wrong."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gateway_auth_jwt import fetcher, key_stores
from gateway_auth_jwt.fetcher import Fetcher
from gateway_auth_jwt.key_stores import FileKeys, KeysUnavailableError, RemoteKeys
from gateway_auth_jwt.plugin import Jwt
from yarl import URL

from gateway_core.testing import configured, make_credentials

METADATA = "/.well-known/oauth-authorization-server"


class Store:
    """The keys of one issuer, and a clock that the test turns."""

    def __init__(self, authority: Any, jwks_uri: str | None = None) -> None:
        self.now = 1000.0
        named = [URL(jwks_uri or authority.issuer)]
        self.keys = RemoteKeys(authority.issuer, Fetcher(named, None), jwks_uri, clock=lambda: self.now)

    async def find(self, key_id: str | None = "one") -> list[str | None]:
        return [key.id for key in await self.keys.find(key_id, "ES256")]


@pytest.fixture
async def store() -> AsyncIterator[Callable[..., Store]]:
    made: list[Store] = []

    def new(*arguments: Any) -> Store:
        made.append(Store(*arguments))
        return made[-1]

    yield new
    for each in made:
        await each.keys.close()


async def failing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def test_keys_are_fetched_once_and_used_until_they_are_old(start: Any, store: Any) -> None:
    authority = await start()
    keys = store(authority)
    assert [await keys.find() for _ in range(3)] == [["one"]] * 3
    keys.now += key_stores.REFRESH - 1
    await keys.find()
    assert authority.hits == {METADATA: 1, "/keys": 1}
    keys.now += 1
    assert await keys.find() == ["one"]
    assert authority.hits == {METADATA: 2, "/keys": 2}


async def test_a_configured_address_replaces_discovery(start: Any, store: Any) -> None:
    authority = await start()
    assert await store(authority, f"{authority.issuer}/keys").find() == ["one"]
    assert authority.hits == {"/keys": 1}


async def test_tokens_that_come_together_wait_for_one_request(start: Any, store: Any) -> None:
    authority = await start()
    keys = store(authority)
    assert await asyncio.gather(*(keys.find() for _ in range(20))) == [["one"]] * 20
    assert authority.hits["/keys"] == 1


async def test_an_unknown_key_is_asked_for_at_most_once_a_minute(start: Any, store: Any) -> None:
    authority = await start()
    keys = store(authority)
    await keys.find()
    assert [await keys.find(f"made up {number}") for number in range(50)] == [[]] * 50
    assert authority.hits["/keys"] == 1
    keys.now += key_stores.UNKNOWN_KEY
    assert [await keys.find(f"made up {number}") for number in range(50)] == [[]] * 50
    assert authority.hits["/keys"] == 2


async def test_a_new_key_works_beside_the_old_one_until_that_leaves_the_set(start: Any, store: Any) -> None:
    authority = await start()
    keys = store(authority)
    await keys.find()
    authority.keys.append(authority.make_key("two"))
    assert await keys.find("two") == []  # less than a minute after the last request
    keys.now += key_stores.UNKNOWN_KEY
    assert await keys.find("two") == ["two"]
    assert await keys.find("one") == ["one"]
    del authority.keys[0]
    assert await keys.find("one") == ["one"]
    keys.now += key_stores.REFRESH
    assert await keys.find("two") == ["two"]
    assert await keys.find("one") == []


async def test_old_keys_serve_for_a_limited_time_while_the_server_is_gone(start: Any, store: Any) -> None:
    authority = await start()
    keys = store(authority)
    await keys.find()
    authority.answers[METADATA] = failing
    keys.now += key_stores.MAX_STALE - 1
    assert await keys.find() == ["one"]
    with pytest.raises(KeysUnavailableError, match="the key of a token"):
        await keys.find("two")  # it may be a new one
    keys.now += 1
    with pytest.raises(KeysUnavailableError, match="HTTP 500"):
        await keys.find()
    del authority.answers[METADATA]
    keys.now += key_stores.RETRY
    assert await keys.find() == ["one"]
    assert await keys.find("two") == []


async def test_a_server_that_is_gone_is_asked_again_only_after_a_pause(start: Any, store: Any) -> None:
    authority = await start()
    authority.answers[METADATA] = failing
    keys = store(authority)
    for _ in range(20):
        with pytest.raises(KeysUnavailableError):
            await keys.find()
    assert authority.hits[METADATA] == 1
    keys.now += key_stores.RETRY
    with pytest.raises(KeysUnavailableError):
        await keys.find()
    assert authority.hits[METADATA] == 2


async def test_a_server_that_cannot_be_reached_is_no_verdict(start: Any, store: Any, unused_port: int) -> None:
    authority = await start()
    authority.issuer = f"http://127.0.0.1:{unused_port}"
    with pytest.raises(KeysUnavailableError, match="cannot be reached"):
        await store(authority).find()


async def test_a_slow_server_holds_up_a_token_for_a_limited_time(
    start: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = await start()
    keys = store(authority)
    await keys.find()
    monkeypatch.setattr(key_stores, "WAIT", 0.05)
    authority.answers["/keys"] = hanging
    keys.now += key_stores.REFRESH
    assert await keys.find() == ["one"]
    assert await keys.find() == ["one"]
    with pytest.raises(KeysUnavailableError):
        await keys.find("two")
    assert authority.hits["/keys"] == 2
    with pytest.raises(KeysUnavailableError, match="no answer yet"):
        await store(authority).find()


async def test_an_attempt_that_takes_too_long_fails_and_the_next_one_succeeds(
    start: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_stores, "ATTEMPT", 0.05)
    authority = await start()
    authority.answers["/keys"] = hanging
    keys = store(authority)
    with pytest.raises(KeysUnavailableError, match=r"no answer within 0\.05 s"):
        await keys.find()
    del authority.answers["/keys"]
    monkeypatch.setattr(key_stores, "ATTEMPT", 20.0)
    keys.now += key_stores.RETRY
    assert await keys.find() == ["one"]


async def test_tokens_that_wait_for_one_issuer_are_bounded(
    start: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_stores, "MAX_WAITING", 3)
    authority = await start()
    authority.answers["/keys"] = hanging
    keys = store(authority)
    waiting = [asyncio.create_task(keys.find()) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(KeysUnavailableError, match="no answer yet"):
        await keys.find()
    assert not any(each.done() for each in waiting)
    await keys.keys.close()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in ended] == [KeysUnavailableError] * 3


async def test_keys_are_fetched_when_the_gateway_starts(start: Any) -> None:
    authority, asked = await start(), asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        asked.set()
        return web.json_response(authority.key_set)

    authority.answers["/keys"] = answer
    plugin = configured(Jwt, audience=authority.audience, issuers=[{"issuer": authority.issuer}]).instance
    async with plugin:  # type: ignore[attr-defined]
        await asked.wait()
        token = make_credentials(f"Bearer {authority.token()}")
        assert (await plugin.authenticate(token)).subject == "alice"  # type: ignore[attr-defined]
        assert authority.hits["/keys"] == 1


async def test_closing_ends_an_attempt_under_way(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_stores, "WAIT", 0.05)
    authority = await start()
    authority.answers["/keys"] = hanging
    keys = Store(authority)
    with pytest.raises(KeysUnavailableError):
        await keys.find()
    await keys.keys.close()
    assert [task for task in asyncio.all_tasks() if "fetch the keys" in task.get_name()] == []


BAD_SETS = {
    "no JSON": b"<html>",
    "a list": b"[]",
    "no keys": b"{}",
    "keys of a wrong type": b'{"keys": {"kty": "EC"}}',
    "a name twice": b'{"keys": [], "keys": []}',
    "none of use": b'{"keys": [{"kty": "oct", "k": "AAAA"}]}',
    "too many": json.dumps({"keys": [{}] * 101}).encode(),
    "too large": b" " * (fetcher.MAX_DOCUMENT + 1),
}


@pytest.mark.parametrize("what", BAD_SETS)
async def test_a_key_set_that_is_not_valid_replaces_no_keys(start: Any, store: Any, what: str) -> None:
    async def bad(_: web.Request) -> web.StreamResponse:
        return web.Response(body=BAD_SETS[what])

    authority = await start()
    keys = store(authority)
    await keys.find()
    authority.answers["/keys"] = bad
    keys.now += key_stores.REFRESH
    assert await keys.find() == ["one"]
    keys.now += key_stores.MAX_STALE
    with pytest.raises(KeysUnavailableError):
        await keys.find()


async def test_one_issuer_that_hangs_harms_only_its_own_tokens(
    start: Any, judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = await start(), await start()
    bad.answers["/keys"] = hanging
    tables = [{"issuer": bad.issuer}, {"issuer": good.issuer}]
    assert (await judge(good, good.token(), issuers=tables)).issuer == good.issuer
    monkeypatch.setattr(key_stores, "WAIT", 0.05)
    for _ in range(3):
        with pytest.raises(KeysUnavailableError):
            await judge(bad, bad.token(), issuers=tables)
        assert (await judge(good, good.token(), issuers=tables)).issuer == good.issuer


async def test_a_token_is_verified_with_keys_that_were_discovered(start: Any, judge: Any) -> None:
    authority = await start()
    assert (await judge(authority, authority.token())).subject == "alice"
    thief = authority.make_key("one")
    assert (await judge(authority, authority.token(thief))).message == (
        "the token is refused: its signature is not valid"
    )
    assert authority.hits["/keys"] == 1


# -- files ------------------------------------------------------------------------------------------------------------


async def found(keys: FileKeys, key_id: str) -> list[str | None]:
    return [key.id for key in await keys.find(key_id, "ES256")]


async def test_a_file_is_read_again_when_it_changes(authority: Any, tmp_path: Path) -> None:
    keys = FileKeys(authority.write(tmp_path))
    assert await found(keys, "one") == ["one"]
    authority.keys = [authority.make_key("two")]
    os.utime(authority.write(tmp_path), (1, 1))
    assert await found(keys, "one") == []
    assert await found(keys, "two") == ["two"]


async def test_a_file_that_becomes_unusable_proves_nothing(authority: Any, tmp_path: Path) -> None:
    path = authority.write(tmp_path)
    keys = FileKeys(path)
    for content in ("", "{", '{"keys": []}', " " * (fetcher.MAX_DOCUMENT + 1)):
        path.write_text(content)
        with pytest.raises(KeysUnavailableError):
            await found(keys, "one")
    path.unlink()
    with pytest.raises(KeysUnavailableError):
        await found(keys, "one")
    os.mkfifo(path)
    with pytest.raises(KeysUnavailableError):
        await found(keys, "one")
    path.unlink()
    authority.write(tmp_path)
    assert await found(keys, "one") == ["one"]


async def test_a_file_that_every_user_may_change_proves_nothing(
    authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RADIUM_TRUST_CONFIG", raising=False)
    path = authority.write(tmp_path)
    keys = FileKeys(path)
    path.chmod(0o666)
    with pytest.raises(ValueError, match="every user of this machine may write to it"):
        FileKeys(path)
    assert keys.warning == ""
    with pytest.raises(KeysUnavailableError, match="every user of this machine may write to it"):
        await keys.find(None, "RS256")
    assert keys.warning.startswith(f"the keys in {path} cannot be used: every user of this machine may write to it")
    monkeypatch.setenv("RADIUM_TRUST_CONFIG", "1")
    await keys.find(None, "RS256")
    assert keys.warning == ""
    FileKeys(path)
