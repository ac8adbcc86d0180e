"""What a raw file is: Parquet, ORC or Avro by its first bytes, whether it is whole, its schema and how many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from lakehouse.errors import RawDataError
from lakehouse.raw import avro
from lakehouse.raw.places import Place, open_place, reading
from lakehouse.settings import S3Settings

Format = Literal["parquet", "orc", "avro"]
MAGIC: dict[bytes, Format] = {b"PAR1": "parquet", b"ORC": "orc", avro.MAGIC: "avro"}
NAMES: dict[Format, str] = {"parquet": "Parquet", "orc": "ORC", "avro": "Avro"}


class NotWholeError(RawDataError):
    """A file that is empty or breaks off: damaged, or still being written."""


class UnknownFormatError(NotWholeError):
    """A file that begins as none of the formats does: another kind of file, or one of which too little is there."""


@dataclass(frozen=True)
class Content:
    """A file's format, schema, and the rows of each part that is decoded by itself: row groups, else all in one."""

    format: Format
    schema: pa.Schema
    groups: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of the whole file."""
        return sum(self.groups)


def look(place: Place, s3: S3Settings | None = None) -> Content:
    """A file's content by its footer (Avro: by its blocks). Raises NotWholeError, RawDataError."""
    if place.size == 0:
        raise NotWholeError(f"{place.path} is empty: remove it, or write it again")
    with reading(place.path), open_place(place, s3) as file:
        begins = file.read(4)
        kind = next((kind for magic, kind in MAGIC.items() if begins.startswith(magic)), None)
        if kind is None:
            raise UnknownFormatError(
                f"{place.path} is not a whole Parquet, ORC or Avro file (it begins as none of them does): write it "
                f"again, or give a pattern that leaves it out, as in '…/*.parquet'"
            )
        try:
            file.seek(0)
            return _content(kind, file)
        except (pa.ArrowException, EOFError, ValueError) as error:
            raise _broken(place, kind, error) from error
        except OSError as error:  # PyArrow's ORC reader: a file without its tail
            if error.errno is not None:
                raise
            raise _broken(place, kind, error) from error


def _broken(place: Place, kind: Format, error: Exception) -> NotWholeError:
    return NotWholeError(
        f"{place.path} is not a whole {NAMES[kind]} file ({str(error).splitlines()[0]}): write it again, or name a "
        f"file that is still being written with a leading _ or a trailing .tmp"
    )


def _content(kind: Format, file: pa.NativeFile) -> Content:
    if kind == "parquet":
        footer = pq.ParquetFile(file)
        groups = range(footer.metadata.num_row_groups)
        return Content(kind, footer.schema_arrow, tuple(footer.metadata.row_group(i).num_rows for i in groups))
    if kind == "orc":
        stripes = orc.ORCFile(file)
        return Content(kind, in_microseconds(stripes.schema), (stripes.nrows,))
    schema, rows = avro.read_frame(file)
    return Content(kind, schema, (rows,))


def in_microseconds(schema: pa.Schema) -> pa.Schema:
    """PyArrow gives ORC's times in nanoseconds, which ORC holds and hardly anybody writes: they are read as micro."""

    def micro(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_timestamp(kind):
            return pa.timestamp("us", kind.tz)
        if pa.types.is_list(kind):
            return pa.list_(micro(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([f.with_type(micro(f.type)) for f in kind])
        return kind

    return pa.schema([field.with_type(micro(field.type)) for field in schema])
