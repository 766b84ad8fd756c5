#!/usr/bin/env bash
# Runs the benchmarks and prints the table. By hand or by any CI:
#
#   ci/bench.sh                                      the default matrix of this machine
#   ci/bench.sh --workload resnet18 --batch 8        part of it; any option of pytest goes
#
# PYTHON chooses the interpreter; without it .venv's (which `make bench` creates), else python3.
# Exit code: pytest's. 5 means that nothing was measured, which is not green; 2 also that the interpreter lacks something.
set -euo pipefail
cd "$(dirname "$0")/.."

. ci/python.sh
exec "$python" -m pytest benchmarks "$@"
