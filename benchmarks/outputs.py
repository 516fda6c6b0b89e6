"""What asking for few outputs saves: a step for all outputs of the reference bundle against steps for one each.

    python benchmarks/outputs.py

Decoded frames; all choices in turns in one process, medians. A ratio below 1 is time that is not spent.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from octobev.bench.material import Material
from octobev.bench.spread import take_turns
from octobev.bench.stepping import stepping

ROUNDS = 15


def main() -> None:
    """Run and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        material = Material(Path(folder))
        choices = {"all": None} | {name: (name,) for name in material.bundle.plan().outputs}
        runtimes = {name: material.runtime(outputs=outputs) for name, outputs in choices.items()}
        sides = {name: stepping(runtime, material.frame_sets()) for name, runtime in runtimes.items()}
        turns = take_turns(sides, ROUNDS)
    print(f"{len(material.rig)} cameras, {material.threads} threads, {ROUNDS} rounds, {material.bundle.variant}")
    print(f"{'outputs':20} {'ms':>8} {'of all':>7}")
    for name, runtime in runtimes.items():
        runtime.close()
        print(f"{name:20} {turns[name].median:8.1f} {turns.ratio(name, 'all').median:7.2f}")


if __name__ == "__main__":
    main()
