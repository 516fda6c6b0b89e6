import numpy as np
import pytest
from octobev.errors import InvalidArgument, TopicTimeout
from octobev.replay.faults import ProcessFaults, parse_fault
from octobev.replay.faults.disk import FullDisk
from octobev.runtime.topics.publisher import Publisher

S = 1_000_000_000


def faults(*texts):
    return [parse_fault(text) for text in texts]


class Tampered(dict):
    """What was set on each network."""

    def __call__(self, network, tamper):
        self[network] = tamper


def test_nan_is_written_into_floating_point_arrays_while_it_holds():
    tampered = Tampered()
    process = ProcessFaults(faults("nan:topdown@1s+1s"), networks=["hydranet", "topdown"], tamper=tampered)
    process.follow(0)
    assert tampered == {}
    process.follow(S)
    outputs = {"layout": np.zeros((2, 3), np.float32), "labels": np.zeros(3, np.int64), "none": np.zeros(0, np.float32)}
    tampered["topdown"]((), outputs)
    assert np.isnan(outputs["layout"]).sum() == 1
    assert set(tampered) == {"topdown"}
    process.follow(2 * S)
    assert tampered["topdown"] is None


def test_faults_of_one_network_hold_together():
    tampered, slept = Tampered(), []
    process = ProcessFaults(
        faults("slow:net+50ms@..", "slow:*+20ms@1s", "nan:net@1s"),
        networks=["net"],
        tamper=tampered,
        sleep=slept.append,
    )
    process.follow(0)
    tampered["net"](("front",), {})
    assert slept == [0.05]
    process.follow(S)
    values = np.zeros(1, np.float32)
    tampered["net"](("front",), {"values": values})
    assert slept == [0.05, 0.05, 0.02]
    assert np.isnan(values).all()


def test_end_leaves_networks_alone():
    tampered = Tampered()
    with ProcessFaults(faults("nan:*@.."), networks=["a", "b"], tamper=tampered) as process:
        process.follow(0)
        assert all(tampered.values())
    assert tampered == {"a": None, "b": None}


def test_stalled_subscriber_subscribes_and_goes(tmp_path):
    with (
        Publisher(f"ipc://{tmp_path}/topic") as publisher,
        ProcessFaults(faults("stall-subscriber@1s+1s"), endpoint=publisher.endpoint) as process,
    ):
        process.follow(0)
        assert publisher.subscriptions == frozenset()
        process.follow(S)
        assert publisher.wait_for_subscription("road_layout", 30)
        process.follow(2 * S)
        assert process.now == ()
        assert process._stalled is None


def test_disk_is_full_while_it_holds(tmp_path):
    with open(tmp_path / "file", "wb", buffering=0) as file:
        disk = FullDisk(file)
        process = ProcessFaults(faults("full-disk@1s+1s"), disk=disk)
        process.follow(0)
        assert disk.write(b"x" * 10_000) == 10_000
        process.follow(S)
        assert disk.write(b"x" * 10_000) == 4096, "as much as fits"
        with pytest.raises(OSError, match="No space left on device"):
            disk.write(b"x")
        disk.seek(14_000)
        disk.truncate()
        assert disk.write(b"x" * 100) == 96, "what is cut off gives room"
        process.follow(2 * S)
        assert disk.write(b"x" * 10_000) == 10_000
    assert (tmp_path / "file").stat().st_size == 24_096


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("stall-subscriber@..", "fault stall-subscriber@..: predictions must be published, got not"),
        ("full-disk@3s", "fault full-disk@3s: predictions must be recorded, got not"),
    ],
)
def test_fault_of_what_is_not_there_is_refused(fault, message):
    with pytest.raises(InvalidArgument, match=message):
        ProcessFaults(faults(fault))


def test_stalled_subscriber_reads_nothing_and_others_do(tmp_path):
    """The socket of the stalled one is never asked; `TopicTimeout` of a second one shows that nothing else comes."""
    from octobev.runtime.topics.subscriber import Subscriber

    endpoint = f"ipc://{tmp_path}/topic"
    with (
        Publisher(endpoint) as publisher,
        ProcessFaults(faults("stall-subscriber@.."), endpoint=endpoint) as process,
        Subscriber(endpoint) as other,
    ):
        process.follow(0)
        assert publisher.wait_for_subscription("road_layout", 30)
        with pytest.raises(TopicTimeout):
            other.receive(0)
