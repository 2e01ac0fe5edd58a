"""The table of endpoints in the documentation is the one of the code."""

from pathlib import Path

import pytest

from gateway_core.control.docs import COMMAND, render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "control-plane.md"


def test_the_page_has_the_endpoints_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == render(page), f"{PAGE.name} is out of date; run: {COMMAND}"
    assert "| `GET /admin/status` | read |" in page
    assert "| `GET /admin/tool` | read | One tool and its definition; query: `name`, `profile`, `agent` |" in page
    assert "| `GET /healthz` | no token |" in page


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="one place"):
        render("# Nothing")
