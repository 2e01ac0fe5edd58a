"""The files of the dashboard: what is vendored, what they import, and what they must not contain."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import gateway_core
from gateway_core.activity.definitions.changes import MAX_CHANGES

FOLDER = Path(gateway_core.__file__).parent / "dashboard"
VENDOR = FOLDER / "vendor"
MODULES = sorted(path for path in FOLDER.rglob("*.js") if VENDOR not in path.parents)
BY_PATH = pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(FOLDER).as_posix())
IMPORT = re.compile(r"""(?:^|[;}])\s*import\b[^;"'()]*\(?["']([^"']+)["']|\bimport\(["']([^"']+)["']""", re.M)


def test_vendored_files_are_those_of_the_lock() -> None:
    lock = json.loads((VENDOR / "vendor.lock.json").read_text())
    wanted = {name: file["sha256"] for package in lock.values() for name, file in package["files"].items()}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    del found["vendor.lock.json"]
    assert found == wanted


def test_each_vendored_package_keeps_its_licence_and_the_digest_of_its_tarball() -> None:
    lock = json.loads((VENDOR / "vendor.lock.json").read_text())
    for name, package in lock.items():
        assert f"{name}.LICENSE" in package["files"]
        assert package["integrity"].startswith("sha512-")


@pytest.mark.parametrize("module", sorted(FOLDER.rglob("*.js")), ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_every_import_is_a_file_of_the_dashboard(module: Path) -> None:
    found = [static or dynamic for static, dynamic in IMPORT.findall(module.read_text())]
    for target in found:
        assert target.startswith("."), f"{target} would need an import map"
        assert (module.parent / target).resolve().is_relative_to(FOLDER)
        assert (module.parent / target).exists(), target


@BY_PATH
def test_no_module_makes_markup_or_code_of_text(module: Path) -> None:
    text = module.read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in text, word


@BY_PATH
def test_no_module_asks_other_hosts(module: Path) -> None:
    text = re.sub(r"//[^\n\"'`]*$", "", module.read_text(), flags=re.M)
    assert re.findall(r"[\"'`](?:https?:)?//[^\"'`]*", text) == []


def test_the_page_has_no_inline_script_or_style() -> None:
    page = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", page) == []
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", page) == []
    for name in re.findall(r"(?:src|href)=\"([^\"]+)\"", page):
        assert (FOLDER / name).exists(), name


def test_the_dashboard_fetches_all_unseen_changes_of_definitions() -> None:
    text = (FOLDER / "lib" / "definitions.js").read_text()
    fetched = re.findall(r"useResource\(.*\{ (?:every|on)", text)
    assert len(fetched) == 2
    assert all("api.query(UNSEEN)" in one or "api.query({ ...UNSEEN, upstream })" in one for one in fetched)
    assert f"const UNSEEN = {{ unseen: true, limit: {MAX_CHANGES} }};" in text
