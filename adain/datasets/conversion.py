"""What belongs to an image, as the row of a table and as members of a tar shard."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from adain.datasets.samples import Sample, Source

if TYPE_CHECKING:
    import pyarrow as pa

CLASS = "cls"
"""Suffix of the member with the number of the class, as WebDataset reads it."""

TEXTS = ("txt", "json", "text", "transcript")
"""Suffixes of members that are texts."""


def member_columns(suffixes: Iterable[str]) -> dict[str, Any]:
    """Return the features of `datasets` for members of tar shards: an integer for the class, strings, or bytes."""
    import datasets

    columns = {}
    for suffix in suffixes:
        kind = "binary"
        if suffix == CLASS:
            kind = "int64"
        elif suffix in TEXTS:
            kind = "string"
        columns[suffix] = datasets.Value(kind)
    return columns


def row_of(sample: Sample, schema: "pa.Schema") -> "pa.Table":
    """Return the row of a sample with the columns of `schema`; its image is null unless it comes from a table.

    Raises:
        ValueError: A member of a tar shard has another type than its suffix says.
    """
    import pyarrow as pa

    if sample.row is not None:
        return sample.row
    values: dict[str, Any] = dict(sample.fields or {})
    if sample.members is not None:
        values = {"__key__": sample.key, **{name: _value(name, data) for name, data in sample.members.items()}}
    return pa.Table.from_pylist([values], schema=schema)


def _value(suffix: str, data: bytes) -> Any:
    if suffix == CLASS:
        return int(data)
    return data.decode() if suffix in TEXTS else data


def members_of(sample: Sample, source: Source) -> Mapping[str, bytes]:
    """Return the members of a sample of a tar shard, by suffix, without the image.

    Of the row of a table, bytes and other images become members of their own, named by their columns, and all other
    columns are in json. The first class label is also in cls.

    Raises:
        ValueError: A value has no counterpart in JSON.
    """
    if sample.members is not None:
        return sample.members
    if sample.row is not None:
        return _members_of_row(sample.row, source)
    label = (sample.fields or {}).get("label")
    return {} if label is None else {CLASS: str(label).encode()}


def _members_of_row(row: "pa.Table", source: Source) -> dict[str, bytes]:
    import datasets

    features = datasets.Features.from_arrow_schema(source.schema())
    (values,) = row.drop_columns([source.image_column]).to_pylist()
    members = {}
    for name, value in list(values.items()):
        data = value["bytes"] if has_bytes(value) else value
        if isinstance(data, bytes):
            members[name.replace(".", "_")] = data
            del values[name]
        elif isinstance(features.get(name), datasets.ClassLabel) and CLASS not in members and value is not None:
            members[CLASS] = str(value).encode()
    if values:
        try:
            members["json"] = json.dumps(values, default=_as_json).encode()
        except TypeError as error:
            raise ValueError(f"Expected columns that JSON can hold, got one that it cannot ({error})") from error
    return members


def has_bytes(value: Any) -> bool:
    """Return whether this is the cell of an image, or of another file of `datasets`, with the bytes of the file."""
    return isinstance(value, dict) and value.keys() == {"bytes", "path"} and value["bytes"] is not None


def _as_json(value: Any) -> Any:
    """Convert dates and times to ISO 8601, and arrays to lists."""
    for convert in ("isoformat", "tolist"):
        if hasattr(value, convert):
            return getattr(value, convert)()
    raise TypeError(f"{type(value).__name__} {value}")
