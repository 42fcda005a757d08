#!/usr/bin/env bash
# Installs what is missing, builds everything, runs all tests.
set -euo pipefail
cd "$(dirname "$0")"
scripts/build
ctest --preset release
