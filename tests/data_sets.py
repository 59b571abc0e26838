"""What the tests of data sets share: how one is written, and what is read in it."""

import io
import tarfile

import pytest
from picture_files import encode, pixels
from PIL import Image

from vd_core.datasets.find import find_rows
from vd_core.datasets.read import Reader
from vd_core.pictures import read_picture

PNG = encode(Image.fromarray(pixels()), "PNG")


def write_shard(path, members, mode="w"):
    with tarfile.open(path, mode) as shard:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


def write_table(path, columns):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)


def texts(source, **options):
    return {row.id: row.text for row in find_rows(source, **options).keep("text").rows}


def pictured(source, **options):
    """Return the ids of rows with pictures, which can all be read."""
    reader, rows = Reader(), find_rows(source, **options).keep("picture").rows
    assert all(read_picture(reader.read(row), row.id).mode == "RGB" for row in rows)
    return [row.id for row in rows]


def message(reader, row):
    with pytest.raises(ValueError, match="cannot be read: ") as caught:
        reader.read(row)
    return str(caught.value)
