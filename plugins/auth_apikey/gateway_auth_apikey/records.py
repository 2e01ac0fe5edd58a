"""What is kept of a key: its name, its id and its hash, never the key. In a file, one record is one line of JSON."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gateway_auth_apikey.keys import ID, UNKNOWN, Key, check_hash, hash_of

MAX_NAME: Final = 128
"""Maximum characters of a name, of a group and of a profile."""
MAX_GROUPS: Final = 100
_SPAN: Final = re.compile(r"(\d{1,5})([hdw])")
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def _id(text: str) -> str:
    if ID.fullmatch(text) is None:
        raise ValueError("is not an id, which has 12 letters and digits")
    return text


def _name(text: str) -> str:
    if not 0 < len(text) <= MAX_NAME or not text.isprintable() or text != text.strip():
        raise ValueError(f"must have 1 to {MAX_NAME} printable characters, without spaces at its ends")
    return text


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


Name = Annotated[str, AfterValidator(_name)]
Groups = Annotated[tuple[Name, ...], Field(max_length=MAX_GROUPS)]
Time = Annotated[AwareDatetime, AfterValidator(_utc)]


class Record(BaseModel):
    """One key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="whom the key proves: the subject of the principal")
    id: Annotated[str, AfterValidator(_id)] = Field(description="the public part of the key")
    hash: Annotated[str, AfterValidator(check_hash)] = Field(description="hash of its secret part", repr=False)
    groups: Groups = Field(default=(), description="groups of the principal")
    created: Time | None = Field(default=None, description="when it was made")
    expires: Time | None = Field(default=None, description="when it stops working")
    profile: Name | None = Field(default=None, description="claim `profile` of the principal")

    def has_expired(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now

    def line(self) -> str:
        """The record as a line of the file."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def of_line(cls, line: str) -> Record:
        """The record of a line. Raises `ValueError`, whose text shows no value."""
        try:
            return cls.model_validate_json(line)
        except ValidationError as invalid:
            raise ValueError("; ".join(_problems(invalid))) from None


def _problems(invalid: ValidationError) -> list[str]:
    found = []
    for error in invalid.errors(include_url=False, include_context=False, include_input=False):
        what = "is not valid JSON" if error["type"] == "json_invalid" else error["msg"].removeprefix("Value error, ")
        found.append(": ".join(part for part in (".".join(map(str, error["loc"])), what) if part))
    return found


def new(
    name: str, *, groups: tuple[str, ...] = (), expires: datetime | None = None, profile: str | None = None
) -> tuple[Key, Record]:
    """A new key and its record. Raises pydantic's `ValidationError`, a `ValueError`."""
    key = Key.new()
    created = datetime.now(UTC).replace(microsecond=0)
    record = Record(
        name=name, id=key.id, hash=UNKNOWN, groups=groups, created=created, expires=expires, profile=profile
    )
    return key, record.model_copy(update={"hash": hash_of(key.secret)})


def expiry(text: str, now: datetime) -> datetime:
    """The time that `90d`, `12h`, `4w`, `2027-01-31` or an RFC 3339 time means. Raises `ValueError`."""
    span = _SPAN.fullmatch(text)
    try:
        if span is not None:
            found = now.replace(microsecond=0) + int(span[1]) * _UNITS[span[2]]
        else:
            found = datetime.fromisoformat(text)
            found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time like 90d, 12h, 4w, 2027-01-31 or 2027-01-31T12:00:00Z") from None
    if found <= now:
        raise ValueError("is in the past")
    return found
