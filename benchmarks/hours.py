"""The hours that the experiments took: `python -m benchmarks.hours`.

Adds up the seconds in the tables of docs/experiments.md and of the comparison in docs/methods.md: the number of pairs
times the median seconds of a pair. Encoding, metrics, and sheets are not included.
"""

from adain.evaluation.report import markdown
from benchmarks.figures import MARKED, ROOT

PAGES = ("docs/experiments.md", "docs/methods.md")
MODULES = ("benchmarks.presets", "benchmarks.experiments", "benchmarks.backbones", "benchmarks.comparison")


def seconds_of(text: str) -> float:
    """Return the sum over the rows of all tables in `text` that have the columns "pairs" and "seconds"."""
    total = 0.0
    columns: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if "pairs" in cells and "seconds" in cells:
            columns = cells
        elif not cells:
            columns = []
        elif columns:
            row = dict(zip(columns, cells, strict=True))
            if row["seconds"].replace(".", "").isdigit():
                total += int(row["pairs"]) * float(row["seconds"])
    return total


def main() -> None:
    """Print the table."""
    rows = []
    for page in PAGES:
        for table in MARKED.finditer((ROOT / page).read_text()):
            if any(module in table["command"] for module in MODULES):
                rows.append({"command": f"`{table['command']}`", "hours": seconds_of(table["text"]) / 3600})
    rows.append({"command": "all", "hours": sum(row["hours"] for row in rows)})
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
