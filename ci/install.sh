#!/usr/bin/env bash
# Installs what a side of a gate needs, in a virtual environment. By hand or by any CI:
#
#   ci/install.sh base base/.venv './base[rtx]'      anything that `pip install` takes
#   ci/install.sh head head/.venv './head[rtx]'      a second one, for ci/gate.sh env:base/.venv env:head/.venv
#   ci/install.sh both .venv 'trtgate[rtx]'          one that both sides share
#
# PYTHON (python3) makes the environment. Where it or pip fails, OUT (gate-report) takes a gate.md that says so.
# Exit code: 0, or 5 (nothing compared) where the installation fails: pip's own 1 would read as a regression.
set -euo pipefail

usage() {
  echo "install: $1 Write 'ci/install.sh base|head|both VENV PACKAGE...'." >&2
  exit 2
}
if [ $# -lt 3 ]; then usage "$# arguments are too few."; fi
side=$1 venv=$2
shift 2
case $side in
  base | head) what="The $side" ;;
  both) what="What both sides share" ;;
  *) usage "'$side' is no side." ;;
esac

log=$(mktemp) || log=/dev/null
trap 'if [ "$log" != /dev/null ]; then rm -f "$log"; fi' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1  # neither an advertisement as the last line nor a question
status=0
{ "${PYTHON:-python3}" -m venv "$venv" && "$venv/bin/python" -m pip install --quiet "$@"; } 2>&1 | tee "$log" || status=$?
if [ "$status" -ne 0 ]; then
  "$(dirname "$0")/nothing_compared.sh" "$what cannot be installed: 'pip install $*' in $venv ended with $status." \
    "Correct what its output names, or run the job again if that is the network." "$log"
fi
