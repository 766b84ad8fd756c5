import math

import pytest

from trtgate.errors import BuildError, TrtgateError, UnknownValueError
from trtgate.gate import protocol
from trtgate.gate.protocol import Failure


def test_a_message_is_one_line_and_reads_back():
    message = {"op": "sample", "name": "a\nb", "rounds": 3}
    line = protocol.encode(message)
    assert line.count(b"\n") == 1
    assert protocol.decode(line) == message


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_json_is_refused(value):
    with pytest.raises(ValueError):
        protocol.encode({"samples_s": [value]})


def test_a_line_that_is_not_an_object_is_refused():
    with pytest.raises(ValueError, match="list"):
        protocol.decode(b"[1]\n")


@pytest.mark.parametrize(
    "error",
    [BuildError("The parser refused it.", "Look."), UnknownValueError("workload", "resnet19", ["resnet18"])],
)
def test_an_error_keeps_its_class_and_both_sentences(error):
    sent = protocol.decode(protocol.encode(protocol.refusal(Failure.of(error))))
    back = Failure(**sent["error"]).raised()
    assert type(back) is type(error)
    assert (back.problem, back.fix) == (error.problem, error.fix)


def test_a_foreign_error_is_quoted_and_never_taken_for_one_of_ours():
    back = Failure.of(ZeroDivisionError("division by zero\nmore")).raised()
    assert type(back) is TrtgateError
    assert back.problem == "ZeroDivisionError: division by zero."


@pytest.mark.parametrize("kind", ["difflib", "TrtgateErrorr", "Iterable"])
def test_a_class_name_from_the_wire_only_ever_names_an_error(kind):
    assert type(Failure(kind, "What.", "Do.").raised()) is TrtgateError
