"""Makes packages whose descriptions say more than their programs, by coremltools: described.py FOLDER.

Labels, images as inputs and outputs, default shapes and values, words of the author. `described.py FOLDER again` compares the descriptions of every
NAME-again-HOW.mlpackage with those of NAME.mlpackage, read by coremltools: everything that was said has to be said again.
"""
import logging
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import get_new_symbol, types

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)


def widen(description):
    """What is said where single precision was asked for; states and images keep their types."""
    arrays = ct.proto.FeatureTypes_pb2.ArrayFeatureType
    for feature in (*description.input, *description.output):
        if feature.type.multiArrayType.dataType == arrays.FLOAT16:
            feature.type.multiArrayType.dataType = arrays.FLOAT32


def compare(before, after):
    for part in ("input", "output", "state"):
        pairs = [sorted(((f.name, f) for f in getattr(d, part)), key=lambda f: f[0]) for d in (before, after)]
        assert pairs[0] == pairs[1], f"{part}: {pairs[0]}\n!=\n{pairs[1]}"
    for name in ("predictedFeatureName", "predictedProbabilitiesName"):
        assert getattr(before, name) == getattr(after, name), name
    for name in ("shortDescription", "versionString", "author", "license"):
        assert getattr(before.metadata, name) == getattr(after.metadata, name), name
    for key, value in before.metadata.userDefined.items():
        assert after.metadata.userDefined[key] == value, key


if sys.argv[2:] == ["again"]:
    pairs = [(folder / f"{after.name.split('-again-')[0]}.mlpackage", after) for after in sorted(folder.glob("*-again-*.mlpackage"))]
    assert pairs
    for pair in pairs:
        print(pair[1].name)
        before, after = (ct.utils.load_spec(str(package)).description for package in pair)
        if "-fp32" in pair[1].name:
            widen(before)
        compare(before, after)
    sys.exit()

rng = np.random.default_rng(5)


def save(name, program, target=ct.target.iOS17, picture=None, **options):
    model = ct.convert(
        program, minimum_deployment_target=target, compute_precision=ct.precision.FLOAT32, skip_model_load=True, **options
    )
    if picture is not None:
        # The converter makes images of outputs for other sources than its own programs.
        spec = model.get_spec()
        image = spec.description.output[0].type.imageType
        image.colorSpace = spec.description.input[0].type.imageType.colorSpace
        if len(picture) == 4:
            image.height, image.width = picture[2:]
        else:
            for sizes in (image.imageSizeRange.heightRange, image.imageSizeRange.widthRange):
                sizes.lowerBound, sizes.upperBound = 1, -1
        model = ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)
    model.author, model.license, model.version = "A. Author", "CC0-1.0", "2.1"
    model.short_description = f"what {name} is for"
    model.user_defined_metadata["com.example.note"] = "kept, ü too"
    for kind, features in (("input", model.input_description), ("output", model.output_description)):
        for feature in list(getattr(model.get_spec().description, kind)):
            features[feature.name] = f"the {kind} {feature.name}"
    model.save(str(folder / f"{name}.mlpackage"))


def classifier(name, labels, **more):
    weight = rng.standard_normal((len(labels), 5)).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 5))], opset_version=ct.target.iOS16)
    def program(x):
        logits = mb.linear(x=x, weight=weight)
        return mb.softmax(x=logits, axis=-1, name="p"), mb.identity(x=logits, name="logits")

    save(name, program, ct.target.iOS16, classifier_config=ct.ClassifierConfig(labels, "kind", "p", **more))
    x = rng.standard_normal((1, 5)).astype(np.float32)
    logits = x.astype(np.float64) @ weight.T
    np.savez(folder / f"{name}.npz", x=x)
    (folder / f"{name}.txt").write_text(str(labels[int(logits.argmax())]))


classifier("words", ["cat", "a dog", "f\"ish\""])
classifier("numbers", [7, 1 << 40, -3])


# An input that may be left out: what its elements are then.
@mb.program(
    input_specs=[mb.TensorSpec(shape=(2,)), mb.TensorSpec(shape=(2,)), mb.TensorSpec(shape=(2,), dtype=types.int32)], opset_version=ct.target.iOS16
)
def optional(x, scale, shift):
    return mb.add(x=mb.mul(x=x, y=scale), y=mb.cast(x=shift, dtype="fp32"), name="y")


