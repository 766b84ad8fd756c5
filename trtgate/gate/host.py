"""What a worker holds: the side's built cases and their samplers."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from trtgate.backends import cuda_device, trt_runtime
from trtgate.backends import registry as backends
from trtgate.backends.base import BuildContext, Runner
from trtgate.case import Case, Execution, Quantity
from trtgate.errors import (
    BackendAbsentError,
    InspectionError,
    TrtgateError,
    UnknownValueError,
    UnsupportedCaseError,
    UsageError,
)
from trtgate.gate.cores import share_of_the_cores
from trtgate.gate.injection import Lengthened
from trtgate.gate.problem import shapes_of
from trtgate.measure import compute_share
from trtgate.measure import device as devices
from trtgate.measure import parity as parity_of
from trtgate.measure.inspect_case import inspect_case
from trtgate.measure.kept_reference import kept_reference
from trtgate.measure.memory import measure_build
from trtgate.measure.placement import on_stream, place
from trtgate.measure.timing import BuildStopwatch, Sampler
from trtgate.policy import MeasureSettings, ParitySettings
from trtgate.policy.calibration import CalibrationSettings
from trtgate.policy.section import Section
from trtgate.precision import tf32
from trtgate.precision.calibration import CalibrationSpec
from trtgate.workloads import registry as workloads
from trtgate.workloads.base import Workload

_TIMING_SEED = 0


_Section = TypeVar("_Section", bound=Section)


def _settings(kind: type[_Section], told: dict[str, Any]) -> _Section:
    """The gate is the head's: it may be newer than this side and send keys that mean nothing here."""
    return kind.model_validate({key: value for key, value in told.items() if key in kind.model_fields})


@dataclass(slots=True)
class _Entry:
    """One built case, under the name that the gate gave it."""

    case: Case
    runner: Runner
    samplers: dict[Quantity, Sampler] = field(default_factory=dict)


