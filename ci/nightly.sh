#!/usr/bin/env bash
# Measures the default matrix and its int8 and fp8 rows, adds the run to results/ if it passed, and searches the history for change points.
# By hand or by any CI:
#
#   ci/nightly.sh                                    any option of pytest goes; --precision names others instead
#
# PYTHON chooses the interpreter; without it .venv's, else python3.
# OUT (nightly-report) takes trend.json, trend.md and index.html.
# Exit code: that of the measurement, and where it passed, that of the first report that failed. The reports are written
# although a benchmark failed; they need the extra `history`, and int8 and fp8 the extra `quantize`.
set -euo pipefail
cd "$(dirname "$0")/.."

. ci/python.sh
out=${OUT:-nightly-report}
mkdir -p "$out" results
rm -f "$out/trend.json" "$out/trend.md" "$out/index.html"
began=$(mktemp)
trap 'rm -f "$began"' EXIT

status=0
"$python" -m pytest benchmarks --quantised --benchmark-autosave "$@" || status=$?

reports=0
"$python" -m trtgate trend --store results --json "$out/trend.json" --markdown "$out/trend.md" || reports=$?
run=$(find results -name '*.json' -newer "$began" -not -path '*/rejected/*' | sort | tail -n 1)
if [ -n "$run" ]; then
  written=0
  "$python" -m trtgate report "$run" --history results --html "$out/index.html" || written=$?
  if [ "$reports" -eq 0 ]; then reports=$written; fi
fi
if [ "$reports" -ne 0 ]; then
  echo "nightly: the measurement ended with exit code $status, and a report failed with $reports (see above)." >&2
fi
if [ "$status" -eq 0 ]; then status=$reports; fi
exit "$status"
