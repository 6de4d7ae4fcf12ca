import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from retrain_squeeze.errors import AdapterError
from retrain_squeeze.tensors import TensorWriter, decode, encode, is_finite, open_tensors

BITS = np.arange(2**16, dtype=np.uint16)


def finite(bits):
    return bits[(bits & 0x7F80) != 0x7F80]


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_bfloat16_is_the_upper_half_of_a_float32():
    one_and_more = np.array([0x3F80, 0xBF80, 0x4049, 0x0000, 0x0001], np.uint16)
    assert decode(one_and_more).tolist() == [1.0, -1.0, 3.140625, 0.0, 2.0**-133]


def test_every_bfloat16_survives_decoding_and_encoding():
    bits = finite(BITS)
    np.testing.assert_array_equal(encode(decode(bits), "BF16"), bits)


@given(st.floats(2.0**-120, 2.0**127, width=32), st.sampled_from([-1, 1]))
def test_encoding_takes_the_nearest_bfloat16_and_of_two_the_even_one(size, sign):
    (got,) = encode(np.array([sign * size]), "BF16")
    near = np.array([got - 1, got, got + 1], np.uint16)
    below, distance, above = np.abs(decode(near) - sign * size)
    assert distance <= min(below, above)
    assert distance < min(below, above) or got % 2 == 0


@pytest.mark.parametrize(
    ("value", "bits"), [(1 + 2**-8, 0x3F80), (1 + 3 * 2**-8, 0x3F82), (1 + 2**-8 + 2**-20, 0x3F81)]
)
def test_halves_go_to_even(value, bits):
    assert encode(np.array([value, -value]), "BF16").tolist() == [bits, bits + 0x8000]


@pytest.mark.parametrize("dtype", ["F16", "F32", "BF16"])
def test_what_is_too_large_is_seen(dtype):
    assert is_finite(encode(np.array([1.0, -2.5e-3]), dtype))
    assert not is_finite(encode(np.array([1.0, 1e300]), dtype))


@pytest.mark.parametrize(("dtype", "width"), [("F16", 2), ("F32", 4), ("F64", 8), ("BF16", 2)])
def test_tensors_are_read_where_they_lie(tmp_path, dtype, width):
    values = np.arange(12.0)
    header = {"first": entry([3], [0, 3], "U8"), "x": entry([3, 2, 2], [3, 3 + 12 * width], dtype)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(header, b"abc" + encode(values, dtype).tobytes()))
    file = open_tensors(path)
    assert [tensor.readable for tensor in file.tensors] == [False, True]
    np.testing.assert_array_equal(decode(file.stored(file.tensors[1])[:]), values.reshape(3, 4))


@pytest.mark.parametrize("block", [np.s_[1:3, 0:9], np.s_[0:, 1:3], np.s_[2:9, 3:9]])
def test_blocks_are_read_and_written(tmp_path, block):
    values = np.arange(20, dtype=np.float32).reshape(5, 2, 2)
    save_file({"first": np.array(1.0), "x": values}, tmp_path / "in.safetensors")
    source = open_tensors(tmp_path / "in.safetensors")
    (tensor,) = (tensor for tensor in source.tensors if tensor.name == "x")
    matrix, expected = values.reshape(5, 4), np.zeros((5, 4), np.float32)
    np.testing.assert_array_equal(source.stored(tensor)[block], matrix[block])
    writer = TensorWriter(tmp_path / "out.safetensors", source.tensors, {})
    writer.write("x", matrix[block], block[0].start, block[1].start)
    expected[block] = matrix[block]
    written = load_file(tmp_path / "out.safetensors")
    np.testing.assert_array_equal(written["x"], expected.reshape(values.shape))
    assert written["first"] == 0


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"x": np.ones((4, 4), np.float32)}, path)
    file = open_tensors(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AdapterError, match="was truncated while it was read"):
        file.stored(file.tensors[0])[:]
    path.unlink()
    with pytest.raises(AdapterError, match="cannot be read"):
        file.stored(file.tensors[0])[:]


def test_a_written_file_is_what_safetensors_reads(tmp_path):
    tensors = {
        "half": np.arange(3, dtype=np.float16),
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bytes": np.frombuffer(b"abcde", np.uint8),
        "numbers": np.arange(4),
        "empty": np.zeros((0, 2), np.float32),
    }
    save_file(tensors, tmp_path / "in.safetensors", metadata={"format": "pt", "ä": "ö"})
    source = open_tensors(tmp_path / "in.safetensors")
    out = tmp_path / "out.safetensors"
    writer = TensorWriter(out, source.tensors, source.metadata)
    for tensor in reversed(source.tensors):
        writer.copy(tensor, source.path)
    writer.write("matrix", 2 * tensors["matrix"])
    written = load_file(out)
    assert open_tensors(out).metadata == {"format": "pt", "ä": "ö"}
    assert written.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(written[name], tensor * (2 if name == "matrix" else 1))
    assert all(t.start % (t.size // max(np.prod(t.shape), 1) or 1) == 0 for t in source.tensors)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "header too small"),
        (file_of({}, length=100), "invalid header length"),
        (file_of({}, length=10**12), "header too large"),
        (file_of(b"{", length=1), "JSON"),
        (file_of({"x": entry([2], [0, 8])}, b"1234"), "not fully covered"),
        (file_of({"x": entry([2], [0, 8])}, b"123456789"), "not fully covered"),
        (file_of({"x": entry([3], [0, 8])}, b"12345678"), "invalid shape"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(AdapterError) as caught:
        open_tensors(path)
    line = str(caught.value)
    assert str(path) in line
    assert said in line
    assert "\n" not in line
    assert caught.value.exit_code == 2
