"""Training and stylizing on a GPU: `python -m benchmarks.gpu [--content DIR --style DIR] [--compile]`.

Prints, in less than ten minutes:

- training AdaIN, pairs a second: from memory, and end to end with the data loader, which reads JPEGs of 640 x 480
  pixels cut from the examples, or the given folders, which may be prepared by `adain prepare-data`;
- stylizing, images a second, with the style encoded before, and the content at its own size (`--work-size content`);
- the operators that take longest in a training step.

The textbook (`benchmarks.textbook`) is measured in float32 and in the way that PyTorch's tuning guide advises: channels
last, and autocast. All sides use TF32 for float32, and cuDNN's fastest convolutions in training, as the trainer does.
The operations of the textbook are counted by PyTorch, and count for all; the peak is that of a large matrix product of
the same type on this device.

`--toy` runs everything at a fraction of the size, on a CPU too: it proves that the program works, not how fast it is.
"""

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import adain
from adain.functional.losses import PerceptualLoss
from adain.methods import AdaIN
from adain.training.cli import TRAINER_DEFAULTS, AutoTrainer
from adain.training.datamodule import Pictures
from adain.training.module import StyleTransfer
from adain.utils.precision import DTYPES, fast_half
from benchmarks.photos import photo_folders
from benchmarks.textbook import Textbook
from benchmarks.timing import machine


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    crop: int = 256
    batches: Sequence[int] = (8, 32, 128)
    end_to_end_batches: Sequence[int] = (8, 128)
    sides: Sequence[int] = (256, 512, 1024, 2048)
    images: Sequence[int] = (1, 8)
    matrix: int = 8192
    rounds: int = 3
    """The rate is that of the best round."""
    seconds: float = 1.0
    """Time of a round."""
    end_to_end_seconds: float = 20.0
    warm_up_steps: int = 20
    photos: int = 256


