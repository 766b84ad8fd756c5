"""Hooks of the suite: options, matrix, order, history and the closing table. The work is in fixtures/ and trtgate/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fixtures import building, collection, comparison, ending, history, options, summary
from fixtures.session import (  # noqa: F401 - fixtures, found by name
    STATE,
    buildable_case,
    case,
    contests,
    progress,
    recorder,
    suite,
    workshop,
)
from fixtures.session import begin as _begin
from fixtures.session import prepare as _prepare
from trtgate.errors import TrtgateError

if TYPE_CHECKING:
    from collections.abc import Generator


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what to measure."""
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, read the policy and tell the host where this machine's history is."""
    if not collection.runs_benchmarks(config):
        return
    try:
        _prepare(config)
        history.configure(config)
        comparison.configure(config)
        _begin(config)
    except TrtgateError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what the run that is to be resumed died of."""
    return (STATE.suite and STATE.suite.perils.told()) or None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case, named by the case's id."""
    collection.parametrize(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of one cell together, so that its runners are built once and closed early."""
    collection.order(config, items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """With --builders, fill the caches before the first test."""
    if (
        STATE.suite is not None
        and STATE.progress is not None
        and not (session.config.option.collectonly or session.testsfailed)
    ):
        building.ahead(STATE.suite, collection.cases_to_run(STATE.suite, session.items), STATE.progress)
    return (yield)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Note which rows nobody asked for: what else is not there is missing."""
    collection.leave_out(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show an error that is the user's to fix as its message, without a traceback."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, TrtgateError) and report.failed:
        report.longrepr = str(call.excinfo.value)
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count finished tests for the progress line, and say at once why one failed: a long run may be killed."""
    if STATE.progress is None:
        return
    if report.failed:
        STATE.progress.failed(report.nodeid, str(report.longrepr))
    if report.when == "teardown":
        STATE.progress.finished_one()


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """The progress line counts what passed; letters are left for what needs a look."""
    if STATE.progress is not None and config.option.verbose == 0 and report.when == "call" and report.passed:
        return ("passed", "", "PASSED")
    return None


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any] | None:
    """The commit that was passed in, where no git history is at hand."""
    return history.commit_info(config)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add the identity; drop what changes from minute to minute."""
    history.update_machine_info(machine_info)


def pytest_benchmark_compare_machine_info(
    config: pytest.Config, benchmarksession: Any, machine_info: Any, compared_benchmark: dict[str, Any]
) -> None:
    """Refuse a history of another machine or stack."""
    history.require_same_machine(compared_benchmark)


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Add how the run ended and the rows that are not times."""
    history.update_json(output_json)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    """Save nothing as a baseline that did not pass; turn a full disk into a message."""
    yield from ending.finish(session)


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None, None, None]:
    """The host's tables, then one table that a person can read."""
    yield from summary.show(terminalreporter)
