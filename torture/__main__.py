"""`python -m torture --seeds "1 2" --seconds 60`: run seeds one after another, tell what became of each, and last a line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from .run import run_seed
from .verdict import Verdict

#: faults told of each seed; all of them are in its folder
_TOLD_MAX = 20


async def run(seeds: list[str], arguments: argparse.Namespace) -> list[Verdict]:
    """One seed after another."""
    verdicts = []
    for seed in seeds:
        print(f"seed {seed}: {arguments.seconds:g} s …", flush=True)
        verdict = await run_seed(
            seed,
            arguments.seconds,
            at_once=arguments.at_once,
            calm=arguments.calm,
            kept=arguments.folder,
            keep_all=arguments.keep_all,
        )
        verdicts.append(verdict)
        print(f"seed {seed}: {'FAILED' if verdict.faults else 'green'} {json.dumps(verdict.counts)}", flush=True)
        for fault in verdict.faults[:_TOLD_MAX]:
            print(f"  seed {seed}: {fault}"[:400], flush=True)
        if verdict.faults:
            more = len(verdict.faults) - _TOLD_MAX
            print(f"  {f'and {more} more; ' if more > 0 else ''}everything is in {arguments.folder / f'seed-{seed}'}")
    return verdicts


def main() -> int:
    """Run what the command line says; 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--seeds", default="1", help="seeds, separated by blanks")
    parser.add_argument("--seconds", type=float, default=60, help="how long each is loaded and broken")
    parser.add_argument("--at-once", type=int, default=60, help="workflows at a time")
    parser.add_argument("--calm", type=float, default=1, help="a factor for the pauses between two blows")
    parser.add_argument("--folder", type=Path, default=Path(".pliers/torture"), help="where failed seeds are kept")
    parser.add_argument("--keep-all", action="store_true", help="keep green seeds, too")
    arguments = parser.parse_args()
    seeds = arguments.seeds.split()
    if not seeds:
        parser.error("there is no seed")
    verdicts = asyncio.run(run(seeds, arguments))
    failed = [verdict.seed for verdict in verdicts if verdict.faults]
    summary = {
        "seeds": len(verdicts),
        "seconds_each": arguments.seconds,
        "green": len(verdicts) - len(failed),
        "failed": failed,
        "faults": sum(len(verdict.faults) for verdict in verdicts),
        "of_each": [{"seed": verdict.seed, "faults": len(verdict.faults), **verdict.counts} for verdict in verdicts],
    }
    print(json.dumps(summary))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
