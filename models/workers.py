"""Processes that draw training towns while a network already learns."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType

from ..errors import DriveError
from ..fusion.rig import Rig
from .sequences import draw_towns
from .shelf import town_path


class TownWorkers:
    """Processes that draw towns into a folder, in order; towns that are there already are kept.

    Parameters
    ----------
    folder : made if it is not there
    towns : seeds
    width, height : of the views
    processes : how many
    rigs : that drive through the towns, see :func:`.sequences.draw_sequences`
    """

    def __init__(
        self,
        folder: Path,
        towns: list[int],
        width: int,
        height: int,
        processes: int = 1,
        rigs: Sequence[Rig] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [town for town in towns if not town_path(folder, town).is_file()]
        context = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = [
            context.Process(
                target=draw_towns, args=(folder, missing[index::processes], width, height, rigs), daemon=True
            )
            for index in range(processes)
            if missing[index::processes]
        ]

    def __enter__(self) -> TownWorkers:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def wait(self) -> None:
        """Wait a little for the next town.

        Raises
        ------
        DriveError
            A worker died, or all have ended and there is nothing to wait for.
        """
        if failed := [process.exitcode for process in self._processes if process.exitcode]:
            raise DriveError(f"process that draws towns ended with exit code {failed[0]}; its message is above")
        if all(process.exitcode is not None for process in self._processes):
            raise DriveError("all towns are drawn, but a file of them is missing; was it deleted?")
        time.sleep(0.1)
