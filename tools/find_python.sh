#!/usr/bin/env bash
# Print a Python that is new enough: the one asked for, else the first of the usual names that really runs.
set -euo pipefail
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
for candidate in ${1:+"$1"} ${1:-python3 python3.13 python3.12 python3.11 python}; do
    if "$candidate" -c "$new_enough" >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
done
echo "No Python 3.11 or newer was found${1:+ at $1}. Install one (Debian, Ubuntu: apt-get install python3 python3-venv)," >&2
echo "or name yours: make PYTHON=/path/to/python3.12 …" >&2
exit 1
