# Sourced by the scripts here: chooses the interpreter, $python, and ends with 2 where it lacks what the suite needs.
# PYTHON names one; without it .venv's (which `make bench` creates), else python3.
set -euo pipefail
default=python3
if [ -x .venv/bin/python ]; then default=.venv/bin/python; fi
python=${PYTHON:-$default}
if ! why=$("$python" -c 'import pytest, pytest_benchmark, trtgate.policy' 2>&1); then
  echo "$(basename "$0" .sh): $python cannot run the benchmarks: ${why##*$'\n'}." \
    "Run 'make install', or name another interpreter with PYTHON." >&2
  exit 2
fi
