"""Makes what `run` and the refusals are tested with, by coremltools: looked_at.py FOLDER. `looked_at.py FOLDER images` makes the images alone.

Image inputs in every colour, a state, several functions, shapes that vary, and models that are no ML Programs. Expected outputs are computed by
NumPy, not by a runtime. The image files are written byte by byte, so that their pixels are known.
"""
import struct
import sys
import zlib
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
H, W = 4, 6
rng = np.random.default_rng(11)
COLOR = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
GRAY = rng.integers(0, 256, (H, W, 1), dtype=np.uint8)


def png(name, pixels, kind, depth=8):
    h, w = pixels.shape[:2]
    rows = b"".join(b"\0" + pixels[y].astype(">u2" if depth == 16 else np.uint8).tobytes() for y in range(h))

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, 0)
    (folder / name).write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def alpha(pixels, value):
    return np.concatenate([pixels, np.full(pixels.shape[:2] + (1,), value, np.uint8)], axis=2)


def jpeg(name):
    """One grey block of 8 by 8 whose only coefficient is the constant one: 40 * 8 / 8 + 128 = 168 everywhere."""

    def segment(marker, data):
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data

    table = segment(0xDB, b"\0" + bytes([8] + [1] * 63))
    frame = segment(0xC0, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0))
    # The constant coefficient has the one code `0` for a category of 6 bits, the others `0` for the end of the block.
    huffman = [segment(0xC4, bytes([kind, 1] + [0] * 15 + [symbol])) for kind, symbol in ((0x00, 6), (0x10, 0))]
    scan = segment(0xDA, bytes([1, 1, 0, 0, 63, 0]))
    # 0, then 40 in six bits, then 0: 0 101000 0.
    bits = "01010000"
    data = bytes([int(bits, 2)])
    (folder / name).write_bytes(b"\xff\xd8" + table + frame + b"".join(huffman) + scan + data + b"\xff\xd9")


png("color.png", COLOR, 2)
png("gray.png", GRAY, 0)
png("opaque.png", alpha(COLOR, 255), 6)
png("transparent.png", alpha(COLOR, 254), 6)
png("deep.png", COLOR.astype(np.uint16) * 257, 2, 16)
png("small.png", COLOR[:2], 2)
jpeg("gray.jpg")
if sys.argv[2:] == ["images"]:
    sys.exit()

import coremltools as ct  # noqa: E402
from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402
from coremltools.proto import Model_pb2  # noqa: E402

WEIGHT = (rng.standard_normal((3, 3 * H * W)) / 10).astype(np.float32)
LABELS = ["cat", "dog", "fish"]


def save(name, program, target=ct.target.iOS16, **options):
    model = ct.convert(
        program, minimum_deployment_target=target, compute_precision=ct.precision.FLOAT32, skip_model_load=True, **options
    )
    model.save(str(folder / f"{name}.mlpackage"))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def classifier(layout):
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, H, W))], opset_version=ct.target.iOS16)
    def program(image):
        flat = mb.reshape(x=image, shape=[1, 3 * H * W])
        return mb.softmax(x=mb.linear(x=flat, weight=WEIGHT), axis=-1, name="probabilities")

    kind = ct.colorlayout.RGB if layout == "rgb" else ct.colorlayout.BGR
    bias = [-0.4, -0.5, 0.25]
    image = ct.ImageType(name="image", shape=(1, 3, H, W), scale=1 / 255, bias=bias, color_layout=kind)
    save(layout, program, inputs=[image], classifier_config=ct.ClassifierConfig(LABELS))
    planes = COLOR.astype(np.float64).transpose(2, 0, 1)
    planes = planes if layout == "rgb" else planes[::-1]
    x = planes / 255 + np.array(bias).reshape(3, 1, 1)
    found = softmax(WEIGHT.astype(np.float64) @ x.reshape(-1))
    np.savez(folder / f"{layout}.npz", probabilities=found.astype(np.float32)[None])
    (folder / f"{layout}.txt").write_text(LABELS[int(found.argmax())])


classifier("rgb")
classifier("bgr")


