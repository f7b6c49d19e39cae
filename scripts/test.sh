#!/usr/bin/env bash
# Style, unit tests and the end-to-end tests of the real command line, in a virtual environment of their own.
# Tests of the page and of the cluster are skipped where there is no Chromium and no Slurm. Nothing is installed outside
# .venv.
# Arguments go to pytest:  bash scripts/test.sh -k masks;  -m gpu runs the tests that need a GPU, which all others hide.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh requirements-test.txt

ruff check .
ruff format --check .
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadgroup "$@"
