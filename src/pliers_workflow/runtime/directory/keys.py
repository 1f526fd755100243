"""What a username, a role's or a group's key may be, and the other fields of a person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pliers_workflow.storage import canonical
from pliers_workflow.storage.identity import is_uuid

from ..errors import InvalidError
from ..storable import BYTES_MAX, check_object, check_text

if TYPE_CHECKING:
    from ..rows import UserInput

#: No blanks, as PostgreSQL's `\s` has them, nor what expressions could not tell apart from them, nor what no path can name.
_KEY: Final = re.compile(r"(?!\.{1,2}$)[^\s:/\x00-\x1f\x7f-\x9f]{1,200}")
#: Members of one role or group, and users of one `put_users`.
MANY_MAX: Final = 20_000


def check_key(what: str, key: object) -> str:
    """Give a username or a role's or group's key back, or raise InvalidError."""
    text = check_text(f"A {what}", key, length_max=200)
    if not _KEY.fullmatch(text):
        raise InvalidError(
            "bad_format",
            f"A {what} has at most 200 characters, none of them a blank, colon, slash or control character, and is not "
            "`.` or `..`.",
        )
    return text


def is_key(text: str) -> bool:
    """Could this be a username, role or group at all? What could not must not reach a statement (NUL, surrogates)."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return _KEY.fullmatch(text) is not None


def check_optional(what: str, text: object, length_max: int) -> None:
    """Raise InvalidError for a text that is neither missing nor storable."""
    if text is not None:
        check_text(what, text, length_max=length_max, length_min=0)


def check_user(user: UserInput) -> None:
    """Raise InvalidError for the first field that cannot be kept."""
    check_key("username", user.username)
    if user.username == "me" or is_uuid(user.username):
        raise InvalidError("bad_format", "A username is not `me` and no UUID: both are taken for somebody's id.")
    check_optional("A name", user.name, 500)
    check_optional("An e-mail address", user.email, 320)
    if user.manager is not None:
        check_key("manager", user.manager)
    check_object("Attributes", user.attributes)
    if len(canonical.encode(user.attributes)) > BYTES_MAX:
        raise InvalidError("too_large", f"Attributes may have {BYTES_MAX // 1024} kB.")
    if not isinstance(user.active, bool):
        raise InvalidError("wrong_type", "`active` is true or false.")
    for kind, keys in (("role", user.roles), ("group", user.groups)):
        for key in keys or ():
            check_key(kind, key)
