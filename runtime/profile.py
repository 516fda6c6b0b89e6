"""What was measured to be fast on this machine for one bundle: `octobev bundle tune` writes it, `Runtime` picks it up.

A profile is a small JSON file in the user's state directory, one for each bundle and machine: `OCTOBEV_PROFILES` names
another directory, or is `off`; otherwise `$XDG_STATE_HOME/octobev/profiles` (`~/.local/state/...`). One that is of
another machine or bundle, or that cannot be read, is not used, and a message in the log says so.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import onnxruntime as ort

from ..errors import InvalidArgument, ProfileError, expected, unwritable
from ..fusion.whole_file import whole_file
from .arrangement import Arrangement
from .bundle import Bundle
from .cpu import cpu_name, usable_cpus
from .manifest import Variant

ENVIRONMENT: Final = "OCTOBEV_PROFILES"
OFF: Final = "off"
SCHEMA: Final = 1

_LOG: Final = logging.getLogger("octobev.runtime.profile")
_LARGEST: Final = 1 << 16
_LARGEST_BATCH: Final = 1024
_KEY_DIGITS: Final = 12


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a measurement holds for: another processor, or another ONNX Runtime, has other figures.

    cpu : name of the processor
    cpus : how many of its CPUs the process may use
    onnxruntime : version
    providers : execution providers of that ONNX Runtime
    """

    cpu: str
    cpus: int
    onnxruntime: str
    providers: tuple[str, ...]

    @classmethod
    def this(cls) -> Machine:
        """The one that this process runs on."""
        return cls(cpu_name(), usable_cpus(), ort.__version__, tuple(ort.get_available_providers()))

    def difference(self, other: Machine) -> str:
        """Say in which respect another one is different, in words; empty: in none."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self.__struct_fields__}
        found = [
            f"{name} {_words(theirs)}, here {_words(own)}" for name, (own, theirs) in pairs.items() if own != theirs
        ]
        return "; ".join(found)


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a runtime is to do.

    variant : arithmetic of the networks
    providers : execution providers in order of preference; the CPU stands behind them in any case
    threads, runs_at_once, batch : see :class:`octobev.runtime.arrangement.Arrangement`
    """

    variant: Variant
    providers: tuple[str, ...]
    threads: int
    runs_at_once: int
    batch: int = 1

    def __post_init__(self) -> None:
        if not self.providers:
            raise ProfileError(expected("providers", "not empty", "nothing"))
        if not 1 <= self.batch <= _LARGEST_BATCH:
            raise ProfileError(expected("batch", f"1..{_LARGEST_BATCH}", self.batch))
        try:
            _ = self.arrangement  # checks the rest
        except InvalidArgument as error:
            raise ProfileError(str(error)) from error

    @property
    def arrangement(self) -> Arrangement:
        """How the work is spread over threads."""
        return Arrangement(self.threads, self.runs_at_once, self.batch)


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the choice rests on; for people, nothing reads it.

    when : UTC, ISO 8601
    octobev : version
    source : the drive, or the synthetic town
    cameras : how many, and the size of their images
    step_ms, default_step_ms : median of a whole step as chosen, and as it is without a profile, milliseconds
    """

    when: str
    octobev: str
    source: str
    cameras: str
    step_ms: float
    default_step_ms: float


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    schema: int
    bundle: str
    bundle_sha256: str
    machine: Machine
    choice: Choice
    measured: Measured

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ProfileError(expected("schema", str(SCHEMA), self.schema))
        if self.choice.threads > self.machine.cpus:
            raise ProfileError(expected("choice.threads", f"at most the {self.machine.cpus} CPUs", self.choice.threads))

    @property
    def name(self) -> str:
        """Name of its file."""
        return profile_name(self.bundle, self.bundle_sha256, self.machine)


def profile_directory(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where profiles are; None: they are switched off, or there is no home directory.

    Parameters
    ----------
    environment : `OCTOBEV_PROFILES`: a directory, or `off`; else the system's place for what programs remember
    """
    chosen = environment.get(ENVIRONMENT)
    if chosen:
        return None if chosen == OFF else Path(chosen)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        state = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        state = Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        named = environment.get("XDG_STATE_HOME", "")
        # as XDG has it, a relative path is no value
        state = Path(named) if os.path.isabs(named) else home / ".local" / "state"
    return state / "octobev" / "profiles"


