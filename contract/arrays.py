"""The bytes of Arrow columns as NumPy arrays."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Edges = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def bytes_of(column: pa.BinaryArray) -> tuple[Edges, Bytes]:
    """Return the bytes of all values of a column that has rows, and where in them each value begins and the last ends.

    The bytes are not copied. A null is as long as an empty value.
    """
    _, offsets, data = column.buffers()
    edges = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return edges - edges[0], np.frombuffer(data or b"", np.uint8)[edges[0] : edges[-1]]


def of_width(column: pa.BinaryArray, width: int) -> tuple[Integers, Bytes]:
    """Return the rows whose values have ``width`` bytes, and these bytes: an array row for each position in a value."""
    edges, data = bytes_of(column)
    rows = np.flatnonzero(np.diff(edges) == width)
    if len(rows) * width == len(data):
        values = data.reshape(-1, width)
    elif len(rows):
        values = np.lib.stride_tricks.sliding_window_view(data, width)[edges[rows]]
    else:
        values = np.empty((0, width), np.uint8)
    # With one array row per position, NumPy works on long contiguous runs of bytes.
    return rows, np.ascontiguousarray(values.T)
