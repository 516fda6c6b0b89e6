"""The state in a header is that of the network or cast-out behind the topic."""

from octobev.runtime.predictions import StateStatus
from octobev.runtime.topics.encode import Stamp, encode_output
from octobev.runtime.topics.outlets import topics_of
from octobev.runtime.topics.wire import decode


def test_each_topic_tells_the_state_of_its_own_network(make_predictions):
    whole = StateStatus(True, None, 900)
    bad = StateStatus(True, None, 400, "NaN or Inf in layout of network topdown")
    predictions = make_predictions(state=whole, states={"road_layout": bad})
    said = {}
    for topic, output in topics_of(predictions).items():
        parts = encode_output(topic, output, predictions, Stamp("0" * 32, 0, 0), kind="unknown")
        said[topic] = decode(parts).header.state
    assert said["road_layout"].restored == bad.restored
    assert said["road_layout_geometry"] == said["road_layout"]
    assert (said["occupancy"].age_ns, said["occupancy"].restored) == (900, None)
