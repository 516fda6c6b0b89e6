"""Prints what road layout and occupancy say. In another terminal: `octobev replay demo --publish ENDPOINT`."""

from __future__ import annotations

import contextlib
import sys

import octobev


def listen(endpoint: str) -> None:
    """Print a line for every message, for ever."""
    with octobev.Subscriber(endpoint, ["road_layout", "occupancy"]) as subscriber:
        for message in subscriber:
            if not message.valid:
                text = f"not valid: {message.reason}"
            elif message.kind == "road_layout":
                layout = message.road_layout()
                text = ", ".join(f"{name} {(layout[name] > 0.5).mean():.1%}" for name in layout.classes)
            else:
                text = f"{(message.occupancy().log_odds > 0).sum()} cells occupied"
            print(f"{message.timestamp_ns} {message.topic}: {text}", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        listen(sys.argv[1] if len(sys.argv) > 1 else "ipc:///tmp/octobev")
