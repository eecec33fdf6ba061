#!/usr/bin/env python3
"""Builds packages with compressed weights in coremltools (not by this project): `compressed_packages.py FOLDER`.

One folder a case: `model.mlpackage`, `inputs.npz`, `expected.npz`, and `weight.npz` with the weight as coremltools decodes it. The expectation
is NumPy's product with that.
"""

import logging
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

OUT = pathlib.Path(sys.argv[1])
RNG = np.random.default_rng(11)
N, K = 64, 96  # outputs and inputs of the layer
KERNEL = (8, 3, 4)  # inputs of a convolution that sees all of them at once


def ints(low, high, dtype, shape=(N, K)):
    return RNG.integers(low, high, shape).astype(dtype)


def floats(*shape):
    return RNG.uniform(0.01, 0.05, shape).astype(np.float32)


def sub_byte(bits, shape=(N, K)):
    return RNG.integers(0, 1 << bits, shape).astype(types.type_mapping.string_to_nptype(f"uint{bits}"))


def table(bits, groups=1, width=1):
    return RNG.uniform(-1, 1, (groups, 1, 1 << bits, width)).astype(np.float32)


def packed(values):
    """Elements of `bits` bits one after the other, the lowest bit first."""
    bits = {2: 1, 4: 2, 16: 4, 64: 6, 256: 8}[values[1]]
    planes = values[0].reshape(-1, 1).astype(np.uint8) >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(planes.reshape(-1), bitorder="little")


def palette_of_first_generation(bits):
    indices = RNG.integers(0, 1 << bits, (N, K))
    lut = RNG.uniform(-1, 1, 1 << bits).astype(np.float32)
    return mb.constexpr_lut_to_dense(indices=packed((indices, 1 << bits)), lut=lut, shape=np.array((N, K), np.uint32))


def sparse_of_first_generation():
    m = RNG.uniform(size=(N, K)) < 0.4
    data = RNG.uniform(-1, 1, int(m.sum())).astype(np.float32)
    bits = np.packbits(m.reshape(-1), bitorder="little")
    return mb.constexpr_sparse_to_dense(nonzero_data=data, mask=bits, shape=np.array((N, K), np.uint32))


def sparse_palette_scaled():
    m, data = sparse(lambda n: sub_byte(4, (n,)))
    levels, scale = RNG.integers(-128, 128, (1, 1, 16, 1)).astype(np.int8), floats(N, 1)
    # coremltools does not evaluate the three together.
    decoded = np.zeros((N, K), np.float32)
    decoded[m.astype(bool)] = levels.reshape(-1)[data.astype(np.int32)]
    m, v = mb.constexpr_lut_to_sparse(indices_mask=m, indices_nonzero_data=data, lut=levels)
    m, v = mb.constexpr_sparse_blockwise_shift_scale(data_mask=m, nonzero_data=v, scale=scale)
    return mb.constexpr_sparse_to_dense(nonzero_data=v, mask=m), decoded * scale


def tables(*groups, bits=4, width=1):
    return RNG.uniform(-1, 1, (*groups, 1 << bits, width)).astype(np.float32)


def int4(shape=(N, K)):
    return RNG.integers(-8, 8, shape).astype(types.type_mapping.string_to_nptype("int4"))


def mask():
    return (RNG.uniform(size=(N, K)) < 0.4).astype(types.type_mapping.string_to_nptype("uint1"))


def sparse(values):
    m = mask()
    n = int(m.astype(np.int32).sum())
    return m, values(n)


def sparse_palette():
    m, data = sparse(lambda n: sub_byte(4, (n,)))
    m, v = mb.constexpr_lut_to_sparse(indices_mask=m, indices_nonzero_data=data, lut=table(4))
    return mb.constexpr_sparse_to_dense(nonzero_data=v, mask=m)


def sparse_blockwise():
    m, data = sparse(lambda n: ints(-128, 128, np.int8, (n,)))
    m, v = mb.constexpr_sparse_blockwise_shift_scale(data_mask=m, nonzero_data=data, scale=floats(N, 1))
    return mb.constexpr_sparse_to_dense(nonzero_data=v, mask=m)


def sparse_dense():
    m, data = sparse(lambda n: RNG.uniform(-1, 1, n).astype(np.float32))
    return mb.constexpr_sparse_to_dense(nonzero_data=data, mask=m)


