"""Training on the default datasets, which a local stand-in of the Hugging Face Hub serves."""

import json
import os
import subprocess
import sys
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from tests.conftest import ROOT
from tests.hub import Hub

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})

OBJECTS = {
    "bbox_id": pa.list_(pa.int64()),
    "category": pa.list_(pa.int64()),
    "bbox": pa.list_(pa.list_(pa.float64(), 4)),
    "area": pa.list_(pa.float64()),
}

COCO_COLUMNS = {
    "image_id": pa.int64(),
    "image": IMAGE,
    "width": pa.int64(),
    "height": pa.int64(),
    "objects": pa.struct(OBJECTS),
}

WIKIART_COLUMNS = {"image": IMAGE, "artist": pa.int64(), "genre": pa.int64(), "style": pa.int64()}


def value(dtype):
    return {"dtype": dtype, "id": None, "_type": "Value"}


def label(*names):
    return {"num_classes": len(names), "names": names, "id": None, "_type": "ClassLabel"}


def sequence(feature, length=-1):
    return {"feature": feature, "length": length, "id": None, "_type": "Sequence"}


# As the versions of `datasets` of 2022 and 2023 described the columns, with which these datasets were written.
COCO_FEATURES = {
    "image_id": value("int64"),
    "image": {"decode": True, "id": None, "_type": "Image"},
    "width": value("int64"),
    "height": value("int64"),
    "objects": sequence(
        {
            "bbox_id": value("int64"),
            "category": label("person", "bicycle", "car"),
            "bbox": sequence(value("float64"), 4),
            "area": value("float64"),
        }
    ),
}

WIKIART_FEATURES = {
    "image": {"decode": True, "id": None, "_type": "Image"},
    "artist": label("Unknown Artist", "vincent-van-gogh"),
    "genre": label("abstract_painting", "landscape"),
    "style": label("Abstract_Expressionism", "Impressionism"),
}


def jpeg(seed, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = BytesIO()
    Pillow.fromarray(pixels).resize((64, 48)).convert(mode).save(file, "JPEG")
    return file.getvalue()


def shard(columns, features, rows):
    """A parquet file with the description of its columns that `datasets` stores in it."""
    schema = pa.schema(columns).with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return file.getvalue()


def coco_row(seed):
    objects = {"bbox_id": [seed], "category": [2], "bbox": [[1.0, 2.0, 30.5, 40.0]], "area": [1180.0]}
    # Some photos of COCO are gray, and some have no objects.
    image = {"bytes": jpeg(seed, "L" if seed % 4 == 0 else "RGB"), "path": None}
    objects = {name: values if seed % 3 else [] for name, values in objects.items()}
    return {"image_id": seed, "image": image, "width": 64, "height": 48, "objects": objects}


def wikiart_row(seed):
    return {"image": {"bytes": jpeg(seed), "path": None}, "artist": 1, "genre": 1, "style": seed % 2}


def coco_shard(seeds):
    return shard(COCO_COLUMNS, COCO_FEATURES, [coco_row(seed) for seed in seeds])


def wikiart_shard(seeds):
    return shard(WIKIART_COLUMNS, WIKIART_FEATURES, [wikiart_row(seed) for seed in seeds])


@pytest.fixture(scope="module")
def repos():
    coco = {
        "README.md": b"---\ntask_categories:\n- object-detection\n---\n# COCO\n",
        "data/train-00000-of-00002-67e35002d152155c.parquet": coco_shard(range(8)),
        "data/train-00001-of-00002-2c2b33b9504aa843.parquet": coco_shard(range(8, 16)),
        "data/val-00000-of-00001-8ed8eb2b3d0eb6ff.parquet": coco_shard([16]),
    }
    wikiart = {
        "README.md": b"---\nlicense: unknown\n---\n# WikiArt\n",
        "data/train-00000-of-00002.parquet": wikiart_shard(range(8)),
        "data/train-00001-of-00002.parquet": wikiart_shard(range(8, 16)),
    }
    return {"detection-datasets/coco": coco, "huggan/wikiart": wikiart}


SMALL = {
    "--config": "configs/adain.yaml",
    "--model.method.layer": "relu2_1",
    "--model.loss.content_layer": "relu2_1",
    "--model.loss.style_layers": "[relu1_1,relu2_1]",
    "--data.size": "[32,40]",
    "--data.crop": "32",
    "--data.batch_size": "2",
    "--data.val_pairs": "2",
    "--data.workers": "0",
    "--trainer.accelerator": "cpu",
    "--trainer.max_steps": "2",
    "--trainer.enable_progress_bar": "false",
}


@pytest.mark.parametrize("streaming", [pytest.param("false", marks=pytest.mark.slow), "true"])
def test_the_default_datasets(repos, streaming, tmp_path):
    dropped = ["data/train-00000-of-00002-67e35002d152155c.parquet", "data/train-00000-of-00002.parquet"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with Hub(repos) as hub:
        hub.drops = [*dropped]
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        words = [word for pair in SMALL.items() for word in pair]
        words += ["--data.streaming", streaming, "--trainer.default_root_dir", str(tmp_path / "runs")]
        command = [sys.executable, "train.py", "fit", *words]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert hub.dropped == dropped
    assert list((tmp_path / "runs").rglob("last.ckpt"))
