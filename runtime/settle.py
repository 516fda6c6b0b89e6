"""What a runtime does: what its caller asked for, then what the profile of this machine says, then the defaults."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal

from ..errors import BundleError, InvalidArgument, expected
from .arrangement import MOST_THREADS, Arrangement, check_threads
from .bundle import Bundle, Provider
from .cpu import usable_cpus
from .profile import Choice, find_profile
from .variants import VariantChoice, select_variant

ProfileChoice = Choice | Literal["auto"] | None

_LOG: Final = logging.getLogger("octobev.runtime.profile")


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """What a runtime does.

    bundle : with the variant and the execution providers
    arrangement : how its work is spread over threads
    profile : name of the profile that something of it comes from; None: of none
    """

    bundle: Bundle
    arrangement: Arrangement
    profile: str | None = None

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Say in a :class:`BundleError` of the block where the bundle is, and whose the execution providers are not."""
        try:
            yield
        except BundleError as error:
            path, message = str(self.bundle.path), str(error)
            if not message.startswith(path):
                message = f"{path}: {message}"
            if self.bundle.preferred:
                names = ", ".join(provider.name for provider in self.bundle.preferred)
                message += f" (profile {self.profile} chose {names}; octobev bundle tune --forget removes it)"
            raise BundleError(message) from error


def settle(
    bundle: Bundle, profile: ProfileChoice = "auto", *, threads: int | None = None, variant: VariantChoice = "auto"
) -> Settled:
    """Decide what a runtime does.

    A variant other than the profile's puts the whole profile aside, as it was measured in another arithmetic. A number
    of threads other than the profile's puts aside how it spreads the work over them.

    Parameters
    ----------
    profile : `auto`: the one of this bundle on this machine, if there is one; None: none
    threads : None: the profile's, else the CPUs that this process may use
    variant : `auto`: the profile's, else what suits the processor

    Raises
    ------
    InvalidArgument, BundleError
        No thread, or too many; see :func:`octobev.runtime.variants.select_variant`.
    """
    if threads is not None:
        check_threads(threads)
    name, choice = _found(bundle, profile)
    if choice is not None and variant not in ("auto", choice.variant):
        _LOG.info("profile %s: not used, it is for %s and %s was asked for", name, choice.variant, variant)
        choice = None
    if choice is None:
        chosen = select_variant(bundle, variant)
        return Settled(chosen, Arrangement.side_by_side(_by_default() if threads is None else threads))
    arrangement = choice.arrangement
    if threads not in (None, choice.threads):
        _LOG.info("profile %s: it is for %d threads and %d were asked for", name, choice.threads, threads)
        arrangement = Arrangement.side_by_side(threads or 1)
    _LOG.info(
        "profile %s: %s on %s, %d threads, %d runs at once, batches of %d",
        *(name, choice.variant, ", ".join(choice.providers)),
        *(arrangement.threads, arrangement.runs_at_once, arrangement.batch),
    )
    chosen = replace(select_variant(bundle, choice.variant), preferred=_providers(bundle, choice.providers))
    return Settled(chosen, arrangement, name)


def _by_default() -> int:
    return min(usable_cpus(), MOST_THREADS)


def _found(bundle: Bundle, profile: ProfileChoice) -> tuple[str | None, Choice | None]:
    if profile == "auto":
        found = find_profile(bundle)
        return (None, None) if found is None else (found.name, found.choice)
    if profile is None or isinstance(profile, Choice):
        return (None, None) if profile is None else ("given", profile)
    raise InvalidArgument(expected("profile", '"auto", None or a Choice', repr(profile)))


def _providers(bundle: Bundle, names: tuple[str, ...]) -> tuple[Provider, ...]:
    """The providers of these names, with the options that the manifest gives them; empty: those of the manifest."""
    own = bundle.manifest.runtime.providers
    if names == tuple(provider.name for provider in own):
        return ()
    known = {provider.name: provider for provider in own}
    return tuple(known.get(name, Provider(name=name)) for name in names)