shift = mb.constexpr_blockwise_shift_scale
lut = mb.constexpr_lut_to_dense
CASES = {
    "affine-int8": (16, lambda: mb.constexpr_affine_dequantize(quantized_data=ints(-128, 128, np.int8), zero_point=ints(-5, 5, np.int8, N), scale=floats(N), axis=np.int32(0))),
    "affine-uint8": (16, lambda: mb.constexpr_affine_dequantize(quantized_data=ints(0, 256, np.uint8), zero_point=np.uint8(120), scale=np.float32(0.02), axis=np.int32(0))),
    "blockwise-int8": (18, lambda: shift(data=ints(-128, 128, np.int8), scale=floats(N, 3))),
    "blockwise-int8-offset": (18, lambda: shift(data=ints(-128, 128, np.int8), scale=floats(N, 1), offset=ints(-5, 5, np.int8, (N, 1)))),
    "blockwise-int4": (18, lambda: shift(data=int4(), scale=floats(N, 6))),
    "blockwise-both-axes": (18, lambda: shift(data=int4(), scale=floats(8, 6))),
    **{f"palette-{b}": (18, lambda b=b: lut(indices=sub_byte(b), lut=table(b))) for b in (1, 2, 3, 4, 6, 8)},
    "palette-grouped": (18, lambda: lut(indices=sub_byte(4), lut=table(4, groups=8))),
    "palette-vectors": (18, lambda: lut(indices=sub_byte(4, (N // 2, K)), lut=table(4, width=2), vector_axis=np.int32(0))),
    "palette-scaled": (18, lambda: shift(data=lut(indices=sub_byte(4), lut=RNG.integers(-128, 128, (1, 1, 16, 1)).astype(np.int8)), scale=floats(N, 1))),
    **{f"palette16-{b}": (16, lambda b=b: palette_of_first_generation(b)) for b in (1, 2, 4, 6, 8)},
    "palette-columns": (18, lambda: lut(indices=sub_byte(2), lut=tables(1, 8, bits=2))),
    "palette-blocks": (18, lambda: lut(indices=sub_byte(3), lut=tables(4, 6, bits=3))),
    "palette-vectors-along": (18, lambda: lut(indices=sub_byte(2, (N, K // 4)), lut=tables(2, 1, bits=2, width=4), vector_axis=np.int32(1))),
    "palette-kernel": (18, lambda: lut(indices=sub_byte(4, (N, *KERNEL)), lut=tables(8, 1, 1, 1))),
    "blockwise-kernel": (18, lambda: shift(data=int4((N, *KERNEL)), scale=floats(N, 2, 1, 1))),
    "sparse16": (16, sparse_of_first_generation),
    "sparse-palette-scaled": (18, sparse_palette_scaled),
    "sparse": (18, sparse_dense),
    "sparse-palette": (18, sparse_palette),
    "sparse-blockwise": (18, sparse_blockwise),
}

for name, (ios, weight) in CASES.items():
    target = {16: ct.target.iOS16, 18: ct.target.iOS18}[ios]
    kept = []
    kernel = name.endswith("kernel")

    @mb.program(input_specs=[mb.TensorSpec(shape=(2, *KERNEL) if kernel else (2, K))], opset_version=target)
    def program(x):
        made = weight()
        w, decoded = made if isinstance(made, tuple) else (made, made.op.materialized_val_inference())
        kept.append(decoded)
        return mb.conv(x=x, weight=w, name="y") if kernel else mb.linear(x=x, weight=w, name="y")

    model = ct.convert(program, convert_to="mlprogram", minimum_deployment_target=target, compute_precision=ct.precision.FLOAT32, skip_model_load=True)
    folder = OUT / name
    folder.mkdir(parents=True)
    model.save(str(folder / "model.mlpackage"))
    x = RNG.uniform(-1, 1, (2, K)).astype(np.float32)
    decoded = np.asarray(kept[0]).astype(np.float64)
    if decoded.shape != ((N, *KERNEL) if kernel else (N, K)):
        raise SystemExit(f"{name}: decoded {decoded.shape}")
    y = (x.astype(np.float64) @ decoded.reshape(N, K).T).astype(np.float32)
    np.savez(folder / "inputs.npz", x=x.reshape(2, *KERNEL) if kernel else x)
    np.savez(folder / "expected.npz", y=y.reshape(2, N, 1, 1) if kernel else y)
    np.savez(folder / "weight.npz", w=decoded.astype(np.float32))
print(len(CASES), "packages")
