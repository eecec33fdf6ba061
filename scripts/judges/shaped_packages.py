#!/usr/bin/env python3
"""Builds ML Programs in coremltools (not by this project), with inputs and what NumPy computes: `shaped_packages.py FOLDER`.

One folder a case: `model.mlpackage` (or `model.mlmodel`), `case.json` and per run `inputs.N.npz` or `image.N.png`, and `expected.N.npz`.
`case.json`: `runs` (each a list of steps), `function` (null: the default one), `label` per run, `spec`, `opset`, and `f16_relative`: how far from
`expected` half precision may be, relative to the largest number expected.

Expected numbers are plain NumPy in double precision, not a runtime. Where coremltools infers values itself, they are compared with that here.
"""

import json
import logging
import pathlib
import struct
import sys
import warnings
import zlib

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import get_new_symbol, types

OUT = pathlib.Path(sys.argv[1])
RNG = np.random.default_rng(23)
TARGETS = {5: ct.target.iOS15, 6: ct.target.iOS16, 7: ct.target.iOS17, 8: ct.target.iOS18, 9: ct.target.iOS26}


def uniform(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def png(path, pixels):
    """`pixels`: `[H, W]` or `[H, W, 3]`, bytes."""
    h, w = pixels.shape[:2]
    rows = b"".join(b"\0" + pixels[y].tobytes() for y in range(h))

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", w, h, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    end = chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + end)


def build(program, opset, precision=ct.precision.FLOAT32, **options):
    return ct.convert(
        program, convert_to="mlprogram", minimum_deployment_target=TARGETS[opset], compute_precision=precision, skip_model_load=True, **options
    )


def write(name, model, runs, function=None, labels=None, f16=4e-3, bare=False):
    """`runs`: lists of steps, each `(inputs, expected)`; inputs are arrays, or bytes of pixels for an image input."""
    folder = OUT / name
    folder.mkdir(parents=True)
    if bare:
        (folder / "model.mlmodel").write_bytes(model.get_spec().SerializeToString())
    elif model is not None:
        model.save(str(folder / "model.mlpackage"))
    counts, images, n = [], None, 0
    for steps in runs:
        counts.append(len(steps))
        for inputs, expected in steps:
            arrays = {k: v for k, v in inputs.items() if v.dtype != np.uint8}
            for key, pixels in inputs.items():
                if pixels.dtype == np.uint8:
                    images = key
                    png(folder / f"image.{n}.png", pixels)
            if arrays:
                np.savez(folder / f"inputs.{n}.npz", **arrays)
            np.savez(folder / f"expected.{n}.npz", **{k: np.asarray(v) for k, v in expected.items()})
            n += 1
    case = {"runs": counts, "function": function, "labels": labels, "image": images, "f16_relative": f16}
    (folder / "case.json").write_text(json.dumps(case, indent=1, sort_keys=True) + "\n")


def gelu(x):
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


# One program in every opset: a small network of what most networks are made of.
def network(opset):
    w1, b1, w2 = uniform(16, 8), uniform(16), uniform(4, 16)
    gamma, beta = uniform(8), uniform(8)

    @mb.program(input_specs=[mb.TensorSpec(shape=(2, 8))], opset_version=TARGETS[opset])
    def program(x):
        h = mb.layer_norm(x=x, axes=[-1], gamma=gamma, beta=beta, epsilon=np.float32(1e-5))
        h = mb.gelu(x=mb.linear(x=h, weight=w1, bias=b1), mode="EXACT")
        h = mb.matmul(x=h, y=w2, transpose_y=True)
        top, at = mb.topk(x=h, k=2, axis=-1)
        return mb.softmax(x=h, axis=-1, name="p"), mb.identity(x=top, name="top"), mb.identity(x=at, name="at")

    x = uniform(2, 8)
    d = x.astype(np.float64)
    m, v = d.mean(-1, keepdims=True), d.var(-1, keepdims=True)
    h = gelu(((d - m) / np.sqrt(v + 1e-5) * gamma + beta) @ w1.T.astype(np.float64) + b1) @ w2.T.astype(np.float64)
    at = np.argsort(-h, axis=-1)[:, :2]
    want = {"p": softmax(h).astype(np.float32), "top": np.take_along_axis(h, at, -1).astype(np.float32), "at": at.astype(np.int32)}
    return program, [[({"x": x}, want)]]


for opset in TARGETS:
    program, runs = network(opset)
    write(f"opset-{opset}", build(program, opset), runs)
program, runs = network(7)
write("opset-7-half", build(program, 7, ct.precision.FLOAT16), runs)


# An ML Program in a bare file: without a package, constants are in the program itself.
@mb.program(input_specs=[mb.TensorSpec(shape=(2, 3))], opset_version=TARGETS[6])
def bare(x):
    return mb.tanh(x=mb.add(x=mb.mul(x=x, y=np.array([1, 2, 3], np.float32)), y=np.float32(0.5)), name="y")


x = uniform(2, 3)
write("bare", build(bare, 6), [[({"x": x}, {"y": np.tanh(x * [1, 2, 3] + 0.5).astype(np.float32)})]], bare=True)


# A key-value cache: rows are written at a position, and attention reads all that were written.
def cache():
    state = mb.StateTensorSpec(shape=(1, 4, 8), dtype=types.fp16)
    wk = uniform(8, 8).astype(np.float16)

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(1, 1, 8), dtype=types.fp16), mb.TensorSpec(shape=(1,), dtype=types.int32), state],
        opset_version=TARGETS[8],
    )
    def program(x, at, keys):
        old = mb.read_state(input=keys)
        key = mb.linear(x=x, weight=wk)
        begin = mb.concat(values=[np.array([0], np.int32), at, np.array([0], np.int32)], axis=0)
        after = mb.add(x=at, y=np.int32(1))
        end = mb.concat(values=[np.array([1], np.int32), after, np.array([8], np.int32)], axis=0)
        new = mb.slice_update(x=old, update=key, begin=begin, end=end)
        kept = mb.coreml_update_state(state=keys, value=new)
        scores = mb.matmul(x=x, y=kept, transpose_y=True)
        return mb.matmul(x=mb.softmax(x=scores, axis=-1), y=kept, name="y")

    model = build(program, 8)
    kept, steps = np.zeros((1, 4, 8)), []
    for at in range(3):
        x = uniform(1, 1, 8).astype(np.float16)
        d = x.astype(np.float64)
        kept = kept.copy()
        kept[:, at] = (d @ wk.T.astype(np.float64))[:, 0]
        y = softmax(d @ kept.transpose(0, 2, 1)) @ kept
        steps.append(({"x": x, "at": np.array([at], np.int32)}, {"y": y.astype(np.float16)}))
    # A second run begins with an empty cache again.
    first = [steps[0], steps[1]]
    write("state-cache", model, [steps, first], f16=6e-3)


