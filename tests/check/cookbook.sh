#!/bin/sh
# Every recipe of examples/README.md does what it says: see cookbook.py.
set -eu
if ! command -v python3 >/dev/null; then
    echo "    no python3 here: skipped"
    exit 0
fi
exec python3 tests/check/cookbook.py
