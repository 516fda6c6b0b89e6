from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from octobev.errors import EndpointError, InvalidArgument
from octobev.runtime.topics.endpoints import check_endpoint, default_endpoint


@pytest.mark.parametrize(
    "endpoint", ["ipc:///tmp/x", "tcp://127.0.0.1:5555", "tcp://localhost:*", "tcp://[::1]:80", "tcp://127.9.9.9:1"]
)
def test_safe_endpoints(endpoint: str) -> None:
    assert check_endpoint(endpoint) == endpoint


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "192.168.1.2", "[::]", "eth0", "example.org", "127.0.0.1.example"])
def test_tcp_beyond_loopback_is_refused(host: str) -> None:
    with pytest.raises(InvalidArgument, match="beyond this machine need CURVE keys on both sides"):
        check_endpoint(f"tcp://{host}:5555")
    assert check_endpoint(f"tcp://{host}:5555", encrypted=True)


@pytest.mark.parametrize("endpoint", ["", "nonsense", "udp://x:1", "ipc://", "/tmp/x"])
def test_no_endpoints(endpoint: str) -> None:
    with pytest.raises(InvalidArgument, match="endpoint must be ipc://PATH or tcp://HOST:PORT"):
        check_endpoint(endpoint)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:99999", "127.0.0.1:port", "a:b:1"])
def test_bad_tcp_addresses(address: str) -> None:
    with pytest.raises(InvalidArgument, match="tcp endpoint must be tcp://HOST:PORT"):
        check_endpoint(f"tcp://{address}")


def test_bad_ipc_paths() -> None:
    with pytest.raises(InvalidArgument, match="must be absolute"):
        check_endpoint("ipc://relative/path")
    assert check_endpoint("ipc:///" + "a" * 106)
    with pytest.raises(InvalidArgument, match="at most 107 bytes, got 108 bytes"):
        check_endpoint("ipc:///" + "a" * 107)


def test_default_endpoint_lies_in_a_private_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_endpoint() == default_endpoint() == f"ipc://{tmp_path}/octobev/topics"
    assert stat.S_IMODE((tmp_path / "octobev").stat().st_mode) == 0o700


def test_default_endpoint_without_a_runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert default_endpoint().startswith(f"ipc://{tmp_path}/octobev-")


def test_default_endpoint_refuses_a_directory_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "octobev").mkdir()
    (tmp_path / "octobev").chmod(0o755)
    with pytest.raises(EndpointError, match="your own with mode 0700, got drwxr-xr-x"):
        default_endpoint()
    (tmp_path / "octobev").rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "octobev").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EndpointError, match="your own with mode 0700, got lrwx"):
        default_endpoint()


@pytest.mark.parametrize("mode", [0o710, 0o740, 0o701, 0o770, 0o777])
def test_a_directory_that_others_may_enter_or_list_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    default_endpoint()
    (tmp_path / "octobev").chmod(mode)
    with pytest.raises(EndpointError, match="your own with mode 0700, got d"):
        default_endpoint()


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    default_endpoint()
    if os.getuid() == 0:
        os.chown(tmp_path / "octobev", 4_000_000, -1)
    else:
        monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    with pytest.raises(EndpointError, match=r"place for topics must be|directory for topics must be"):
        default_endpoint()


def test_a_link_to_a_directory_or_to_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "octobev").symlink_to(tmp_path / "nowhere")
    with pytest.raises(EndpointError, match=r"cannot make the directory|got lrwx"):
        default_endpoint()
    assert not (tmp_path / "nowhere").exists()


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "octobev").write_text("")
    with pytest.raises(
        EndpointError, match=r"cannot make the directory for topics: .*/octobev must be a folder, got a file"
    ):
        default_endpoint()


def test_a_place_where_others_could_replace_the_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o777)
    with pytest.raises(EndpointError, match=r"place for topics must be your own or root's, .* got drwxrwxrwx"):
        default_endpoint()
    tmp_path.chmod(0o1777)
    assert default_endpoint()
