#!/bin/sh
# Installs packages of Node for the tests, into build/node; without npm or its registry the
# tests that want them are skipped.
set -eu
if ! command -v npm >/dev/null; then
    echo "no npm: without $*"
    exit 0
fi
mkdir -p build/node
for package; do
    [ -e "build/node/node_modules/${package%@*}/package.json" ] ||
        npm install --prefix build/node --no-audit --no-fund --ignore-scripts --silent \
            "$package" || echo "npm does not bring $package"
done
