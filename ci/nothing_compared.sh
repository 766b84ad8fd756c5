#!/usr/bin/env bash
# Ends a gate that has no trtgate to report for it. ci/install.sh and ci/gate.sh call it:
#
#   ci/nothing_compared.sh 'The base cannot be installed.' 'Correct what it names.' LOG
#
# OUT (gate-report) takes a gate.md with both sentences and LOG's last lines; so does $GITHUB_STEP_SUMMARY.
# Exit code: 5, nothing compared, whether or not the report can be written.
set -euo pipefail

out=${OUT:-gate-report}

# A stranger's build may have printed these lines: text that can neither act nor become markup.
plain() {
  LC_ALL=C sed -e 's/\x1b\[[0-9;?]*[A-Za-z]//g' | LC_ALL=C tr -d '\000-\011\013-\037\177' | LC_ALL=C sed \
    -e 's/^ *//' -e '/^$/d' -e 's/\\/\\\\/g' -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/`/\&#96;/g' \
    -e 's/[]|*_[]/\\&/g' -e 's/^[-#+=~:]/\\&/'
}

report() {
  printf '### trtgate gate: nothing compared\n\n'
  printf '%s %s\n' "$1" "$2" | plain
  if [ -s "$3" ]; then
    printf '\nThe last lines of why:\n\n'
    # The cut may fall into the middle of a character.
    tail -c 4000 "$3" | { iconv -f UTF-8 -t UTF-8 -c || true; } | plain | tail -n 15 | awk '{ print "- " $0 }'
  fi
}

echo "gate: $1 $2" >&2
if ! { mkdir -p "$out" && rm -f "$out/gate.xml" "$out/gate.json" "$out/samples.jsonl" && report "$@" > "$out/gate.md"; }; then
  echo "gate: $out/gate.md cannot be written. Name a folder that can with OUT." >&2
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then report "$@" >> "$GITHUB_STEP_SUMMARY" || true; fi
exit 5
