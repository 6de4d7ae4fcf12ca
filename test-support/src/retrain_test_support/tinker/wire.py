"""The Tinker API's binary messages, read and written by hand.

Training batches arrive, and their results and samples leave, in the protocol buffers wire format
(protobuf.dev, "Encoding"). Only the fields that this server knows are read; unknown ones are
skipped, as the format intends. Field numbers are those of the SDK's `tinker_public.proto`.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain_test_support.tinker.losses import LossInputs
from retrain_test_support.tinker.policy import Drawn

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DTYPES = {1: np.float32, 2: np.int64, 3: np.int32}
_NAMED_DTYPES = {"float32": np.float32, "int64": np.int64}
_FLOAT32 = 1


class Datum(NamedTuple):
    """One training sequence: position i of `inputs_T` predicts `targets_T[i]`."""

    inputs_T: npt.NDArray[np.int64]
    targets_T: npt.NDArray[np.int64]
    loss: LossInputs


class TrainRequest(NamedTuple):
    """A submitted `forward` or `forward_backward`."""

    model_id: str
    seq_id: int
    data: list[Datum]
    loss_fn: str
    config: dict[str, float]
    forward_only: bool


def read_train_request(body: bytes) -> TrainRequest:
    """A `ForwardBackwardRequest` message.

    Raises:
      ValueError: a datum is not plain tokens with dense targets.
    """
    fields = read_message(body)
    return TrainRequest(
        model_id=_text(fields, 1),
        seq_id=int(_last(fields, 2, 0)),
        data=[_read_datum(read_message(each)) for each in fields.get(3, [])],
        loss_fn=_text(fields, 4),
        config={key: struct.unpack("<d", value)[0] for key, value in _entries(fields, 5)},
        forward_only=bool(_last(fields, 6, 0)),
    )


def train_request_from_json(
    body: Mapping[str, Any], inputs: str, forward_only: bool
) -> TrainRequest:
    """The same request as SDKs before 0.25 send it; `inputs` is the key of its batch."""
    batch = body[inputs]
    return TrainRequest(
        model_id=body["model_id"],
        seq_id=body["seq_id"],
        data=[_datum_from_json(each) for each in batch["data"]],
        loss_fn=batch["loss_fn"],
        config=dict(batch.get("loss_fn_config") or {}),
        forward_only=forward_only,
    )


def prompt_tokens(model_input: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """The tokens of a prompt in JSON, shape [T].

    Raises:
      ValueError: a part of it is not text.
    """
    chunks = model_input["chunks"]
    if any("tokens" not in chunk for chunk in chunks):
        raise ValueError("this server takes prompts of tokens only")
    return np.concatenate([np.zeros(0, np.int64), *(chunk["tokens"] for chunk in chunks)]).astype(
        np.int64
    )


def write_samples(samples: Sequence[Drawn], prompt_logprobs_T: npt.ArrayLike | None) -> bytes:
    """A `SampleResponse` message; a prompt's log-probs have NaN where there is none."""
    parts = [
        _field(
            1,
            _number(1, 0 if drawn.stopped else 1)
            + _field(2, drawn.tokens_T.astype(np.int32).tobytes())
            + _field(3, drawn.logprobs_T.astype(np.float32).tobytes()),
        )
        for drawn in samples
    ]
    if prompt_logprobs_T is not None:
        parts.append(_field(2, np.asarray(prompt_logprobs_T, np.float32).tobytes()))
    return b"".join(parts)


def write_train_output(
    logprobs: Sequence[npt.NDArray[np.float64]], metrics: Mapping[str, float]
) -> bytes:
    """A `ForwardBackwardOutput` message: the log-probs of every datum's targets."""
    flat = np.concatenate([np.zeros(0), *logprobs]).astype(np.float32)
    ends = np.cumsum([0, *(len(each) for each in logprobs)], dtype=np.int64) * flat.itemsize
    tensor = _field(1, flat.tobytes()) + _field(2, ends.tobytes()) + _number(3, _FLOAT32)
    record = _field(2, _field(1, b"logprobs") + _field(2, tensor)) + _number(3, len(logprobs))
    head = _field(1, b"ArrayRecord") + _field(2, record)
    return head + b"".join(
        _field(3, _field(1, name.encode()) + _tag(2, _FIXED64) + struct.pack("<d", value))
        for name, value in metrics.items()
    )


def read_message(data: bytes) -> dict[int, list[Any]]:
    """The fields of a message: bytes for nested ones and fixed widths, integers for varints."""
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value, at = _read_varint(data, at)
        else:
            if wire_type == _BYTES:
                size, at = _read_varint(data, at)
            else:
                size = {_FIXED64: 8, _FIXED32: 4}[wire_type]
            value, at = data[at : at + size], at + size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _read_datum(fields: dict[int, list[Any]]) -> Datum:
    chunks = [read_message(each) for each in fields.get(1, [])]
    texts = [read_message(chunk[1][0]) for chunk in chunks if 1 in chunk]
    if len(texts) < len(chunks):
        raise ValueError("this server trains on tokens only")
    tokens = b"".join(_last(text, 1, b"") for text in texts)
    tensors = {key: _read_tensor(read_message(value)) for key, value in _entries(fields, 2)}
    return _datum(np.frombuffer(tokens, np.int32).astype(np.int64), tensors)


def _datum_from_json(datum: Mapping[str, Any]) -> Datum:
    tensors = {
        key: np.array(tensor["data"], _NAMED_DTYPES[tensor["dtype"]])
        for key, tensor in datum["loss_fn_inputs"].items()
    }
    return _datum(prompt_tokens(datum["model_input"]), tensors)


def _datum(inputs_T: npt.NDArray[np.int64], tensors: dict[str, npt.NDArray[Any]]) -> Datum:
    targets_T = tensors.pop("target_tokens", None)
    if targets_T is None:
        raise ValueError("loss_fn_inputs lacks `target_tokens`")
    for name, values in {"target_tokens": targets_T, **tensors}.items():
        if values.shape != inputs_T.shape:
            raise ValueError(f"`{name}` has shape {values.shape}, the input {inputs_T.shape}")
    return Datum(
        inputs_T,
        targets_T.astype(np.int64),
        {name: values.astype(np.float64) for name, values in tensors.items()},
    )


def _read_tensor(fields: dict[int, list[Any]]) -> npt.NDArray[Any]:
    if 1 not in fields and 2 in fields:
        raise ValueError("this server takes dense tensors only")
    return np.frombuffer(_last(fields, 1, b""), _DTYPES[_last(fields, 3, 0)])


def _entries(fields: dict[int, list[Any]], number: int) -> list[tuple[str, bytes]]:
    """A map field's entries."""
    entries = [read_message(each) for each in fields.get(number, [])]
    return [(_text(entry, 1), _last(entry, 2, b"")) for entry in entries]


def _last(fields: dict[int, list[Any]], number: int, default: Any) -> Any:
    return fields.get(number, [default])[-1]


def _text(fields: dict[int, list[Any]], number: int) -> str:
    return _last(fields, number, b"").decode()


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _field(number: int, data: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _tag(number, _VARINT) + _varint(value)
