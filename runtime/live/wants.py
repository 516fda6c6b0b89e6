"""Which outputs are listened to."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ...fusion.rig import Rig
from ..bundle import Bundle
from ..references import image_output
from ..topics.names import camera_topic, topic_part
from ..topics.outlets import belief_topic, geometry_topic


def listened_to(bundle: Bundle, rig: Rig, outputs: Iterable[str], subscriptions: Collection[str]) -> frozenset[str]:
    """Outputs with a topic that somebody listens to.

    Parameters
    ----------
    outputs : those that there are topics for
    subscriptions : prefixes of `name/`, as :attr:`Publisher.subscriptions` gives them
    """
    prefixes = tuple(prefix.encode() for prefix in subscriptions)
    return frozenset(
        output
        for output in outputs
        if any(topic_part(topic).startswith(prefixes) for topic in _topics_of(bundle, rig, output))
    )


def _topics_of(bundle: Bundle, rig: Rig, output: str) -> list[str]:
    source = image_output(bundle.manifest, output)
    if source is None:
        return [output, geometry_topic(output), belief_topic(output)]
    return [camera_topic(camera, output) for camera in bundle.cameras(source[0], rig)]
