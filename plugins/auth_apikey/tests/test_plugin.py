"""`auth_apikey`: which credentials are keys, what they prove, and what ends them."""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from gateway_auth_apikey import key_file, plugin, verifier
from gateway_auth_apikey.keys import Key
from gateway_auth_apikey.plugin import ApiKeys
from gateway_auth_apikey.records import new
from loguru import logger
from pydantic import ValidationError

from gateway_core import Principal, Reject
from gateway_core.testing import configured, make_credentials

KEY, ALICE = new("alice", groups=("staff", "admins"), profile="small")
OTHER_KEY, BOB = new("bob")


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "mcp-proxy.keys"
    key_file.add(file, ALICE)
    return file


@pytest.fixture
def make(path, monkeypatch):
    """`make(**settings)`: the plugin with the file, which it looks at before each verdict."""
    monkeypatch.setattr(plugin, "LOOK_EVERY", 0.0)
    made = []

    def make(**settings):
        made.append(configured(ApiKeys, **{"file": path, **settings}).instance)
        return made[-1]

    yield make
    for one in made:
        one._verifier.close()


@pytest.fixture
def logged():
    lines = []
    handler = logger.add(lambda message: lines.append(str(message)), format="{level} {message}")
    yield lines
    logger.remove(handler)


def bearer(key, address="127.0.0.1"):
    return make_credentials(f"Bearer {key}", address=address)


async def test_a_key_proves_its_name_groups_and_profile_in_either_header(make):
    keys = make()
    for given in (bearer(KEY), make_credentials(headers={"X-Api-Key": str(KEY)}), make_credentials(f"bearer  {KEY}")):
        found = await keys.authenticate(given)
        assert found == Principal.proven("alice", issuer="auth_apikey", groups=["staff", "admins"])
        assert found.claims == {"key": KEY.id, "profile": "small"}
        assert found.verified


async def test_the_header_can_be_another_one(make):
    keys = make(header="X-Radium")
    assert keys.credential_headers == ("authorization", "x-radium")
    assert (await keys.authenticate(make_credentials(headers={"x-radium": str(KEY)}))).subject == "alice"
    assert await keys.authenticate(make_credentials(headers={"x-api-key": str(KEY)})) is None
    assert make(header="Authorization").credential_headers == ("authorization",)


@pytest.mark.parametrize(
    "given",
    [
        make_credentials(),
        make_credentials("Basic cmFkXzpi"),
        make_credentials("Bearer eyJhbGciOiJub25lIn0.e30."),
        make_credentials(headers={"X-Api-Key": "another kind of key"}),
        make_credentials(headers={"X-Api-Key": f"Bearer {KEY}"}),
    ],
)
async def test_other_credentials_are_left_to_other_plugins(make, given):
    assert await make().authenticate(given) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("rad_", "wrong form or checksum"),
        ("rad_" + "x" * 5000, "wrong form or checksum"),
        (str(KEY)[:-1] + ("a" if str(KEY)[-1] != "a" else "b"), "wrong form or checksum"),
        (str(Key(KEY.id, "x" * 43)), f"a wrong secret for the key {KEY.id}"),
        (str(OTHER_KEY), f"an unknown or revoked key {OTHER_KEY.id}"),
    ],
    ids=["short", "long", "checksum", "secret", "unknown"],
)
async def test_wrong_keys_are_refused_and_the_reason_does_not_repeat_them(make, given, said):
    found = await make().authenticate(bearer(given))
    assert isinstance(found, Reject)
    assert said in found.message
    assert given == "rad_" or given not in found.message


async def test_two_different_keys_are_refused_and_the_same_key_twice_is_not(make):
    keys = make(keys=[BOB])
    both = make_credentials(f"Bearer {KEY}", headers={"X-Api-Key": str(OTHER_KEY)})
    assert await keys.authenticate(both) == Reject("two different keys in one request")
    same = make_credentials(f"Bearer {KEY}", headers={"X-Api-Key": str(KEY)})
    assert (await keys.authenticate(same)).subject == "alice"


