#!/bin/sh
# The shell scripts of this repository have no warning of shellcheck.
set -eu
find tests -name '*.sh' -exec shellcheck .ci/run {} +
