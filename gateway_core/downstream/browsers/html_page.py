"""HTML pages for people: one frame, one style, no scripts, and nothing that is loaded from elsewhere."""

from __future__ import annotations

import hashlib
import html
from base64 import b64encode
from collections.abc import Mapping
from typing import Final

_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}"
    "pre{padding:.75rem 1rem;overflow-x:auto;border:1px solid;border-radius:.4rem}"
    "pre.code{font-size:2rem;text-align:center}"
    "pre.text{white-space:pre-wrap;overflow-wrap:anywhere}"
    "button,input{font:inherit;padding:.5rem 1.5rem;margin:0 .5rem .5rem 0}"
)
_FRAME: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": f"{_POLICY}; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""The headers of a page without a form."""
FORM_HEADERS: Final[Mapping[str, str]] = {
    **HEADERS,
    # The form leads to another site, and `form-action` also applies to redirects.
    "Content-Security-Policy": _POLICY,
    # With `no-referrer`, browsers send the origin of a form as `null`.
    "Referrer-Policy": "same-origin",
}
"""The headers of a page with a form, whose answer may redirect to any site."""
OWN_FORM_HEADERS: Final[Mapping[str, str]] = {
    **FORM_HEADERS,
    "Content-Security-Policy": f"{_POLICY}; form-action 'self'",
}
"""The headers of a page with a form that is answered by a page of the gateway."""


def framed(title: str, body: str) -> str:
    """A page. `body` is HTML, `title` is text."""
    return _FRAME.format(title=html.escape(title), style=_STYLE, body=body)


def message(title: str, *texts: str, code: str = "", button: str = "") -> str:
    """A page with a heading, paragraphs, a code to copy, and a button that posts to the page's own address.

    All arguments are text.
    """
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if code:
        parts.append(f'<pre class="code">{html.escape(code)}</pre>')
    parts += [f"<p>{html.escape(text)}</p>" for text in texts]
    if button:
        parts.append(f'<form method="post"><button type="submit">{html.escape(button)}</button></form>')
    return framed(f"{title} - Radium MCP gateway", "\n".join(parts))
