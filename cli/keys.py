"""`octobev keys`: CURVE keys of publishers and subscribers, and the options by which commands take them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import OctobevError
from ..runtime.topics.keys import (
    PUBLIC_SUFFIX,
    SECRET_SUFFIX,
    PublisherKeys,
    SubscriberKeys,
    allow_key,
    check_directory,
    create_keys,
    read_allowed_keys,
    read_public_key,
    read_secret_key,
)

ALLOWED = "allowed"
"""Directory of the keys of those who may subscribe, beside one's own keys."""

_HELP = """Make the keys that encrypt topics and say who may subscribe.

A publisher and a subscriber on two machines, in three commands:

    car$    octobev keys new car
    laptop$ octobev keys new laptop
    car$    octobev keys allow laptop.key

and laptop.key carried to the car before the last one, car.key to the laptop (`keys new` prints where they are). From
then on:

    car$    octobev replay demo --publish 'tcp://*:5555' --key car
    laptop$ octobev topic list tcp://car:5555 --key laptop --server-key car.key

A file NAME.key is public and may be shown to anybody; carry it so that nobody exchanges it on the way. NAME.key_secret
stays where it was made. To let nobody in any more with a key, delete it from the directory `allowed`.
"""

app = typer.Typer(no_args_is_help=True, help=_HELP, rich_markup_mode=None)

DirOption = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="Directory of keys. Default: ~/.config/octobev/keys.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="NAME|FILE", help="Encrypt: the own secret key, see `octobev keys --help`."),
]
AllowedOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Public keys of those who may subscribe. Default: `allowed` beside the --key."),
]
ServerKeyOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Public key of the publisher; goes with --key.")
]


@app.command()
def new(
    name: Annotated[str | None, typer.Argument(help="Whose keys. Default: the name of this machine.")] = None,
    directory: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a pair of keys: NAME.key for others, and NAME.key_secret. Existing keys are never overwritten."""
    name = name or socket.gethostname().partition(".")[0]
    public, secret = create_keys(directory or default_directory(), name)
    key = read_public_key(public).decode()
    if as_json:
        print(json.dumps({"name": name, "public_key": key, "public": str(public), "secret": str(secret)}))
        return
    print(f"public  {public}   give it to those you publish to or subscribe from")
    print(f"secret  {secret}   stays here")


@app.command()
def allow(
    file: Annotated[Path, typer.Argument(metavar="FILE.key", help="Public key of somebody who may subscribe.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Call it so. Default: as the file.")] = None,
    directory: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let somebody subscribe: copy his public key to `allowed`. A running publisher takes it at once."""
    copy = allow_key((directory or default_directory()) / ALLOWED, file, name)
    key = read_public_key(copy).decode()
    if as_json:
        print(json.dumps({"name": copy.name.removesuffix(PUBLIC_SUFFIX), "public_key": key, "path": str(copy)}))
        return
    print(f"{copy}   delete it to let nobody in with this key")


@app.command("list")
def list_keys(directory: DirOption = None, as_json: JsonOption = False) -> None:
    """List the own keys and those who may subscribe. Exit code 1 when one of them cannot be used."""
    home = directory or default_directory()
    check_directory(home)
    own = [_entry(file) for file in sorted(home.glob(f"*{SECRET_SUFFIX}"))]
    allowed, fault = _allowed(home / ALLOWED)
    faulty = fault is not None or any(entry["error"] for entry in own)
    if as_json:
        print(json.dumps({"directory": str(home), "own": own, "allowed": allowed, "error": fault}))
    else:
        print(f"own keys in {home}")
        for entry in own:
            print(f"  {entry['name']:20} {entry['error'] or entry['public_key']}")
        print(f"may subscribe: {home / ALLOWED}")
        for entry in allowed:
            print(f"  {entry['name']:20} {entry['public_key']}")
        if fault is not None:
            print(f"  nobody is let in: {fault}")
    if faulty:
        raise typer.Exit(1)


def publisher_keys(key: str | None, allowed: Path | None, publish: str | None) -> PublisherKeys | None:
    """Make of the options --key and --allowed of a command that publishes what a Publisher takes."""
    if key is not None and publish is None:
        raise typer.BadParameter("needs --publish ENDPOINT", param_hint="--key")
    if key is None:
        if allowed is not None:
            raise typer.BadParameter("needs --key NAME or FILE", param_hint="--allowed")
        return None
    secret = _file(key, SECRET_SUFFIX)
    return PublisherKeys(secret, secret.parent / ALLOWED if allowed is None else allowed)


def subscriber_keys(key: str | None, server_key: str | None) -> SubscriberKeys | None:
    """Make of the options --key and --server-key of a command that subscribes what a Subscriber takes."""
    if key is None and server_key is None:
        return None
    if key is None or server_key is None:
        given, needed = ("--key", "--server-key") if server_key is None else ("--server-key", "--key")
        raise typer.BadParameter(f"needs {needed} NAME or FILE, too", param_hint=given)
    return SubscriberKeys(_file(key, SECRET_SUFFIX), _file(server_key, PUBLIC_SUFFIX))


def default_directory() -> Path:
    """The directory of this user's keys."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if os.path.isabs(config) else Path.home() / ".config") / "octobev" / "keys"


def _file(text: str, suffix: str) -> Path:
    """A path as it is, a bare name in the directory of this user's keys."""
    if os.sep in text or text.endswith((PUBLIC_SUFFIX, SECRET_SUFFIX)):
        return Path(text)
    return default_directory() / f"{text}{suffix}"


def _entry(secret: Path) -> dict[str, Any]:
    entry = {"name": secret.name.removesuffix(SECRET_SUFFIX), "public_key": None, "secret": str(secret), "error": None}
    try:
        return entry | {"public_key": read_secret_key(secret).public.decode()}
    except OctobevError as error:
        return entry | {"error": str(error)}


def _allowed(directory: Path) -> tuple[list[dict[str, Any]], str | None]:
    if not directory.is_dir():
        return [], None
    try:
        keys = read_allowed_keys(directory)
    except OctobevError as error:
        return [], str(error)
    return [{"name": name, "public_key": key.decode()} for key, name in keys.items()], None