def gray(name, h, w, target, dtype, layout):
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 1, h, w), dtype=dtype)], opset_version=target)
    def program(image):
        return mb.add(x=image, y=np.array(1, types.nptype_from_builtin(dtype)), name="more")

    image = ct.ImageType(name="image", shape=(1, 1, h, w), scale=0.5, color_layout=layout)
    save(name, program, target, inputs=[image])


gray("gray", H, W, ct.target.iOS16, types.fp32, ct.colorlayout.GRAYSCALE)
gray("block", 8, 8, ct.target.iOS16, types.fp32, ct.colorlayout.GRAYSCALE)
gray("half", H, W, ct.target.iOS16, types.fp16, ct.colorlayout.GRAYSCALE_FLOAT16)
np.savez(folder / "gray.npz", more=(GRAY.astype(np.float32) / 2 + 1).transpose(2, 0, 1)[None])


@mb.program(
    input_specs=[mb.TensorSpec(shape=(2,), dtype=types.fp16), mb.StateTensorSpec(shape=(2,), dtype=types.fp16)],
    opset_version=ct.target.iOS18,
)
def counter(x, total):
    old = mb.read_state(input=total)
    new = mb.add(x=old, y=x)
    kept = mb.coreml_update_state(state=total, value=new)
    return mb.mul(x=kept, y=np.float16(2), name="twice")


save("counter", counter, ct.target.iOS18)
for i, x in enumerate([[1, 2], [10, 20], [100, 200]]):
    np.savez(folder / f"counter.{i}.npz", x=np.array(x, np.float16))


def scaled(factor):
    @mb.program(input_specs=[mb.TensorSpec(shape=(2,))], opset_version=ct.target.iOS18)
    def program(x):
        return mb.mul(x=x, y=np.float32(factor), name="y")

    save(f"times{factor}", program, ct.target.iOS18)


scaled(2)
scaled(3)
several = ct.utils.MultiFunctionDescriptor()
several.add_function(str(folder / "times2.mlpackage"), "main", "double")
several.add_function(str(folder / "times3.mlpackage"), "main", "triple")
several.default_function_name = "double"
ct.utils.save_multifunction(several, str(folder / "several.mlpackage"))


@mb.program(input_specs=[mb.TensorSpec(shape=(1, 2))])
def loop(x):
    def more(i, y):
        return mb.less(x=i, y=3)

    def body(i, y):
        return mb.add(x=i, y=1), mb.cond(
            pred=mb.less(x=mb.reduce_sum(x=y, axes=[0, 1]), y=4.0),
            _true_fn=lambda: mb.mul(x=y, y=2.0),
            _false_fn=lambda: mb.add(x=y, y=1.0),
        )

    return mb.while_loop(_cond=more, _body=body, loop_vars=(0, x), name="looped")[1]


save("loop", loop)


def varying(name, shape):
    from coremltools.converters.mil.mil import get_new_symbol

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, get_new_symbol()))])
    def program(x):
        return mb.mul(x=x, y=2.0, name="y")

    save(name, program, inputs=[ct.TensorType(name="x", shape=shape)])


varying("enumerated", ct.EnumeratedShapes(shapes=[(1, 2), (1, 4)], default=(1, 2)))
varying("ranged", ct.Shape(shape=(1, ct.RangeDim(lower_bound=2, upper_bound=5, default=3))))


def other(name, fill):
    model = Model_pb2.Model()
    model.specificationVersion = 4
    fill(model)
    (folder / f"{name}.mlmodel").write_bytes(model.SerializeToString())


def network(model):
    layer = model.neuralNetwork.layers.add()
    layer.name = "act"
    layer.input.append("x")
    layer.output.append("y")
    layer.activation.ReLU.SetInParent()


def pipeline(model):
    network(model.pipeline.models.add())


def trees(model):
    ensemble = model.treeEnsembleClassifier.treeEnsemble
    ensemble.numPredictionDimensions = 1
    ensemble.basePredictionValue.append(0.5)


other("network", network)
other("pipeline", pipeline)
other("trees", trees)
other("scaler", lambda model: model.scaler.scaleValue.append(2.0))
