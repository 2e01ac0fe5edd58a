"""Serves all odd servers over HTTP in one process, until its standard input ends; its first line has their URLs."""

from __future__ import annotations

import importlib
import json
import sys

from tests.field import kinds, plain


def main() -> None:
    urls = {}
    for odd in kinds.servers():
        if odd.kind.transport == "http":
            module = importlib.import_module(f"tests.field.{odd.kind.folder}.server")
            urls[odd.name] = plain.listen(module.Server(odd.name, odd.variant))
    print(json.dumps(urls), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
