"""Hold what no linter knows: the lock agrees with pyproject.toml, and no file names a registry or somebody's machine.

Works offline and without git. Exits 1 with one sentence for each fault.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {".git", ".venv", ".pliers", "dist", "build", "node_modules", "__pycache__"}
TEXT = {".py", ".md", ".toml", ".lock", ".sql", ".json", ".sh", ".cfg", ".ini", ".yml", ".yaml", ".lark", ".txt", ""}

#: Registry hosts, and home folders: spelled so that this file does not match itself.
FORBIDDEN = (
    (
        re.compile(r"(?i)\b(?:test\.)?pypi\.org|pythonhosted\.org|registry\.npmjs"),
        "names a package registry",
    ),
    (re.compile(r"(?<![\w.])/(?:home|Users)/[a-z][\w-]+/"), "names a folder of somebody's machine"),
)


def locked_versions(lock: Path) -> dict[str, str]:
    """Name -> version of everything that a lock file pins."""
    pins = re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock.read_text())
    return {canonicalize_name(name): version for name, version in pins}


def lock_faults(lock: Path, requirements: list[str]) -> Iterator[str]:
    """What `lock` lacks of `requirements`, and what it must not contain."""
    if not lock.exists():
        yield f"{lock.name} is missing; run `make lock`"
        return
    text = lock.read_text()
    if "://" in text or "--index-url" in text or "--find-links" in text:
        yield f"{lock.name} contains an address; a lock names versions and hashes only"
    pinned = locked_versions(lock)
    for block in re.split(r"(?m)^(?=\S)", text):
        if "==" in block and "--hash=sha256:" not in block:
            yield f"{lock.name} pins {block.split()[0]} without a hash"
    for line in requirements:
        requirement = Requirement(line)
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None:
            yield f"{lock.name} does not pin {requirement.name}, which pyproject.toml requires; run `make lock`"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"{lock.name} pins {requirement.name} {version}, but pyproject.toml wants {requirement.specifier}; run `make lock`"


def text_faults() -> Iterator[str]:
    """Files that name a registry or a machine."""
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        if SKIPPED.intersection(relative.parts) or any(
            part.endswith(("_cache", ".egg-info")) for part in relative.parts
        ):
            continue
        if not path.is_file() or path.suffix not in TEXT:
            continue
        text = path.read_text(errors="replace")
        for pattern, what in FORBIDDEN:
            if found := pattern.search(text):
                line = text.count("\n", 0, found.start()) + 1
                yield f"{relative}:{line} {what}"


def main() -> int:
    """Print every fault; 0 when there is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"].get("optional-dependencies", {})
    run_time = [*project["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]
    development = [*run_time, *project["dependency-groups"]["dev"]]
    faults = [
        *lock_faults(ROOT / "requirements.lock", run_time),
        *lock_faults(ROOT / "requirements-dev.lock", development),
        *text_faults(),
    ]
    if (ROOT / "requirements-dev.lock").exists() and (ROOT / "requirements.lock").exists():
        every = locked_versions(ROOT / "requirements-dev.lock")
        for name, version in locked_versions(ROOT / "requirements.lock").items():
            if every.get(name) != version:
                faults.append(
                    f"{name} is {version} in requirements.lock and {every.get(name)} in requirements-dev.lock"
                )
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print("the lock agrees with pyproject.toml; no registry, no machine is named")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
