"""Pages of `docs/` that are copied and run: the plugin block by block, and the curl lines."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w./-]+\.\w+)\n")

pytestmark = pytest.mark.timeout(240)


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block of a page, in order."""
    return FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


def uv() -> str:
    found = shutil.which("uv") or shutil.which(
        "uv", path=f"{ROOT / '.uv' / 'bin'}{os.pathsep}{Path(sys.prefix) / 'bin'}"
    )
    return found or pytest.skip("needs uv, which `make install` brings")


@pytest.fixture
def shell(tmp_path, environment):
    """`shell(script)` runs it in a folder whose environment has this Python, `rad`, and a `pip` that stays offline.

    The environment is a new one, so what a page installs goes nowhere else; it sees what is installed here.
    """
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [uv(), "venv", "--quiet", "--offline", "--python", sys.executable, str(tmp_path / "venv")], check=True
    )
    site = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    Path(site, "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    quoted = shlex.quote(str(python))
    offline = f"{shlex.quote(uv())} pip install --quiet --offline --no-deps --python {quoted}"
    for name, line in (("rad", f'exec {quoted} -m gateway_core.cli "$@"'), ("pip", f'shift; exec {offline} "$@"')):
        command = python.with_name(name)
        command.write_text(f"#!/bin/bash\n{line}\n")
        command.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    path = f"{python.parent}{os.pathsep}{environment['PATH']}"

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=work,
            env={**environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    run.folder = work
    return run


def test_the_plugin_of_the_page_works_when_copied_block_by_block(shell):
    said = []
    for language, text in blocks("writing-a-plugin.md"):
        named = NAMED.match(text)
        if language == "sh":
            done = shell(text)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            said.append(done.stdout)
        elif named:
            file = shell.folder / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    installed, tried, tested = said
    assert re.search(r"night_watch +0\.1\.0 +before_call", installed)
    assert re.search(r"opens +integer +8 +first hour", installed)
    assert "1 upstream, 1 plugin" in tried
    assert tried.splitlines()[-1] == "5"
    assert "4 passed" in tested


def test_the_lines_of_the_page_about_the_control_plane_work(shell, with_server, spawn, wait_for_upstream):
    spawn("start")
    wait_for_upstream()
    scripts = [text for language, text in blocks("control-plane.md") if language == "sh"]
    done = shell(f"cd {shlex.quote(str(with_server))}\n" + "\necho; echo =====\n".join(scripts))
    assert done.returncode == 0, done.stderr
    status, tool, reloaded, edited, tried, browser, refused = [part.strip() for part in done.stdout.split("=====")]
    assert json.loads(status)["upstreams"][0]["name"] == "calculator"
    assert json.loads(tool)["definition"]["description"] == "Add two numbers."
    assert reloaded.count('"changes":[]') == 2
    assert json.loads(edited)["changes"][0]["details"] == ["60.0 -> 20.0"]
    assert json.loads(tried)["response"]["result"]["structuredContent"] == {"result": 5}
    assert "/ui/enter?code=" in json.loads(browser)["url"]
    page = (ROOT / "docs" / "control-plane.md").read_text(encoding="utf-8")
    assert f"prints `{refused}`" in page


def test_the_curl_lines_of_the_page_work(with_server, spawn, free_port, wait_for_upstream, tmp_path):
    spawn("start")
    wait_for_upstream()
    scripts = [text for language, text in blocks("clients/curl.md") if language == "sh"]
    script = "\necho; echo =====\n".join(scripts).replace("localhost:3000", f"127.0.0.1:{free_port}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [part.strip() for part in done.stdout.split("=====")]
    opened, ready, listed, called, ended, listed_again, called_again = answers
    assert json.loads(opened)["result"]["protocolVersion"] == "2025-11-25"
    assert (ready, ended) == ("", "")
    for answer in (listed, listed_again):
        assert "add" in [tool["name"] for tool in json.loads(answer)["result"]["tools"]]
    for answer in (called, called_again):
        assert json.loads(answer)["result"]["structuredContent"] == {"result": 5}
