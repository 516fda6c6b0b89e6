"""CURVE keys in files: one's own, the publisher's, and a directory of those who may subscribe.

The files are pyzmq's certificates: `NAME.key` holds a public key, `NAME.key_secret` a public key and its secret key.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
import zmq.auth

from ...errors import InvalidArgument, KeyFileError, MissingFile, expected, unwritable
from .names import check_topic

PUBLIC_SUFFIX: Final = ".key"
SECRET_SUFFIX: Final = ".key_secret"  # noqa: S105 - the end of a file name

_LARGEST_FILE: Final = 65536
_KEY_LENGTH: Final = 40
_Z85: Final = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")


@dataclass(frozen=True, slots=True)
class PublisherKeys:
    """What a publisher needs for CURVE: who it is, and who may subscribe.

    secret : file of the publisher's own secret key, mode 0600
    allowed : directory of the public keys (`*.key`) of those who may subscribe; there is no way to allow everybody
    """

    secret: str | os.PathLike[str]
    allowed: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class SubscriberKeys:
    """What a subscriber needs for CURVE: who it is, and whom it believes.

    secret : file of the subscriber's own secret key, mode 0600
    server : file of the publisher's public key
    """

    secret: str | os.PathLike[str]
    server: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Public and secret key, 40 characters of Z85 each."""

    public: bytes
    secret: bytes = field(repr=False)


def read_secret_key(file: Path) -> KeyPair:
    """Read a secret key file.

    Raises
    ------
    MissingFile
        There is no such file.
    KeyFileError
        Others may read or write it, it is somebody else's, or it holds no pair of keys.
    """
    _check_file(file, forbidden=0o077, private=True)
    public, secret = _load(file)
    if secret is None:
        raise KeyFileError(f"{file}: " + expected("file", f"a secret key (*{SECRET_SUFFIX})", "a public key"))
    if zmq.curve_public(secret) != public:
        raise KeyFileError(f"{file}: " + expected("public-key", "that of secret-key", public.decode()))
    return KeyPair(public, secret)


def read_public_key(file: Path) -> bytes:
    """Read the public key of somebody else, 40 characters of Z85.

    Raises
    ------
    MissingFile
        There is no such file.
    KeyFileError
        Others may write to it, it is somebody else's, or it holds no key, or a secret one, which nobody gives away.
    """
    _check_file(file, forbidden=0o022, private=False)
    public, secret = _load(file)
    if secret is not None:
        raise KeyFileError(
            f"{file}: " + expected("file", f"a public key (*{PUBLIC_SUFFIX})", "a secret one, which must stay at home")
        )
    return public


def read_allowed_keys(directory: Path) -> dict[bytes, str]:
    """Read all public keys (`*.key`) of a directory: key -> name.

    Raises
    ------
    MissingFile
        There is no such directory.
    KeyFileError
        Others may write to the directory, it is somebody else's, or a file in it is not good.
    """
    check_directory(directory)
    try:
        files = sorted(file for file in directory.iterdir() if file.name.endswith(PUBLIC_SUFFIX))
    except OSError as error:
        raise KeyFileError(f"{directory}: cannot be read: {error.strerror}") from error
    return {read_public_key(file): file.name.removesuffix(PUBLIC_SUFFIX) for file in files}


def check_directory(directory: Path) -> None:
    """Raise unless a directory of keys is there, is this user's or root's, and nobody else may write to it."""
    try:
        status = directory.stat()
    except OSError as error:
        what = f"{directory}: no such directory of keys ({error.strerror})"
        raise MissingFile(f"{what}; `octobev keys new` and `octobev keys allow` make what is needed") from error
    if not stat.S_ISDIR(status.st_mode):
        raise KeyFileError(f"{directory}: " + expected("keys", "a directory", stat.filemode(status.st_mode)))
    _check_owner(directory, status)
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise KeyFileError(
            f"{directory}: "
            + expected("directory of keys", "writable for its owner only", stat.filemode(status.st_mode))
            + f" (chmod go-w {directory}): whoever writes there decides who is let in"
        )


