"""Markdown, JUnit, JSON and HTML: complete, escaped; they decide nothing."""

import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from rich.console import Console
from spans import span

from trtgate.judge.interval import Interval
from trtgate.judge.trend import ChangePoint
from trtgate.judge.verdict import Decision, Verdict
from trtgate.report import html_page, junit, markdown, sparkline, trends, verdicts
from trtgate.report.rows import Row
from trtgate.report.sheet import Entry, Sheet

_EVIL = "<script>alert(1)</script>|`*_[x](javascript:1)\x00\x1b[31m"


@pytest.fixture
def sheet():
    slower = Decision(Verdict.SLOWER, "beyond_margin", "Slower than the margin.", Interval(1.05, 1.04, 1.06, 0.99))
    entries = [
        Entry(
            "a-same", "device", Decision(Verdict.SAME, "within_margin", "Same.", Interval(1, 0.999, 1.001, 0.9)), True
        ),
        Entry("b-slower", "device", slower, False),
        Entry("c-unsure", "latency", Decision(Verdict.INCONCLUSIVE, "too_noisy", "Too noisy."), False),
        Entry("d-gone", "device", Decision(Verdict.MISSING, "vanished", "Vanished."), False),
        Entry("e-faster", "device", Decision(Verdict.FASTER, "beyond_margin", "Faster."), True),
    ]
    environment = Decision(Verdict.SAME, "aa_agrees", "Identical code looks identical.")
    return Sheet("trtgate gate", "main", "HEAD", "regression", tuple(entries), environment, "NVIDIA H100")


def test_a_comparison_puts_the_gravest_first(sheet):
    assert [entry.case for entry in sheet.by_gravity] == ["b-slower", "d-gone", "c-unsure", "e-faster", "a-same"]
    assert sheet.headline == "regression: 1 slower, 1 missing, 1 inconclusive, 1 faster, 1 same"
    text = io.StringIO()
    verdicts.show(sheet, Console(file=text, width=100))
    shown = text.getvalue()
    assert shown.index("b-slower") < shown.index("a-same")
    assert "+5.0% [+4.0%, +6.0%]" in shown
    assert "Identical code looks identical." in shown


LONGEST = "mobilenet_v3_small-tensorrt_engine-fp32-b1-graph"


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_row_of_a_comparison_is_one_line_with_its_whole_case(width):
    clear = Decision(Verdict.SLOWER, "beyond_margin", "Slower.", Interval(1.05, 1.04, 1.06, 0.99))
    sheet = Sheet("t", "a", "b", "regression", (Entry(LONGEST, "optimisation", clear, False),))
    text = io.StringIO()
    verdicts.show(sheet, Console(file=text, width=width))
    (line,) = (line for line in text.getvalue().splitlines() if line.startswith(f"{LONGEST} "))
    assert line.split() == [LONGEST, "optimisation", "slower", "+5.0%", "[+4.0%,", "+6.0%]"]
    assert len(line) <= 102  # as long as its cells need, and not as wide as the console


def test_reasons_of_a_comparison_stand_once():
    def wrong(case, quantity, why):
        return Entry(case, quantity, Decision(Verdict.INVALID, "failed_both", f"Neither ran: {case} {why}."), False)

    entries = [wrong("a-x", quantity, "is wrong") for quantity in ("device", "latency")]
    entries += [wrong(case, "build", "does not parse") for case in ("a-x", "b-x", "c-x", "d-x")]
    entries += [wrong("e-x", "parity", "does not parse")]
    text = io.StringIO()
    verdicts.show(Sheet("t", "a", "b", "invalid", tuple(entries)), Console(file=text, width=70))
    reasons = text.getvalue().split("\n\n")[1].splitlines()[:-1]
    assert reasons == [
        "4 cases, build: Neither ran: CASE does not parse. (a-x, b-x, c-x and 1",
        "    more)",
        "a-x, device, latency: Neither ran: a-x is wrong.",
        "e-x, parity: Neither ran: e-x does not parse.",
    ]