async def test_a_key_among_several_headers_counts_beside_credentials_of_another_kind(make):
    given = make_credentials("Bearer eyJhbGciOiJub25lIn0.e30.", headers={"X-Api-Key": str(KEY)})
    assert (await make().authenticate(given)).subject == "alice"


async def test_every_refusal_of_a_key_with_a_checksum_costs_one_comparison_and_a_known_key_one_in_all(
    make, path, monkeypatch
):
    compared = []
    real = verifier.matches
    monkeypatch.setattr(verifier, "matches", lambda secret, stored: compared.append(stored) or real(secret, stored))
    expired_key, expired = new("carol", expires=datetime.now(UTC) - timedelta(1))
    keys = make(keys=[expired])
    for given in (OTHER_KEY, Key(KEY.id, "x" * 43), expired_key, KEY):
        before = len(compared)
        await keys.authenticate(bearer(given))
        assert len(compared) == before + 1
        costs = compared[-1].split("$")[:3]
        assert costs == ["", "scrypt", "ln=14,r=8,p=1"]
    for _ in range(3):
        assert (await keys.authenticate(bearer(KEY))).subject == "alice"
    assert len(compared) == 4


async def test_a_key_works_until_it_expires_and_says_so_to_the_gateway(make):
    key, record = new("carol", expires=datetime.fromtimestamp(2_000_000_000, UTC))
    keys = make(keys=[record])
    now = 1_999_999_999.0
    keys._now = lambda: now
    assert (await keys.authenticate(bearer(key))).expires == 2_000_000_000
    now = 2_000_000_000.0
    assert await keys.authenticate(bearer(key)) == Reject(f"the key {key.id} has expired")


async def test_keys_are_added_and_revoked_without_a_restart(make, path, logged):
    keys = make()
    assert isinstance(await keys.authenticate(bearer(OTHER_KEY)), Reject)
    key_file.add(path, BOB)
    assert (await keys.authenticate(bearer(OTHER_KEY))).subject == "bob"
    key_file.remove(path, [ALICE.id])
    assert isinstance(await keys.authenticate(bearer(KEY)), Reject)
    assert (await keys.authenticate(bearer(OTHER_KEY))).subject == "bob"
    assert sum("keys in use: " in line for line in logged) == 2
    assert not any(KEY.secret in line or ALICE.hash in line for line in logged)


async def test_a_key_whose_hash_was_replaced_does_not_live_on_in_memory(make, path):
    keys = make()
    assert (await keys.authenticate(bearer(KEY))).subject == "alice"
    key_file.remove(path, [ALICE.id])
    key_file.add(path, ALICE.model_copy(update={"hash": BOB.hash}))
    assert isinstance(await keys.authenticate(bearer(KEY)), Reject)


async def test_a_key_that_is_revoked_during_its_comparison_is_refused(make, path, monkeypatch):
    real, loop, keys = verifier.matches, asyncio.get_running_loop(), make()

    def compare(secret, stored):
        key_file.remove(path, [ALICE.id])
        asyncio.run_coroutine_threadsafe(keys._look(), loop).result(30)
        return real(secret, stored)

    monkeypatch.setattr(verifier, "matches", compare)
    assert await keys.authenticate(bearer(KEY)) == Reject(f"the key {KEY.id} was revoked")


async def test_with_a_damaged_file_the_keys_last_read_work_on_and_the_log_says_it_once(make, path, logged):
    keys = make()
    good = path.read_text()
    path.write_text(f"{good}hunter2\n")
    for _ in range(3):
        assert (await keys.authenticate(bearer(KEY))).subject == "alice"
    (line,) = [line for line in logged if line.startswith("ERROR")]
    assert f"auth_apikey uses the keys last read: {path}:3: is not valid JSON" in line
    assert "hunter2" not in line
    path.chmod(0o644)
    path.write_text(good)
    assert (await keys.authenticate(bearer(KEY))).subject == "alice"
    assert "others may read it" in [line for line in logged if line.startswith("ERROR")][-1]
    path.chmod(0o600)
    key_file.add(path, BOB)
    assert (await keys.authenticate(bearer(OTHER_KEY))).subject == "bob"


