"""`octobev bench`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer


def bench(
    quick: Annotated[
        bool, typer.Option(help="Fewer rounds, less than a minute: a look, nothing for the record.")
    ] = False,
    only: Annotated[
        str | None, typer.Option(metavar="KEY,...", help="Only these rows; keys as the table shows them.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of everything that is measured, peers too.")] = 2,
    details: Annotated[bool, typer.Option(help="Under each row what it is made of.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, a key for each row.")] = False,
) -> None:
    """Measure this machine: the runtime beside what one would use or write instead, each figure with its bar.

    Sides of a row run in turns (A B A B) and ratios are those of neighbouring runs: medians, quartiles in brackets.
    docs/performance.md says what each row compares. Peers that are not installed are skipped:
    `pip install 'octobev[bench]'`. A profile of this machine (`octobev bundle tune`) does not count.

    Exit codes: 0 measured, whether bars are met or not; 1 a row could not be measured; 2 wrong usage.
    """
    from ..bench import report
    from ..bench.material import Material
    from ..bench.runner import choose, run_rows
    from ..bench.table import ROWS
    from ..runtime.profile import ENVIRONMENT, OFF

    os.environ[ENVIRONMENT] = OFF  # in the processes that rows start, too
    rows = choose(ROWS, None if only is None else [key.strip() for key in only.split(",")])
    header = report.machine(threads)
    if not as_json:
        print("\n".join(report.header_lines(header)), flush=True)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="octobev-bench-") as folder:
        material = Material(Path(folder), quick=quick, threads=threads)
        measured = run_rows(rows, material)
        for number, row in enumerate(rows):
            _progress(f"[{number + 1}/{len(rows)}] {row.key}", as_json)
            outcome = next(measured)
            outcomes.append(outcome)
            if not as_json:
                _progress("", as_json)
                print(report.row_line(outcome), flush=True)
                for line in report.detail_lines(outcome) if details else ():
                    print(f"    {line}", flush=True)
    if as_json:
        print(json.dumps(report.report(header, outcomes, quick=quick)))
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(1)


def _progress(text: str, as_json: bool) -> None:
    """Show what is measured now: in place in a terminal; line by line where stderr is a file and stdout is JSON."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif as_json and text:
        print(text, file=sys.stderr, flush=True)
