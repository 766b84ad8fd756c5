"""JUnit XML, which every CI reads: one test case a judged quantity, one failed test a regression."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from trtgate.judge.verdict import Verdict
from trtgate.report.sheet import REGRESSIONS, Sheet

# What XML 1.0 cannot hold at all, not even escaped.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def comparison(sheet: Sheet) -> str:
    """An XML document.

    A regression is a failure, and so is a win where the policy wants wins explained. Whatever else the policy does not
    let through (inconclusive, incomparable, invalid) is an error, since a skip would show as green. Cases of the
    default matrix that cannot run on this machine are skipped.
    """
    suite = ET.Element("testsuite", name=_text(sheet.command))
    failures = errors = 0
    for entry in sheet.by_gravity:
        test = ET.SubElement(suite, "testcase", classname=f"trtgate.{_text(entry.quantity)}", name=_text(entry.case))
        if entry.passes:
            continue
        regressed = entry.decision.verdict in (*REGRESSIONS, Verdict.FASTER)  # this one does not pass
        failures, errors = failures + regressed, errors + (not regressed)
        _problem(test, "failure" if regressed else "error", entry.decision.code, entry.change, entry.decision.reason)
    for case, reason in sheet.skipped.items():
        test = ET.SubElement(suite, "testcase", classname="trtgate.skipped", name=_text(case))
        ET.SubElement(test, "skipped", message=_text(reason))
    invalid = sheet.environment is not None and not sheet.environment.verdict.compared
    if invalid or not sheet.entries:
        test = ET.SubElement(suite, "testcase", classname="trtgate", name="environment" if invalid else "comparison")
        nothing = " ".join(("Nothing was compared.", *sheet.notes))
        reason = sheet.environment.reason if sheet.environment is not None and invalid else nothing
        _problem(test, "error", sheet.outcome, "", reason)
        errors += 1
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("errors", str(errors))
    suite.set("skipped", str(len(sheet.skipped)))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _problem(test: ET.Element, kind: str, code: str, change: str, reason: str) -> None:
    problem = ET.SubElement(test, kind, type=_text(code), message=_text(f"{change} {reason}".strip()))
    problem.text = _text(reason)


def _text(value: str) -> str:
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", value)
