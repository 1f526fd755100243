"""People: users, roles and groups, and the facts about them that the interpreter asks for.

Every change raises the tenant's directory revision in its own transaction, as its first statement. So changes of one
tenant follow one another, and the commit of a batch can compare the revision its facts rest on with the present one.
Nobody is ever deleted: a person who leaves is made inactive, because the history names them.

`users` keeps people, `sets` roles and groups, `facts` says what the interpreter asks; `base` is what they share.
"""

from __future__ import annotations

from .facts import Facts
from .keys import check_key
from .sets import Kind, Sets

__all__ = ["Directory", "Kind", "check_key"]


class Directory(Sets, Facts):
    """Keeps people, roles and groups of every tenant."""
