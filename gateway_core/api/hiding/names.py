"""The built-in names of secrets: which keys hold a password, a token, a private key and the like.

A name denotes a secret if it contains one of `STEMS` or ends with one of `_WORDS`, in any spelling (`client_secret`,
`clientSecret`, `CLIENT-SECRET`). Exceptions are names that describe a secret: `token_count`, `max_tokens`,
`password_policy`, `has_password`.
"""

from __future__ import annotations

import re
from typing import Final


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_GAP: Final = r"[_\-. ]?"
_KEYS: Final = (
    "access|account|api|auth|client|decryption|deploy|encryption|gpg|hmac|license|master|pgp|private|secret|service"
    "|session|shared|signing|ssh|storage|subscription|webhook"
)
STEMS: Final = "|".join(
    (
        r"token|secret|passw[o0]?r?d|passphrase|passcode|pgpass|pwd",
        r"credential|cookie|authorization|bearer|jwt|csrf|xsrf|keytab",
        rf"(?:{_KEYS}){_GAP}key",
        rf"conn(?:ection)?{_GAP}str(?:ing)?",
        rf"pass{_GAP}phrase|(?:seed|recovery|mnemonic|backup){_GAP}(?:phrase|code|word)",
        rf"amz{_GAP}signature",
    )
)
"""A case-insensitive regular expression for RE2 and `re`; the most frequent stems come first."""
HANDLES: Final = rf"task{_GAP}id|request{_GAP}state|session{_GAP}id|sessid"
"""Regular expression for values that an agent returns to continue: secret to all but that agent."""
_WORDS: Final = ("auth", "cvc", "cvv", "cvv2", "dsn", "mnemonic", "otp", "pass", "pin", "totp")
WORDS: Final = (
    rf"(?:(?:^|[^A-Za-z])(?i:{'|'.join(_WORDS)})"
    rf"|[A-Za-z](?:{'|'.join(word.capitalize() for word in _WORDS)})|[a-z](?:{'|'.join(map(str.upper, _WORDS))}))"
)
"""A regular expression for the places where a name may end with one of `_WORDS`."""
LINES: Final = re.compile(
    rf"cookie|authorization|mnemonic|pass{_GAP}phrase|(?:seed|recovery){_GAP}phrase".encode(), re.IGNORECASE
)
"""Names whose values contain spaces: in text, the rest of the line is hidden."""

_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_OWNERS: Final = _set(
    "admin db database email ftp http imap login mail mongo mysql pg postgres proxy redis root smtp sql ssh sudo user"
)
"""Words before `pass` that make it a password; `low_pass` is not one."""
_ABOUT: Final = _set(
    "age algorithm at audience balance budget column cost count counts created decimals description dir disabled "
    "enabled endpoint env exists expiration expired expires expiry field fields file fingerprint format header in "
    "index invalid issuer kind label len length lifetime limit limits manager method methods name names on param "
    "path placeholder policies policy position prefix present price provider rate regex required rotation scope scopes "
    "size standard status store strength supported symbol title ttl type types updated uri url usage valid var "
    "version"
)
"""Last words of names that describe a secret."""
_ASKING: Final = _set(
    "allow allows can disable enable has is max min must needs num require required requires should show supports "
    "total use uses"
)
"""First words of names that describe a secret."""
_COUNTED: Final = _set(
    "accepted audio available cache cached completion consumed context estimated generated image input max min new "
    "num output per prompt reasoning rejected remaining request response sampled text thinking "
    "tool total used"
)
"""Words beside `tokens` that denote tokens of a language model."""
_OTHER: Final = re.compile(
    r"secretar\w*|secretion\w*|(?:de)?tokeni\w*|passwordless|cookiecutter|cookieless"
    r"|(?:max|min|num|total|prompt|completion|input|output|cached)tokens|tokens?(?:count|usage|limit|type)s?",
    re.IGNORECASE,
)
"""Words that contain a stem but do not denote a secret."""
_STEMS: Final = re.compile(STEMS, re.IGNORECASE)
_STEMS_OR_HANDLES: Final = re.compile(f"{STEMS}|{HANDLES}", re.IGNORECASE)


def is_secret(name: str, *, handles: bool) -> bool:
    """Whether a key of this name holds a secret; `handles`: include the names in `HANDLES`."""
    stems = _STEMS_OR_HANDLES if handles else _STEMS
    parts = [part.lower() for part in _PARTS.findall(name)]
    if stems.search(name) is None:
        return _ends_in_secret(parts)
    return stems.search(_OTHER.sub("", name)) is not None and not _is_about_secret(name, parts)


def _ends_in_secret(parts: list[str]) -> bool:
    if parts[-2:] == ["cvv", "2"]:
        return True
    if not parts or parts[-1] not in _WORDS:
        return False
    if parts[-1] == "pass":
        return len(parts) == 1 or parts[-2] in _OWNERS
    return parts[-1] != "auth" or len(parts) <= 2


def _is_about_secret(name: str, parts: list[str]) -> bool:
    if not parts:
        return False
    if parts[-1] in _ABOUT or parts[0] in _ASKING or name in {"PWD", "OLDPWD"}:
        return True
    return "tokens" in parts and not _COUNTED.isdisjoint(parts)
