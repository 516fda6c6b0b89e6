"""The training loop of the recurrent top-down network. Run it by `python -m octobev.models.topdown_train`."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..fusion.pose import Pose
from ..fusion.view import ViewTransform
from .lifting import carry_states, lift_rows
from .net import HydraNet, Tensor, nn, torch
from .sequences import GRID, Sequences
from .topdown_checkpoint import TopDownCheckpoint, load_topdown_checkpoint, save_topdown_checkpoint
from .topdown_losses import BevScores, TopDownTerms, topdown_terms
from .topdown_net import STATE_FACTOR, TopDownConfig, TopDownNet
from .training import (
    BETAS,
    LARGEST_GRADIENT,
    LEARNING_RATE,
    REPORT_EVERY,
    WEIGHT_DECAY,
    TrainingPlan,
    ahead,
    schedule,
    update_average,
)
from .windows import LiftPlan, Window, WindowSampler, cut_window

STATE_GRID: Final = GRID.scaled(STATE_FACTOR)


@dataclass(slots=True)
class TopDownProgress:
    """What a step tells the one who watches: loss terms are means since the last report."""

    step: int
    done: float
    sets_per_s: float
    terms: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] | None = None


class TopDownTraining:
    """A top-down network, its optimiser and its moving average, at some step. The image network does not change.

    Parameters
    ----------
    config : sizes of the network; of the checkpoint when one is resumed
    hydranet : gives the features, in evaluation mode; of the checkpoint when one is resumed
    plan : how long and how
    folder : `checkpoint.pt` and `curves.jsonl` are written here
    resume : continue from the checkpoint in `folder`
    """

    def __init__(
        self, config: TopDownConfig, hydranet: HydraNet, plan: TrainingPlan, folder: Path, *, resume: bool = False
    ) -> None:
        torch.set_num_threads(plan.threads)
        torch.manual_seed(plan.seed)
        self.plan, self.folder = plan, folder
        checkpoint = load_topdown_checkpoint(folder / "checkpoint.pt") if resume else None
        self.config = checkpoint.config if checkpoint else config
        self.config.check_grid(GRID)
        self.hydranet = checkpoint.hydranet_net() if checkpoint else hydranet
        self._features = folded(self.hydranet)
        self.net = TopDownNet(self.config).to(memory_format=torch.channels_last)
        self.average = TopDownNet(self.config).eval().to(memory_format=torch.channels_last)
        self.average.load_state_dict(self.net.state_dict())
        self.optimiser = torch.optim.AdamW(self.net.parameters(), LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY)
        self.step, self.elapsed_s = 0, 0.0
        self.scores: dict[str, float] = {}
        self.states: Tensor | None = None
        if checkpoint:
            self.net.load_state_dict(checkpoint.weights)
            self.average.load_state_dict(checkpoint.average)
            self.optimiser.load_state_dict(checkpoint.optimiser)
            self.step, self.elapsed_s = checkpoint.step, checkpoint.elapsed_s
            self.scores, self.states = checkpoint.scores, checkpoint.states

    @property
    def done(self) -> float:
        """How much of the plan is done, 0..1."""
        return self.plan.progress(self.step, self.elapsed_s)

    @property
    def lift(self) -> LiftPlan:
        """How features are lifted."""
        return LiftPlan(self.config.heights_m, self.config.border_px, self.hydranet.config.feature_shape)

    def run(
        self, sampler: WindowSampler, validation: list[Sequences], watch: Callable[[TopDownProgress], None]
    ) -> None:
        """Train to the end of the plan; validate, save and report on the way and at the end."""
        sums: dict[str, float] = {}
        count, sets, report_start = 0, 0, time.monotonic()
        with contextlib.closing(ahead(sampler.draw, self.step)) as batches:
            while self.done < 1.0:
                windows = next(batches)
                start = time.monotonic()
                for name, value in self.train_step(windows).items():
                    sums[name] = sums.get(name, 0.0) + value
                count += 1
                sets += sum(len(window.images) for window in windows)
                self.elapsed_s += time.monotonic() - start
                due = self.step % self.plan.validate_every == 0
                if due or count == REPORT_EVERY:
                    rate = sets / (time.monotonic() - report_start)
                    means = {name: value / count for name, value in sums.items()}
                    scores = self.validate_and_save(validation, means) if due else None
                    watch(TopDownProgress(self.step, self.done, rate, means, scores))
                    sums, count, sets, report_start = {}, 0, 0, time.monotonic()
        final = self.validate_and_save(validation, {})
        watch(TopDownProgress(self.step, 1.0, 0.0, {}, final))

    def train_step(self, windows: list[Window]) -> dict[str, float]:
        """Run one step of the optimiser on one window a lane; returns the loss terms."""
        for group in self.optimiser.param_groups:
            group["lr"] = LEARNING_RATE * schedule(self.done)
        self.net.train()
        states = self.net.empty_state(len(windows)) if self.states is None else self.states
        terms, states = window_terms(self._features, self.net, windows, states)
        self.states = states.detach()
        self.optimiser.zero_grad()
        terms.total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        self.step += 1
        update_average(self.average, self.net, self.step)
        return terms.numbers()

    def validate_and_save(self, validation: list[Sequences], terms: dict[str, float]) -> dict[str, float]:
        """Measure the averaged network, write the checkpoint and one line of curves."""
        self.scores = validate(self._features, self.average, validation, self.lift).numbers()
        checkpoint = TopDownCheckpoint(
            self.config,
            self.hydranet.config,
            self.hydranet.state_dict(),
            self.net.state_dict(),
            self.average.state_dict(),
            self.optimiser.state_dict(),
            self.states,
            self.step,
            self.elapsed_s,
            self.plan.seed,
            self.scores,
        )
        save_topdown_checkpoint(checkpoint, self.folder / "checkpoint.pt")
        line = {"step": self.step, "elapsed_s": round(self.elapsed_s, 1), **terms, **self.scores}
        with open(self.folder / "curves.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return self.scores


def folded(hydranet: HydraNet) -> HydraNet:
    """Copy of a trained image network whose batch normalisations are part of its convolutions: half the time."""
    net: HydraNet = copy.deepcopy(hydranet).eval().to(memory_format=torch.channels_last)
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[1], nn.BatchNorm2d):
            module[0], module[1] = torch.nn.utils.fuse_conv_bn_eval(module[0], module[1]), nn.Identity()
    net.requires_grad_(False)
    return net


def window_terms(
    hydranet: HydraNet, net: TopDownNet, windows: list[Window], states: Tensor
) -> tuple[TopDownTerms, Tensor]:
    """Run windows of the same length; returns the losses over all their sets, and the states after the last."""
    sets = len(windows[0].images)
    views = [window.views[t] for t in range(sets) for window in windows]
    images = np.stack([window.images[t] for t in range(sets) for window in windows])
    with torch.autocast("cpu", torch.bfloat16):
        encoded = net.encode(lifted_features(hydranet, images, views, torch.get_num_threads()))
        read = []
        for t, half in enumerate(encoded.half.split(len(windows))):
            states = net.cell(half, carried(states, [window.motions[t] for window in windows]))
            read.append(states)
        outputs = net.decode(encoded.fine, torch.cat(read))
    layers = torch.from_numpy(np.stack([window.layers[t] for t in range(sets) for window in windows]))
    direction = torch.from_numpy(np.stack([window.direction_rad[t] for t in range(sets) for window in windows]))
    return topdown_terms(outputs, layers, direction), states.to(torch.float32)


def lifted_features(
    hydranet: HydraNet,
    images: NDArray[np.uint8],
    views: list[ViewTransform],
    threads: int,
) -> Tensor:
    """Features of sets, lifted, float32 [sets, cells, heights * C]; images uint8 [sets, N, height, width, 3]."""
    pixels = torch.from_numpy(images.reshape(-1, *images.shape[2:])).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = hydranet.features(pixels).to(torch.float32)
    return lift_rows(views, features.reshape(len(views), -1, features.shape[2]), threads)


def carried(states: Tensor, motions: list[Pose | None]) -> Tensor:
    """States brought into the ego frames of now; those that have no motion begin anew."""
    moves = [Pose.identity() if motion is None else motion for motion in motions]
    known = torch.tensor([0.0 if motion is None else 1.0 for motion in motions]).reshape(-1, 1, 1, 1)
    return carry_states(states, STATE_GRID, moves) * known


def validate(
    hydranet: HydraNet,
    net: TopDownNet,
    validation: list[Sequences],
    lift: LiftPlan,
    *,
    reset_every_set: bool = False,
) -> BevScores:
    """Measure a network on stretches it was not trained on, set by set in float32, as a runtime would run it.

    Parameters
    ----------
    reset_every_set : forget the state before each set
    """
    net.eval()
    scores = BevScores()
    for sequences in validation:
        for stretch in range(len(sequences)):
            window = cut_window(sequences, stretch, 0, sequences.sets, lift)
            states = net.empty_state(1)
            for t in range(sequences.sets):
                motion = None if reset_every_set else window.motions[t]
                with torch.no_grad():
                    rows = lifted_features(
                        hydranet, window.images[t : t + 1], window.views[t : t + 1], torch.get_num_threads()
                    )
                    outputs, states = net(rows, carried(states, [motion]))
                scores.add(
                    outputs.logits.numpy(),
                    outputs.direction.numpy(),
                    window.layers[t : t + 1],
                    window.direction_rad[t : t + 1],
                )
    return scores
