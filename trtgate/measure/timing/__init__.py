"""The only clock of the project: three named quantities, taken in turns.

* ``device``: GPU time between two events with the work already queued behind a spacer kernel.
* ``latency``: host clock round one inference and its synchronisation.
* ``throughput``: host seconds an inference in a burst that is queued back to back.

`measure` lets several ways to build one model take turns inside one process; a `Sampler` is one side of a gate whose
two sides live in two processes.
"""

from trtgate.measure.timing.clock import BuildStopwatch, host_clock
from trtgate.measure.timing.events import CudaTimer, DeviceTimer, timer_for
from trtgate.measure.timing.measure import Participant, Slot, Timing, measure
from trtgate.measure.timing.rounds import Certainty
from trtgate.measure.timing.samplers import Sampler, calm, require_captured

__all__ = [
    "BuildStopwatch",
    "Certainty",
    "CudaTimer",
    "DeviceTimer",
    "Participant",
    "Sampler",
    "Slot",
    "Timing",
    "calm",
    "host_clock",
    "measure",
    "require_captured",
    "timer_for",
]
