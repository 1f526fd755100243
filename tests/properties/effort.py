"""How long random tests try: a few seconds by default; `PLIERS_TEST_EFFORT=50` (or `make properties`) takes that many times as many."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, Phase, settings

EFFORT: Final = int(os.environ.get("PLIERS_TEST_EFFORT", "1"))


def tries(examples: int) -> settings:
    """So many examples, or as many times more as are asked for; seeds say too little to be worth shrinking."""
    return settings(
        max_examples=examples * EFFORT,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
