"""The extra time of `alpha_blend="residual"` over `"features"`: `python -m benchmarks.alpha`.

Both blend the same content with the same pre-encoded style at the same strength, take turns in an alternating order,
and are reported as medians. The residual needs a second pass of the decoder, which rebuilds the content.
"""

import argparse

import adain
from adain.imaging import reader
from adain.utils import memory
from benchmarks.folder import ROOT, STYLE
from benchmarks.timing import machine, take_turns

METHODS = ("adain", "adain-lite", "adaconv")


def main() -> None:
    """Print a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--alpha", type=float, default=0.8)
    parser.add_argument("--size", type=int, default=512, help="pixels a side of the content and of the style")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    size = options.size
    content = reader.load_image(ROOT / "examples" / "content" / "astronaut.png", size)[..., :size, :size]
    print(f"{machine()}; {size} px, style pre-encoded, alpha {options.alpha}, {options.rounds} rounds")
    print("| method | features (s) | residual (s) | extra time |\n| --- | --- | --- | --- |")
    for name in options.methods:
        ready = adain.prepare(name, options.device)
        code = adain.encode_style(ready, STYLE, size)

        def features(ready=ready, code=code) -> object:  # type: ignore[no-untyped-def]
            return adain.stylize(content, code, ready, alpha=options.alpha, alpha_blend="features")

        def residual(ready=ready, code=code) -> object:  # type: ignore[no-untyped-def]
            return adain.stylize(content, code, ready, alpha=options.alpha, alpha_blend="residual")

        times = take_turns({"features": features, "residual": residual}, options.rounds, options.device)
        extra = times["features"].ratio(times["residual"]) - 1
        cells = f"{times['features'].median:.3f} | {times['residual'].median:.3f} | {extra:+.0%}"
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    memory.keep_freed()
    main()
