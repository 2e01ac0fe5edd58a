"""The built-in shapes of secrets: strings that are secrets under any key."""

from __future__ import annotations

from typing import Final

_OF_LETTERS: Final = (
    r"gh[pousr]_|npm_|hf_|gsk_|r8_|xai-|pplx-|do[opr]_v1_|shp(?:at|ca|pa|ss)_|lin_api_|ntn_|figd_|sbp_|dp\.[sp]t\."
    r"|NRAK-|AGE-SECRET-KEY-1|[rs]k_(?:live|test)_|whsec_|rubygems_"
)
"""Prefixes of tokens that continue with letters and digits."""
_OF_WORDS: Final = (
    r"github_pat_|gl(?:pat|oas|dt|rt|cbt|ptt|ft|soat|imt|agent)-|pypi-Ag|xox[abeoprs]-|xapp-|dckr_pat_|ATATT3|glsa_"
    r"|glc_|sntry[su]_|PMAK-|sq0(?:atp|csp)-|GOCSPX-|ya29\.|AIza|hv[sbr]\.|tskey-|SG\.[\w\-]{16,}\."
)
"""Prefixes of tokens that may also contain `-` and `_`, and parts after `.`."""
_PEM: Final = r"[A-Z0-9 ]*PRIVATE KEY[A-Z ]*----"
_LINE_END: Final = r"(?:\r?\n|(?:\\r)?\\n)"
_USER: Final = r"""[^\s/:@"'<>?#]"""
_WORD_USER: Final = r"""[^\s/:@"'<>?#;&|()`]"""
_OTHER_SHAPES: Final = "|".join(
    (
        rf"\b(?:{_OF_LETTERS})[A-Za-z0-9]{{16,}}",
        rf"\b(?:{_OF_WORDS})[\w\-]{{16,}}(?:\.[\w\-]+)*",
        r"\brad_[A-Za-z0-9]{12}_[A-Za-z0-9]{16,}",
        r"\bsk-(?:[A-Za-z0-9]{16,}|[A-Za-z_\-]{0,40}[0-9][\w\-]{7,})",
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}",
        r"\beyJ[\w\-]{8,}(?:\.[\w\-]{4,}){1,4}",
        r"\b(?i:bearer)\s+(?:[A-Za-z._~+/\-]{0,40}[0-9][\w.~+/\-]{6,}|[\w.~+/\-]{24,})",
        r"\b(?i:basic|negotiate)\s+(?:[A-Za-z+/]{2,40}[0-9][A-Za-z0-9+/]{6,}|[A-Za-z0-9+/]{24,})",
        r"[?&](?:sig|signature|code)=[\w%\-]{16,}",
        r"(?:hooks\.slack\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/webhooks)/[\w/\-]{8,}",
        r"\b[0-9]{8,10}:AA[\w\-]{33}",
        r"\b(?:SK|dapi)[0-9a-f]{32}\b",
    )
)
SHAPES: Final = (
    rf"""{_OTHER_SHAPES}|[A-Za-z0-9]://{_USER}*:[^\s/"'<>]+@|[ps]://{_USER}{{20,}}@"""
    rf"|----[ -]?BEGIN {_PEM}.*?(?:----[ -]?END {_PEM}-?|\z)"
)
"""An RE2 regular expression; a private key without an end is hidden up to the end of the text."""
WORD_SHAPES: Final = (
    rf"""{_OTHER_SHAPES}|[A-Za-z0-9]://{_WORD_USER}*:[^\s/"'<>;&|()`]+@|[ps]://{_WORD_USER}{{20,}}@"""
    rf"|----[ -]?BEGIN {_PEM}-?{_LINE_END}?(?:[A-Za-z0-9+/=]{{40,}}{_LINE_END})*[A-Za-z0-9+/=]*"
    rf"(?:{_LINE_END}?----[ -]?END {_PEM}-?)?"
)
"""The same shapes, without room for a command: no characters that end one, and of a private key only base64."""


def shown(found: bytes) -> tuple[bytes, bytes]:
    """The parts of a match before and after the secret that stay visible: scheme, user, parameter name."""
    if found.startswith(b"----"):
        return b"", b""
    if found.endswith(b"@"):
        begin = found.index(b"://") + 3
        return found[: found.find(b":", begin) + 1 or begin], b"@"
    if found[:1] in b"?&":
        return found[: found.index(b"=") + 1], b""
    if found[:5].lower() in {b"beare", b"basic", b"negot"}:
        return found[: len(found) - len(found.split(None, 1)[1])], b""
    if found[:4] in {b"hook", b"disc"}:
        return found[: found.index(b"/") + 1], b""
    return b"", b""
