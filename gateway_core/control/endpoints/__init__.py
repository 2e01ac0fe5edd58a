"""The endpoints of the control plane: one module for each subject.

Each module has a protocol `Operations` that says what it needs from the gateway, and a function `endpoints`. `table`
joins them; who adds a module adds it there.
"""

from __future__ import annotations
