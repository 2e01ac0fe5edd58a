"""The install lines of the README, in a copy of the checkout and a fresh environment each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Install\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1])
def test_an_install_block_leaves_a_gateway_with_its_plugins(block: str, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("e2e/", "benchmarks/", "tests/")):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    tools = tmp_path / "tools"
    dropped = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    environment |= {
        "PATH": f"{tools / 'bin'}{os.pathsep}{Path(uv).parent}{os.pathsep}{os.environ['PATH']}",
        "UV_TOOL_DIR": str(tools),
        "UV_TOOL_BIN_DIR": str(tools / "bin"),
    }
    script = f"{block}\ncommand -v rad\nrad --version\nrad mcp proxy plugins --json\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(rf"^{re.escape(str(tmp_path))}/.*/rad$", done.stdout, re.MULTILINE)
    assert re.search(r"^rad \d+\.\d+\.\d+$", done.stdout, re.MULTILINE)
    assert done.stdout.count('"plugin": ') == len(list((ROOT / "plugins").glob("*/pyproject.toml")))


def test_there_is_a_block_for_pip_and_one_for_uv() -> None:
    assert len(BLOCKS) == 2
