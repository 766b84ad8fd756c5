#!/usr/bin/env bash
# Opens one GitHub issue a change point, unless an issue of the same title exists, open or closed:
#
#   ci/open_issues.sh nightly-report/trend.json
#
# Needs jq, and gh with GH_TOKEN and GH_REPO set. Running it twice opens nothing twice.
set -euo pipefail

trend=${1:?usage: ci/open_issues.sh TREND_JSON}
titles=$(gh issue list --state all --limit 1000 --search 'in:title "Performance change:"' --json title --jq '.[].title')

jq -c '.change_points[]' "$trend" | while read -r change; do
  title=$(jq -r '"Performance change: \(.case) \(.quantity) at \(.after[0:12]) on \(.stack)"' <<< "$change")
  if grep -Fxq -- "$title" <<< "$titles"; then
    echo "known: $title"
    continue
  fi
  body=$(jq -r '"\(.case), \(.quantity): x\(.ratio) [\(.low), \(.high)] at confidence \(.confidence).\n\n" +
    "Between commits `\(.before)` and `\(.after)`, seen in \(.runs_after) runs since. Stack: \(.stack).\n\n" +
    "`trtgate gate \(.before) \(.after) --case \(.case)` measures the two side by side."' <<< "$change")
  gh issue create --title "$title" --body "$body"
done
