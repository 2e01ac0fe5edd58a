"""Search for an input that breaks a check, with coverage as the guide: `run.py CHECK [libFuzzer's options] [corpus]`.

It ends at the first such input, which it writes to a file and names. Needs atheris.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gateway_core"]):
    from fuzz.checks import CHECKS

atheris.Setup([sys.argv[0], *sys.argv[2:]], CHECKS[sys.argv[1]])
atheris.Fuzz()
