"""Folder runs: every content in its styles, in batches, shared among processes, resumed where a run stopped."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from adain.batch.folder_run import FolderRun, Stylized
from adain.batch.jobs import ImageFolder, plan_jobs
from adain.batch.locking import locked
from adain.batch.manifest import MANIFEST, Manifest
from adain.batch.options import DEFAULT_RUN_OPTIONS, RunOptions
from adain.batch.ranks import TORCHRUN, Rank, rank_of
from adain.batch.reading import LARGE, pixel_count
from adain.imaging import writer
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions, check_size
from adain.inference import full_size, preparation
from adain.inference.options import DEFAULT_STYLE_OPTIONS, StyleOptions, override
from adain.methods import ITERATIVE, METHODS, Method, weights
from adain.utils import files
from adain.utils.checks import check_names
from adain.utils.precision import Precision

SINGLE_IMAGE_OPTIONS = ("style_weight", "mask", "feather", "regions")
"""Style options that do not apply to folders. gatys has a setting that is called style_weight, too."""


def stylize_folder(
    content: str | Path,
    style: str | Path | None,
    output: str | Path,
    pairs: str | Path = "all",
    method: str | Path | Method = "adain",
    *,
    size: int | None = None,
    options: StyleOptions = DEFAULT_STYLE_OPTIONS,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
    run_options: RunOptions = DEFAULT_RUN_OPTIONS,
    device: str = "auto",
    precision: Precision = "auto",
    **changes: Any,
) -> list[tuple[Path, str]]:
    """Stylize a folder of images.

    Results are named CONTENT__STYLE, with a hash of the path where several would share a name, in the subfolders of
    their contents. Each complete result gets a line in `manifest.jsonl`; another run skips a result if its line
    matches the settings and inputs, and its file is unchanged. Under torchrun, each process stylizes its share and has
    its own manifest.

    Worker processes import the main module again, so a script must call this function below
    `if __name__ == "__main__":`.

    Args:
        content: Folder of contents.
        style: Folder of styles; None for a method with a built-in style.
        output: Folder for the results.
        pairs: `all` for every content in every style; `random` for one style per content, drawn by its path and the
            seed; or a CSV file with columns content, style, and optionally alpha, whose paths are relative to the
            folders or absolute.
        method: As `adain.stylize` takes it.
        size: Shorter side of the results in pixels (default: each content's own).
        options: How images are stylized: one alpha, and neither masks nor style weights.
        read_options: Which files are accepted.
        run_options: How the run works.
        device: As `adain.prepare` takes it.
        precision: As `adain.prepare` takes it.
        changes: Fields of the options by name, such as `alpha=0.8` or `workers=0`, which override these; all others are
            settings of the method.

    Returns:
        What could not be read or stylized, images and subfolders, with the reasons.

    Raises:
        ValueError: An option is unknown, out of range, or does not apply, a folder has no images, a row of the CSV file
            is wrong, or the variables of torchrun are.
        OSError: No such folder, or a result cannot be written.
    """
    options, changes = override(options, changes, exclude=SINGLE_IMAGE_OPTIONS)
    read_options, changes = override(read_options, changes)
    run_options, settings = override(run_options, changes)
    check_names(settings, stylize_folder, StyleOptions, ReadOptions, RunOptions, *METHODS.values())
    _check_options(options, run_options, size)
    rank = rank_of(launchers=[TORCHRUN])
    if method in ITERATIVE:
        settings["seed"] = run_options.seed
    ready = preparation.prepare_once(method, _own_device(device, rank), precision, **settings)
    options = replace(options, work_size=full_size.resolve_work_size(ready, options.work_size))
    _check_styles(ready, style, options)
    # The precision as it was asked for: `auto` gives results that look the same on all machines, and a run may be
    # resumed on another one.
    recorded = _recorded_settings(ready, options, size, str(ready.dtype) if ready is method else precision)

    folder = Path(output).resolve()
    inputs = [ImageFolder(Path(path), folder) for path in (content, style) if path is not None]
    jobs = plan_jobs(inputs, folder, pairs, ready, options.alphas[0], run_options.seed, run_options.suffix)
    jobs = jobs[rank.number :: rank.count]
    run = FolderRun(ready, options, size, read_options, run_options)
    manifest_path = folder / rank.manifest(MANIFEST)
    with locked(manifest_path, rank.other_manifests(MANIFEST)):
        manifest = Manifest(manifest_path, recorded, run_options.seed, run_options.verify)
        missing = manifest.missing(jobs)
        if rank.count == 1:  # other processes may be writing theirs
            for subfolder in {folder / job.output.parent for job in jobs}:
                files.remove_stale(subfolder)
        quiet = run_options.quiet or rank.number > 0
        done = len(jobs) - len(missing)
        results = tqdm(run.results(missing), total=len(jobs), initial=done, unit=" images", disable=quiet or None)
        _write(results, manifest, max(1, run_options.workers))
    failures = [*dict.fromkeys(failure for folder in inputs for failure in folder.unreadable)]
    for path, reason in run.failures.items():
        failures.append((path, reason.removeprefix(str(path)).lstrip(": ")))
    return failures


def _check_options(options: StyleOptions, run_options: RunOptions, size: int | None) -> None:
    if len(options.alphas) != 1:
        raise ValueError(f"Expected one alpha for a folder, got {len(options.alphas)}; give others in a CSV file")
    if any(given is not None for given in (options.mask, options.style_weight, options.regions)):
        raise ValueError("Expected neither masks nor regions nor style weights for a folder; leave them out")
    writer.check_suffix(f"name{run_options.suffix}")
    check_size(size)


def _check_styles(method: Method, style: str | Path | None, options: StyleOptions) -> None:
    name = type(method).__name__
    if method.takes_style and style is None:
        raise ValueError(f"{name} needs a folder of styles, got none")
    if not method.takes_style and (style is not None or options.style_size is not None):
        raise ValueError(f"{name} takes no styles and no style_size; leave them out")


def _own_device(device: str, rank: Rank) -> str:
    """Return a GPU for this process if `device` is `auto` and several processes share the GPUs; else `device`."""
    if device == "auto" and rank.count > 1 and torch.cuda.is_available():
        return f"cuda:{rank.local % torch.cuda.device_count()}"
    return device


def _recorded_settings(method: Method, options: StyleOptions, size: int | None, precision: str) -> dict[str, Any]:
    """Return the settings that all results depend on, as the manifest records them."""
    small = size is not None and size <= full_size.LARGEST_CONTENT
    return {
        "method": type(method).__name__,
        "weights": weights.fingerprint(method),
        "size": size,
        "style_size": options.style_size,
        "color": options.color,
        "photorealistic": options.photorealistic,
        "alpha_blend": options.alpha_blend,
        "detail": options.detail,
        "work_size": "content" if options.work_size is None and small else options.work_size,
        "precision": precision,
    }


def _write(results: Iterable[Stylized], manifest: Manifest, threads: int) -> None:
    """Save results while the next ones are stylized, but keep none in memory while a large one waits."""
    writing = deque[Future]()
    with ThreadPoolExecutor(threads) as pool:
        for stylized in results:
            writing.append(pool.submit(manifest.write, stylized.job, stylized.result, stylized.seconds))
            most = 0 if pixel_count(stylized.result) > LARGE else 2 * threads
            while len(writing) > most:
                writing.popleft().result()
        for future in writing:
            future.result()
