"""The loaded networks of a bundle: each ONNX file once for every set of its outputs that somebody wants."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from .bundle import Bundle
from .hooks import RunHooks
from .session import Network

KEPT: Final = 3
"""Sub-graphs of one ONNX file that stay loaded for one number of threads: those that were wanted last, or all that run,
when these are more."""

Key = tuple[str, int, frozenset[str], frozenset[str]]


class Sessions:
    """Loads networks when they are first wanted, and keeps them for when they are wanted again.

    A network is cut down to the outputs that are wanted of it, so every other set of outputs is another sub-graph, and
    another session with a copy of its weights. Entries of a manifest that are of one file share sessions. Holds at most
    :data:`KEPT` a file and number of threads (more only while more run). One caller at a time.

    Parameters
    ----------
    bundle : whose networks
    threads : of ONNX Runtime inside a run of a top-down network
    hooks : looked at by every run; None: none
    camera_threads : of ONNX Runtime for a per-camera network
    """

    def __init__(
        self, bundle: Bundle, threads: int = 1, hooks: RunHooks | None = None, camera_threads: int = 1
    ) -> None:
        self._bundle = bundle
        self._threads = threads
        self._camera_threads = camera_threads
        self._hooks = hooks
        self._loaded: dict[Key, Network] = {}  # what was wanted last stands last

    def load(
        self, network_id: str, tensors: Iterable[str], threads: int | None = None, as_levels: Collection[str] = ()
    ) -> Network:
        """Give a network that has these graph outputs and no others.

        Parameters
        ----------
        threads : of ONNX Runtime inside a run; None: as many as were given for a network of this sort
        as_levels : outputs that are to be levels, see :class:`~octobev.runtime.session.Network`

        Raises
        ------
        BundleError
            The file is not the one that the manifest pins any more, or no such network.
        """
        manifest = self._bundle.manifest
        spec = manifest.networks[network_id]
        variant = spec.variants.get(self._bundle.variant)
        if threads is None:
            threads = self._camera_threads if network_id in manifest.camera_networks else self._threads
        outputs = list(dict.fromkeys(tensors))
        key = (spec.sha256 if variant is None else variant.sha256, threads, frozenset(outputs), frozenset(as_levels))
        network = self._loaded.pop(key, None)
        if network is None:
            network = Network(
                self._bundle.model_bytes(network_id),
                name=network_id,
                outputs=outputs,
                providers=self._bundle.providers,
                threads=threads,
                graph_optimization=manifest.runtime.graph_optimization,
                hooks=self._hooks,
                as_levels=as_levels,
            )
        self._loaded[key] = network
        return network

    def trim(self, running: Collection[Network]) -> None:
        """Let go of what was wanted longest ago, beyond what runs and :data:`KEPT`."""
        files: dict[tuple[str, int], list[Key]] = {}
        for key in self._loaded:
            files.setdefault(key[:2], []).append(key)
        for keys in files.values():
            idle = [key for key in keys if self._loaded[key] not in running]
            for key in idle[: max(len(keys) - KEPT, 0)]:
                del self._loaded[key]