TOY = Scale(
    crop=32, batches=(2,), end_to_end_batches=(2,), sides=(32, 48), images=(1, 2), matrix=64, rounds=1, seconds=0,
    end_to_end_seconds=0.5, warm_up_steps=2, photos=4,
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """The device, the fastest 16-bit type on it, or float32 if there is none, and how rates are measured on it."""

    device: torch.device
    scale: Scale

    @property
    def dtype(self) -> torch.dtype:
        half = fast_half(self.device)
        return DTYPES[half] if half else torch.float32

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def autocast(self) -> Any:
        """The context in which a careful user runs float32 weights."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, self.dtype)

    def rate(self, call: Callable[[], object]) -> float:
        """Calls a second, which the device may overlap, after as many calls to warm up as there are rounds."""
        for _ in range(self.scale.rounds):
            call()
        count = max(1, round(self.scale.seconds / self._seconds(call, 1)))
        return count / min(self._seconds(call, count) for _ in range(self.scale.rounds))

    def _seconds(self, call: Callable[[], object], count: int) -> float:
        self.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            call()
        self.synchronize()
        return time.perf_counter() - start

    def free_memory(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def peak(self, dtype: torch.dtype) -> float:
        """Operations a second of a product of square matrices."""
        side = self.scale.matrix
        square = torch.rand(side, side, device=self.device).to(dtype)
        return 2 * side**3 * self.rate(lambda: square @ square)


def rate_or_reason(target: Machine, call: Callable[[], object]) -> float | str:
    """The rate, or why there is none."""
    try:
        return target.rate(call)
    except torch.OutOfMemoryError:
        return "out of memory"
    except RuntimeError as error:
        if "32-bit index" in str(error):  # CUDA's padding
            return "too large"
        raise
    finally:
        target.free_memory()


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def random_batch(target: Machine, pairs: int, side: int) -> dict[str, Tensor]:
    batch = {}
    for role in ("content", "style"):
        batch[role] = torch.rand(pairs, 3, side, side, device=target.device).to(memory_format=torch.channels_last)
    return batch


def make_step(
    parameters: Iterator[nn.Parameter], loss: Callable[[], Tensor], context: Callable[[], Any]
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(parameters, 1e-4)

    def step() -> None:
        with context():
            value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def training_steps(target: Machine, batch: dict[str, Tensor], compiled: bool) -> dict[str, Callable[[], None]]:
    """A step of each contestant by name; all start from the same weights."""
    steps = {}
    for compile in (False, True) if compiled else (False,):
        task = StyleTransfer(AdaIN(), PerceptualLoss(), compile=compile).to(target.device)

        def ours(task: StyleTransfer = task) -> Tensor:
            return task.loss.total(task(batch)[1])

        name = f"adain {short(target.dtype)}{', compiled' if compile else ''}"
        steps[name] = make_step(task.method.decoder.parameters(), ours, target.autocast)
    contexts = {"float32": nullcontext}
    if target.dtype != torch.float32:
        contexts[f"{short(target.dtype)}, channels last"] = target.autocast
    for name, context in contexts.items():
        layout = torch.contiguous_format if name == "float32" else torch.channels_last
        plain = Textbook().fill(task.method.encoder, task.method.decoder)
        plain = plain.to(target.device, memory_format=layout)

        def theirs(plain: Textbook = plain) -> Tensor:
            return plain(batch["content"], batch["style"])

        steps[f"textbook {name}"] = make_step(plain.decoder.parameters(), theirs, context)
    return steps


def count_operations(target: Machine, side: int) -> float:
    """Floating-point operations for a pair in the textbook. This project's decoder takes fewer for the same result."""
    steps = training_steps(target, random_batch(target, 1, side), False)
    with FlopCounterMode(display=False) as counter:
        steps["textbook float32"]()
    return float(counter.get_total_flops())


def training_from_memory(target: Machine, compiled: bool) -> None:
    """Print the rates of all contestants, and the peak."""
    scale = target.scale
    peaks = {dtype: target.peak(dtype) for dtype in {torch.float32, target.dtype}}
    for dtype, peak in peaks.items():
        print(f"peak of {short(dtype)} matrix products: {peak / 1e12:.3g} TFLOP/s")
    operations = count_operations(target, scale.crop)
    print(f"a pair of {scale.crop} px: {operations / 1e9:.1f} GFLOP")
    print("\n| training from memory | pairs in a batch | pairs/s | TFLOP/s | of the peak |")
    print("| --- | --- | --- | --- | --- |")
    for pairs in scale.batches:
        steps = training_steps(target, random_batch(target, pairs, scale.crop), compiled)
        for name in list(steps):
            rate = rate_or_reason(target, steps.pop(name))
            if isinstance(rate, str):
                print(f"| {name} | {pairs} | {rate} | | |", flush=True)
                continue
            peak = peaks[torch.float32 if "float32" in name else target.dtype]
            speed = operations * pairs * rate
            cells = f"{pairs * rate:.1f} | {speed / 1e12:.2f} | {speed / peak:.0%}"
            print(f"| {name} | {pairs} | {cells} |", flush=True)


class Clock(Callback):
    """Stops a run after some seconds, and knows how many steps it took in them."""

    def __init__(self, target: Machine):
        self.target = target
        self.start = 0.0
        self.steps_per_second = 0.0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        scale = self.target.scale
        steps = trainer.global_step - scale.warm_up_steps
        if steps == 0:
            self.target.synchronize()
            self.start = time.perf_counter()
        elif steps > 0 and time.perf_counter() - self.start > scale.end_to_end_seconds:
            self.target.synchronize()
            self.steps_per_second = steps / (time.perf_counter() - self.start)
            trainer.should_stop = True


def training_end_to_end(target: Machine, folders: Sequence[Path], workers: int, compiled: bool) -> None:
    """Print the rates of Lightning's trainer with the data loader."""
    scale = target.scale
    print(f"\n| training end to end, {workers} workers | pairs in a batch | pairs/s |\n| --- | --- | --- |")
    for pairs in scale.end_to_end_batches:
        data = Pictures(
            str(folders[0]), str(folders[1]), size=(2 * scale.crop,) * 2, crop=scale.crop,
            batch_size=pairs, val_pairs=0, workers=workers,
        )  # fmt: skip
        clock = Clock(target)
        trainer = AutoTrainer(
            **{**TRAINER_DEFAULTS, "default_root_dir": tempfile.gettempdir()},
            accelerator="gpu" if target.device.type == "cuda" else target.device.type,
            devices=[target.device.index or 0] if target.device.type == "cuda" else 1,
            callbacks=[clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(StyleTransfer(AdaIN(), PerceptualLoss(), compile=compiled), datamodule=data)
        name = f"adain {trainer.precision}{', compiled' if compiled else ''}"
        print(f"| {name} | {pairs} | {pairs * clock.steps_per_second:.1f} |", flush=True)
        target.free_memory()


def stylizers(target: Machine) -> dict[str, Callable[[Tensor, Tensor], Callable[[], Tensor]]]:
    """By name, what takes contents and a style, and returns a call that stylizes with the style encoded before."""
    found: dict[str, Callable[[Tensor, Tensor], Callable[[], Tensor]]] = {}
    for name in ("adain", "adain-lite"):
        ready = adain.prepare(name, str(target.device))

        def ours(content: Tensor, style: Tensor, ready: Any = ready) -> Callable[[], Tensor]:
            code = adain.encode_style(ready, style)
            return lambda: adain.stylize(content, code, ready, work_size="content")

        found[f"{name} {short(ready.dtype)}"] = ours
    like = adain.prepare("adain", "cpu", "fp32")
    for layout, context in ((torch.contiguous_format, nullcontext), (torch.channels_last, target.autocast)):
        plain = Textbook().fill(like.encoder, like.decoder).to(target.device, memory_format=layout)  # type: ignore[arg-type]

        @torch.no_grad()
        def theirs(
            content: Tensor, style: Tensor, plain: Textbook = plain, context: Callable[[], Any] = context
        ) -> Callable[[], Tensor]:
            with context():
                code = plain.encode_style(style)

            @torch.no_grad()
            def call() -> Tensor:
                with context():
                    return plain.decode(content, code)

            return call

        tuned = f"{short(target.dtype)}, channels last"
        found[f"textbook {'float32' if context is nullcontext else tuned}"] = theirs
    return found


def stylizing(target: Machine) -> None:
    """Print the images a second of each contestant, at each size."""
    scale = target.scale
    cells = [f"{side} px, {images} at a time" for side in scale.sides for images in scale.images]
    print(f"\n| stylizing, images/s | {' | '.join(cells)} |\n| --- |{' --- |' * len(cells)}")
    for name, prepare in stylizers(target).items():
        print(f"| {name} |", end="", flush=True)
        for side in scale.sides:
            for images in scale.images:
                content = torch.rand(images, 3, side, side, device=target.device)
                call = prepare(content, torch.rand(1, 3, side, side, device=target.device))
                rate = rate_or_reason(target, call)
                print(f" {rate if isinstance(rate, str) else f'{images * rate:.1f}'} |", end="", flush=True)
        print()


def operators(target: Machine) -> None:
    """Print the operators of a training step by the time that they take on the device."""
    activities = [ProfilerActivity.CPU]
    if target.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    batch = random_batch(target, target.scale.batches[-1], target.scale.crop)
    step = next(iter(training_steps(target, batch, False).values()))
    for _ in range(3):
        step()
    target.synchronize()
    with profile(activities=activities) as profiler:
        step()
        target.synchronize()

    def seconds(event: Any) -> float:
        return event.self_device_time_total if target.device.type == "cuda" else event.self_cpu_time_total

    # Kernels have events of their own, beside the operators that launched them.
    events = [event for event in profiler.key_averages() if event.device_type == DeviceType.CPU]
    events.sort(key=seconds, reverse=True)
    total = sum(map(seconds, events))
    print("\n| training step | calls | share |\n| --- | --- | --- |")
    for event in events[:15]:
        print(f"| {event.key[:80]} | {event.count} | {seconds(event) / total:.1%} |")


def main(words: Sequence[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="a fraction of the size, to try the program")
    parser.add_argument("--content", type=Path, help="folder of content images to train on end to end")
    parser.add_argument("--style", type=Path, help="folder of style images")
    parser.add_argument("--workers", type=int, default=min(32, os.cpu_count() or 1), help="of the data loader")
    parser.add_argument("--compile", action="store_true", help="train with torch.compile too; takes some minutes more")
    options = parser.parse_args(words)
    if (options.content is None) != (options.style is None):
        parser.error("expected both --content and --style, or neither")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --toy tries the program")
    target = Machine(torch.device(options.device), TOY if options.toy else Scale())
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # as the command line of training does
    print(machine(options.device))
    torch.backends.cudnn.benchmark = True  # as the trainer does
    training_from_memory(target, options.compile)
    operators(target)
    given = nullcontext((options.content, options.style))
    with given if options.content else photo_folders(target.scale.photos) as folders:
        training_end_to_end(target, folders, options.workers, options.compile)
    torch.backends.cudnn.benchmark = False
    stylizing(target)


if __name__ == "__main__":
    main()
