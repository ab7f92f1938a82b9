"""Hypothesis strategies that damage files: bytes, lengths, order, and, for PNG files, with valid check sums."""

import struct
import zlib
from collections.abc import Mapping

from hypothesis import strategies as st

EXTREMES = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
    b"\0\0\0\x80",
    b"\0\0\x7f\xff",
    b"\0\x01",
    b"\x01\0",
    b"\xff\xff",
    b"\0\0\xc0\x7f",  # NaN
    b"\0\0\x80\x7f",  # infinity
]
"""Values that sizes, counts, and offsets of either byte order should not have."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

POSITIONS = st.one_of(st.integers(0, 100), st.integers(0, 2**16))  # most headers are at the start

MUTATIONS = st.one_of(
    st.tuples(st.just("overwrite"), POSITIONS, st.one_of(st.sampled_from(EXTREMES), st.binary(min_size=1, max_size=4))),
    st.tuples(st.just("flip"), POSITIONS, st.integers(0, 7)),
    st.tuples(st.just("insert"), POSITIONS, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("remove"), POSITIONS, st.integers(1, 64)),
    st.tuples(st.just("repeat"), POSITIONS, st.integers(1, 64)),
    st.tuples(st.just("cut"), POSITIONS, st.none()),
)

MUTATION_LISTS = st.lists(MUTATIONS, min_size=1, max_size=3)


def apply(data: bytes, kind: str, position: int, value) -> bytes:
    """The data after one mutation; positions behind the end wrap around."""
    position %= len(data) + 1
    before, after = data[:position], data[position:]
    if kind == "overwrite":
        return before + value + after[len(value) :]
    if kind == "flip":
        return before + bytes([after[0] ^ 1 << value]) + after[1:] if after else before
    if kind == "insert":
        return before + value + after
    if kind == "remove":
        return before + after[value:]
    if kind == "repeat":
        return before + after[:value] + after
    return before


def repair_png(data: bytes) -> bytes:
    """A PNG file with the check sums that its chunks should have, so that decoders read on."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    parts = [PNG_SIGNATURE]
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        body = data[position + 4 : position + 8 + length]
        parts += [data[position : position + 4], body, struct.pack(">I", zlib.crc32(body))]
        position += 12 + length
    return b"".join(parts)


def mutated(data: bytes, changes) -> bytes:
    """The data after several mutations."""
    for kind, position, value in changes:
        data = apply(data, kind, position, value)
    return data


@st.composite
def mutated_files(draw, files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The name of one of the files, and its data after one to three mutations."""
    name = draw(st.sampled_from(sorted(files)))
    data = mutated(files[name], draw(MUTATION_LISTS))
    if draw(st.booleans()):
        data = repair_png(data)
    return name, data
