"""Names of topics, and patterns that select several of them.

On the wire a topic name is followed by `/`: `road_layout/`, `camera/front/depth/`. ZeroMQ matches subscriptions by
prefix, and with the closing slash no topic is a prefix of another: a subscription to `camera/front/` never brings
`camera/front_left/depth/`, and what a subscription asks for is known to the publisher exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ...errors import TopicError, expected

RIG: Final = "rig"
"""Topic of the static calibration."""

HEALTH: Final = "health"
"""Topic of the state of a live runtime."""

CAMERA: Final = "camera"
"""First component of every per-camera topic."""

RESERVED: Final = frozenset({RIG, HEALTH, CAMERA})
"""Names that no output of a bundle may have."""

MAX_TOPIC_BYTES: Final = 255

ANY: Final = "*"


@lru_cache(maxsize=1024)
def check_topic(name: str) -> str:
    """Return the name of a topic if it is one.

    Raises
    ------
    TopicError
        Not `component/component/...` of letters, digits, `_`, `-` and `.`, or longer than 255 bytes in UTF-8.
    """
    if not name or not all(map(_is_component, name.split("/"))):
        raise TopicError(expected("topic", "components of letters, digits, '_', '-' and '.' joined by '/'", repr(name)))
    if len(name.encode()) > MAX_TOPIC_BYTES:
        raise TopicError(expected("topic", f"at most {MAX_TOPIC_BYTES} bytes", f"{len(name.encode())}"))
    return name


def topic_part(name: str) -> bytes:
    """First part of a message on this topic: the name and a closing slash, UTF-8."""
    return f"{name}/".encode()


def camera_topic(camera: str, output: str) -> str:
    """Topic of one output of one camera."""
    return f"{CAMERA}/{camera}/{output}"


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """Which topics are meant.

    A component `*` stands for any one component; as the last component it stands for all that follow. `*` alone is
    every topic, `camera/*` every output of every camera, `camera/*/depth` one output of every camera. A pattern
    without `*` is one topic, exactly.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise TopicError(expected("topic", "a name or a pattern such as camera/*", "an empty text"))
        if not all(component == ANY or _is_component(component) for component in self.text.split("/")):
            must_be = "components of letters, digits, '_', '-' and '.', or '*' for a whole one, joined by '/'"
            raise TopicError(expected("topic", must_be, repr(self.text)))
        if len(self.text.encode()) > MAX_TOPIC_BYTES:
            raise TopicError(expected("topic", f"at most {MAX_TOPIC_BYTES} bytes", f"{len(self.text.encode())}"))

    @property
    def exact(self) -> bool:
        """Whether this is the name of one topic."""
        return ANY not in self.text.split("/")

    @property
    def prefix(self) -> bytes:
        """What ZeroMQ is asked for: the components before the first `*`."""
        components = self.text.split("/")
        literal = components[: components.index(ANY)] if ANY in components else components
        return "".join(f"{component}/" for component in literal).encode()

    def matches(self, topic: str) -> bool:
        """Whether a topic is meant."""
        wanted, given = self.text.split("/"), topic.split("/")
        if wanted[-1] == ANY and len(given) >= len(wanted):
            wanted, given = wanted[:-1], given[: len(wanted) - 1]
        return len(wanted) == len(given) and all(w in (ANY, g) for w, g in zip(wanted, given, strict=True))


def topic_patterns(topics: str | Iterable[str] | None) -> tuple[TopicPattern, ...]:
    """Patterns of one text or several; None is every topic."""
    if topics is None:
        return (TopicPattern(ANY),)
    texts = (topics,) if isinstance(topics, str) else tuple(topics)
    if not texts:
        raise TopicError(expected("topics", "one or more names or patterns", "none"))
    return tuple(dict.fromkeys(map(TopicPattern, texts)))


def _is_component(text: str) -> bool:
    return bool(text) and all(c.isalnum() or c in "_-." for c in text)