cache()


# Two states in one program, of which one is read after it was written.
def two_states():
    states = [mb.StateTensorSpec(shape=(3,), dtype=types.fp16) for _ in range(2)]
    specs = [mb.TensorSpec(shape=(3,), dtype=types.fp16), *states]

    @mb.program(input_specs=specs, opset_version=TARGETS[8])
    def program(x, total, last):
        before = mb.read_state(input=last)
        total_now = mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x))
        mb.coreml_update_state(state=last, value=x)
        return mb.sub(x=x, y=before, name="change"), mb.identity(x=total_now, name="sum")

    xs = [np.array(v, np.float16) for v in ([1, 2, 3], [4, 0, -1], [0.5, 8, 2])]
    total, last, steps = np.zeros(3), np.zeros(3), []
    for x in xs:
        total = total + x
        steps.append(({"x": x}, {"change": (x - last).astype(np.float16), "sum": total.astype(np.float16)}))
        last = x.astype(np.float64)
    write("state-two", build(program, 8), [steps])


two_states()


# Functions that share a weight: an adapter that is added, and one that is not.
def functions():
    shared, a, b = uniform(16, 8), uniform(2, 8), uniform(16, 2)
    folder = OUT / "functions"
    folder.mkdir(parents=True)

    def one(adapted):
        @mb.program(input_specs=[mb.TensorSpec(shape=(3, 8))], opset_version=TARGETS[8])
        def program(x):
            y = mb.linear(x=x, weight=shared)
            if adapted:
                y = mb.add(x=y, y=mb.linear(x=mb.linear(x=x, weight=a), weight=b))
            return mb.relu(x=y, name="y")

        return program

    x = uniform(3, 8)
    d = x.astype(np.float64)
    base = d @ shared.T.astype(np.float64)
    more = base + d @ a.T.astype(np.float64) @ b.T.astype(np.float64)
    several = ct.utils.MultiFunctionDescriptor()
    for name, adapted in (("base", False), ("adapted", True)):
        build(one(adapted), 8).save(str(OUT / f"{name}.mlpackage"))
        several.add_function(str(OUT / f"{name}.mlpackage"), "main", name)
    several.default_function_name = "base"
    ct.utils.save_multifunction(several, str(folder / "both.mlpackage"))
    import shutil

    for function, want in (("base", base), ("adapted", more), (None, base)):
        name = f"functions-{function or 'default'}"
        write(name, None, [[({"x": x}, {"y": np.maximum(want, 0).astype(np.float32)})]], function=function)
        shutil.copytree(folder / "both.mlpackage", OUT / name / "model.mlpackage")
    shutil.rmtree(folder)
    shutil.rmtree(OUT / "base.mlpackage")
    shutil.rmtree(OUT / "adapted.mlpackage")


