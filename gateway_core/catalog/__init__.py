"""All upstreams' tools, resources, templates and prompts in one table, under the names that agents see.

`Catalog` rebuilds an immutable `Snapshot` whenever an upstream's list changes; a call is a look-up in it. Names depend
on the configuration file and the upstreams' last known lists, never on the current health of upstreams.
"""

from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.snapshot import Snapshot, Target
from gateway_core.catalog.tasks import Tasks, require_tasks

__all__ = ["Catalog", "Entry", "Snapshot", "Target", "Tasks", "require_tasks"]