def test_an_unfit_machine_is_told_once_and_not_with_every_row():
    unfit = Decision(Verdict.INVALID, "aa_differs", "Identical code looks different.")
    entries = [Entry(case, "latency", unfit, False) for case in ("a", "b")]
    gone = Entry("c", "latency", Decision(Verdict.MISSING, "vanished", "Vanished."), False)
    sheet = Sheet("trtgate gate", "a", "b", "invalid", (*entries, gone), unfit)
    text = io.StringIO()
    verdicts.show(sheet, Console(file=text, width=100))
    for shown in (text.getvalue(), markdown.comparison(sheet)):
        assert shown.count("Identical code looks different.") == 1
        assert "Vanished." in shown
    assert "Environment: invalid. Identical code" in text.getvalue()
    assert "| `a` | latency | **invalid** |  | see Environment |" in markdown.comparison(sheet)


def test_json_holds_everything(sheet):
    data = json.loads(json.dumps(sheet.to_json(), allow_nan=False))
    assert (data["outcome"], len(data["entries"]), data["environment"]["verdict"]) == ("regression", 5, "same")
    assert data["entries"][0] | {"verdict": "slower", "ratio": 1.05, "low": 1.04, "passes": False} == data["entries"][0]


def test_junit_has_one_failure_a_regression_and_no_green_skip(sheet):
    suite = ET.fromstring(junit.comparison(sheet))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "2", "1")
    kinds = {test.get("name"): [child.tag for child in test] for test in suite}
    assert kinds == {
        "a-same": [], "e-faster": [], "b-slower": ["failure"], "d-gone": ["failure"], "c-unsure": ["error"],
    }  # fmt: skip
    assert "+5.0%" in suite.find("testcase/failure").get("message")


def test_junit_of_nothing_or_of_a_disturbed_machine_is_red(sheet):
    nothing = Sheet("trtgate gate", "a", "b", "nothing_compared", ())
    assert ET.fromstring(junit.comparison(nothing))[0].get("errors") == "1"
    invalid = Decision(Verdict.INVALID, "aa_differs", "Identical code looks different.")
    disturbed = Sheet("trtgate gate", "a", "b", "invalid", sheet.entries[:1], invalid)
    suite = ET.fromstring(junit.comparison(disturbed))[0]
    assert (suite.get("tests"), suite.get("errors")) == ("2", "1")


def test_markdown_of_a_comparison(sheet):
    text = markdown.comparison(sheet)
    assert text.startswith("### trtgate gate: regression: 1 slower")
    assert "| `b-slower` | device | **slower** | +5.0% \\[+4.0%, +6.0%\\] | Slower than the margin. |" in text
    assert text.index("b-slower") < text.index("<details>") < text.index("a-same")


def test_markdown_keeps_to_the_limit_of_a_comment_and_says_so(sheet):
    many = Sheet("t", "a", "b", "regression", sheet.entries * 500)
    text = markdown.comparison(many, limit=20_000)
    assert len(text) <= 20_000
    assert re.search(r"and \d+ more, left out for length", text)
    assert "b-slower" in text


def test_nothing_from_a_record_becomes_markup(sheet):
    evil = Sheet(_EVIL, _EVIL, _EVIL, "regression", (Entry(_EVIL, _EVIL, Decision(Verdict.NEW, "x", _EVIL), False),))
    rows = [Row(_EVIL, device_s=span(1e-3), verdict=_EVIL, note=_EVIL)]
    for text in (markdown.comparison(evil), markdown.run_table(rows, skipped=[(_EVIL, _EVIL)], machine=_EVIL)):
        outside_code = re.sub(r"`[^`]*`", "", text)
        assert "<script>" not in outside_code
        assert "](javascript" not in outside_code.replace("\\]", "")
        for line in text.splitlines():
            if line.startswith("| "):
                assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", _head_of(text, line))), line
    page = html_page.page(rows, title=_EVIL, skipped=[(_EVIL, _EVIL)], histories={_EVIL: html_page.History([1, 2])})
    assert "<script" not in page
    ET.fromstring(junit.comparison(evil))


