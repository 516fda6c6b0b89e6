"""One ONNX Runtime network: loaded from bytes, cut down to the wanted outputs, run on bound buffers."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import BundleError, InvalidArgument, NetworkError, expected
from ..fusion.levels import Levels
from .hooks import RunHooks
from .input_levels import input_levels
from .manifest import Provider, RuntimeOptions
from .output_levels import give_levels
from .subgraph import keep_outputs, parse_model

_LEVELS: Final = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_DTYPES: Final[dict[str, Any]] = {
    "float": np.float32,
    "float16": np.float16,
    "double": np.float64,
    "bool": np.bool_,
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}").type for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_ONLY_EXCEPTIONS: Final = 4  # ORT's log severity "fatal": an error is raised, not also printed
_DEFAULTS: Final = RuntimeOptions()
_OPEN: Final[weakref.WeakSet[ort.InferenceSession]] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, type and shape of a graph input or output; sizes that are not fixed are names or None.

    levels : what the graph takes the levels of a uint8 input for, where it says so; what those of an output stand for
        that is given as levels
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    levels: Levels | None = None

    def admits(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape can be this tensor."""
        return len(shape) == len(self.shape) and all(
            not isinstance(own, int) or own == other for own, other in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype.name} [{sizes}]"


class Network:
    """An ONNX model in an ONNX Runtime session.

    Parameters
    ----------
    model : the bytes of a single-file ONNX model
    name : for messages
    outputs : the graph outputs that are wanted, in this order; what only others need is not loaded. None: all.
    providers : execution providers in order of preference
    threads : of ONNX Runtime inside one run; its threads do not spin
    graph_optimization : disabled, basic, extended or all
    profile_prefix : path prefix of a profile to be written, see :meth:`end_profiling`
    hooks : looked at by every run; None: none
    as_levels : outputs that are to be uint8 levels where the graph makes numbers of levels in the end; they are then
        said to be so, and have :attr:`TensorSpec.levels`

    Attributes
    ----------
    threads : of ONNX Runtime inside one run
    ran : whether it ever ran; the first run takes longer, as it takes memory

    Raises
    ------
    BundleError
        The model cannot be loaded, has no such output, or needs a provider that this ONNX Runtime does not have.
    """

    def __init__(
        self,
        model: bytes,
        *,
        name: str,
        outputs: Sequence[str] | None = None,
        providers: Sequence[Provider] = _DEFAULTS.providers,
        threads: int = 1,
        graph_optimization: str = _DEFAULTS.graph_optimization,
        profile_prefix: str | None = None,
        hooks: RunHooks | None = None,
        as_levels: Collection[str] = (),
    ) -> None:
        self.name = name
        self.threads = threads
        parsed = parse_model(model, name)
        if outputs is not None and list(outputs) != [value.name for value in parsed.graph.output]:
            keep_outputs(parsed, outputs, name)
            model = parsed.SerializeToString()
        if given := give_levels(parsed, as_levels):
            model = parsed.SerializeToString()
        levels = input_levels(parsed)
        del parsed
        options = _session_options(threads, graph_optimization, profile_prefix)
        self._session = _load(model, name, options, providers)
        self._hooks = RunHooks() if hooks is None else hooks
        self.ran = False
        inputs = _tensor_specs(self._session.get_inputs, name)
        self.input_specs = {key: replace(spec, levels=levels.get(key)) for key, spec in inputs.items()}
        outputs_of = _tensor_specs(self._session.get_outputs, name)
        self.output_specs = {key: replace(spec, levels=given.get(key)) for key, spec in outputs_of.items()}

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the execution providers in use, in order; the CPU always stands last."""
        return tuple(self._session.get_providers())

    def bind(
        self,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
        *,
        network_id: str | None = None,
        cameras: Sequence[str] = (),
    ) -> Binding:
        """Tie inputs and outputs to arrays that every run reads and writes in place.

        Several bindings of one network may run at the same time, each on one thread.

        Parameters
        ----------
        inputs : every graph input -> C-contiguous array, borrowed and kept alive by the binding
        outputs : graph output -> C-contiguous writable array, the same; outputs left out, such as those whose shape is
            known only after a run, are allocated anew by each run
        network_id : the entry of a manifest that the binding belongs to, for those who tamper; None: :attr:`name`
        cameras : whose images are bound, for the same

        Raises
        ------
        InvalidArgument
            A name, type, shape or memory layout that does not fit.
        """
        if missing := sorted(set(self.input_specs) - set(inputs)):
            raise InvalidArgument(expected(f"network {self.name}: bound inputs", "all", f"none for {missing[0]}"))
        _check_arrays(f"network {self.name}: input", inputs, self.input_specs, writeable=False)
        _check_arrays(f"network {self.name}: output", outputs, self.output_specs, writeable=True)
        owner = self.name if network_id is None else network_id
        return Binding(self, self._session, inputs, outputs, self._hooks, owner, tuple(cameras))

    def end_profiling(self) -> Path:
        """Stop profiling and return the file: Chrome trace events in JSON, one of category `Node` per executed node."""
        return Path(self._session.end_profiling())


class Binding:
    """A network tied to arrays; made by :meth:`Network.bind`. Holds the arrays and the session.

    Attributes
    ----------
    quickest_ns : wall time of the quickest run so far; infinite before the first
    """

    def __init__(
        self,
        network: Network,
        session: ort.InferenceSession,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
        hooks: RunHooks,
        network_id: str,
        cameras: tuple[str, ...],
    ) -> None:
        self._network = network
        self._session = session
        self._hooks = hooks
        self._network_id = network_id
        self._cameras = cameras
        self.quickest_ns = math.inf
        names = [value.name for value in session.get_outputs()]
        self._levels = {key: spec.levels for key, spec in network.output_specs.items() if spec.levels is not None}
        self._unbound = [key for key in names if key not in outputs]
        self._arrays = (dict(inputs), dict(outputs))  # the session holds bare pointers into them
        self._binding = session.io_binding()
        for key, array in inputs.items():
            self._binding.bind_input(key, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for key, array in outputs.items():
            self._binding.bind_output(key, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> dict[str, NDArray[Any]]:
        """Run the network once; other threads go on meanwhile.

        Returns
        -------
        Graph output -> array: the bound array, or a new one that the caller owns. Outputs that are given as levels are
        numbers, in new arrays, where somebody may have tampered with them.

        Raises
        ------
        NetworkError
            ONNX Runtime failed.
        """
        if (watch := self._hooks.watch) is not None:
            watch(self._network.name, self._arrays[0])
        self._run()
        results = dict(self._arrays[1])
        if self._unbound:
            values = self._binding.get_outputs()[len(results) :]  # in order of binding: the bound ones first
            results |= {key: value.numpy() for key, value in zip(self._unbound, values, strict=True)}
        if (tamper := self._hooks.tampers.get(self._network_id)) is not None:
            results |= {key: levels.numbers(results[key]) for key, levels in self._levels.items()}
            tamper(self._cameras, results)
        return results

    @property
    def threads(self) -> int:
        """Threads inside one run."""
        return self._network.threads

    def warm(self) -> None:
        """Run a network that never ran, unseen by hooks, so that its memory is there; what it gives means nothing."""
        if not self._network.ran:
            with contextlib.suppress(NetworkError):
                self._run()

    def _run(self) -> None:
        for key in self._unbound:  # anew each time: what the run before allocated belongs to its caller
            self._binding.bind_output(key)
        begin_ns = time.perf_counter_ns()
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime raises bare RuntimeError and a dozen types of its own
            raise NetworkError(f"network {self._network.name}: {_first_line(error)}") from error
        self.quickest_ns = min(self.quickest_ns, time.perf_counter_ns() - begin_ns)
        self._network.ran = True


def _session_options(threads: int, graph_optimization: str, profile_prefix: str | None) -> ort.SessionOptions:
    if threads < 1:
        raise InvalidArgument(expected("threads", "at least 1", threads))
    if graph_optimization not in _LEVELS:
        raise InvalidArgument(expected("graph_optimization", f"one of {', '.join(_LEVELS)}", graph_optimization))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = _LEVELS[graph_optimization]
    options.use_deterministic_compute = True
    options.log_severity_level = _ONLY_EXCEPTIONS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    return options


def _load(model: bytes, name: str, options: ort.SessionOptions, providers: Sequence[Provider]) -> ort.InferenceSession:
    available = ort.get_available_providers()
    for provider in providers:
        if provider.name not in available:
            raise BundleError(
                f"network {name}: "
                + expected("execution provider", f"one of {', '.join(available)} in this ONNX Runtime", provider.name)
            )
    chosen = [(provider.name, dict(provider.options)) for provider in providers]
    try:
        # without the fallback a provider that fails is an error, and nothing is printed on standard output
        session = ort.InferenceSession(model, options, providers=chosen, enable_fallback=0)
    except Exception as error:  # mutated models raise, among others, UnicodeDecodeError
        raise BundleError(
            f"network {name}: " + expected("model", "one that ONNX Runtime can load", _first_line(error))
        ) from error
    if refused := [provider.name for provider in providers if provider.name not in session.get_providers()]:
        must_be = "one that loads here, with its libraries and device"
        raise BundleError(f"network {name}: " + expected("execution provider", must_be, refused[0]))
    _OPEN.add(session)
    return session


def _keep_in_child() -> None:
    """Keep every session of a forked child for ever: its end would wait for threads that only the parent has."""
    for session in _OPEN:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_in_child)


def _tensor_specs(read: Callable[[], list[Any]], network: str) -> dict[str, TensorSpec]:
    try:
        return {value.name: _tensor_spec(value, network) for value in read()}
    except UnicodeDecodeError as error:
        what = f"network {network}: names in the model"
        raise BundleError(expected(what, "UTF-8", repr(error.object))) from error


def _tensor_spec(value: Any, network: str) -> TensorSpec:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _DTYPES:
        what = f"network {network}: type of {value.name}"
        raise BundleError(expected(what, f"a tensor of {', '.join(_DTYPES)}", value.type))
    return TensorSpec(value.name, np.dtype(_DTYPES[kind]), tuple(value.shape))


def _check_arrays(
    what: str, arrays: Mapping[str, NDArray[Any]], specs: Mapping[str, TensorSpec], *, writeable: bool
) -> None:
    for name, array in arrays.items():
        if name not in specs:
            raise InvalidArgument(expected(what, f"one of {', '.join(specs)}", name))
        spec = specs[name]
        if array.dtype != spec.dtype or not spec.admits(array.shape):
            raise InvalidArgument(expected(f"{what} {name}", str(spec), f"{array.dtype.name} {list(array.shape)}"))
        if not array.flags.c_contiguous or (writeable and not array.flags.writeable):
            raise InvalidArgument(expected(f"{what} {name}", "C-contiguous and writable", "another memory layout"))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
