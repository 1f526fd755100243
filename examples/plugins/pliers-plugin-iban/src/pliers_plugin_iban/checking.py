"""`iban.check`: the simplest kind of plugin, a function."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from pliers_workflow.plugins import Configuration, Permanent, plugin

from .numbers import compact, fault


class Rules(Configuration):
    """What a step may say in its `configuration`."""

    #: in a JSON Schema, what stands here is what an author sees
    countries: Annotated[
        tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...],
        Field(description="Countries whose accounts are accepted; none: all."),
    ] = ()


class Account(BaseModel):
    """What the step's `inputMapping` gives."""

    iban: Annotated[str, Field(max_length=100, description="The number; blanks and small letters do not matter.")]


class Checked(BaseModel):
    """The output."""

    iban: str
    country: str


@plugin("iban.check", title="Check an IBAN", version="1.0.0", timeout=5)
def check(configuration: Rules, input: Account) -> Checked:
    """Says whether a bank account number is right by itself: length, check digits, and a country that is accepted."""
    number = compact(input.iban)
    problem = fault(number)
    if problem is not None:
        raise Permanent("IBAN_INVALID", f"This is no IBAN: {problem}.")
    if configuration.countries and number[:2] not in configuration.countries:
        raise Permanent(
            "IBAN_COUNTRY", f"Accounts in {number[:2]} are not accepted here.", details={"country": number[:2]}
        )
    return Checked(iban=number, country=number[:2])
