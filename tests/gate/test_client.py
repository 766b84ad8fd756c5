"""Drives real processes: small workers that speak the protocol, misbehave, or die."""

import signal
import sys
import textwrap
from pathlib import Path

import pytest

from trtgate.errors import BuildError
from trtgate.gate.client import Worker, WorkerLostError, side_environment
from trtgate.gate.sides import own_root

_GREETING = """
import json, os, signal, sys, time
def say(message): os.write(1, (json.dumps(message) + "\\n").encode())
say({"protocol": 1, "pid": os.getpid(), "root": "/", "python": "3"})
"""


@pytest.fixture
def start(tmp_path):
    workers = []

    def started(body: str, greeting: str = _GREETING) -> Worker:
        (tmp_path / "quirky_worker.py").write_text(greeting + textwrap.dedent(body))
        environment = side_environment([tmp_path, own_root()], {}, inherit_path=True)
        worker = Worker(
            "head", Path(sys.executable), environment, tmp_path, tmp_path / "logs/head.log", module="quirky_worker"
        )
        workers.append(worker)
        return worker

    yield started
    for worker in workers:
        worker.kill()


def test_replies_come_in_the_order_of_the_requests(start):
    worker = start("""
        for line in sys.stdin:
            say({"ok": True, "result": {"n": json.loads(line)["n"]}})
    """)
    worker.greet(20)
    for n in range(5):
        worker.send("count", n=n)
    assert [worker.receive(20)["n"] for _ in range(5)] == list(range(5))
    worker.close()
    assert not worker.alive


def test_an_error_of_the_worker_is_raised_by_its_class_and_the_worker_lives_on(start):
    worker = start("""
        for line in sys.stdin:
            say({"ok": False, "error": {"kind": "BuildError", "problem": "No.", "fix": "Try.", "fatal": False}})
    """)
    worker.greet(20)
    with pytest.raises(BuildError, match=r"No. Try."):
        worker.call("build", 20, case="x")
    assert worker.alive


def test_a_fatal_error_ends_the_worker(start):
    worker = start("""
        sys.stdin.readline()
        say({"ok": False, "error": {"kind": "BuildError", "problem": "No.", "fix": "Try.", "fatal": True}})
        time.sleep(60)
    """)
    worker.greet(20)
    with pytest.raises(WorkerLostError, match=r"No."):
        worker.call("build", 20, case="x")
    assert not worker.alive


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_named_by_its_signal_with_what_was_being_done(start, number):
    worker = start(f"""
        sys.stdin.readline()
        print("the last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), {int(number)})
    """)
    worker.greet(20)
    with pytest.raises(WorkerLostError, match=rf"killed by {number.name} while 'build' resnet18.*the last words"):
        worker.call("build", 20, case="resnet18")


def test_a_hang_ends_after_the_time_limit_and_takes_the_process_with_it(start):
    worker = start("time.sleep(60)")
    worker.greet(20)
    with pytest.raises(WorkerLostError, match=r"no answer for 0\.2 s"):
        worker.call("sample", 0.2, case="x")
    assert not worker.alive


def test_a_worker_of_another_protocol_is_refused(start):
    worker = start("time.sleep(60)", _GREETING.replace('"protocol": 1', '"protocol": 99'))
    with pytest.raises(WorkerLostError, match="speaks worker protocol 99, this one 1"):
        worker.greet(20)
    assert not worker.alive


def test_noise_on_the_protocol_is_refused(start):
    worker = start("""
        sys.stdin.readline()
        print("progress: 50%", flush=True)
        time.sleep(60)
    """)
    worker.greet(20)
    with pytest.raises(WorkerLostError, match="not of the protocol"):
        worker.call("sample", 20, case="x")


def test_a_module_that_cannot_be_imported_is_quoted(start):
    worker = start("", "import no_such_module_anywhere\n")
    with pytest.raises(WorkerLostError, match=r"exit code 1 while it started.*no_such_module_anywhere"):
        worker.greet(20)


def test_an_installed_environment_does_not_inherit_the_import_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert "PYTHONPATH" not in side_environment([], {}, inherit_path=False)
    assert side_environment([tmp_path], {}, inherit_path=True)["PYTHONPATH"] == f"{tmp_path}:/elsewhere"
