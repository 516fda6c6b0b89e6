from __future__ import annotations

import pytest
from octobev.errors import TopicError
from octobev.runtime.topics.names import TopicPattern, check_topic, topic_part, topic_patterns


@pytest.mark.parametrize("name", ["", "/", "a/", "/a", "a//b", "a b", "a*", "x\0", "a\n"])
def test_names_that_are_no_topics(name: str) -> None:
    with pytest.raises(TopicError, match="topic must be components of letters"):
        check_topic(name)


def test_long_name() -> None:
    assert check_topic("a" * 255)
    with pytest.raises(TopicError, match="at most 255 bytes, got 256"):
        check_topic("a" * 256)


@pytest.mark.parametrize(
    ("pattern", "prefix", "matching", "others"),
    [
        ("road_layout", b"road_layout/", ["road_layout"], ["road_layout_2", "road_layout/x", "road"]),
        ("*", b"", ["rig", "camera/front/depth"], []),
        ("camera/*", b"camera/", ["camera/front/depth"], ["camera", "cameras/a/b"]),
        ("camera/front/*", b"camera/front/", ["camera/front/depth"], ["camera/front_left/depth", "camera/front"]),
        ("camera/*/depth", b"camera/", ["camera/rear/depth"], ["camera/rear/lines", "camera/depth"]),
    ],
)
def test_patterns(pattern: str, prefix: bytes, matching: list[str], others: list[str]) -> None:
    parsed = TopicPattern(pattern)
    assert parsed.prefix == prefix
    assert parsed.exact == ("*" not in pattern)
    assert [topic for topic in matching + others if parsed.matches(topic)] == matching
    assert all(topic_part(topic).startswith(prefix) for topic in matching)


def test_bad_patterns() -> None:
    for text in ("a/*b", "**", "a b"):
        with pytest.raises(TopicError, match="topic must be"):
            TopicPattern(text)
    with pytest.raises(TopicError, match="an empty text"):
        TopicPattern("")
    with pytest.raises(TopicError, match="one or more names or patterns, got none"):
        topic_patterns([])


def test_one_text_is_one_pattern() -> None:
    assert topic_patterns("rig") == (TopicPattern("rig"),)
    assert topic_patterns(None) == (TopicPattern("*"),)
    assert topic_patterns(["rig", "a", "rig"]) == (TopicPattern("rig"), TopicPattern("a"))
