"""One side's place in one pair of processes: a worker that is renewed when it dies, and what became of its cases."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtgate.errors import StorageError, TrtgateError, UsageError
from trtgate.gate.client import Worker, WorkerLostError, side_environment
from trtgate.gate.sides import Side, SideError, own_root
from trtgate.gate.station import Station
from trtgate.workloads.known import Known

# What the same code makes the same each time: ONNX files, calibrated models, the extension that calibrates them, and
# what outputs are held to.
_SHARED_BY_BUILDS = ("onnx", "quantised", "torch_extensions", "references")
_START_LIMIT_S = 300.0  # importing torch takes 4 s on a quiet machine; a cold network disk takes minutes


@dataclass(frozen=True, slots=True)
class Build:
    """A runner that a member has to build.

    Attributes:
        name: what requests call it.
        case: case id.
        busy: units of injected work, None for the runner as its backend makes it.
    """

    name: str
    case: str
    busy: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Samples of one turn.

    Attributes:
        samples_s: seconds an inference.
        throttled: why the GPU's clocks make the block worthless; empty where they do not.
        host_bound: whether device time includes waiting for the host.
    """

    samples_s: tuple[float, ...]
    throttled: tuple[str, ...]
    host_bound: bool


@dataclass(slots=True)
class Member:
    """One side in one pair.

    Attributes:
        role: ``base``, ``head``, or ``twin``: the second process of the base side, for the A/A arm.
        side: whose code it runs.
        pair: number of the pair.
        generation: which of the rotating engine builds it uses.
        station: set-up of the workers.
        facts: by runner name, what its build reported.
        failures: by runner name, why it can no longer be measured in this pair.
        identity: machine and stack, once it has started.
        workloads: what its code registers, once it has started.
        broken_tensorrt: why the TensorRT of this side cannot be used although it is installed; known once surveyed.
    """

    role: str
    side: Side
    pair: int
    generation: int
    station: Station
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, TrtgateError] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    workloads: Known = field(default_factory=lambda: Known.from_json(None))
    broken_tensorrt: str = ""
    _worker: Worker | None = None
    _builds: dict[str, Build] = field(default_factory=dict)
    _live: set[str] = field(default_factory=set)
    _gone: TrtgateError | None = None

    def open(self) -> None:
        """Start the worker.

        Raises:
            SideError: its code cannot be imported, or is not the side's own.
        """
        environment = side_environment(self.side.import_path, {}, inherit_path=self.side.tree is not None)
        folder = self.side.tree or self.station.logs
        log = self.station.logs / f"{self.role}-pair{self.pair}.log"
        self._live.clear()
        try:
            self._worker = Worker(self.role, self.side.python, environment, folder, log)
            self._check_origin(self._worker.greet(_START_LIMIT_S))
            described = self._worker.call(
                "start",
                _START_LIMIT_S,
                device=self.station.device,
                cache=str(self._cache()),
                shared=str(self.station.shared),
                measure=dict(self.station.measure),
                parity=dict(self.station.parity),
                calibration=dict(self.station.calibration),
                provers=self.station.provers,
            )
        except WorkerLostError as error:
            self.close()
            raise SideError(
                f"The {self.side.label} side ({self.side.spec}) does not start: {error.problem}", error.fix
            ) from None
        except TrtgateError as error:
            self.close()
            if type(error) is TrtgateError:  # an error that trtgate has no name for: the side's own code raised it
                raise SideError(
                    f"The {self.side.label} side ({self.side.spec}) fails: {error.problem}", error.fix
                ) from None
            raise
        self.identity = described["identity"]
        self.workloads = Known.from_json(described.get("workloads"))  # an older worker tells nothing of them

    def survey(self, cases: Iterable[str]) -> dict[str, str]:
        """Why the side cannot run each case; empty where it can. Sets `broken_tensorrt`."""
        answer = self._require().call("survey", self.station.timeout_s, cases=list(cases))
        self.broken_tensorrt = answer.get("broken_tensorrt", "")  # an older worker does not tell
        reasons: dict[str, str] = answer["cases"]
        return reasons

    def check_imports(self, others: Iterable[Path]) -> None:
        """Make sure that nothing it has imported so far is another side's code.

        Args:
            others: folders of the other sides, and of the checkout that the gate was started in.

        Raises:
            SideError: a module lies there, so that both sides would run the same code.
        """
        if self.side.tree is None or self._worker is None:
            return
        own = [self.side.tree.resolve()]
        if not self.side.has_own_trtgate:
            own.append(own_root() / "trtgate")
        roots = [str(folder) for folder in {other.resolve() for other in others} - set(own)]
        try:
            answer = self._worker.call("origins", _START_LIMIT_S, roots=roots, own=list(map(str, own)))
        except UsageError:
            return  # an older worker does not know the question
        if foreign := answer["foreign"]:
            module, file = next(iter(foreign.items()))
            raise SideError(
                f"The worker of the {self.side.label} side imported {module} from {file}, not from {self.side.tree}.",
                "Put the package at the root of the tree or in src/, or name an environment of its own with 'env:'.",
            )

    def build(self, builds: Iterable[Build]) -> None:
        """Build runners one after the other; what fails is noted in `failures` and the rest go on."""
        for build in builds:
            self._builds[build.name] = build
            facts = self._ask("build", build.name, case=build.case, busy=build.busy)
            if facts is not None:
                self.facts[build.name] = facts
                self._live.add(build.name)

    def parity(self, name: str) -> dict[str, Any] | None:
        """Compare a runner's outputs with the reference; None when that failed."""
        return self._ask("parity", name)

    def census(self, name: str) -> dict[str, Any] | None:
        """What the optimiser made of a case: ``facts`` and ``reason``; None when the worker failed."""
        return self._ask("census", name)

    def warm_up(self, name: str, quantity: str) -> bool:
        """Run until steady; False when that failed."""
        return self._ask("warm_up", name, quantity=quantity) is not None

    def sample(self, name: str, quantity: str, rounds: int) -> Block | None:
        """One block of samples; None when that failed."""
        answer = self._ask("sample", name, quantity=quantity, rounds=rounds)
        if answer is None:
            return None
        return Block(tuple(answer["samples_s"]), tuple(answer["throttled"]), answer["host_bound"])

    def environment(self, family: Iterable[int]) -> dict[str, Any] | None:
        """State of the device as this member saw it; None where its worker is gone."""
        try:
            return (
                None if self._worker is None else self._worker.call("environment", _START_LIMIT_S, family=list(family))
            )
        except TrtgateError:
            return None  # what was measured stands; only the note on the machine's state is missing

    @property
    def pid(self) -> int | None:
        """Process id of the live worker."""
        return self._worker.pid if self._worker is not None else None

    def drop(self, names: Iterable[str]) -> None:
        """Close runners that are not needed any more."""
        dropped = [name for name in names if self._builds.pop(name, None) is not None and name in self._live]
        self._live.difference_update(dropped)
        if self._worker is None or not dropped:
            return
        try:
            self._worker.call("drop", self.station.timeout_s, names=dropped)
        except TrtgateError:
            self.close()  # a worker that cannot even close a runner is renewed by the next request

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def discard(self) -> None:
        """Remove the files of this generation's builds; what stays behind after an error goes with the whole cache."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self.station.cache / self.role / f"build{self.generation}"

    def _cache(self) -> Path:
        """The folder of this generation's builds; what knows no luck and takes long is made once a side, for all roles.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in _SHARED_BY_BUILDS:
                kept, link = self.station.cache / f"of-{self.side.label}" / name, self._folder / name
                kept.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):  # of an earlier process of this generation
                    link.symlink_to(kept.absolute(), target_is_directory=True)
        except OSError as error:
            raise StorageError(
                f"{self._folder} cannot be made ({error.strerror}).", "Name a writable folder with --cache."
            ) from None
        return self._folder

    def _ask(self, op: str, name: str, **fields: Any) -> dict[str, Any] | None:
        """Send a request about one runner; on failure note why. A worker that died is renewed by the next request."""
        if name in self.failures:
            return None
        try:
            worker = self._require()
            if op != "build" and name not in self._live:
                self._send_build(worker, self._builds[name])  # lost with an earlier worker
            answer = worker.call(op, self.station.timeout_s, name=name, **fields)
        except WorkerLostError as error:
            self.failures[name] = error
            self._worker = None
        except TrtgateError as error:
            self.failures[name] = error
        else:
            return answer
        return None

    def _send_build(self, worker: Worker, build: Build) -> dict[str, Any]:
        answer = worker.call("build", self.station.timeout_s, name=build.name, case=build.case, busy=build.busy)
        self._live.add(build.name)
        return answer

    def _require(self) -> Worker:
        """The live worker, or a new one in its place; a side that cannot start again is given up."""
        if self._gone is not None:
            raise self._gone
        if self._worker is None:
            try:
                self.open()
            except TrtgateError as error:
                self._gone = error
                raise
        assert self._worker is not None
        return self._worker

    def _check_origin(self, greeting: Mapping[str, Any]) -> None:
        root = Path(str(greeting.get("root")))
        tree = self.side.tree
        if tree is not None and self.side.has_own_trtgate and root not in (tree, tree / "src"):
            self.close()
            raise SideError(
                f"The worker of the {self.side.label} side imported trtgate from {root}, not from {tree}.",
                "Remove what puts another trtgate first on the import path (a sitecustomize, an import hook).",
            )