save(
    "optional",
    optional,
    inputs=[
        ct.TensorType(name="x", shape=(2,)),
        ct.TensorType(name="scale", shape=(2,), default_value=np.full((2,), 2.5, np.float32)),
        ct.TensorType(name="shift", shape=(2,), dtype=np.int32, default_value=np.full((2,), -3, np.int32)),
    ],
)
np.savez(folder / "optional.npz", x=np.array([1, 2], np.float32))
np.savez(folder / "given.npz", x=np.array([1, 2], np.float32), shift=np.array([1, 2], np.int64))


def picture(name, layout, shape, dtype=types.fp32, target=ct.target.iOS17, sizes=None):
    @mb.program(input_specs=[mb.TensorSpec(shape=shape, dtype=dtype)], opset_version=target)
    def program(image):
        return mb.sub(x=np.array(255, types.nptype_from_builtin(dtype)), y=image, name="negative")

    image = ct.ImageType(name="image", shape=sizes or shape, color_layout=layout)
    save(name, program, target, picture=() if sizes else shape, inputs=[image])


picture("picture-rgb", ct.colorlayout.RGB, (1, 3, 4, 6))
picture("picture-bgr", ct.colorlayout.BGR, (1, 3, 4, 6))
picture("picture-gray", ct.colorlayout.GRAYSCALE, (1, 1, 4, 6))
picture("picture-half", ct.colorlayout.GRAYSCALE_FLOAT16, (1, 1, 4, 6), types.fp16)
anything = (1, 3, get_new_symbol(), get_new_symbol())
sizes = ct.Shape(shape=(1, 3, ct.RangeDim(2, 9, 4), ct.RangeDim(3, 8, 6)))
picture("picture-range", ct.colorlayout.RGB, anything, sizes=sizes)
anything = (1, 3, get_new_symbol(), get_new_symbol())
sizes = ct.EnumeratedShapes(shapes=[(1, 3, 4, 6), (1, 3, 8, 5)], default=(1, 3, 8, 5))
picture("picture-sizes", ct.colorlayout.RGB, anything, sizes=sizes)


# Default shapes that are neither the smallest nor the first.
def varying(name, shape):
    @mb.program(input_specs=[mb.TensorSpec(shape=(1, get_new_symbol()))], opset_version=ct.target.iOS17)
    def program(x):
        return mb.mul(x=x, y=np.float32(2), name="y")

    save(name, program, inputs=[ct.TensorType(name="x", shape=shape)])


varying("ranged", ct.Shape(shape=(1, ct.RangeDim(lower_bound=2, upper_bound=9, default=5))))
varying("enumerated", ct.EnumeratedShapes(shapes=[(1, 2), (1, 4), (1, 7)], default=(1, 4)))


@mb.program(
    input_specs=[mb.TensorSpec(shape=(1, get_new_symbol())), mb.TensorSpec(shape=(get_new_symbol(), 3))], opset_version=ct.target.iOS18
)
def pair(a, b):
    return mb.concat(values=[mb.reduce_sum(x=a, axes=[1], keep_dims=False), mb.reduce_max(x=b, axes=[0], keep_dims=False)], axis=0, name="y")


sizes = [(2, 4), (3, 6), (7, 5)]
save(
    "pair",
    pair,
    ct.target.iOS18,
    inputs=[
        ct.TensorType(name="a", shape=ct.EnumeratedShapes(shapes=[(1, a) for a, _ in sizes], default=(1, 3))),
        ct.TensorType(name="b", shape=ct.EnumeratedShapes(shapes=[(b, 3) for _, b in sizes], default=(6, 3))),
    ],
)


# A state with a description.
@mb.program(
    input_specs=[mb.TensorSpec(shape=(2,), dtype=types.fp16), mb.StateTensorSpec(shape=(2,), dtype=types.fp16)], opset_version=ct.target.iOS18
)
def counter(x, total):
    kept = mb.coreml_update_state(state=total, value=mb.add(x=mb.read_state(input=total), y=x))
    return mb.mul(x=kept, y=np.float16(2), name="twice")


save("counter", counter, ct.target.iOS18)


# A scalar.
@mb.program(input_specs=[mb.TensorSpec(shape=(1,), dtype=types.int32)], opset_version=ct.target.iOS17)
def scalar(n):
    return mb.add(x=n, y=np.int32(1), name="next")


save("scalar", scalar)