def profile_name(bundle: str, bundle_sha256: str, machine: Machine) -> str:
    """Name of the file for a bundle on a machine."""
    digest = hashlib.sha256(msgspec.json.encode(machine)).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", bundle)[:64]
    return f"{readable}-{bundle_sha256[:_KEY_DIGITS]}-{digest[:_KEY_DIGITS]}.json"


def find_profile(bundle: Bundle, directory: Path | None = None, machine: Machine | None = None) -> Profile | None:
    """Look for the profile of a bundle on a machine.

    Why one that is there is not used is logged: as information where it is of other circumstances, as a warning where
    it is broken.

    Parameters
    ----------
    directory : where; None: :func:`profile_directory`
    machine : None: this one
    """
    directory = profile_directory() if directory is None else directory
    if directory is None or not directory.is_dir():
        return None
    here = Machine.this() if machine is None else machine
    path = directory / profile_name(bundle.manifest.name, bundle.sha256, here)
    try:
        profile = read_profile(path)
    except FileNotFoundError:
        _tell_of_others(bundle, directory, here)
        return None
    except ProfileError as error:
        _LOG.warning("%s; it is not used: octobev bundle tune makes another one, --forget removes it", error)
        return None
    if profile.bundle_sha256 != bundle.sha256:
        _LOG.info("%s: not used, it is of another bundle", path)
        return None
    if difference := here.difference(profile.machine):
        _LOG.info("%s: not used, it is of another machine: %s", path, difference)
        return None
    return profile


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises
    ------
    FileNotFoundError
        There is none.
    ProfileError
        It cannot be read, or is not a profile; names the file and the place in it.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise ProfileError(expected(f"{path}: size", f"at most {_LARGEST} bytes", "more"))
    try:
        return msgspec.json.decode(content, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # ValidationError is a DecodeError
        raise ProfileError(f"{path}: not a profile: {error}") from error


def check_place(directory: Path | None = None) -> Path:
    """Make the directory of profiles where it is missing, and see that a file can be written there.

    Raises
    ------
    ProfileError
        Profiles are switched off, or it cannot.
    """
    directory = profile_directory() if directory is None else directory
    if directory is None:
        raise ProfileError(f"no place for profiles: {ENVIRONMENT}={OFF}, or no home directory; it may name a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except OSError as error:
        raise ProfileError(f"no place for profiles: {unwritable(directory, error, folder=True)}") from error


def write_profile(profile: Profile, directory: Path | None = None) -> Path:
    """Write a profile in place of what was there for the bundle on the machine; a reader sees the old one or the new.

    Raises
    ------
    ProfileError
        Profiles are switched off, or the file cannot be written; the old one is as it was.
    """
    path = check_place(directory) / profile.name
    text = msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n"
    try:
        with whole_file(path) as part:
            part.write_bytes(text)
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror}") from error
    return path


def forget_profiles(bundle: Bundle, directory: Path | None = None) -> tuple[Path, ...]:
    """Remove every profile of a bundle, those of other machines too; returns what was removed.

    Raises
    ------
    ProfileError
        One cannot be removed.
    """
    directory = profile_directory() if directory is None else directory
    found = () if directory is None else _of_bundle(bundle, directory)
    for path in found:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ProfileError(f"{path}: {error.strerror}") from error
    return found


def _of_bundle(bundle: Bundle, directory: Path) -> tuple[Path, ...]:
    return tuple(sorted(directory.glob(f"*-{bundle.sha256[:_KEY_DIGITS]}-*.json")))


def _tell_of_others(bundle: Bundle, directory: Path, here: Machine) -> None:
    """Say why a profile that somebody may remember to have made is not the one."""
    for path in _of_bundle(bundle, directory):
        try:
            difference = here.difference(read_profile(path).machine)
        except (ProfileError, OSError):
            continue
        _LOG.info("%s: not used, it is of another machine: %s; octobev bundle tune measures this one", path, difference)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
