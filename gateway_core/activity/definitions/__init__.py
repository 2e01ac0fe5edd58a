"""Changes of the definitions that servers publish: compared, reported, and kept until an operator has seen them.

`differences` compares two versions of the lists of a server. `comparing` runs the comparisons in a thread. `changes` is
the record of what differed, within bounds. `kept` is its file. `watch` reports to the log and the event stream.
"""

from __future__ import annotations

from gateway_core.activity.definitions.watch import DefinitionWatch

__all__ = ["DefinitionWatch"]
