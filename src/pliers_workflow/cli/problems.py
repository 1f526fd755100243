"""What can go wrong on the command line, in sentences."""

from __future__ import annotations


class Problem(Exception):
    """Something the person at the keyboard can mend; the message says how."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def explain(error: BaseException) -> tuple[str, int]:
    """
    A sentence and an exit status for an error that no command has dealt with.

    Errors are recognized by where they come from and not by importing all those modules, which would make every command
    slow.
    """
    module = type(error).__module__.split(".")[0]
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        return explain(error.exceptions[0])
    if type(error).__name__ == "UndefinedTableError":
        return "this database does not have our schema, or an older one; run `pliers migrate` first.", 3
    if type(error).__name__ == "ReadOnlySQLTransactionError":
        return (
            "the database is read-only, such as a standby; name the primary, or make it writable "
            "(default_transaction_read_only).",
            3,
        )
    if type(error).__name__ == "gaierror":
        return f"the database's host cannot be found: {text}. Check the name in the DSN, and the network.", 3
    if module == "asyncpg" or isinstance(error, ConnectionError):
        return f"the database cannot be used: {text}. Check the DSN, or leave it out to use the embedded one.", 3
    if module == "pydantic_core":
        return f"a setting (PLIERS_…) is not usable: {text}", 2
    if isinstance(error, OSError):
        return f"{error.filename + ': ' if isinstance(error.filename, str) else ''}{error.strerror or text}", 2
    if module == "pliers_workflow":
        return text, 3
    return (
        f"{type(error).__name__}: {text}. This is a fault of ours; PLIERS_DEBUG=1 shows where. Please report it.",
        70,
    )
