"""Files of CURVE keys: made, read, and refused when others could have read or written them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zmq
import zmq.auth
from octobev.errors import InvalidArgument, KeyFileError, MissingFile
from octobev.runtime.topics.keys import (
    allow_key,
    create_keys,
    make_directory,
    read_allowed_keys,
    read_public_key,
    read_secret_key,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_keys_are_certificates_that_only_their_owner_reads(home: Path) -> None:
    umask = os.umask(0)
    try:
        public, secret = create_keys(home, "car")
    finally:
        os.umask(umask)
    assert (public.name, secret.name) == ("car.key", "car.key_secret")
    assert (mode(home), mode(public), mode(secret)) == (0o700, 0o644, 0o600)
    pair = read_secret_key(secret)
    assert zmq.auth.load_certificate(secret) == (pair.public, pair.secret)
    assert zmq.curve_public(pair.secret) == pair.public == read_public_key(public)
    assert sorted(os.listdir(home)) == ["car.key", "car.key_secret"]
    assert pair.secret.decode() not in repr(pair)


def test_keys_are_never_overwritten(home: Path) -> None:
    public, secret = create_keys(home, "car")
    before = secret.read_bytes()
    with pytest.raises(InvalidArgument, match=r"new keys must be free: keys are never overwritten, got .*car\.key"):
        create_keys(home, "car")
    public.unlink()
    with pytest.raises(InvalidArgument, match=r"got .*car\.key_secret"):
        create_keys(home, "car")
    assert secret.read_bytes() == before


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "x.key_secret", "a\0"])
def test_names_that_no_file_may_have(home: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="name of keys must be letters, digits"):
        create_keys(home, name)


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o666])
def test_secret_keys_that_others_may_read_are_refused(home: Path, bits: int) -> None:
    _, secret = create_keys(home, "car")
    secret.chmod(bits)
    with pytest.raises(KeyFileError, match=rf"secret key file must be mode 0600, got {bits:04o} \(chmod 600 .*\)"):
        read_secret_key(secret)


@pytest.mark.parametrize("bits", [0o664, 0o646])
def test_public_keys_that_others_may_change_are_refused(home: Path, bits: int) -> None:
    public, _ = create_keys(home, "car")
    public.chmod(bits)
    with pytest.raises(KeyFileError, match=r"key file must be writable for its owner only, got 06.. \(chmod go-w .*\)"):
        read_public_key(public)


def test_keys_of_other_users_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public, secret = create_keys(home, "car")
    if os.geteuid() == 0:
        for path in (public, secret, home):
            os.chown(path, 4_000_000, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 4_000_000)
    for read, file in ((read_public_key, public), (read_secret_key, secret), (read_allowed_keys, home)):
        with pytest.raises(KeyFileError, match=r"owner of keys must be user \d+ or root, got user \d+"):
            read(file)


def test_files_that_hold_no_keys_are_refused(home: Path) -> None:
    public, secret = create_keys(home, "car")
    public.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"file must be a secret key \(\*.key_secret\), got a public key"):
        read_secret_key(public)
    with pytest.raises(KeyFileError, match=r"must be a public key \(\*.key\), got a secret one, which must stay"):
        read_public_key(secret)
    with pytest.raises(MissingFile, match="no such key file"):
        read_secret_key(home / "other")
    with pytest.raises(KeyFileError, match="key file must be a plain file, got d"):
        read_public_key(home)
    for text, reason in (
        ("", "must be a CURVE certificate with a public-key"),
        ("public-key", "must be a CURVE certificate with a public-key"),
        ('public-key = "short"', "public-key must be 40 characters of Z85, got 5 characters"),
        (f'public-key = "{"ä" * 20}"', "public-key must be 40 characters of Z85, got 40"),
        ("#" * 70_000, "must be at most 65536 bytes"),
    ):
        public.write_text(text, encoding="utf-8")
        with pytest.raises(KeyFileError, match=reason):
            read_public_key(public)


def test_a_secret_that_does_not_belong_to_its_public_key_is_refused(home: Path) -> None:
    _, secret = create_keys(home, "car")
    other = read_public_key(create_keys(home, "other")[0])
    secret.write_text(secret.read_text().replace(read_secret_key(secret).public.decode(), other.decode()))
    with pytest.raises(KeyFileError, match="public-key must be that of secret-key"):
        read_secret_key(secret)


def test_allowed_keys_are_public_keys_by_name(home: Path) -> None:
    allowed = home / "allowed"
    one, two = create_keys(home, "one"), create_keys(home, "two")
    copies = [allow_key(allowed, one[0]), allow_key(allowed, two[0], "desk")]
    assert [copy.name for copy in copies] == ["one.key", "desk.key"]
    assert (mode(allowed), mode(copies[0])) == (0o700, 0o644)
    assert read_allowed_keys(allowed) == {read_public_key(one[0]): "one", read_public_key(two[0]): "desk"}
    assert allow_key(allowed, one[0]) == copies[0]  # again is no error
    with pytest.raises(InvalidArgument, match=r"name of an allowed key must be free, got .*one.key, which is another"):
        allow_key(allowed, two[0], "one")
    with pytest.raises(KeyFileError, match="got a secret one: it must stay with its owner; make new keys if others"):
        allow_key(allowed, one[1], "three")
    with pytest.raises(MissingFile, match=r"nowhere\.key: no such file"):
        allow_key(allowed, home / "nowhere.key")
    assert len(read_allowed_keys(allowed)) == 2


def test_directories_where_others_may_put_keys_are_refused(home: Path) -> None:
    with pytest.raises(MissingFile, match=r"no such directory of keys .* `octobev keys allow` make what is needed"):
        read_allowed_keys(home)
    make_directory(home)
    assert read_allowed_keys(home) == {}
    home.chmod(0o770)
    with pytest.raises(KeyFileError, match="directory of keys must be writable for its owner only, got drwxrwx---"):
        read_allowed_keys(home)
    with pytest.raises(KeyFileError, match="whoever writes there decides who is let in"):
        create_keys(home, "car")


def test_one_bad_file_makes_a_directory_bad(home: Path) -> None:
    create_keys(home, "one")
    (home / "two.key").write_text("nonsense")
    (home / "two.key").chmod(0o644)
    with pytest.raises(KeyFileError, match=r"two\.key: file must be a CURVE certificate"):
        read_allowed_keys(home)
