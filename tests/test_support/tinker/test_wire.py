"""The bytes themselves; that the SDK reads and writes the same is `test_tinker_server.py`'s."""

import struct

import numpy as np
import pytest

from retrain_test_support.tinker.wire import read_message, write_samples, write_train_output

# What `protoc` makes of {1: 300, 2: "abc", 3: 1.5 (double), 4: 2.5 (float)}.
MESSAGE = b"\x08\xac\x02\x12\x03abc\x19" + struct.pack("<d", 1.5) + b"\x25" + struct.pack("<f", 2.5)


def test_every_wire_type_is_read():
    fields = read_message(MESSAGE)
    assert fields[1] == [300]
    assert fields[2] == [b"abc"]
    assert struct.unpack("<d", fields[3][0]) == (1.5,)
    assert struct.unpack("<f", fields[4][0]) == (2.5,)


def test_repeated_fields_are_gathered():
    assert read_message(b"\x08\x01\x08\x02") == {1: [1, 2]}


def test_an_empty_output_has_no_data():
    fields = read_message(write_train_output([], {}))
    assert read_message(fields[2][0])[3] == [0]


@pytest.mark.parametrize("lengths", [[3], [1, 200, 2]])
def test_offsets_are_in_bytes(lengths):
    rows = [np.arange(length, dtype=np.float64) for length in lengths]
    record = read_message(read_message(write_train_output(rows, {"loss:sum": 1.0}))[2][0])
    tensor = read_message(read_message(record[2][0])[2][0])
    ends = np.frombuffer(tensor[2][0], np.int64)
    assert ends.tolist() == [0, *(4 * np.cumsum(lengths)).tolist()]
    assert np.frombuffer(tensor[1][0], np.float32).tolist() == np.concatenate(rows).tolist()


def test_samples_without_prompt_logprobs_leave_them_out():
    assert read_message(write_samples([], None)) == {}
