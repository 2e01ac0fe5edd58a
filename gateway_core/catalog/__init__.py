"""All upstreams' tools, resources, templates and prompts as one table, under the names that agents see.

`Catalog` rebuilds an immutable `Snapshot` whenever an upstream's list changes; a call is a look-up in it. Names are
a function of the configuration file and of the upstreams' last known lists, never of who is healthy right now.
"""

from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.snapshot import Snapshot, Target
from gateway_core.catalog.tasks import Tasks, require_tasks

__all__ = ["Catalog", "Entry", "Snapshot", "Target", "Tasks", "require_tasks"]