def _head_of(text: str, line: str) -> str:
    lines = text.splitlines()
    place = lines.index(line)
    return next(
        lines[number - 1] for number in range(min(place + 1, len(lines) - 1), 0, -1) if lines[number].startswith("|---")
    )


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "polyline", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(rows):
    history = {rows[0].case: html_page.History([1.0, 1.01, 1.2, 1.21], [2])}
    page = html_page.page(rows, title="NVIDIA H100", histories=history, confidence=0.99)
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    names = [name for name, _ in tags.seen]
    assert names.count("tr") == len(rows) + 1
    assert {"polyline", "circle", "line"} <= set(names)
    assert not any(key in attributes for _, attributes in tags.seen for key in ("src", "href", "onload"))
    assert not {"script", "link", "img", "iframe"} & set(names)
    assert "prefers" in page or "light dark" in page


def test_a_sparkline_shows_the_last_run_and_every_step():
    drawn = sparkline.svg([1.0] * 500 + [1.2] * 500, [500])
    assert drawn.count('class="mark"') == 1
    points = re.search(r'points="([^"]+)"', drawn).group(1).split()
    assert len(points) <= 320
    assert re.search(r'cx="157\.0" cy="3\.0"', drawn)
    assert sparkline.svg([]) == ""
    assert "nan" not in sparkline.svg([0.0])


def test_readme_tables_have_every_time_and_what_it_means(rows):
    text = markdown.run_table(rows, machine="NVIDIA H100", confidence=0.99, skipped=[("x", "Needs a GPU.")])
    assert "**mobilenet\\_v3\\_small**" in text
    assert "| 0.213 | 0.250 | 4,695 | 3.33 \\[3.30 3.36\\]" in text
    assert "- device: what the GPU works on" in text
    assert "- 1 x Needs a GPU." in text


def test_trends_in_every_form():
    step = ChangePoint(6, "a" * 40, "b" * 40, Interval(1.2, 1.19, 1.21, 0.99), 1e-9, 6, (6, 7))
    finding = trends.Finding(
        "h100", "resnet18-eager-fp16-b8-stream", "latency", "CPU x, threads 16", step, ("a" * 40, "b" * 40)
    )
    found = trends.Trend((finding,), 2, 24, 1)
    text = io.StringIO()
    trends.show(found, Console(file=text, width=120))
    trends.show(found, Console(file=text, width=60))
    rows = [line.split() for line in text.getvalue().splitlines() if "resnet18-eager-fp16-b8-stream" in line]
    assert [row[2] for row in rows] == ["aaaaaaaaaaaa..bbbbbbbbbbbb"] * 2
    assert "+20.0% [+19.0%, +21.0%]" in text.getvalue()
    assert "1 change point in 2 histories with 24 points; 1 too short" in text.getvalue()
    assert "`aaaaaaaaaaaa..bbbbbbbbbbbb`" in trends.as_markdown(found)
    (told,) = found.to_json()["change_points"]
    assert (told["after"], told["host"]) == ("b" * 40, "CPU x, threads 16")
    assert "\nCPU x, threads 16\n" in text.getvalue()
    assert "| CPU x, threads 16 |" in trends.as_markdown(found)
    assert trends.Trend((), 2, 24, 0).headline == "No change point in 2 histories with 24 points."


def test_the_command_line_owns_no_exit_code_outside_cli():
    """Rooms return words; only cli.py may turn them into numbers."""
    done = subprocess.run(
        [
            "grep",
            "-rnE",
            r"sys\.exit|SystemExit|os\._exit|ExitCode\.",
            "trtgate/report",
            "trtgate/store",
            "trtgate/judge",
        ],
        capture_output=True,
        text=True,
        cwd=sys.modules["trtgate"].__path__[0] + "/..",
    )
    assert done.stdout == ""
