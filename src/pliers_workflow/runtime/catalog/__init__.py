"""Definitions: drafts, versions, which of them is active, and the charts compiled from them.

A name has versions: at most one draft, at most one active, any number that were active once (`deprecated`) or have been
put away (`archived`). What was published never changes; a change is the next draft, with a higher version number. All
that happens under one name happens one after another, under a lock of that name, and is in the audit log.

Revisions count across all versions of a name. So an `If-Match` of one version never fits another by chance.

`reading` gives versions and charts, `drafts` keeps documents, `publishing` makes drafts active and puts versions away;
`change` is what a change of a name holds. `charts` are kept within a bound, `routes` say what a name means just now, and
`unserved` what no node of this release does.
"""

from __future__ import annotations

from .publishing import Catalog
from .reading import STATUSES

__all__ = ["STATUSES", "Catalog"]
