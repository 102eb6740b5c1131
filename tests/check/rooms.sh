#!/bin/sh
# Which section may call the system, what its Uses line says, how long it may get: see
# rooms.py, and `tests/check/rooms.sh --uses` or `--mend` for the right Uses lines.
set -eu
if ! command -v python3 >/dev/null; then
    echo "    no python3 here: skipped"
    exit 0
fi
[ $# -gt 0 ] || python3 tests/check/rooms.py --self-test httpsbind.h
python3 tests/check/rooms.py "$@" httpsbind.h
