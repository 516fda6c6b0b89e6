"""The training loop of the reference HydraNet. Run it by `python -m octobev.models.train`."""

from __future__ import annotations

import contextlib
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import InvalidArgument, expected
from .augment import augment_batch
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .losses import ImageScores, LossTerms, loss_terms
from .net import HydraNet, HydraNetConfig, Tensor, nn, torch
from .shards import DEPTH_STRIDE, Batch, Shard, ShardSampler

T = TypeVar("T")

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
BETAS = (0.9, 0.98)
LARGEST_GRADIENT = 5.0
WARM_UP = 0.06
AVERAGE_DECAY = 0.998
REPORT_EVERY = 20


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How long and how a network is trained.

    Parameters
    ----------
    steps, minutes : the end, exactly one of them; minutes count over all runs of a resumed training
    seed : of the weights and of every random draw
    validate_every : steps between validations
    threads : of PyTorch
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    validate_every: int = 500
    threads: int = 2

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise InvalidArgument(expected("length of a training", "steps or minutes", f"{self.steps}, {self.minutes}"))
        if (self.steps or 0) < 0 or (self.minutes or 0.0) < 0:
            raise InvalidArgument(expected("length of the training", "at least 0", self.steps or self.minutes))

    def progress(self, step: int, elapsed_s: float) -> float:
        """How much of the training is done, 0..1."""
        if self.steps is not None:
            return min(1.0, step / max(self.steps, 1))
        return min(1.0, elapsed_s / max(60.0 * (self.minutes or 0.0), 1e-9))


@dataclass(slots=True)
class Validation:
    """Validation of one moment: image IoU per class, relative depth error, and class frequencies on the ground."""

    iou: dict[str, float]
    depth_median: float
    depth_p90: float
    frequencies: dict[str, float]

    def scores(self) -> dict[str, float]:
        """Names and numbers, as they are written to files; without what could not be measured."""
        named = {f"iou_{name}": value for name, value in self.iou.items()}
        named |= {"depth_error_median": self.depth_median, "depth_error_p90": self.depth_p90}
        return {name: round(value, 4) for name, value in named.items() if not math.isnan(value)}


@dataclass(slots=True)
class Progress:
    """What a step tells the one who watches: loss terms are means since the last report."""

    step: int
    done: float
    images_per_s: float
    terms: dict[str, float] = field(default_factory=dict)
    validation: Validation | None = None


