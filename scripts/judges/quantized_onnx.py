#!/usr/bin/env python3
"""Builds ONNX models with quantised weights (not by this project): `quantized_onnx.py FOLDER`.

One folder a case: `model.onnx`, `inputs.npz`, `expected.npz` with NumPy's product, `weight.npz` with the weight as NumPy dequantises it.
"""

import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(sys.argv[1])
RNG = np.random.default_rng(12)
K, N = 96, 64
TYPES = {"int8": (TensorProto.INT8, -128, 127), "uint8": (TensorProto.UINT8, 0, 255), "int4": (TensorProto.INT4, -8, 7), "uint4": (TensorProto.UINT4, 0, 15)}
FORMS = {"tensor": (), "axis": (N,), "block": (K // 32, N)}


def stored(name, code, values):
    if code in (TensorProto.INT4, TensorProto.UINT4):
        nibbles = values.reshape(-1).astype(np.int16) & 15
        return helper.make_tensor(name, code, values.shape, (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes(), raw=True)
    dtype = helper.tensor_dtype_to_np_dtype(code)
    return numpy_helper.from_array(values.astype(dtype), name)


for kind, (code, low, high) in TYPES.items():
    for form, grid in FORMS.items():
        q = RNG.integers(low, high + 1, (K, N))
        scale = RNG.uniform(0.01, 0.05, grid).astype(np.float32)
        # int4 without zero points, the others with some.
        zero = None if kind == "int4" else RNG.integers(max(low, -5), 6, grid)
        spread = (lambda a: np.repeat(a, 32, 0)) if form == "block" else np.asarray
        w = (q - (0 if zero is None else spread(zero))).astype(np.float32) * spread(scale)
        initializers = [stored("q", code, q), numpy_helper.from_array(scale, "scale")]
        inputs = ["q", "scale"]
        if zero is not None:
            initializers.append(stored("zero", code, zero) if zero.size % 2 == 0 else helper.make_tensor("zero", code, zero.shape, [int(zero)]))
            inputs.append("zero")
        attributes = {"tensor": {}, "axis": {"axis": 1}, "block": {"axis": 0, "block_size": 32}}[form]
        nodes = [helper.make_node("DequantizeLinear", inputs, ["w"], **attributes), helper.make_node("MatMul", ["x", "w"], ["y"])]
        x_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, K])
        y_info = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, N])
        graph = helper.make_graph(nodes, "g", [x_info], [y_info], initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        folder = OUT / f"{kind}-{form}"
        folder.mkdir(parents=True)
        onnx.save(model, folder / "model.onnx")
        x = RNG.uniform(-1, 1, (2, K)).astype(np.float32)
        np.savez(folder / "inputs.npz", x=x)
        np.savez(folder / "expected.npz", y=(x.astype(np.float64) @ w).astype(np.float32))
        np.savez(folder / "weight.npz", w=w)
print(len(TYPES) * len(FORMS), "models")
