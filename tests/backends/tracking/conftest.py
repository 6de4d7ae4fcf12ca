import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2 as records

HEADER = 7  # bytes before the first block, and before every piece of a record
BLOCK = 32 * 1024
LAST_PIECES = (1, 4)  # a whole record, the last piece of one


def records_of(file: Path) -> Iterator[records.Record]:
    """The records of a `.wandb` file: LevelDB's log format behind a header."""
    data, at, whole = file.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too small for a piece: padding
            at += BLOCK - at % BLOCK
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in LAST_PIECES:
            record = records.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


@pytest.fixture
def wandb_records():
    """All records that runs below a directory wrote, by the file they are in."""

    def read(directory: Path) -> dict[Path, list[records.Record]]:
        return {file: list(records_of(file)) for file in sorted(directory.rglob("*.wandb"))}

    return read
