"""What a stranger's report can do in the comment that the workflow posts: be read."""

import html
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from trtgate.judge.interval import Interval
from trtgate.judge.verdict import Decision, Verdict
from trtgate.report import markdown
from trtgate.report.sheet import Entry, Sheet

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def commented(tmp_path):
    """What the workflow makes of a report: the comment's text, and the HTML of any reader of Markdown."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/gate-comment.yml").read_text())
    (script,) = (step["run"] for step in workflow["jobs"]["comment"]["steps"] if step.get("name") == "Comment")
    command = re.search(r"head -c 60000.*?> safe\.md\n", script, re.DOTALL)[0]

    def comment(report):
        (tmp_path / "report").mkdir(exist_ok=True)
        (tmp_path / "report/gate.md").write_text(report)
        subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, check=True)
        text = (tmp_path / "safe.md").read_text()
        return text, MarkdownIt("commonmark").enable("table").render(text)

    return comment


def test_a_hostile_report_is_only_text_in_the_comment(commented):
    hostile = "@everyone ![x](http://evil/?a) <img src=x> [log in](https://evil) <details><summary>9 same</summary>\n"
    text, shown = commented(hostile)
    assert "@" not in text
    assert "://" not in text
    assert "[" not in text
    assert "<img" not in text
    assert "<details><summary>9 same</summary>" in text  # what our own reports are made of
    assert not re.search(r"<(a|img)\b", shown)


@pytest.mark.parametrize(
    "hostile",
    [
        "![x][1] and [x][1] and [1]\n\n[1]: //evil\n",
        "\\\\[x][1] \\\\\\\\[x][1]\n\n[1]: //evil\n",
        "[x]: //evil 'title'\n\n[x] ![x]\n",
        "[x](//evil) ![x](//evil) [x]( //evil )",
        "<a href=//evil>x</a> <img src=//evil> <https://evil> <x@evil.com>",
        "```mermaid\nclick A '//evil'\n```\n",
        "~~~mermaid\nclick A '//evil'\n~~~\n",
    ],
)
def test_no_way_to_write_a_link_or_an_image_makes_one(commented, hostile):
    acts = r"<(a|img|pre)\b"
    assert re.search(acts, MarkdownIt("commonmark").render(hostile))
    _, shown = commented(hostile)
    assert not re.search(acts, shown)


@pytest.mark.parametrize(
    ("hostile", "acts"),
    [
        ("www.evil.com WWW.evil.com xwww.evil.com", r"www\."),
        ("https://evil.com ftp://evil.com", "://"),
        ("@octocat @org/team a@evil.com mailto:a@evil.com", r"@[\w]"),
        ("#12 org/repo#12 x#1#2#3 GH-12 gh-12", r"#\d|GH-\d"),
        ("&#64;octocat &#119;ww.evil.com #&#49;2", r"@\w|www\.|#\d"),
    ],
)
def test_what_github_itself_makes_links_of_is_cut_in_two(commented, hostile, acts):
    assert re.search(acts, html.unescape(hostile), re.IGNORECASE)
    text, shown = commented(hostile)
    # Neither as the text is written, nor as the HTML that mentions and references are looked for in.
    assert not re.search(acts, re.sub(r"&#?\w+;", " ", text), re.IGNORECASE)
    assert not re.search(acts, html.unescape(shown), re.IGNORECASE)


def test_our_own_report_looks_the_same_in_the_comment(commented, here):
    decision = Decision(
        Verdict.SLOWER, "beyond_margin", "Slower by [2%, 4%] & <more>, `so`.", Interval(1.03, 1.02, 1.04, 0.99)
    )
    sheet = Sheet(
        "trtgate gate",
        "main",
        "head",
        "regression",
        (Entry("resnet18-eager-fp16-b8-graph", "device", decision, False),),
    )
    report = markdown.comparison(sheet)
    assert "[" in report
    _, shown = commented(report)
    assert html.unescape(shown) == html.unescape(MarkdownIt("commonmark").enable("table").render(report))