def create_keys(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a new pair of keys: `NAME.key`, which others may have, and `NAME.key_secret` of mode 0600.

    Parameters
    ----------
    directory : made with mode 0700 if it is not there

    Returns
    -------
    The files of the public and of the secret key.

    Raises
    ------
    InvalidArgument
        Not a name, or there are keys of this name already: keys are never overwritten.
    KeyFileError
        The directory cannot be made or written to, or others may write to it.
    """
    check_name(name)
    public, secret = directory / f"{name}{PUBLIC_SUFFIX}", directory / f"{name}{SECRET_SUFFIX}"
    make_directory(directory)
    if taken := [file for file in (public, secret) if os.path.lexists(file)]:
        raise InvalidArgument(expected("name of new keys", "free: keys are never overwritten", f"{taken[0]}"))
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".new-") as private:  # mode 0700: nobody looks in
            made_public, made_secret = zmq.auth.create_certificates(private, name)
            os.chmod(made_secret, 0o600)
            os.chmod(made_public, 0o644)
            os.link(made_secret, secret)  # unlike a rename, this never replaces
            os.link(made_public, public)
    except OSError as error:
        raise KeyFileError(f"{directory}: cannot write keys: {error.strerror}") from error
    return public, secret


def allow_key(directory: Path, file: Path, name: str | None = None) -> Path:
    """Copy a public key into a directory of allowed keys, and return the copy.

    Parameters
    ----------
    directory : made with mode 0700 if it is not there
    name : of the copy; None: that of the file

    Raises
    ------
    MissingFile
        There is no such file.
    InvalidArgument
        Another key has this name.
    KeyFileError
        Not a public key, or a secret one, or the directory cannot be written to.
    """
    if not file.is_file():
        raise MissingFile(f"{file}: no such file")
    public, secret = _load(file)
    if secret is not None:
        what = expected("file", f"a public key (*{PUBLIC_SUFFIX})", "a secret one: it must stay with its owner")
        raise KeyFileError(f"{file}: {what}; make new keys if others have seen it")
    name = check_name(file.name.removesuffix(PUBLIC_SUFFIX) if name is None else name)
    make_directory(directory)
    copy = directory / f"{name}{PUBLIC_SUFFIX}"
    if copy.exists() and read_public_key(copy) != public:
        raise InvalidArgument(expected("name of an allowed key", "free", f"{copy}, which is another key"))
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".new-") as private:
            made = shutil.copyfile(file, Path(private, copy.name))
            made.chmod(0o644)
            made.replace(copy)
    except OSError as error:
        raise KeyFileError(f"{directory}: cannot write keys: {error.strerror}") from error
    return copy


def make_directory(directory: Path) -> None:
    """Make a directory of keys with mode 0700 if it is not there, and check it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyFileError(unwritable(directory, error, folder=True)) from error
    check_directory(directory)


def check_name(name: str) -> str:
    """Return a name of keys if it can be a file's name everywhere.

    Raises
    ------
    InvalidArgument
        Not letters, digits, `_`, `-` and `.`, or it begins with a dot.
    """
    try:
        check_topic(name)
        good = "/" not in name and not name.startswith(".") and not name.endswith(SECRET_SUFFIX)
    except ValueError:
        good = False
    if not good:
        raise InvalidArgument(expected("name of keys", "letters, digits, '_', '-' and '.'", repr(name)))
    return name


def _check_file(file: Path, *, forbidden: int, private: bool) -> None:
    try:
        status = file.stat()
    except OSError as error:
        raise MissingFile(f"{file}: no such key file ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{file}: " + expected("key file", "a plain file", stat.filemode(status.st_mode)))
    _check_owner(file, status)
    if stat.S_IMODE(status.st_mode) & forbidden:
        wanted, remedy = ("mode 0600", "chmod 600") if private else ("writable for its owner only", "chmod go-w")
        what = "secret key file" if private else "key file"
        actual = f"{stat.S_IMODE(status.st_mode):04o}"
        raise KeyFileError(f"{file}: " + expected(what, wanted, actual) + f" ({remedy} {file})")


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(
            f"{path}: " + expected("owner of keys", f"user {os.geteuid()} or root", f"user {status.st_uid}")
        )


def _load(file: Path) -> tuple[bytes, bytes | None]:
    """Public key and, if there is one, secret key of a file."""
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise KeyFileError(f"{file}: " + expected("key file", f"at most {_LARGEST_FILE} bytes", "a larger one"))
        public, secret = zmq.auth.load_certificate(file)
    except (OSError, ValueError, IndexError) as error:
        if isinstance(error, KeyFileError):
            raise
        raise KeyFileError(f"{file}: " + expected("file", "a CURVE certificate with a public-key", error)) from error
    for what, key in (("public-key", public), ("secret-key", secret)):
        if key is not None and (len(key) != _KEY_LENGTH or not _Z85.issuperset(key)):
            raise KeyFileError(f"{file}: " + expected(what, "40 characters of Z85", f"{len(key)} characters"))
    return public, secret