functions()


# Classifiers of images: colours, scale and bias, labels that are words or numbers.
def classifier(name, layout, labels, opset, grey=False, half=False):
    h, w, c = 6, 5, 1 if grey else 3
    weight = (RNG.standard_normal((len(labels), 2 * c)) * 2).astype(np.float32)
    kernel = uniform(2 * c, c, 3, 3)
    dtype = types.fp16 if half else types.fp32

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, c, h, w), dtype=dtype)], opset_version=TARGETS[opset])
    def program(image):
        x = mb.cast(x=image, dtype="fp32") if half else image
        x = mb.relu(x=mb.conv(x=x, weight=kernel, pad_type="same"))
        x = mb.reduce_mean(x=x, axes=[2, 3], keep_dims=False)
        return mb.softmax(x=mb.linear(x=x, weight=weight), axis=-1, name="probabilities")

    scale, bias = 1 / 127.5, -1.0 if grey else [-1.0, -0.9, -1.1]
    image = ct.ImageType(name="image", shape=(1, c, h, w), scale=scale, bias=bias, color_layout=layout)
    model = build(program, opset, inputs=[image], classifier_config=ct.ClassifierConfig(labels))
    runs, found = [], []
    for _ in range(2):
        pixels = RNG.integers(0, 256, (h, w) if grey else (h, w, 3), dtype=np.uint8)
        planes = pixels[None].astype(np.float64) if grey else pixels.astype(np.float64).transpose(2, 0, 1)
        if layout == ct.colorlayout.BGR:
            planes = planes[::-1]
        x = planes * np.float32(scale) + np.reshape(bias, (-1, 1, 1))
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        out = np.zeros((2 * c, h, w))
        for dy in range(3):
            for dx in range(3):
                out += np.einsum("oc,chw->ohw", kernel[:, :, dy, dx].astype(np.float64), padded[:, dy : dy + h, dx : dx + w])
        p = softmax(weight.astype(np.float64) @ np.maximum(out, 0).mean((1, 2)))
        runs.append([({"image": pixels}, {"classLabel_probs": p.astype(np.float32)[None]})])
        found.append(str(labels[int(p.argmax())]))
    write(name, model, runs, labels=found)


WORDS = ["cat", "dog", "a longer name", "fish"]
classifier("classifier-rgb", ct.colorlayout.RGB, WORDS, 6)
classifier("classifier-bgr", ct.colorlayout.BGR, WORDS, 5)
classifier("classifier-gray", ct.colorlayout.GRAYSCALE, [10, 20, 30], 7, grey=True)
classifier("classifier-gray-half", ct.colorlayout.GRAYSCALE_FLOAT16, WORDS, 8, grey=True, half=True)


# Images whose size varies.
def sized(name, shape, sizes):
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, get_new_symbol(), get_new_symbol()))], opset_version=TARGETS[7])
    def program(image):
        return mb.reduce_mean(x=mb.sqrt(x=mb.mul(x=image, y=np.float32(1 / 255))), axes=[2, 3], keep_dims=False, name="y")

    image = ct.ImageType(name="image", shape=shape, color_layout=ct.colorlayout.RGB)
    runs = []
    for h, w in sizes:
        pixels = RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)
        want = np.sqrt(pixels.astype(np.float64) / 255).mean((0, 1))[None]
        runs.append([({"image": pixels}, {"y": want.astype(np.float32)})])
    write(name, build(program, 7, inputs=[image]), runs)


sized("image-sizes", ct.EnumeratedShapes(shapes=[(1, 3, 4, 6), (1, 3, 8, 5)], default=(1, 3, 4, 6)), [(4, 6), (8, 5)])
sized("image-range", ct.Shape(shape=(1, 3, ct.RangeDim(3, 9, 4), ct.RangeDim(2, 7, 5))), [(4, 5), (3, 2), (9, 7)])


# Control flow.
@mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=TARGETS[6])
def branch(x):
    positive = mb.greater(x=mb.reduce_sum(x=x, axes=[0, 1]), y=np.float32(0))
    return mb.cond(
        pred=positive,
        _true_fn=lambda: mb.mul(x=mb.sqrt(x=mb.abs(x=x)), y=np.float32(2)),
        _false_fn=lambda: mb.sub(x=x, y=np.float32(1)),
        name="y",
    )


runs = []
for sign in (1, -1):
    x = (np.abs(uniform(1, 4)) * sign).astype(np.float32)
    runs.append([({"x": x}, {"y": (2 * np.sqrt(np.abs(x)) if sign > 0 else x - 1).astype(np.float32)})])
