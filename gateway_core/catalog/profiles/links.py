"""Decides which links in results lead to resources that a profile hides."""

from __future__ import annotations

from collections.abc import Sequence

from gateway_core.catalog.snapshot import Snapshot
from gateway_core.catalog.uris.links import leads_elsewhere
from gateway_core.catalog.uris.templates import Effort


def hidden(base: Snapshot, seen: Sequence[Snapshot], effort: Effort, uri: str) -> bool:
    """Whether only the profile keeps agents from reading a URI.

    `base`: what agents without a profile see. `seen`: the snapshots in which a read looks the URI up. A URI that most
    likely leads elsewhere, such as to a web page, is not hidden unless an upstream lists it or has a template for it.
    `effort`: what the tests of templates may still cost; once it is spent, no template shows a URI.
    """
    if any(snapshot.resource(uri, effort) is not None for snapshot in seen):
        return False
    target = base.resource(uri, effort)
    if target is None:
        return effort.spent
    if uri in base.resources or base.fits_template(uri, effort):
        return True
    return not leads_elsewhere(target.original, base.schemes.get(target.upstreams[0].name, ()))