class Training:
    """A network, its optimiser and its moving average, at some step.

    Parameters
    ----------
    config : sizes of the network; of the checkpoint when one is resumed
    plan : how long and how
    folder : `checkpoint.pt` and `curves.jsonl` are written here
    resume : continue from the checkpoint in `folder`
    """

    def __init__(self, config: HydraNetConfig, plan: TrainingPlan, folder: Path, *, resume: bool = False) -> None:
        torch.set_num_threads(plan.threads)
        torch.manual_seed(plan.seed)
        self.plan, self.folder = plan, folder
        checkpoint = load_checkpoint(folder / "checkpoint.pt") if resume else None
        self.config = checkpoint.config if checkpoint else config
        self.net = HydraNet(self.config).to(memory_format=torch.channels_last)
        self.average = HydraNet(self.config).eval().to(memory_format=torch.channels_last)
        self.average.load_state_dict(self.net.state_dict())
        self.optimiser = torch.optim.AdamW(self.net.parameters(), LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY)
        self.step, self.elapsed_s = 0, 0.0
        self.frequencies: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        if checkpoint:
            self.net.load_state_dict(checkpoint.weights)
            self.average.load_state_dict(checkpoint.average)
            self.optimiser.load_state_dict(checkpoint.optimiser)
            self.step, self.elapsed_s = checkpoint.step, checkpoint.elapsed_s
            self.frequencies, self.scores = checkpoint.frequencies, checkpoint.scores

    @property
    def done(self) -> float:
        """How much of the plan is done, 0..1."""
        return self.plan.progress(self.step, self.elapsed_s)

    def run(self, sampler: ShardSampler, validation: list[Shard], watch: Callable[[Progress], None]) -> None:
        """Train to the end of the plan; validate, save and report on the way and at the end."""
        sums: dict[str, float] = {}
        count, report_start = 0, time.monotonic()

        def draw(step: int) -> Batch:
            return augment_batch(sampler.draw(step), np.random.default_rng((self.plan.seed, step, 1)))

        with contextlib.closing(ahead(draw, self.step)) as batches:
            while self.done < 1.0:
                batch = next(batches)
                start = time.monotonic()
                for name, value in self.train_step(batch).items():
                    sums[name] = sums.get(name, 0.0) + value
                count += 1
                self.elapsed_s += time.monotonic() - start
                due = self.step % self.plan.validate_every == 0
                if due or count == REPORT_EVERY:
                    rate = count * len(batch.images) / (time.monotonic() - report_start)
                    means = {name: value / count for name, value in sums.items()}
                    result = self.validate_and_save(validation, means) if due else None
                    watch(Progress(self.step, self.done, rate, means, result))
                    sums, count, report_start = {}, 0, time.monotonic()
        final = self.validate_and_save(validation, {})
        watch(Progress(self.step, 1.0, 0.0, {}, final))

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Run one step of the optimiser; returns the loss terms."""
        for group in self.optimiser.param_groups:
            group["lr"] = LEARNING_RATE * schedule(self.done)
        self.net.train()
        images, labels, depth_m = _tensors(batch, self.config)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.net(images)
        terms = loss_terms(outputs, labels, depth_m, self.config)
        self.optimiser.zero_grad()
        terms.total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        self.step += 1
        update_average(self.average, self.net, self.step)
        return _numbers(terms)

    def validate_and_save(self, shards: list[Shard], terms: dict[str, float]) -> Validation:
        """Measure the averaged network, write the checkpoint and one line of curves."""
        result = validate(self.average, shards)
        self.frequencies, self.scores = result.frequencies, result.scores()
        checkpoint = Checkpoint(
            self.config,
            self.net.state_dict(),
            self.average.state_dict(),
            self.optimiser.state_dict(),
            self.step,
            self.elapsed_s,
            self.plan.seed,
            self.frequencies,
            self.scores,
        )
        save_checkpoint(checkpoint, self.folder / "checkpoint.pt")
        line = {
            "step": self.step,
            "elapsed_s": round(self.elapsed_s, 1),
            **terms,
            **self.scores,
            "frequencies": self.frequencies,
        }
        with open(self.folder / "curves.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return result


def validate(net: HydraNet, shards: list[Shard], batch: int = 16) -> Validation:
    """Measure a network on views it was not trained on; the shards are not changed."""
    net.eval()
    config = net.config
    scores = ImageScores(config.classes)
    height, width = config.output_shape
    ground = np.zeros(len(config.classes))
    mass = 0.0
    for shard in shards:
        for start in range(0, len(shard), batch):
            part = slice(start, start + batch)
            images, _, depth_m = _tensors(Batch(shard.images[part], shard.labels[part], shard.depth_m[part]), config)
            with torch.no_grad():
                outputs = net(images)
            p = torch.softmax(outputs.logits, dim=-1).numpy()
            depth = outputs.log_depth.exp().reshape(-1, height, width).numpy()
            true_depth = depth_m.numpy()
            scores.add(p.argmax(-1).reshape(-1, height, width), shard.labels[part], depth, true_depth)
            area = np.where((true_depth > 2.0) & (true_depth < 30.0), true_depth**3, 0.0).reshape(len(p), -1)
            ground += np.einsum("bp,bpc->c", area, p)
            mass += float(area.sum())
    frequencies = dict(zip(config.classes, (ground / max(mass, 1e-9)).tolist(), strict=True))
    return Validation(scores.iou(), *scores.depth_error(), ground_frequencies(frequencies))


def ground_frequencies(frequencies: dict[str, float]) -> dict[str, float]:
    """Turn frequencies of image classes, weighted by the ground that a pixel covers, into shares of the free ground."""
    free = max(1.0 - frequencies["obstacle"], 1e-6)
    return {
        "drivable": (frequencies["drivable"] + frequencies["lane_marking"] + frequencies["crosswalk"]) / free,
        "lane_divider": frequencies["lane_marking"] / free,
        "road_edge": frequencies["road_edge"] / free,
        "crosswalk": frequencies["crosswalk"] / free,
    }


def schedule(done: float) -> float:
    """Warm-up, then a half cosine down to a hundredth."""
    if done < WARM_UP:
        return max(done / WARM_UP, 0.02)
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (done - WARM_UP) / (1.0 - WARM_UP)))


def _tensors(batch: Batch, config: HydraNetConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Images uint8 [B, 3, h, w] (channels last in memory), labels uint8 [B, h, w], float32 depths of output pixels."""
    images = torch.from_numpy(batch.images).permute(0, 3, 1, 2)
    step = config.output_stride // DEPTH_STRIDE
    depth_m = np.ascontiguousarray(batch.depth_m[:, ::step, ::step], dtype=np.float32)
    return images, torch.from_numpy(batch.labels), torch.from_numpy(depth_m)


def _numbers(terms: LossTerms) -> dict[str, float]:
    return {
        "segmentation": terms.segmentation.item(),
        "dice": terms.dice.item(),
        "depth": terms.depth.item(),
        "total": terms.total.item(),
    }


def update_average(average: nn.Module, net: nn.Module, step: int) -> None:
    """Move an average of a network's weights towards the network; the first steps count more."""
    decay = min(AVERAGE_DECAY, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        current = net.state_dict()
        for name, value in average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(current[name], 1.0 - decay)
            else:
                value.copy_(current[name])


def ahead(draw: Callable[[int], T], first_step: int) -> Generator[T, None, None]:
    """What `draw` gives for the steps from `first_step` on, drawn by a thread two steps ahead."""
    batches: queue.Queue[T | BaseException] = queue.Queue(maxsize=2)
    stop = threading.Event()

    def produce() -> None:
        step = first_step
        try:
            while not stop.is_set():
                _put(draw(step))
                step += 1
        except BaseException as error:  # handed to the loop, which raises it
            _put(error)

    def _put(item: T | BaseException) -> None:
        while not stop.is_set():
            try:
                batches.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    thread = threading.Thread(target=produce, name="octobev-batches", daemon=True)
    thread.start()
    try:
        while True:
            item = batches.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
