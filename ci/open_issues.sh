#!/usr/bin/env bash
# Opens one GitHub issue a change point, unless there is one for it, open or closed:
#
#   ci/open_issues.sh nightly-report/trend.json
#
# The place of a small step moves by some runs while nights are added. An issue is known if it is of the same case,
# quantity, stack, host and direction, and one of the two names a commit at which the other's step may lie.
# Needs jq, and gh with GH_TOKEN and GH_REPO set. Running it twice opens nothing twice.
set -euo pipefail

trend=${1:?usage: ci/open_issues.sh TREND_JSON}
issues=$(gh issue list --state all --limit 1000 --search 'in:title "Performance change:"' --json title,body)

jq -c '.change_points[]' "$trend" | while read -r change; do
  start=$(jq -r '"Performance change: \(.case) \(.quantity) \(if .ratio > 1 then "slower" else "faster" end) at "' <<< "$change")
  title=$start$(jq -r '"\(.after[0:12]) on \(.stack)"' <<< "$change")
  known=$(jq -r --arg start "$start" --argjson change "$change" '
    ($change.after[0:12]) as $after | ($change.candidates | map(.[0:12])) as $candidates |
    [.[] | select((.title | startswith($start)) and (.title | endswith(" on " + $change.stack))) |
      (.title | ltrimstr($start) | split(" on ")[0]) as $theirs |
      select(((.body // "") | capture("<!-- host: (?<name>[^>]*) -->").name // "") == ($change.host // "")) |
      ((.body // "") | capture("<!-- may lie at: (?<all>[^>]*) -->").all // "" | split(" ")) as $others |
      select($theirs == $after or any($candidates[]; . == $theirs) or any($others[]; . == $after)) | .title][0] // ""
    ' <<< "$issues")
  if [ -n "$known" ]; then
    echo "known: $known"
    continue
  fi
  body=$(jq -r '"\(.case), \(.quantity): x\(.ratio) [\(.low), \(.high)] at confidence \(.confidence).\n\n" +
    "Between commits `\(.before)` and `\(.after)`, seen in \(.runs_after) runs since. Stack: \(.stack)" +
    (if (.host // "") == "" then "" else "; \(.host)" end) + ".\n\n" +
    "`trtgate gate \(.before) \(.after) --case \(.case)` measures the two side by side.\n\n" +
    "<!-- may lie at: \(.candidates | map(.[0:12]) | join(" ")) -->" +
    (if (.host // "") == "" then "" else "\n<!-- host: \(.host) -->" end)' <<< "$change")
  gh issue create --title "$title" --body "$body"
done