write("cond", build(branch, 6), runs)


# Doubled until it is large enough: how often the loop runs is in the data.
@mb.program(input_specs=[mb.TensorSpec(shape=(1, 2))], opset_version=TARGETS[7])
def doubled(x):
    def small(count, y):
        return mb.logical_and(x=mb.less(x=count, y=np.int32(30)), y=mb.less(x=mb.reduce_max(x=y, axes=[0, 1]), y=np.float32(10)))

    def twice(count, y):
        return mb.add(x=count, y=np.int32(1)), mb.mul(x=y, y=np.float32(2))

    count, y = mb.while_loop(_cond=small, _body=twice, loop_vars=(np.int32(0), x))
    return mb.identity(x=y, name="y"), mb.expand_dims(x=count, axes=[0], name="count")


runs = []
for value in (0.3, 4.0, 11.0):
    y, count = np.array([[value, -value]], np.float32), 0
    given = y
    while y.max() < 10:
        y, count = y * 2, count + 1
    runs.append([({"x": given}, {"y": y, "count": np.array([count], np.int32)})])
write("while-loop", build(doubled, 7), runs)


# A list that a loop fills, gathered and stacked.
@mb.program(input_specs=[mb.TensorSpec(shape=(3, 2))], opset_version=TARGETS[6])
def running(x):
    ls = mb.make_list(init_length=3, dynamic_length=False, elem_shape=(2,))

    def more(i, ls, total):
        return mb.less(x=i, y=3)

    def body(i, ls, total):
        row = mb.squeeze(x=mb.gather(x=x, indices=mb.expand_dims(x=i, axes=[0]), axis=0), axes=[0])
        total = mb.add(x=total, y=row)
        return mb.add(x=i, y=1), mb.list_write(ls=ls, index=i, value=total), total

    _, ls, _ = mb.while_loop(_cond=more, _body=body, loop_vars=(0, ls, np.zeros(2, np.float32)))
    return mb.list_gather(ls=ls, indices=[0, 1, 2], name="y")


x = uniform(3, 2)
write("list", build(running, 6), [[({"x": x}, {"y": np.cumsum(x.astype(np.float64), axis=0).astype(np.float32)})]])


# Shapes that vary.
def attention(name, shape, opset, lengths):
    w = uniform(8, 8)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, get_new_symbol(), 8))], opset_version=TARGETS[opset])
    def program(x):
        q = mb.linear(x=x, weight=w)
        return mb.matmul(x=mb.softmax(x=mb.matmul(x=q, y=x, transpose_y=True), axis=-1), y=x, name="y")

    runs = []
    for n in lengths:
        x = uniform(1, n, 8)
        d = x.astype(np.float64)
        y = softmax(d @ w.T.astype(np.float64) @ d.transpose(0, 2, 1)) @ d
        runs.append([({"x": x}, {"y": y.astype(np.float32)})])
    write(name, build(program, opset, inputs=[ct.TensorType(name="x", shape=shape)]), runs)


attention("enumerated", ct.EnumeratedShapes(shapes=[(1, 2, 8), (1, 5, 8), (1, 9, 8)], default=(1, 5, 8)), 6, [2, 5, 9])
attention("range", ct.Shape(shape=(1, ct.RangeDim(1, 12, 4), 8)), 7, [1, 4, 12])


# Two inputs with enumerated shapes: the first shape of one goes with the first of the other.
@mb.program(
    input_specs=[mb.TensorSpec(shape=(1, get_new_symbol())), mb.TensorSpec(shape=(get_new_symbol(), 3))], opset_version=TARGETS[8]
)
def pair(a, b):
    return mb.concat(values=[mb.reduce_sum(x=a, axes=[1], keep_dims=False), mb.reduce_max(x=b, axes=[0], keep_dims=False)], axis=0, name="y")


sizes = [(2, 4), (3, 6), (7, 5)]
inputs = [
    ct.TensorType(name="a", shape=ct.EnumeratedShapes(shapes=[(1, a) for a, _ in sizes], default=(1, 2))),
    ct.TensorType(name="b", shape=ct.EnumeratedShapes(shapes=[(b, 3) for _, b in sizes], default=(4, 3))),
]
runs = []
for a, b in sizes:
    x, z = uniform(1, a), uniform(b, 3)
    y = np.concatenate([x.astype(np.float64).sum(1), z.astype(np.float64).max(0)])
    runs.append([({"a": x, "b": z}, {"y": y.astype(np.float32)})])
write("enumerated-two", build(pair, 8, inputs=inputs), runs)

print(len(list(OUT.iterdir())), "packages")
