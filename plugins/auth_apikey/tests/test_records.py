"""Records of keys: what they hold, how a file has them, and when they expire."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from gateway_auth_apikey.keys import matches
from gateway_auth_apikey.records import Record, expiry, new

NOW = datetime(2026, 1, 31, 12, 30, 15, 500, tzinfo=UTC)


def test_a_new_key_matches_its_record_and_the_line_holds_no_secret():
    key, record = new("alice", groups=("staff",), expires=NOW, profile="small")
    assert matches(key.secret, record.hash)
    line = record.line()
    assert key.secret not in line
    assert Record.of_line(line) == record
    assert set(json.loads(line)) == {"name", "id", "hash", "groups", "created", "expires", "profile"}
    assert "profile" not in new("alice")[1].line()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "name: must have"),
        ({"name": " alice"}, "name: must have"),
        ({"name": "a\nb"}, "name: must have"),
        ({"name": "a" * 129}, "name: must have"),
        ({"id": "short"}, "id: is not an id"),
        ({"hash": "hunter2"}, "hash: is not a hash"),
        ({"groups": "staff"}, "groups: "),
        ({"groups": ["a"] * 101}, "groups: "),
        ({"expires": "2027-01-01T00:00:00"}, "expires: "),
        ({"expires": "soon"}, "expires: "),
        ({"expires": "9999-12-31T23:59:59-12:00"}, "expires: is out of range"),
        ({"secret": "hunter2"}, "secret: "),
    ],
)
def test_a_wrong_record_is_refused_by_the_name_of_its_member_and_shows_no_value(change, said):
    line = json.dumps({**json.loads(new("alice")[1].line()), **change})
    with pytest.raises(ValueError, match=said) as refused:
        Record.of_line(line)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("line", ["{", "[]", "null", '"hunter2"', '{"name": "alice"}'])
def test_a_line_that_is_no_record_is_refused(line):
    with pytest.raises(ValueError, match=r"valid|required|object") as refused:
        Record.of_line(line)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12h", NOW.replace(microsecond=0) + timedelta(hours=12)),
        ("90d", NOW.replace(microsecond=0) + timedelta(days=90)),
        ("2w", NOW.replace(microsecond=0) + timedelta(weeks=2)),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_times_of_expiry(text, found):
    assert expiry(text, NOW) == found


@pytest.mark.parametrize(
    "text", ["", "soon", "90", "90y", "-3d", "0d", "999999d", "2025-01-01", "2026-01-31T12:30:15Z"]
)
def test_times_that_are_none_or_past_are_refused(text):
    with pytest.raises(ValueError, match=r"must be a time|is in the past"):
        expiry(text, NOW)


def test_a_record_expires_at_its_time_and_not_before():
    record = new("alice", expires=NOW)[1]
    assert not record.has_expired(NOW - timedelta(seconds=1))
    assert record.has_expired(NOW)
    assert not new("alice")[1].has_expired(NOW)
