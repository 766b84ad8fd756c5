import subprocess
import sys
import warnings

import pytest
import torch

from trtgate.case import Precision
from trtgate.precision import tf32


@pytest.fixture(autouse=True)
def restored():
    """Each test starts and ends with TF32 off, as torch's older interface sets it."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("before", ["highest", "high"])
def test_tf32_is_on_for_tf32_alone_and_restored(precision, before):
    torch.set_float32_matmul_precision(before)
    torch.backends.cudnn.allow_tf32 = before == "high"
    wanted = precision is Precision.TF32
    with tf32.scope(precision):
        assert tf32.enabled() == (wanted, wanted)
        # What Inductor and its caches read.
        assert torch.backends.cuda.matmul.allow_tf32 is wanted
        assert (torch.backends.cuda.matmul.fp32_precision == "tf32") is wanted
        assert torch.get_float32_matmul_precision() == ("high" if wanted else "highest")
    assert torch.get_float32_matmul_precision() == before
    assert torch.backends.cudnn.allow_tf32 is (before == "high")


def test_scopes_nest():
    with tf32.scope(Precision.FP32):
        with tf32.scope(Precision.TF32):
            assert tf32.enabled() == (True, True)
        assert tf32.enabled() == (False, False)


def test_the_switches_are_restored_after_an_error():
    with pytest.raises(KeyError), tf32.scope(Precision.TF32):
        raise KeyError
    assert tf32.enabled() == (False, False)


def test_no_warning_escapes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tf32.scope(Precision.TF32), tf32.scope(Precision.FP16):
            tf32.enabled()


def test_a_fresh_torch_with_its_own_defaults_is_accepted():
    """torch starts with TF32 on for convolutions and off for products."""
    run("with tf32.scope(Precision.FP32): assert tf32.enabled() == (False, False)")


def test_switches_set_through_the_newer_interface_are_refused():
    run(
        "torch.backends.cudnn.conv.fp32_precision = 'ieee'\n"
        "try:\n"
        "    with tf32.scope(Precision.FP32): raise SystemExit('entered')\n"
        "except MeasurementError as error: assert 'cannot say whether TF32 is on' in str(error), error"
    )


def test_switches_changed_behind_the_scope_are_seen():
    run(
        "with tf32.scope(Precision.FP32):\n"
        "    torch.backends.cuda.matmul.fp32_precision = 'tf32'\n"
        "    try: tf32.enabled()\n"
        "    except MeasurementError: pass\n"
        "    else: raise SystemExit('not seen')"
    )


def test_a_general_fp32_precision_of_tf32_does_not_leak_into_fp32():
    """With every finer switch unset, torch.backends.fp32_precision = 'tf32' would turn convolutions to TF32."""
    run(
        "torch.backends.fp32_precision = 'tf32'\n"
        "try:\n"
        "    with tf32.scope(Precision.FP32): assert tf32.enabled() == (False, False)\n"
        "except MeasurementError as error: assert 'TF32' in str(error)"
    )


def run(body: str) -> None:
    """In a process of its own: torch's two interfaces, once mixed, stay mixed."""
    program = (
        "import torch\nfrom trtgate.case import Precision\nfrom trtgate.errors import MeasurementError\n"
        f"from trtgate.precision import tf32\n{body}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
