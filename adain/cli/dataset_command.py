"""The command that stylizes datasets, `adain stylize-dataset`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adain.cli.stylize_command import report_failures, weights_of
from adain.datasets.options import (
    DEFAULT_ENGINE_OPTIONS,
    DEFAULT_RESULT_OPTIONS,
    DEFAULT_SOURCE_OPTIONS,
    EngineOptions,
    Format,
    ResultOptions,
    SourceOptions,
)
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions

if TYPE_CHECKING:
    from adain.datasets.runner import Report


def stylize_dataset(
    content: str,
    output: str,
    style: str | None = None,
    method: str = "adain-lite",
    checkpoint: str | None = None,
    format: Format | None = None,
    style_size: int = 256,
    source_options: SourceOptions = DEFAULT_SOURCE_OPTIONS,
    result_options: ResultOptions = DEFAULT_RESULT_OPTIONS,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
    engine_options: EngineOptions = DEFAULT_ENGINE_OPTIONS,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    report: str | None = None,
) -> int:
    """Stylize a dataset, with its labels: folders, parquet or arrow files, tar shards, or a dataset from the Hub.

    Args:
        content: Dataset: a folder of images, usually with a subfolder for each class; parquet or arrow files, or a
            folder of them; tar shards, a folder of them, or a pattern such as train-{000..146}.tar; or the name of a
            dataset on the Hugging Face Hub.
        output: Folder for the results. To continue an interrupted run, repeat the command.
        style: File of a bank that encode-style wrote, an image, or a dataset of styles (default: the embedded bank of
            adain-lite). A style is drawn for each result.
        method: Method to use, with its embedded weights: adain-lite, adain, or adaconv.
        checkpoint: File of weights to use instead of the method's embedded ones.
        format: Kind of the results (default: that of the content).
        style_size: Stroke size: shorter side of the style images in pixels. Has no effect on the styles of a bank.
        source_options: How the dataset is read.
        result_options: What is made of each image.
        read_options: Which images are accepted.
        engine_options: Where and how the work is done.
        device: Device to use: auto, cpu, cuda, mps, or another one of torch.
        precision: Floating-point type of the network. auto is bf16 where that is fast and within 1/255 on
            average, else fp32.
        report: File to write with the numbers of the run and all failures, as JSON.
    """
    from adain.datasets.runner import check_apart, stylize_dataset
    from adain.utils.files import check_not_inputs

    weights = weights_of(method, checkpoint)
    if report:
        datasets = [content] if style is None else [content, style]
        check_not_inputs([report], [*datasets, weights])
        for dataset in datasets:
            check_apart(Path(report), Path(dataset), "--report")
    found = stylize_dataset(
        content,
        style,
        output,
        weights,
        format=format,
        style_size=style_size,
        source_options=source_options,
        options=result_options,
        read_options=read_options,
        engine_options=engine_options,
        device=device,
        precision=precision,
    )
    if report:
        _write_report(found, Path(report))
    if not engine_options.quiet:
        print(f"{output}: {summary(found)}")
    return report_failures(found.failures, all_wrong=bool(found.failures) and not found.results)


def summary(report: "Report") -> str:
    """Summarize the numbers of a run on one line."""
    text = f"{report.results} results"
    if report.made < report.results:
        text += f", {report.made} of them in this run"
    if report.made:
        text += f" ({report.made / report.seconds:.1f} per second)"
    if report.failures:
        text += f"; {len(report.failures)} failed"
    if report.rank.count > 1:
        text = f"rank {report.rank.number} of {report.rank.count}: {text}"
    return text


def _write_report(report: "Report", path: Path) -> None:
    from adain.utils.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=2) + "\n")