async def test_a_file_that_is_gone_at_two_looks_ends_its_keys(make, path):
    keys = make(keys=[BOB])
    path.unlink()
    assert (await keys.authenticate(bearer(KEY))).subject == "alice"
    assert isinstance(await keys.authenticate(bearer(KEY)), Reject)
    assert (await keys.authenticate(bearer(OTHER_KEY))).subject == "bob", "those in the settings stay"
    key_file.add(path, ALICE)
    assert (await keys.authenticate(bearer(KEY))).subject == "alice"


async def test_the_file_is_looked_at_once_a_second_and_not_for_each_request(make, path, monkeypatch):
    keys = make()
    monkeypatch.setattr(plugin, "LOOK_EVERY", 1.0)
    looks = []
    real = key_file.mark_of
    monkeypatch.setattr(key_file, "mark_of", lambda path: looks.append(path) or real(path))
    monkeypatch.setattr(time, "monotonic", lambda: 5000.0)
    for _ in range(5):
        assert (await keys.authenticate(bearer(KEY))).subject == "alice"
    assert len(looks) == 1


async def test_requests_at_the_same_time_share_one_reading(make, path, monkeypatch):
    keys = make()
    readings = []
    real = key_file.read
    monkeypatch.setattr(key_file, "read", lambda path: readings.append(path) or real(path))
    key_file.add(path, BOB)
    found = await asyncio.gather(*(keys.authenticate(bearer(OTHER_KEY)) for _ in range(4)))
    assert {each.subject for each in found} == {"bob"}
    assert len(readings) == 1


async def test_without_any_key_the_log_says_how_to_make_one(make, tmp_path, logged):
    async with make(file=tmp_path / "none"):
        assert any("rad mcp proxy keys add" in line for line in logged)
    logged.clear()
    async with make():
        assert logged == []


async def test_the_verdict_may_be_remembered_for_seconds_only(make):
    assert make().remember + plugin.LOOK_EVERY <= 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"header": "X Api Key"}, "is not the name of an HTTP header"),
        ({"header": ""}, "is not the name of an HTTP header"),
        ({"keys": [{"name": "a"}]}, "required"),
        ({"keys": [{**ALICE.model_dump(), "hash": "hunter2"}]}, "is not a hash"),
        ({"keys": [BOB, BOB]}, f"the key with the id {BOB.id} is given twice"),
        ({"keys": [ALICE]}, f"the key with the id {ALICE.id} is given twice"),
        ({"file": ""}, "must not be empty"),
        ({"other": 1}, "not permitted"),
    ],
    ids=["spaces", "empty header", "incomplete", "hash", "twice", "twice in the file", "empty file", "unknown"],
)
def test_wrong_settings_are_refused(make, settings, said):
    with pytest.raises(ValidationError, match=said):
        make(**settings)


def test_a_damaged_file_is_an_error_with_file_and_line_at_start(make, path):
    path.write_text(path.read_text() + "hunter2\n")
    with pytest.raises(ValidationError, match=rf"{path}:3: is not valid JSON"):
        make()


def test_records_of_the_settings_may_come_from_toml(make):
    import tomllib

    from gateway_auth_apikey.commands import _toml

    _, record = new("carol", groups=('a "quoted" \\ group', "ü"), expires=datetime(2030, 1, 1, tzinfo=UTC))
    (table,) = tomllib.loads(_toml(record))["mcp"]["proxy"]["plugins"]["keys"]
    assert make(keys=[table])._records[record.id] == record
    assert make(keys=[{**table, "expires": datetime(2030, 1, 1, tzinfo=UTC)}])._records[record.id] == record


def test_the_default_file_is_beside_the_configuration(tmp_path):
    found = ApiKeys.Config.model_validate({}, context={"folder": tmp_path})
    assert found.file == tmp_path / "mcp-proxy.keys"
    assert isinstance(found.file, Path)
    assert os.environ.get("RADIUM_TRUST_CONFIG") is None


def test_the_groups_of_all_keys_are_known(make):
    assert make(keys=(BOB,)).known_groups == {"staff", "admins"}