class Host:
    """Builds, checks and samples cases of one side on one device.

    Args:
        device: ``cuda`` or ``cpu``.
        cache: folder for engines, this side's and this build's alone, so that no side runs what the other built.
        shared: folder for what does not depend on the build: trained weights and datasets.
        measure: fields of `MeasureSettings`, equal on both sides.
        parity: fields of `ParitySettings`.
        calibration: fields of `CalibrationSettings`.
        provers: processes that build and prove their cases at the same time on this machine.
    """

    def __init__(
        self,
        device: str,
        cache: Path,
        shared: Path,
        measure: dict[str, Any],
        parity: dict[str, Any],
        calibration: dict[str, Any],
        provers: int = 1,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise BackendAbsentError(
                f"torch {torch.__version__} sees no CUDA device.", "Run 'trtgate doctor', or gate with '--device cpu'."
            )
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream() if device == "cuda" else None  # type: ignore[no-untyped-call]
        self._cache = cache
        self._shared = shared
        self._measure = _settings(MeasureSettings, measure)
        self._parity = _settings(ParitySettings, parity)
        self._calibration = CalibrationSpec.of(_settings(CalibrationSettings, calibration))
        self._entries: dict[str, _Entry] = {}
        self._inners: dict[str, Runner] = {}  # by case id, what its lengthened runners share
        self._last_workload: Workload | None = None
        self._monitor = devices.Monitor(self._device)
        self._provers = provers

    def describe(self) -> dict[str, Any]:
        """Machine and stack of this side, and the workloads that its code registers."""
        return {"identity": devices.identity().model_dump(mode="json"), "workloads": workloads.known().to_json()}

    def survey(self, cases: list[str]) -> dict[str, Any]:
        """What this side can run.

        Returns:
            ``cases``: by id why not, empty where it can; ``broken_tensorrt``: why a TensorRT that is installed here
            cannot be used, empty where it can or is absent.
        """
        broken = trt_runtime.broken(cuda=self._device.type == "cuda")
        return {"cases": {text: self._why_not(text) for text in cases}, "broken_tensorrt": broken}

    def build(self, name: str, case: str, busy: int | None = None) -> dict[str, Any]:
        """Build a case, bind its inputs and run it once.

        Args:
            name: what later requests call it.
            case: the case's id.
            busy: lengthen every inference by a busy kernel of so many units; None leaves the runner as it is.

        Returns:
            Build stages in seconds, sizes in bytes, and what is known of the optimised model.
        """
        # On a CPU a backend keeps the number of threads that it was built with, and is timed with it.
        with share_of_the_cores(1 if self._device.type == "cpu" else self._provers):
            return self._build(name, case, busy)

    def _build(self, name: str, case: str, busy: int | None) -> dict[str, Any]:
        self.drop([name])
        parsed = Case.parse(case)
        workload = self._workload(parsed)
        stopwatch = BuildStopwatch()
        context = self._context(stopwatch)
        inputs = workload.inputs(parsed.batch, parsed.sequence, _TIMING_SEED)
        backend = backends.get(parsed.backend)
        backend.require_available()

        def make() -> Runner:
            if busy is None:
                return backend.build(workload, parsed, context)
            if case not in self._inners:
                stream_case = parsed.built_by(parsed.backend, Execution.STREAM)
                self._inners[case] = backend.build(workload, stream_case, context)
            return Lengthened(self._inners[case], parsed, busy, self._stream)

        with tf32.scope(parsed.precision), devices.Monitor(self._device) as watch:
            runner, footprint = measure_build(make, inputs, context, watch)
        self._entries[name] = _Entry(parsed, runner)
        facts = runner.facts
        return {
            "stages_s": dict(stopwatch.seconds),
            "plan_bytes": facts.plan_bytes,
            "device_memory_bytes": facts.device_memory_bytes,
            "footprint_bytes": footprint.total_bytes,
            "footprint": footprint.as_facts(),
            "neighbours": watch.environment().neighbours,
            "gpu_ids": sorted(watch.own_ids),
            "from_cache": facts.from_cache,
            "captured": facts.captured,
            "shapes": shapes_of(workload, inputs, runner.outputs()),
        }

    def parity(self, name: str) -> dict[str, Any]:
        """Compare the outputs of a built case with the reference: the fields of `trtgate.record.Parity`."""
        entry = self._entry(name)
        workload = self._workload(entry.case)
        context = self._context(BuildStopwatch())
        with tf32.scope(entry.case.precision), share_of_the_cores(self._provers):
            reference = kept_reference(workload, entry.case, self._parity, context)
            found = parity_of.compare(entry.runner, reference, self._parity, entry.case, workload, context)
            # Timing uses one fixed batch, whatever the comparison bound last.
            inputs = workload.inputs(entry.case.batch, entry.case.sequence, _TIMING_SEED)
            with on_stream(context):
                entry.runner.bind(place(inputs, context))
        entry.samplers.clear()
        return found.model_dump(mode="json")

    def census(self, name: str) -> dict[str, Any]:
        """What the optimiser made of a case: ``facts``, or None and the ``reason`` why nobody can tell.

        ``unsupported`` says whether the backend has no layers to tell of, rather than failing to tell.
        """
        entry = self._entry(name)
        try:
            with tf32.scope(entry.case.precision):
                context = self._context(BuildStopwatch())
                found = inspect_case(self._workload(entry.case), entry.case, context, runner=entry.runner)
        except (UnsupportedCaseError, InspectionError) as error:
            return {"facts": None, "reason": str(error), "unsupported": isinstance(error, UnsupportedCaseError)}
        told = compute_share.facts(found.census)
        return {"facts": told | ({"coverage": found.coverage} if found.coverage else {}), "reason": ""}

    def warm_up(self, name: str, quantity: str) -> dict[str, Any]:
        """Run a case until its times are steady."""
        entry = self._entry(name)
        sampler = self._sampler(entry, Quantity(quantity))
        with tf32.scope(entry.case.precision):
            sampler.warm_up()
        return {}

    def sample(self, name: str, quantity: str, rounds: int) -> dict[str, Any]:
        """Take one block of samples.

        Returns:
            ``samples_s``: seconds an inference, ``rounds`` of them; ``throttled``: why they are worthless, empty where
            they are not; ``host_bound``: whether device time includes waiting for the host.
        """
        entry = self._entry(name)
        sampler = self._sampler(entry, Quantity(quantity))
        with tf32.scope(entry.case.precision):
            self._monitor.look()  # what happened while the other side had its turn is not this block's
            samples_s = sampler.sample_block(rounds)
            reasons = self._monitor.look()
        return {"samples_s": list(samples_s), "throttled": list(reasons), "host_bound": sampler.host_bound}

    def environment(self, family: list[int]) -> dict[str, Any]:
        """State of the device since the start: the fields of `trtgate.record.Environment`.

        Args:
            family: process ids of the other workers and of the gate, which are no strangers on the GPU.
        """
        return self._monitor.environment(family=family).model_dump(mode="json")

    def drop(self, names: list[str]) -> dict[str, Any]:
        """Close built cases and give their memory back; unknown names are none of this worker's."""
        for name in names:
            entry = self._entries.pop(name, None)
            if entry is not None:
                entry.samplers.clear()
                entry.runner.close()
        used = {entry.case.id for entry in self._entries.values() if isinstance(entry.runner, Lengthened)}
        for case in self._inners.keys() - used:
            self._inners.pop(case).close()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return {}

    def close(self) -> None:
        """Drop everything."""
        self.drop(list(self._entries))

    def is_lost(self) -> bool:
        """Whether the GPU context is broken for good."""
        return cuda_device.is_lost()

    def _context(self, stopwatch: BuildStopwatch) -> BuildContext:
        return BuildContext(self._device, self._stream, self._cache, stopwatch, self._calibration)

    def _workload(self, case: Case) -> Workload:
        """The case's workload, the same object at every call in a row: making one fills and digests all its weights."""
        if self._last_workload is None or self._last_workload.name != case.workload:
            self._last_workload = workloads.get(case.workload, cache=self._shared)
        return self._last_workload

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise UsageError(f"The worker has not built '{name}'.", "Send 'build' first.")
        return entry

    def _sampler(self, entry: _Entry, quantity: Quantity) -> Sampler:
        if quantity not in entry.samplers:
            entry.samplers[quantity] = Sampler(
                entry.runner,
                quantity,
                self._measure,
                self._context(BuildStopwatch()),
                entry.case.l2,
                entry.case.execution,
                name=entry.case.id,
            )
        return entry.samplers[quantity]

    def _why_not(self, text: str) -> str:
        try:
            case = Case.parse(text)
            if case.workload not in workloads.names():
                raise UnknownValueError("workload", case.workload, workloads.names())
            backend = backends.get(case.backend)
            answer = backend.availability() and backend.supports(case)
        except TrtgateError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a tree that breaks one backend must not hide the other cases
            return f"{type(error).__name__}: {error}"
        return "" if answer else answer.reason or "The backend refuses the case."
