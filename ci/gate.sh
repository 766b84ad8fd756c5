#!/usr/bin/env bash
# Judges a change against its base. By hand or by any CI:
#
#   ci/gate.sh main                                  the working tree against main
#   ci/gate.sh main my-branch --quantity plan        any option of `trtgate gate` goes
#   ci/gate.sh path:/src/base path:/src/head         two trees, no git needed
#
# PYTHON chooses the interpreter; without it .venv's, else python3.
# OUT (gate-report) takes gate.md, gate.xml (JUnit), gate.json and samples.jsonl, also when the gate is red.
# Exit code: 0 pass, 1 regression, 2 usage, 3 inconclusive, 4 environment invalid, 5 nothing compared.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
default=python3
if [ -x "$here/.venv/bin/python" ]; then default=$here/.venv/bin/python; fi
python=${PYTHON:-$default}
out=${OUT:-gate-report}
# What an earlier gate left must not pass for this one's, whatever stops it.
if ! { mkdir -p "$out" && rm -f "$out/gate.md" "$out/gate.xml" "$out/gate.json" "$out/samples.jsonl"; }; then
  echo "gate: $out cannot be written. Name another folder with OUT." >&2
  exit 2
fi

# An interpreter that does not start, or has no trtgate, ends with 1 or 127: the one would read as a regression.
log=$(mktemp) || log=/dev/null
trap 'if [ "$log" != /dev/null ]; then rm -f "$log"; fi' EXIT
if ! "$python" -c 'import trtgate.cli' > "$log" 2>&1; then
  "$(dirname "$0")/nothing_compared.sh" "$python cannot import trtgate, which judges." \
    "Install it there (ci/install.sh), or name another interpreter with PYTHON." "$log"
fi

status=0
"$python" -m trtgate gate "$@" \
  --markdown "$out/gate.md" --junit "$out/gate.xml" --json "$out/gate.json" --samples "$out/samples.jsonl" || status=$?
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$out/gate.md" ]; then
  cat "$out/gate.md" >> "$GITHUB_STEP_SUMMARY" || echo "gate: $GITHUB_STEP_SUMMARY cannot be written." >&2
fi
exit "$status"
