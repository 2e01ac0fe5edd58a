"""Imports of modules that few gateways need and that take long."""

from __future__ import annotations

import asyncio
import threading
from importlib import import_module


class LateImport:
    """Imports modules when they are first needed, in a thread: on the event loop, the import would delay every call.

    Functions that use one of the modules import it by name, after their callers awaited `load`.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._begun = False
        self._loaded = False

    async def load(self) -> None:
        """Import the modules, unless they are imported already. Raises what they raise."""
        if not self._loaded:
            await asyncio.to_thread(self._import)

    def load_soon(self) -> None:
        """Begin to import the modules, without waiting."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._import, name=f"import {', '.join(self._modules)}", daemon=True).start()

    def _import(self) -> None:
        for module in self._modules:
            import_module(module)
        self._loaded = True
