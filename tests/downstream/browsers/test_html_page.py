"""The frame of all pages: nothing in it runs, loads or leads elsewhere, whatever it shows."""

from __future__ import annotations

import base64
import hashlib
import re

from gateway_core.downstream.browsers.html_page import FORM_HEADERS, HEADERS, message


def test_all_texts_are_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    page = message(evil, evil, code=evil, button=evil)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 5, "the title twice, the text, the code, the button"


def test_the_policy_allows_the_style_alone() -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", message("a"), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    for headers in (HEADERS, FORM_HEADERS):
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; base-uri 'none'; frame-ancestors 'none'; ")
        assert f"style-src 'sha256-{digest}'" in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"
    assert "form-action 'none'" in HEADERS["Content-Security-Policy"]
    assert HEADERS["Referrer-Policy"] == "no-referrer"
    assert FORM_HEADERS["Referrer-Policy"] == "same-origin"


def test_there_is_a_form_only_with_a_button() -> None:
    assert "<form" not in message("a", "b", code="c")
    assert '<form method="post"><button type="submit">Log in</button></form>' in message("a", button="Log in")
