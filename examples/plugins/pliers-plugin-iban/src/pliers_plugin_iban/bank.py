"""`iban.bank`: an asynchronous plugin, and a class, because it keeps its connections between steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import httpx
from pydantic import Field, HttpUrl

from pliers_workflow.plugins import Configuration, Context, Permanent, Retryable, plugin


class Registry(Configuration):
    """Where banks are known."""

    url: Annotated[HttpUrl, Field(description="Address of the registry; the number is added as a segment.")]


@dataclass(frozen=True)
class Account:
    """Any type that pydantic understands will do."""

    iban: str


@dataclass(frozen=True)
class Found:
    """What the registry says."""

    bank: str


@plugin("iban.bank", title="Find the bank of an IBAN", version="1.0.0", timeout=20)
class Bank:
    """Asks a registry of yours which bank a number belongs to."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(timeout=10)

    async def run(self, configuration: Registry, input: Account, context: Context) -> Found:
        """Ask; what may go better later is `Retryable`, what never will is `Permanent`."""
        try:
            answer = await self._http.get(
                f"{str(configuration.url).rstrip('/')}/{input.iban}",
                # Whoever counts requests can tell a repetition.
                headers={"Idempotency-Key": context.idempotency_key},
            )
        except httpx.TransportError as error:
            raise Retryable(f"The registry does not answer: {type(error).__name__}.", code="REGISTRY_AWAY") from error
        if answer.status_code == 404:
            raise Permanent("BANK_UNKNOWN", "No bank is known for this number.")
        if answer.status_code != 200:
            after = answer.headers.get("Retry-After", "")
            raise Retryable(
                f"The registry answered with {answer.status_code}.",
                code="REGISTRY_BUSY",
                delay=float(after) if after.isdecimal() else None,
            )
        context.log.info("asked the registry")
        return Found(bank=str(answer.json()["bank"]))

    async def close(self) -> None:
        """Called when the node stops."""
        await self._http.aclose()
