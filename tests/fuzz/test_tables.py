"""Hostile CSV and YAML files: refused in one line."""

import pytest

from tests.conftest import picture
from tests.fuzz.test_images import check

TABLES = {
    "empty": b"",
    "no rows": b"content,style\n",
    "no column": b"content\na.png\n",
    "not UTF-8": b"content,style\n\xff\xfe,a.png\n",
    "NUL": b"content,style\na.png\0,b.png\n",
    "long field": b"content,style\n" + b"a" * 200_000 + b",b.png\n",
    "long name": b"content,style\n" + b"a" * 5000 + b",b.png\n",
    "no file": b"content,style\nmissing.png,b.png\n",
    "NaN": b"content,style,alpha\na.png,b.png,nan\n",
    "infinity": b"content,style,alpha\na.png,b.png,inf\n",
    "negative": b"content,style,alpha\na.png,b.png,-1\n",
    "code": b"content,style,alpha\na.png,b.png,__import__('os')\n",
    "open quote": b'content,style\n"a.png,b.png\n',
    "a folder": b"content,style\n.,b.png\n",
    "binary": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_hostile_tables(worker, tmp_path, name):
    picture(tmp_path / "content" / "a.png")
    picture(tmp_path / "style" / "b.png")
    (tmp_path / "pairs.csv").write_bytes(TABLES[name])
    words = ["stylize", "--content", "content", "--style", "style", "--output", "out", "--pairs", "pairs.csv"]
    words = [str(tmp_path / word) if not word.startswith("-") and word != "stylize" else word for word in words]
    reply = check(worker.ask("command", words=[*words, "--method", "adain-lite", "--device", "cpu", "--workers", "0"]))
    assert reply.text == "2", reply
    assert len(reply.printed.splitlines()) == 1, reply
    assert not (tmp_path / "out").exists()


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(20)
)
"""Each line repeats the one before ten times: written out, 10^20 words."""

CONFIGS = {
    "text": "no settings",
    "unknown": "unknown: 5\n",
    "code": "content: !!python/object/apply:os.system ['touch MARKER']\n",
    "NaN": "content: [a.png]\nalpha: [.nan]\n",
    "laughs": LAUGHS,
    "laughs as a flag": LAUGHS + "content: *u\n",
    "deep": "content: " + "[" * 1500,
    "binary": "\0\1\2",
    "number": "content: [a.png]\nsize: 1e400\n",
    "itself": "content: &a [*a]\n",
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_hostile_configurations(worker, tmp_path, name):
    marker = tmp_path / "code-was-run"
    (tmp_path / "config.yaml").write_text(CONFIGS[name].replace("MARKER", str(marker)))
    reply = check(worker.ask("command", words=["stylize", "--config", str(tmp_path / "config.yaml")]))
    assert reply.text == "2", reply
    assert len(reply.printed.splitlines()) == 1, reply
    assert len(reply.printed) < 2000, reply
    assert not marker.exists()
