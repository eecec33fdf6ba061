"""Writes one folder per operator of the default domain, version of its operator set, element type and option: the model of one node, its inputs,
and what is expected of it: what ONNX Runtime computes, or ONNX's own reference for what ONNX Runtime lacks. The layout is that of ONNX's node tests.
Usage: version_cases.py FOLDER [PART OF THE NAMES]"""

import sys
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from seeded import Numbers
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

warnings.filterwarnings("ignore")
onnxruntime.set_default_logger_severity(4)
ROOT = Path(sys.argv[1])
PART = sys.argv[2] if len(sys.argv) > 2 else ""
MADE, BY_REFERENCE, LEFT_OUT = [], [], []
F16, F32, F64, BOOL = np.float16, np.float32, np.float64, np.bool_
I8, I16, I32, I64 = np.int8, np.int16, np.int32, np.int64
U8, U16, U32, U64 = np.uint8, np.uint16, np.uint32, np.uint64
KINDS = {"float16": F16, "float": F32, "double": F64, "bool": BOOL, "int8": I8, "int16": I16, "int32": I32, "int64": I64}
KINDS |= {"uint8": U8, "uint16": U16, "uint32": U32, "uint64": U64}
LAST = 26
# ONNX Runtime has no kernel of the newest version, which differs from this one only in the element types.
KERNELS = {"RoiAlign": 16, "GlobalLpPool": 7, "MaxRoiPool": 7, "RandomNormal": 7, "RandomUniform": 7, "RandomNormalLike": 7, "RandomUniformLike": 7, "EyeLike": 9, "MaxUnpool": 11, "Det": 11, "GridSample": 20, "InstanceNormalization": 7, "LpNormalization": 7}
# ONNX's reference of these is wrong: it softens the last axis only, and counts in 64 bits.
WRONG = {("Hardmax", True), ("ReduceSumSquare", "uint32")}
SCHEMAS = {}
for schema in onnx.defs.get_all_schemas_with_history():
    if schema.domain == "":
        SCHEMAS.setdefault(schema.name, {})[schema.since_version] = schema


def schema_of(op, opset):
    return SCHEMAS[op][max(v for v in SCHEMAS[op] if v <= opset)]


def versions(op, low=7, high=LAST):
    """The operator sets from 7 on at which an operator changed, and the last one."""
    since = sorted(SCHEMAS[op])
    ends = since[1:] + [LAST + 1]
    found = {max(7, v) for v, end in zip(since, ends) if end > 7 and not SCHEMAS[op][v].deprecated}
    if not SCHEMAS[op][since[-1]].deprecated:
        found.add(LAST)
    return [v for v in sorted(found) if low <= v <= high]


def kinds(op, opset, index=0):
    """The element types that an input may have."""
    schema = schema_of(op, opset)
    port = schema.inputs[min(index, len(schema.inputs) - 1)]
    names = [t[len("tensor(") : -1] for t in port.types if t.startswith("tensor(")]
    return [KINDS[n] for n in KINDS if n in names]


def letters(dtype):
    dtype = np.dtype(dtype)
    return "bool" if dtype.kind == "b" else f"{dtype.kind}{dtype.itemsize * 8}"


def numbers(n, dtype, *shape, low=-3.0, high=3.0):
    """Numbers of a type between two others."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (n.floats(*shape) * ((high - low) / 2) + (high + low) / 2).astype(dtype)
    if dtype.kind == "b":
        return n.ints(*shape, high=1, dtype=I64).astype(dtype)
    return n.ints(*shape, low=0 if dtype.kind == "u" else int(low), high=int(high), dtype=I64).astype(dtype)


def model_of(op, opset, inputs, outputs, attributes, constants):
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    while names and not names[-1]:
        names.pop()
    node = helper.make_node(op, names, outputs, name="node", **attributes)
    given, stored = [], []
    for i, x in enumerate(inputs):
        if x is None:
            continue
        if i in constants:
            stored.append(numpy_helper.from_array(x, names[i]))
        else:
            dtype = helper.np_dtype_to_tensor_dtype(x.dtype)
            given.append(helper.make_tensor_value_info(names[i], dtype, x.shape))
    results = [onnx.ValueInfoProto(name=o) for o in outputs if o]
    graph = helper.make_graph([node], "case", given, results, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=13 if opset > 23 else 10)


def dtype_of(inputs):
    return inputs[0].dtype.name if inputs else None


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "NOT_IMPLEMENTED" not in str(error) and "opset" not in str(error).lower():
            raise
        return None
    return session.run(None, feeds)


def add(name, op, opset, inputs, outputs=1, constants=(), reference=False, judged=None, **attributes):
    """One case; `reference` where ONNX Runtime is known to be wrong, with the reason beside the call; `judged` computes the results instead."""
    name = f"{op}_{opset}_{name}".rstrip("_").lower()
    if PART not in name:
        return
    assert name not in MADE, name
    outputs = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
    model = model_of(op, opset, inputs, outputs, attributes, set(constants))
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None and i not in constants}
    try:
        results = judged() if judged else None if reference else run(model, feeds)
        if results is None and not reference and opset > KERNELS.get(op, opset):
            results = run(model_of(op, KERNELS[op], inputs, outputs, attributes, set(constants)), feeds)
        if results is None:
            results = ReferenceEvaluator(model).run(None, feeds)
            results = [np.asarray(r) for r in results]
            BY_REFERENCE.append(name)
            if (op, opset < 13) in WRONG or (op, dtype_of(inputs)) in WRONG:
                return
    except Exception as error:
        LEFT_OUT.append(f"{name}: {str(error).strip()[:200]}")
        return
    for info, result in zip(model.graph.output, results):
        kind = helper.np_dtype_to_tensor_dtype(result.dtype)
        info.CopyFrom(helper.make_tensor_value_info(info.name, kind, result.shape))
    data = ROOT / name / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(model, ROOT / name / "model.onnx")
    for i, x in enumerate(feeds.values()):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(x).SerializeToString())
    for i, y in enumerate(results):
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(y)).SerializeToString())
    MADE.append(name)


def ints(*values, dtype=I64):
    return np.array(values, dtype)


def unary():
    ranges = {"Log": (0.1, 4), "Sqrt": (0, 4), "Acos": (-1, 1), "Asin": (-1, 1), "Atanh": (-0.9, 0.9), "Acosh": (1, 4), "Reciprocal": (0.5, 4)}
    plain = "Abs Neg Sign Floor Ceil Round Exp Log Sqrt Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf Sigmoid Softplus Softsign Relu Elu Selu LeakyRelu ThresholdedRelu HardSigmoid Celu Mish HardSwish Gelu Swish Shrink Not BitwiseNot Identity"
    for op in plain.split():
        for v in versions(op):
            for t in kinds(op, v):
                low, high = ranges.get(op, (-3, 3))
                add(letters(t), op, v, [numbers(Numbers(op), t, 2, 3, 4, low=low, high=high)])
    options = [("Elu", {"alpha": 0.5}), ("Selu", {"alpha": 1.2, "gamma": 0.9}), ("LeakyRelu", {"alpha": 0.2}), ("LeakyRelu", {"alpha": -0.5}), ("ThresholdedRelu", {"alpha": 0.3}), ("HardSigmoid", {"alpha": 0.4, "beta": 0.1}), ("Celu", {"alpha": 2.0}), ("Gelu", {"approximate": "tanh"}), ("Swish", {"alpha": 1.7}), ("Shrink", {"bias": 0.5, "lambd": 0.7}), ("HardSigmoid", {"alpha": -0.4, "beta": 0.6}), ("Elu", {"alpha": -1.5})]
    for i, (op, attributes) in enumerate(options):
        for v in versions(op):
            add(f"option{i}", op, v, [numbers(Numbers(op), F32, 2, 3, 4)], **attributes)
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, -0.0, np.inf, -np.inf, np.nan], F32)
    for op in ["Round", "Floor", "Ceil", "Sign", "Relu", "Abs", "Sigmoid", "Tanh", "Erf", "Exp", "Softplus", "Neg", "IsNaN", "IsInf", "HardSigmoid", "Identity"]:
        for v in versions(op):
            add("specials", op, v, [halves])
    for op in ["IsNaN", "IsInf"]:
        for v in versions(op):
            for t in kinds(op, v):
                add(letters(t), op, v, [halves.astype(t)])
    for v in versions("IsInf"):
        add("positive", "IsInf", v, [halves], detect_negative=0)
        add("negative", "IsInf", v, [halves], detect_positive=0)
        add("neither", "IsInf", v, [halves], detect_positive=0, detect_negative=0)
    for op in ["Relu", "Exp", "Abs", "Neg", "Sqrt"]:
        for v in versions(op):
            add("scalar", op, v, [np.array(1.5, F32)])


def binary():
    for op in "Add Sub Mul Div Pow Mod Equal Greater Less GreaterOrEqual LessOrEqual And Or Xor BitwiseAnd BitwiseOr BitwiseXor PRelu".split():
        for v in versions(op):
            for t in kinds(op, v):
                n = Numbers(op)
                a = numbers(n, t, 2, 3, 4, low=-9, high=9)
                b = numbers(n, t, 2, 3, 4, low=-9, high=9)
                extra = {}
                if op in ("Div", "Mod"):
                    b = np.where(b == 0, np.array(3, t), b).astype(t)
                if op == "Pow":
                    kind = np.dtype(t).kind
                    a, b = (numbers(n, t, 2, 3, 4, low=0.5, high=3), numbers(n, t, 2, 3, 4, low=-2 if kind == "f" else 0, high=3))
                if op == "Mod" and np.dtype(t).kind == "f":
                    extra["fmod"] = 1
                if op in ("Equal", "GreaterOrEqual", "LessOrEqual", "Greater", "Less"):
                    b = np.where(n.ints(2, 3, 4, high=1) == 1, a, b).astype(t)
                add(letters(t), op, v, [a, b], **extra)
            t = kinds(op, v)[-1] if op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor") else (BOOL if op in ("And", "Or", "Xor") else F32)
            if t == F32 and F32 not in kinds(op, v):
                t = I32
            n = Numbers(op + "broadcast")
            extra = {"fmod": 1} if op == "Mod" and t == F32 else {}
            small = numbers(n, t, 3, 1, low=1, high=5)
            add("rows", op, v, [numbers(n, t, 2, 3, 4, low=1, high=5), small], **extra)
            add("scalar", op, v, [numbers(n, t, 2, 3, low=1, high=5), np.array(2, t)], **extra)
            if op != "PRelu":
                add("both", op, v, [numbers(n, t, 3, 1, 4, low=1, high=5), numbers(n, t, 2, 1, 2, 1, low=1, high=5)], **extra)
                add("constant_left", op, v, [numbers(n, t, 3, low=1, high=5), numbers(n, t, 2, 3, low=1, high=5)], constants=(0,), **extra)
    for v in versions("Mod"):
        a, b = ints(-7, 7, -7, 7, 6, -6), ints(3, -3, -3, 3, 3, 3)
        add("signs", "Mod", v, [a, b])
        add("fmod_ints", "Mod", v, [a, b], fmod=1)
        add("fmod_floats", "Mod", v, [a.astype(F32) + F32(0.5), b.astype(F32)], fmod=1)
    for v in versions("Div"):
        add("signs", "Div", v, [ints(-7, 7, -7, 7, dtype=I32), ints(3, -3, -3, 3, dtype=I32)])
        add("zeros", "Div", v, [np.array([1, -1, 0], F32), np.zeros(3, F32)])
    for v in versions("BitShift"):
        for t, way in product(kinds("BitShift", v), ["LEFT", "RIGHT"]):
            n = Numbers(way)
            add(f"{letters(t)}_{way}", "BitShift", v, [n.ints(3, 4, high=200, dtype=t), n.ints(4, high=5, dtype=t)], direction=way)
    for v in versions("Pow", low=12):
        for a, b in [(F32, I32), (F32, I64), (I32, F32), (I64, I32), (F64, F32), (I32, I64)]:
            n = Numbers("pow")
            add(f"{letters(a)}_{letters(b)}", "Pow", v, [numbers(n, a, 2, 3, low=1, high=4), numbers(n, b, 2, 3, low=0, high=3)])
    for v in versions("PRelu"):
        n = Numbers("prelu")
        add("channels", "PRelu", v, [n.floats(2, 3, 4, 4), n.floats(3, 1, 1)], constants=(1,))
        add("one", "PRelu", v, [n.floats(2, 3, 4), n.floats(1)], constants=(1,))
    for op in ["Max", "Min", "Sum", "Mean"]:
        for v in versions(op):
            n = Numbers(op)
            for t in kinds(op, v):
                add(letters(t), op, v, [numbers(n, t, 2, 3, low=-9, high=9), numbers(n, t, 2, 3, low=-9, high=9)])
            add("one", op, v, [n.floats(2, 3)])
            if v >= 8:
                add("broadcast", op, v, [n.floats(2, 1, 4), n.floats(3, 1), n.floats(4)])
            nans = np.array([np.nan, 1, np.inf, -np.inf], F32)
            if op in ("Max", "Min"):
                add("specials", op, v, [nans, np.array([0, np.nan, 0, 0], F32)])
            add("four", op, v, [n.floats(2, 3) for _ in range(4)])
    for v in versions("Where"):
        n = Numbers("where")
        for t in kinds("Where", v, 1):
            add(letters(t), "Where", v, [numbers(n, BOOL, 2, 3), numbers(n, t, 2, 3), numbers(n, t, 2, 3)])
        add("broadcast", "Where", v, [numbers(n, BOOL, 3, 1), n.floats(2, 1, 4), np.array(7, F32)])


def clip():
    n = Numbers("clip")
    x = n.floats(2, 3, 4, scale=4)
    add("none", "Clip", 7, [x])
    add("both", "Clip", 7, [x], min=-1.0, max=2.0)
    add("low", "Clip", 7, [x], min=-1.0)
    add("high", "Clip", 7, [x], max=1.5)
    for v in versions("Clip", low=11):
        for t in kinds("Clip", v):
            y = numbers(n, t, 2, 3, low=-20, high=20)
            low, high = (0, 5) if np.dtype(t).kind == "u" else (-2, 5)
            add(letters(t), "Clip", v, [y, np.array(low, t), np.array(high, t)])
            add(f"{letters(t)}_constants", "Clip", v, [y, np.array(low, t), np.array(high, t)], constants=(1, 2))
        add("none", "Clip", v, [x])
        add("low", "Clip", v, [x, np.array(-1, F32)])
        add("high", "Clip", v, [x, None, np.array(-1, F32)], constants=(2,))
        add("crossed", "Clip", v, [x, np.array(2, F32), np.array(1, F32)], constants=(1, 2))


def casts():
    for v in versions("Cast"):
        for a, b in product(KINDS.values(), KINDS.values()):
            if v in (9, 24) or a == b or F32 in (a, b):
                x = numbers(Numbers("cast"), a, 3, 4, low=-5, high=100)
                if np.dtype(b).kind == "u" and np.dtype(a).kind in "fi":
                    x = np.abs(x)
                add(f"{letters(a)}_{letters(b)}", "Cast", v, [x], to=helper.np_dtype_to_tensor_dtype(np.dtype(b)))
    for v in versions("CastLike"):
        for a, b in product([F32, I32, BOOL, U8, F16], [F32, I64, BOOL, U8, F16]):
            x = numbers(Numbers("cast"), a, 3, 4, low=0, high=100)
            add(f"{letters(a)}_{letters(b)}", "CastLike", v, [x, np.zeros(1, b)])
    for v in versions("Cast"):
        x = np.array([-1.7, -0.5, 0.5, 1.5, 1.7, 2.5], F32)
        add("to_int", "Cast", v, [x], to=TensorProto.INT32)
        add("to_bool", "Cast", v, [np.array([0.0, -0.0, 0.3, np.nan], F32)], to=TensorProto.BOOL)
        add("wrap", "Cast", v, [np.array([300, -1, 128], I32)], to=TensorProto.UINT8)
    # The bits of floats are no numbers to either target, but for constants.
    for a, b in [(U8, I8), (I8, U8), (U16, I16), (I16, U16), (F32, F32), (I64, I64)]:
        x = numbers(Numbers("bits"), a, 3, 4, low=-120, high=120)
        x[0, 0] = -1 if np.dtype(a).kind == "i" else np.iinfo(a).max if np.dtype(a).kind == "u" else -0.5
        add(f"{letters(a)}_{letters(b)}", "BitCast", 26, [x], to=helper.np_dtype_to_tensor_dtype(np.dtype(b)))


def softmaxes():
    for op in ["Softmax", "LogSoftmax", "Hardmax"]:
        for v in versions(op):
            n = Numbers(op)
            x = n.floats(2, 3, 4, 2, scale=3)
            for t in kinds(op, v):
                add(letters(t), op, v, [x.astype(t)])
            for axis in [0, 1, 2, 3, -1, -2] if v > 10 else [0, 1, 2, 3]:
                add(f"axis{axis}", op, v, [x], axis=axis)
            add("vector", op, v, [n.floats(5)], axis=0)


REDUCTIONS = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare".split()


def reduce():
    for op in REDUCTIONS:
        since = 13 if op == "ReduceSum" else 18
        for v in versions(op):
            n = Numbers(op)
            low = 0.5 if op == "ReduceLogSum" else -3
            for t in kinds(op, v):
                x = numbers(n, t, 3, 2, 4, low=1 if op == "ReduceLogSum" else -3, high=3)
                add(letters(t), op, v, [x])
            x = numbers(n, F32, 3, 2, 4, low=low, high=3)
            for i, (axes, keep) in enumerate(product([[1], [0, 2], [-1], [-2, -1], [0, 1, 2]], [0, 1])):
                if min(axes) < 0 and v < 11:
                    continue
                if v < since:
                    add(f"axes{i}", op, v, [x], axes=axes, keepdims=keep)
                else:
                    add(f"axes{i}", op, v, [x, ints(*axes)], constants=(1,), keepdims=keep)
            add("all_flat", op, v, [x], keepdims=0)
            if v >= since:
                add("axes_given", op, v, [x, ints(1)])
                add("noop", op, v, [x], noop_with_empty_axes=1)
                add("noop_empty", op, v, [x, np.zeros(0, I64)], constants=(1,), noop_with_empty_axes=1)
                add("empty", op, v, [x, np.zeros(0, I64)], constants=(1,))
                add("noop_axes", op, v, [x, ints(1)], constants=(1,), noop_with_empty_axes=1)
            add("scalar", op, v, [np.array(2.5, F32)], keepdims=0)
    for op in ["ReduceMax", "ReduceMin"]:
        for v in versions(op, low=20):
            add("bools", op, v, [numbers(Numbers(op), BOOL, 3, 4), ints(1)], constants=(1,))
    for op in ["ArgMax", "ArgMin"]:
        for v in versions(op):
            n = Numbers(op)
            for t in kinds(op, v):
                add(letters(t), op, v, [numbers(n, t, 3, 4, 2, high=20)])
            ties = n.ints(3, 4, 5, low=0, high=2).astype(F32)
            for axis, keep in product([0, 1, 2] + ([-1] if v > 10 else []), [0, 1]):
                add(f"axis{axis}_{keep}", op, v, [ties], axis=axis, keepdims=keep)
            if v >= 12:
                for axis in [0, 1, -1]:
                    add(f"last{axis}", op, v, [ties], axis=axis, select_last_index=1)


def shapes():
    n = Numbers("shapes")
    x = n.floats(2, 3, 4)
    for op in ["Squeeze", "Unsqueeze"]:
        for v in versions(op):
            one = n.floats(1, 3, 1, 2)
            cases = [("a", [0]), ("b", [2]), ("c", [0, 2])] + ([("d", [-2]), ("e", [-4, -2])] if v > 10 else [])
            for tag, axes in cases:
                y = one if op == "Squeeze" else n.floats(3, 2)
                if op == "Unsqueeze" and tag == "e":
                    axes = [-1, -3]
                if v < 13:
                    add(tag, op, v, [y], axes=axes)
                else:
                    add(tag, op, v, [y, ints(*axes)], constants=(1,))
                    add(f"{tag}_given", op, v, [y, ints(*axes)])
            if op == "Squeeze":
                add("all", op, v, [one])
            for t in kinds(op, v):
                y = numbers(n, t, 1, 3, 1, 2)
                if v < 13:
                    add(letters(t), op, v, [y], axes=[0])
                else:
                    add(letters(t), op, v, [y, ints(0)], constants=(1,))
    for v in versions("Reshape"):
        for tag, target in [("plain", [4, 6]), ("rest", [-1, 6]), ("copy", [0, -1]), ("same", [2, 3, 4]), ("more", [2, 1, 3, 2, 2]), ("flat", [-1])]:
            add(tag, "Reshape", v, [x, ints(*target)], constants=(1,))
            add(f"{tag}_given", "Reshape", v, [x, ints(*target)])
        add("scalar", "Reshape", v, [n.floats(1, 1), np.zeros(0, I64)], constants=(1,))
        if v >= 14:
            add("zero", "Reshape", v, [np.zeros((0, 3), F32), ints(3, 0)], constants=(1,), allowzero=1)
            add("allowzero", "Reshape", v, [x, ints(4, 6)], constants=(1,), allowzero=1)
        for t in kinds("Reshape", v):
            add(letters(t), "Reshape", v, [numbers(n, t, 2, 3), ints(3, 2)], constants=(1,))
    for v in versions("Flatten"):
        for axis in [0, 1, 2, 3] + ([-1, -2, -3] if v > 10 else []):
            add(f"axis{axis}", "Flatten", v, [x], axis=axis)
        add("", "Flatten", v, [n.floats(2, 3, 2, 2)])
        for t in kinds("Flatten", v):
            add(letters(t), "Flatten", v, [numbers(n, t, 2, 3, 2)])
    for v in versions("Transpose"):
        add("", "Transpose", v, [x])
        for perm in [[0, 2, 1], [1, 0, 2], [2, 0, 1]]:
            add("".join(map(str, perm)), "Transpose", v, [x], perm=perm)
        for t in kinds("Transpose", v):
            add(letters(t), "Transpose", v, [numbers(n, t, 2, 3, 2)], perm=[1, 0, 2])
    for v in versions("Concat"):
        for axis in [0, 1, 2] + ([-1, -3] if v > 10 else []):
            add(f"axis{axis}", "Concat", v, [x, x + 1, x], axis=axis)
        add("one", "Concat", v, [x], axis=0)
        add("sizes", "Concat", v, [x, n.floats(2, 1, 4), n.floats(2, 5, 4)], axis=1)
        for t in kinds("Concat", v):
            add(letters(t), "Concat", v, [numbers(n, t, 2, 3), numbers(n, t, 1, 3)], axis=0)
    for v in versions("Split"):
        y = n.floats(2, 6, 4)
        for axis in [0, 1, 2] + ([-1, -2] if v > 10 else []):
            extra = {"num_outputs": 2} if v >= 18 else {}
            add(f"axis{axis}", "Split", v, [y], outputs=2, axis=axis, **extra)
        for sizes in [[1, 5], [2, 4], [1, 2, 3], [0, 6]]:
            tag = "sizes" + "".join(map(str, sizes))
            if v < 13:
                add(tag, "Split", v, [y], outputs=len(sizes), axis=1, split=sizes)
            else:
                add(tag, "Split", v, [y, ints(*sizes)], outputs=len(sizes), constants=(1,), axis=1)
        if v >= 18:
            add("uneven", "Split", v, [n.floats(7, 2)], outputs=3, axis=0, num_outputs=3)
        for t in kinds("Split", v):
            extra = {"num_outputs": 2} if v >= 18 else {}
            add(letters(t), "Split", v, [numbers(n, t, 4, 2)], outputs=2, axis=0, **extra)
    for v in versions("Slice"):
        y = n.floats(5, 6, 4)
        plain = [("a", [1], [3], [0]), ("b", [1, 0], [4, 3], [1, 2]), ("c", [-3], [-1], [1]), ("d", [0], [1000], [0]), ("e", [2], [2**63 - 1], [1])]
        if v < 10:
            for tag, starts, ends, axes in plain:
                add(tag, "Slice", v, [y], starts=starts, ends=ends, axes=axes)
            add("no_axes", "Slice", v, [y], starts=[1, 2], ends=[3, 5])
            for t in kinds("Slice", v):
                add(letters(t), "Slice", v, [numbers(n, t, 4, 3)], starts=[1], ends=[3])
        else:
            for tag, starts, ends, axes in plain + [("f", [0, 1], [5, 6], [-3, -2])]:
                add(tag, "Slice", v, [y, ints(*starts), ints(*ends), ints(*axes)], constants=(1, 2, 3))
                add(f"{tag}_given", "Slice", v, [y, ints(*starts), ints(*ends), ints(*axes)])
            add("no_axes", "Slice", v, [y, ints(1, 2), ints(3, 5)], constants=(1, 2))
            steps = [("s", [0], [6], [1], [2]), ("t", [-1], [-(2**63)], [1], [-1]), ("u", [5], [0], [1], [-2]), ("v", [4, 1], [-100, 6], [0, 1], [-3, 4]), ("w", [100], [-100], [1], [-1])]
            for tag, starts, ends, axes, by in steps:
                add(tag, "Slice", v, [y, ints(*starts), ints(*ends), ints(*axes), ints(*by)], constants=(1, 2, 3, 4))
            add("narrow", "Slice", v, [y, ints(1, dtype=I32), ints(-1, dtype=I32), ints(1, dtype=I32), ints(2, dtype=I32)], constants=(1, 2, 3, 4))
            for t in kinds("Slice", v):
                add(letters(t), "Slice", v, [numbers(n, t, 4, 3), ints(1), ints(3)], constants=(1, 2))
    for v in versions("Expand"):
        add("", "Expand", v, [n.floats(3, 1), ints(2, 3, 4)], constants=(1,))
        add("ones", "Expand", v, [n.floats(3, 4), ints(1, 1)], constants=(1,))
        add("fewer", "Expand", v, [n.floats(2, 3, 1), ints(4)], constants=(1,))
        add("given", "Expand", v, [n.floats(3, 1), ints(2, 3, 4)])
        for t in kinds("Expand", v):
            add(letters(t), "Expand", v, [numbers(n, t, 3, 1), ints(3, 2)], constants=(1,))
    for v in versions("Tile"):
        add("", "Tile", v, [x, ints(2, 1, 3)], constants=(1,))
        add("given", "Tile", v, [x, ints(1, 2, 1)])
        for t in kinds("Tile", v):
            add(letters(t), "Tile", v, [numbers(n, t, 2, 3), ints(2, 2)], constants=(1,))
    for v in versions("Identity"):
        add("constant", "Identity", v, [x], constants=(0,))
    for op in ["Shape", "Size"]:
        for v in versions(op):
            for t in kinds(op, v):
                add(letters(t), op, v, [numbers(n, t, 2, 3, 4)])
            if op == "Shape" and v >= 15:
                for start, end in [(1, None), (-1, None), (0, 2), (-2, -1), (0, 100), (-100, 1)]:
                    extra = {} if end is None else {"end": end}
                    add(f"{start}_{end}", op, v, [x], start=start, **extra)
    for v in versions("Pad"):
        y = n.floats(3, 4, 5)
        for mode in ["constant", "edge", "reflect"] + (["wrap"] if v >= 19 else []):
            for tag, pads in [("a", [0, 1, 2, 0, 2, 1]), ("b", [1, 0, 0, 2, 0, 0]), ("c", [0, 0, 0, 0, 0, 3]), ("crop", [0, -1, 0, 0, 1, -2])]:
                if v < 11:
                    add(f"{mode}_{tag}", "Pad", v, [y], mode=mode, pads=pads, **({"value": 1.5} if mode == "constant" else {}))
                else:
                    value = [np.array(1.5, F32)] if mode == "constant" else []
                    add(f"{mode}_{tag}", "Pad", v, [y, ints(*pads)] + value, constants=(1, 2), mode=mode)
        if v >= 11:
            add("given", "Pad", v, [y, ints(0, 1, 0, 0, 0, 2), np.array(-1, F32)])
            for t in kinds("Pad", v):
                add(letters(t), "Pad", v, [numbers(n, t, 2, 3), ints(0, 1, 1, 0), np.array(1, t)], constants=(1, 2))
        if v >= 18:
            add("axes", "Pad", v, [y, ints(1, 2), np.array(3, F32), ints(1)], constants=(1, 2, 3))
            add("axes_last", "Pad", v, [y, ints(1, 0, 2, 1), None, ints(-1, 0)], constants=(1, 3), mode="edge")
    for op in ["DepthToSpace", "SpaceToDepth"]:
        for v in versions(op):
            y = n.floats(2, 8, 4, 6)
            for t in kinds(op, v):
                add(letters(t), op, v, [numbers(n, t, 2, 8, 4, 6)], blocksize=2)
            if op == "DepthToSpace" and v >= 11:
                add("crd", op, v, [y], blocksize=2, mode="CRD")
                add("dcr", op, v, [y], blocksize=2, mode="DCR")
    for v in versions("Trilu"):
        y = n.floats(2, 4, 5)
        for upper, k in product([0, 1], [None, -2, 0, 1, 7, -7]):
            add(f"{upper}_{k}", "Trilu", v, [y] + ([np.array(k, I64)] if k is not None else []), constants=(1,), upper=upper)
        add("given", "Trilu", v, [y, np.array(1, I64)])
        for t in kinds("Trilu", v):
            add(letters(t), "Trilu", v, [numbers(n, t, 3, 3)])
    for v in versions("EyeLike"):
        for k in [0, 1, -2]:
            add(f"k{k}", "EyeLike", v, [n.floats(3, 4)], k=k)
        for t in kinds("EyeLike", v):
            add(letters(t), "EyeLike", v, [numbers(n, t, 3, 3)])
            add(f"to_{letters(t)}", "EyeLike", v, [n.floats(3, 4)], dtype=helper.np_dtype_to_tensor_dtype(np.dtype(t)))
    for v in versions("ConstantOfShape"):
        for constants in [(0,), ()]:
            add(f"plain{len(constants)}", "ConstantOfShape", v, [ints(2, 3)], constants=constants)
            for t in [F32, I64, I32, BOOL, F16, U8]:
                value = numpy_helper.from_array(np.array([1], t))
                add(f"{letters(t)}{len(constants)}", "ConstantOfShape", v, [ints(2, 3)], constants=constants, value=value)
        add("scalar", "ConstantOfShape", v, [np.zeros(0, I64)], constants=(0,))
    for v in versions("Range"):
        for t in kinds("Range", v):
            values = [np.array(1, t), np.array(9, t), np.array(2, t)]
            add(letters(t), "Range", v, values, constants=(0, 1, 2))
            add(f"{letters(t)}_given", "Range", v, values)
        add("down", "Range", v, [np.array(5, I64), np.array(-4, I64), np.array(-3, I64)], constants=(0, 1, 2))
        add("uneven", "Range", v, [np.array(0, F32), np.array(1, F32), np.array(0.3, F32)], constants=(0, 1, 2))
    for v in versions("CenterCropPad"):
        for tag, target, axes in [("crop", [3, 2], [0, 2]), ("pad", [7, 9], [1, 2]), ("both", [6, 3], [0, 1]), ("odd", [4, 7], [-3, -1])]:
            add(tag, "CenterCropPad", v, [n.floats(5, 4, 6), ints(*target)], constants=(1,), axes=axes)
        add("all", "CenterCropPad", v, [n.floats(5, 4, 6), ints(4, 5, 6)], constants=(1,))
    for v in versions("Col2Im"):
        y = n.floats(1, 12, 20)
        add("plain", "Col2Im", v, [y, ints(6, 5), ints(2, 2)], constants=(1, 2))
        add("pads", "Col2Im", v, [n.floats(2, 8, 42), ints(5, 6), ints(2, 2)], constants=(1, 2), pads=[1, 0, 1, 2][:4])
        add("strides", "Col2Im", v, [n.floats(1, 8, 6), ints(5, 6), ints(2, 2)], constants=(1, 2), strides=[2, 2])
        add("dilations", "Col2Im", v, [n.floats(1, 8, 12), ints(5, 6), ints(2, 2)], constants=(1, 2), dilations=[2, 2])
        add("one", "Col2Im", v, [n.floats(1, 6, 4), ints(6), ints(3)], constants=(1, 2))
        add("three", "Col2Im", v, [n.floats(1, 8, 8), ints(3, 3, 3), ints(2, 2, 2)], constants=(1, 2))


def places():
    n = Numbers("places")
    for v in versions("Gather"):
        x = n.floats(4, 3, 5)
        for axis in [0, 1, 2] + ([-1] if v > 10 else []):
            add(f"axis{axis}", "Gather", v, [x, ints(2, 0, 1)], axis=axis)
            add(f"matrix{axis}", "Gather", v, [x, np.array([[0, 1], [2, 2]], I32)], axis=axis, constants=(1,))
        add("scalar", "Gather", v, [x, np.array(1, I64)], axis=1, constants=(1,))
        add("scalar_given", "Gather", v, [x, np.array(1, I64)], axis=1)
        if v > 10:
            add("negative", "Gather", v, [x, ints(-1, 0, -4)])
            add("negative_constant", "Gather", v, [x, ints(-1, 0, -4)], constants=(1,))
        for t in kinds("Gather", v):
            add(letters(t), "Gather", v, [numbers(n, t, 4, 3), ints(2, 0)])
    for v in versions("GatherElements"):
        x = n.floats(4, 3, 5)
        for axis in [0, 1, 2, -1]:
            index = n.ints(2, 3, 2, low=-2, high=2, dtype=I64)
            add(f"axis{axis}", "GatherElements", v, [x, index], axis=axis)
        for t in kinds("GatherElements", v):
            add(letters(t), "GatherElements", v, [numbers(n, t, 4, 3), n.ints(2, 3, high=2, dtype=I32)])
    for v in versions("GatherND"):
        x = n.floats(3, 4, 2, 5)
        low = -2 if v > 11 else 0
        for last in [1, 2, 3]:
            add(f"last{last}", "GatherND", v, [x, n.ints(6, last, low=low, high=1, dtype=I64)])
        add("matrix", "GatherND", v, [x, n.ints(2, 3, 2, low=0, high=2, dtype=I64)])
        if v >= 12:
            add("batch1", "GatherND", v, [x, n.ints(3, 6, 2, low=0, high=1, dtype=I64)], batch_dims=1)
            add("batch2", "GatherND", v, [x, n.ints(3, 4, 1, low=0, high=1, dtype=I64)], batch_dims=2)
        for t in kinds("GatherND", v):
            add(letters(t), "GatherND", v, [numbers(n, t, 4, 3), n.ints(2, 2, high=2, dtype=I64)])
    for v in versions("Scatter"):
        for axis in [0, 1]:
            add(f"axis{axis}", "Scatter", v, [n.floats(4, 3), np.array([[1, 0, 2], [0, 2, 1]], I64), n.floats(2, 3)], axis=axis)
    for v in versions("ScatterElements"):
        x = n.floats(4, 3, 5)
        for axis in [0, 1, 2, -2]:
            size = x.shape[axis]
            index = np.stack([np.roll(np.arange(size), i)[:2] for i in range(4)]) if False else None
            shape = [2, 2, 2]
            index = np.zeros(shape, I64)
            index[(slice(None),) * (axis % 3) + (1,)] = 2
            add(f"axis{axis}", "ScatterElements", v, [x, index, n.floats(*shape)], axis=axis)
            add(f"negative{axis}", "ScatterElements", v, [x, index - 3, n.floats(*shape)], axis=axis)
        reductions = ["add", "mul"] if v >= 16 else []
        reductions += ["max", "min"] if v >= 18 else []
        for how in reductions:
            add(how, "ScatterElements", v, [x, n.ints(4, 3, 2, high=2, dtype=I64), n.floats(4, 3, 2)], axis=2, reduction=how)
            add(f"{how}_ints", "ScatterElements", v, [n.ints(4, 3, dtype=I32), n.ints(4, 3, high=2, dtype=I64), n.ints(4, 3, high=4, dtype=I32)], axis=1, reduction=how)
        for t in kinds("ScatterElements", v):
            add(letters(t), "ScatterElements", v, [numbers(n, t, 4, 3), np.array([[3, 0, 2]], I64), numbers(n, t, 1, 3)])
    for v in versions("ScatterND"):
        x = n.floats(4, 3, 5)
        add("rows", "ScatterND", v, [x, ints(2, 0).reshape(2, 1), n.floats(2, 3, 5)])
        add("cells", "ScatterND", v, [x, np.array([[0, 1, 2], [3, 2, 4]], I64), n.floats(2)])
        add("pairs", "ScatterND", v, [x, np.array([[[0, 1], [3, 2]]], I64), n.floats(1, 2, 5)])
        if v > 11:
            add("negative", "ScatterND", v, [x, np.array([[-1, -1], [0, -2]], I64), n.floats(2, 5)])
        reductions = ["add", "mul"] if v >= 16 else []
        reductions += ["max", "min"] if v >= 18 else []
        for how in reductions:
            add(how, "ScatterND", v, [x, np.array([[1], [1], [0]], I64), n.floats(3, 3, 5)], reduction=how)
        for t in kinds("ScatterND", v):
            add(letters(t), "ScatterND", v, [numbers(n, t, 4, 3), ints(2, 0).reshape(2, 1), numbers(n, t, 2, 3)])
    for v in versions("TopK"):
        x = np.stack([n.words(12).argsort().reshape(3, 4) for _ in range(2)]).astype(F32)
        for axis in [0, 1, 2, -1]:
            if v < 10:
                add(f"axis{axis}", "TopK", v, [x], outputs=2, axis=axis, k=2)
            else:
                add(f"axis{axis}", "TopK", v, [x, ints(2)], outputs=2, axis=axis, constants=(1,))
        if v >= 10:
            add("given", "TopK", v, [x, ints(3)], outputs=2)
        if v >= 11:
            add("smallest", "TopK", v, [x, ints(3)], outputs=2, largest=0, constants=(1,))
            ties = n.ints(3, 6, high=2).astype(F32)
            add("ties", "TopK", v, [ties, ints(4)], outputs=2, constants=(1,))
            add("ties_smallest", "TopK", v, [ties, ints(4)], outputs=2, largest=0, constants=(1,))
            for t in kinds("TopK", v):
                y = np.stack([n.words(5).argsort() for _ in range(3)]).astype(t)
                add(letters(t), "TopK", v, [y, ints(2)], outputs=2, constants=(1,))
    for v in versions("OneHot"):
        values = np.array([2, 5], F32)
        index = np.array([[0, 3], [1, -1]], I64)
        if v == 9:
            index = np.abs(index)
        for axis in [-1, 0, 1] + ([-2] if v > 9 else []):
            add(f"axis{axis}", "OneHot", v, [index, ints(4), values], constants=(1,), axis=axis)
        add("scalar_depth", "OneHot", v, [index, np.array(4, I64), values], constants=(1, 2))
        add("given", "OneHot", v, [index, ints(4), values])
        add("outside", "OneHot", v, [ints(7, 2, -9), ints(4), values], constants=(1,))
        for a, b, c in [(F32, F32, F32), (I32, I32, I32), (I64, F32, I64), (I32, I64, F32), (I64, I32, F32)]:
            add(f"{letters(a)}_{letters(b)}_{letters(c)}", "OneHot", v, [ints(0, 3, 2, dtype=a), ints(4, dtype=b), ints(0, 1, dtype=c)], constants=(1,))
    for v in versions("NonZero"):
        add("constant", "NonZero", v, [np.array([[1, 0, 3], [0, 2, 0]], F32)], constants=(0,))
    for v in versions("Compress"):
        x = n.floats(3, 4)
        add("axis", "Compress", v, [x, np.array([True, False, True])], axis=0, constants=(1,))
        add("axis1", "Compress", v, [x, np.array([True, False, True])], axis=1, constants=(1,))
        add("flat", "Compress", v, [x, np.array([True, False, True, True, False])], constants=(1,))
        if v > 10:
            add("negative", "Compress", v, [x, np.array([False, False, True])], axis=-1, constants=(1,))
    for v in versions("CumSum"):
        x = n.floats(3, 4, 2)
        for exclusive, reverse, axis in product([0, 1], [0, 1], [0, 1, -1]):
            add(f"{exclusive}{reverse}{axis}", "CumSum", v, [x, np.array(axis, I64)], constants=(1,), exclusive=exclusive, reverse=reverse)
        add("given", "CumSum", v, [x, ints(1)])
        for t in kinds("CumSum", v):
            add(letters(t), "CumSum", v, [numbers(n, t, 3, 4), np.array(1, I32)], constants=(1,))
    for v in versions("ReverseSequence"):
        x = n.floats(4, 3, 2)
        add("time0", "ReverseSequence", v, [x, ints(1, 4, 2)], batch_axis=1, time_axis=0)
        add("time1", "ReverseSequence", v, [x, ints(1, 3, 2, 3)], batch_axis=0, time_axis=1)
        add("constant", "ReverseSequence", v, [x, ints(1, 3, 2, 3)], batch_axis=0, time_axis=1, constants=(1,))
    for v in versions("TensorScatter"):
        past, update = n.floats(2, 3, 6, 4), n.floats(2, 3, 2, 4)
        add("none", "TensorScatter", v, [past, update])
        add("places", "TensorScatter", v, [past, update, ints(1, 4)])
        add("circular", "TensorScatter", v, [past, update, ints(5, 4)], mode="circular")
        add("axis", "TensorScatter", v, [n.floats(2, 6, 4), n.floats(2, 2, 4), ints(1, 3)], axis=1)
    for v in versions("NonMaxSuppression"):
        corners = n.floats(2, 6, 2) + 1
        boxes = np.concatenate([corners, corners + np.abs(n.floats(2, 6, 2)) + F32(0.5)], axis=2).astype(F32)
        scores = np.stack([[n.words(6).argsort() / 6 for _ in range(2)] for _ in range(2)]).astype(F32)
        many, iou, low = ints(3), np.array([0.4], F32), np.array([0.2], F32)
        add("all", "NonMaxSuppression", v, [boxes, scores, many, iou, low], constants=(2, 3, 4))
        add("constant", "NonMaxSuppression", v, [boxes, scores, many, iou, low], constants=(0, 1, 2, 3, 4))
        add("few", "NonMaxSuppression", v, [boxes, scores, many], constants=(2,))
        add("none", "NonMaxSuppression", v, [boxes, scores])
        add("center", "NonMaxSuppression", v, [boxes, scores, many, iou, low], constants=(2, 3, 4), center_point_box=1)
    for v in versions("Unique"):
        y = n.ints(3, 4, high=3).astype(F32)
        add("constant", "Unique", v, [y], outputs=4, constants=(0,))


def products():
    n = Numbers("products")
    for v in versions("MatMul"):
        for a, b in [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (3, 4, 2)), ((3, 4), (2, 4, 5)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3))]:
            tag = "x".join("".join(map(str, s)) for s in (a, b))
            add(tag, "MatMul", v, [n.floats(*a), n.floats(*b)])
            add(f"{tag}_weight", "MatMul", v, [n.floats(*a), n.floats(*b)], constants=(1,))
        for t in kinds("MatMul", v):
            add(letters(t), "MatMul", v, [numbers(n, t, 3, 4), numbers(n, t, 4, 2)])
    for v in versions("Gemm"):
        for i, (ta, tb) in enumerate(product([0, 1], [0, 1])):
            a = n.floats(*((4, 3) if ta else (3, 4)))
            b = n.floats(*((5, 4) if tb else (4, 5)))
            for tag, c in [("row", n.floats(5)), ("full", n.floats(3, 5)), ("column", n.floats(3, 1)), ("scalar", np.array(0.5, F32))]:
                add(f"{tag}{ta}{tb}", "Gemm", v, [a, b, c], transA=ta, transB=tb, alpha=0.5, beta=2.0)
            add(f"weights{ta}{tb}", "Gemm", v, [a, b, n.floats(5)], constants=(1, 2), transA=ta, transB=tb)
            if v >= 11:
                add(f"none{ta}{tb}", "Gemm", v, [a, b], transA=ta, transB=tb, alpha=1.5)
        for t in kinds("Gemm", v):
            add(letters(t), "Gemm", v, [numbers(n, t, 3, 4), numbers(n, t, 4, 2), numbers(n, t, 2)])
    for v in versions("Einsum"):
        sizes = dict(i=2, j=3, k=4, l=2, b=2, h=3)
        for i, text in enumerate(["ij,jk->ik", "ij->ji", "ii->i", "ii->", "ij->", "ij->i", "bij,bjk->bik", "ij,jk", "i,j->ij", "...ij,...jk->...ik", "...ij->...ji", "bhi,bhj->bhij", "ij,jk,kl->il", "ij, ij -> ij", "i,i->", "...,...->...", "bij,bkj->bik", "bhij->bihj", "ij,ij->", "i...->...i", "iij->ij", "bhik,bhjk->bhij", "k,ij->ijk", "...i->...", "ij,ji->", "iji->j", "i->", "ijk,ilj->kl"]):
            names = [p.strip() for p in text.split("->")[0].split(",")]
            def shape(p, more):
                out = []
                rest = p.replace("...", ".")
                for c in rest:
                    out += [2, 3][:more] if c == "." else [sizes[c]]
                return out
            for more in [1, 2] if "..." in text else [0]:
                add(f"{i}_{more}", "Einsum", v, [n.floats(*shape(p, more)) for p in names], equation=text)
            for t in [F16, F64, I32, I64] if i < 2 else []:
                add(f"{i}_{letters(t)}", "Einsum", v, [numbers(n, t, *shape(p, 0)) for p in names], equation=text)
        add("spread", "Einsum", v, [n.floats(1, 3, 4), n.floats(2, 4, 5)], equation="...ij,...jk->...ik")
        add("ranks", "Einsum", v, [n.floats(3, 4), n.floats(2, 4, 5)], equation="...ij,...jk->...ik", reference=True)  # ONNX Runtime 1.31 crashes
        add("one", "Einsum", v, [n.floats(1, 3), n.floats(2, 3)], equation="ij,ij->ij")
    for v in versions("Det"):
        for s in [(2, 2), (3, 3), (4, 4), (2, 3, 3), (1, 1)]:
            add("".join(map(str, s)), "Det", v, [n.floats(*s)])


def image_shapes(axes):
    return {1: [9], 2: [8, 9], 3: [5, 6, 7]}[axes]


def convolutions():
    n = Numbers("convolutions")
    for v in versions("Conv"):
        for axes in [1, 2, 3]:
            x, w, b = n.floats(2, 4, *image_shapes(axes)), n.floats(6, 4, *[3] * axes), n.floats(6)
            add(f"plain{axes}", "Conv", v, [x, w], constants=(1,))
            add(f"bias{axes}", "Conv", v, [x, w, b], constants=(1, 2))
            add(f"given{axes}", "Conv", v, [x, w, b])
            add(f"pads{axes}", "Conv", v, [x, w, b], constants=(1, 2), pads=[1] * axes + [2] * axes)
            add(f"strides{axes}", "Conv", v, [x, w, b], constants=(1, 2), strides=[2] * axes, kernel_shape=[3] * axes)
            add(f"dilations{axes}", "Conv", v, [x, w, b], constants=(1, 2), dilations=[2] * axes)
            add(f"groups{axes}", "Conv", v, [x, n.floats(6, 2, *[3] * axes), b], constants=(1, 2), group=2)
            add(f"depthwise{axes}", "Conv", v, [x, n.floats(8, 1, *[3] * axes)], constants=(1,), group=4)
            for auto in ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]:
                add(f"{auto}{axes}", "Conv", v, [x, w], constants=(1,), auto_pad=auto, strides=[2] * axes)
                add(f"{auto}{axes}_even", "Conv", v, [x, n.floats(3, 4, *[2] * axes)], constants=(1,), auto_pad=auto)
        for t in kinds("Conv", v):
            add(letters(t), "Conv", v, [n.floats(1, 2, 5, 5).astype(t), n.floats(3, 2, 3, 3).astype(t)], constants=(1,))
    for v in versions("ConvTranspose"):
        for axes in [1, 2, 3]:
            shape = [4, 5, 3][:axes]
            x, w, b = n.floats(2, 4, *shape), n.floats(4, 3, *[3] * axes), n.floats(3)
            add(f"plain{axes}", "ConvTranspose", v, [x, w], constants=(1,))
            add(f"given{axes}", "ConvTranspose", v, [x, w, b])
            add(f"strides{axes}", "ConvTranspose", v, [x, w, b], constants=(1, 2), strides=[2] * axes)
            add(f"more{axes}", "ConvTranspose", v, [x, w, b], constants=(1, 2), strides=[2] * axes, output_padding=[1] * axes)
            add(f"pads{axes}", "ConvTranspose", v, [x, w, b], constants=(1, 2), strides=[2] * axes, pads=[1] * axes + [0] * axes)
            add(f"dilations{axes}", "ConvTranspose", v, [x, w, b], constants=(1, 2), dilations=[2] * axes)
            add(f"groups{axes}", "ConvTranspose", v, [x, w], constants=(1,), group=2, strides=[2] * axes)
            for auto in ["SAME_UPPER", "SAME_LOWER", "VALID"]:
                add(f"{auto}{axes}", "ConvTranspose", v, [x, w], constants=(1,), auto_pad=auto, strides=[2] * axes)
                add(f"{auto}{axes}_small", "ConvTranspose", v, [x, w], constants=(1,), auto_pad=auto)
            add(f"shape{axes}", "ConvTranspose", v, [x, w], constants=(1,), strides=[2] * axes, output_shape=[2 * s for s in shape])
            add(f"shape_upper{axes}", "ConvTranspose", v, [x, w], constants=(1,), auto_pad="SAME_UPPER", strides=[2] * axes, output_shape=[2 * s for s in shape])
            add(f"shape_lower{axes}", "ConvTranspose", v, [x, w], constants=(1,), auto_pad="SAME_LOWER", strides=[2] * axes, output_shape=[2 * s for s in shape])
            add(f"shape_large{axes}", "ConvTranspose", v, [x, w], constants=(1,), strides=[3] * axes, output_shape=[3 * s + 1 for s in shape])
        for t in kinds("ConvTranspose", v):
            add(letters(t), "ConvTranspose", v, [n.floats(1, 2, 4, 4).astype(t), n.floats(2, 3, 3, 3).astype(t)], constants=(1,))
    for v in versions("DeformConv"):
        x, w = n.floats(1, 4, 6, 6), n.floats(3, 4, 3, 3)
        offset, mask = n.floats(1, 18, 4, 4), n.floats(1, 9, 4, 4)
        add("plain", "DeformConv", v, [x, w, offset], constants=(1,))
        add("bias", "DeformConv", v, [x, w, offset, n.floats(3)], constants=(1, 3))
        add("mask", "DeformConv", v, [x, w, offset, n.floats(3), mask], constants=(1, 3))
        add("pads", "DeformConv", v, [x, w, n.floats(1, 18, 6, 6)], constants=(1,), pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        add("strides", "DeformConv", v, [x, w, n.floats(1, 18, 2, 2)], constants=(1,), strides=[2, 2])
        add("groups", "DeformConv", v, [x, n.floats(4, 2, 3, 3), n.floats(1, 36, 4, 4)], constants=(1,), group=2, offset_group=2)
        add("dilations", "DeformConv", v, [x, w, n.floats(1, 18, 2, 2)], constants=(1,), dilations=[2, 2])


def pools():
    n = Numbers("pools")
    for op in ["AveragePool", "MaxPool", "LpPool"]:
        for v in versions(op):
            for axes in [1, 2, 3]:
                x = n.floats(2, 3, *image_shapes(axes))
                k = {"kernel_shape": [3] * axes}
                add(f"plain{axes}", op, v, [x], **k)
                add(f"strides{axes}", op, v, [x], strides=[2] * axes, **k)
                add(f"pads{axes}", op, v, [x], pads=[1] * axes + [0] * axes, strides=[2] * axes, **k)
                add(f"pads_more{axes}", op, v, [x], pads=[1] * axes + [2] * axes, **k)
                for auto in ["SAME_UPPER", "SAME_LOWER", "VALID"]:
                    add(f"{auto}{axes}", op, v, [x], auto_pad=auto, strides=[2] * axes, **k)
                    add(f"{auto}{axes}_even", op, v, [x], auto_pad=auto, kernel_shape=[2] * axes)
                ceil = 10 if op != "LpPool" else 18
                if v >= ceil:
                    add(f"ceil{axes}", op, v, [x], ceil_mode=1, strides=[2] * axes, **k)
                    add(f"ceil_pads{axes}", op, v, [x], ceil_mode=1, strides=[3] * axes, pads=[1] * axes + [1] * axes, **k)
                    add(f"ceil_two{axes}", op, v, [x], ceil_mode=1, strides=[2] * axes, kernel_shape=[2] * axes)
                dilate = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op]
                if v >= dilate:
                    add(f"dilations{axes}", op, v, [x], dilations=[2] * axes, kernel_shape=[2] * axes)
                    add(f"dilations_pads{axes}", op, v, [x], dilations=[2] * axes, pads=[1] * 2 * axes, kernel_shape=[2] * axes)
                    add(f"dilations_ceil{axes}", op, v, [x], dilations=[2] * axes, strides=[2] * axes, ceil_mode=1, **({"kernel_shape": [2] * axes}))
                    # With `auto_pad` both judges forget the dilation.
                if op == "AveragePool":
                    for ceil_mode in [0, 1] if v >= 10 else [0]:
                        extra = {"ceil_mode": 1} if ceil_mode else {}
                        add(f"include{axes}{ceil_mode}", op, v, [x], count_include_pad=1, pads=[1] * 2 * axes, strides=[2] * axes, **k, **extra)
                        add(f"include_same{axes}{ceil_mode}", op, v, [x], count_include_pad=1, auto_pad="SAME_UPPER", strides=[2] * axes, **k, **extra)
                    if v >= 19:
                        add(f"include_dilated{axes}", op, v, [x], count_include_pad=1, pads=[1] * 2 * axes, dilations=[2] * axes, **k)
                if op == "LpPool":
                    for p in [1, 3]:
                        add(f"p{p}_{axes}", op, v, [x], p=p, **k)
                if op == "MaxPool" and v >= 8:
                    add(f"places{axes}", op, v, [x], outputs=2, strides=[2] * axes, **k)
                    add(f"places_pads{axes}", op, v, [x], outputs=2, strides=[2] * axes, pads=[1] * 2 * axes, **k)
                    add(f"places_column{axes}", op, v, [x], outputs=2, storage_order=1, **k)
                    if v >= 10:
                        add(f"places_ceil{axes}", op, v, [x], outputs=2, ceil_mode=1, strides=[2] * axes, **k)
                        add(f"places_dilated{axes}", op, v, [x], outputs=2, dilations=[2] * axes, **k)
            for t in kinds(op, v):
                add(letters(t), op, v, [numbers(n, t, 1, 2, 6, 6, high=50)], kernel_shape=[2, 2])
    for op in ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]:
        for v in versions(op):
            for axes in [1, 2, 3]:
                add(f"axes{axes}", op, v, [n.floats(2, 3, *image_shapes(axes))])
            for t in kinds(op, v):
                add(letters(t), op, v, [n.floats(1, 2, 4, 4).astype(t)])
            if op == "GlobalLpPool":
                for p in [1, 3]:
                    add(f"p{p}", op, v, [n.floats(2, 3, 4, 4)], p=p)
    for v in versions("MaxUnpool"):
        x = n.floats(1, 1, 2, 2)
        index = np.array([[[[0, 3], [9, 14]]]], I64)
        k = dict(kernel_shape=[2, 2], strides=[2, 2])
        add("plain", "MaxUnpool", v, [x, index], **k)
        add("pads", "MaxUnpool", v, [n.floats(1, 1, 3, 3), np.array([[[[0, 3, 4], [6, 9, 11], [12, 13, 15]]]], I64)], pads=[1, 1, 1, 1], **k)
        # ONNX Runtime counts the places in `output_shape`, ONNX's node tests in what the windows cover.
        add("shape", "MaxUnpool", v, [x, index, ints(1, 1, 4, 4)], constants=(2,), **k)
        add("line", "MaxUnpool", v, [n.floats(1, 2, 3), np.array([[[0, 3, 4], [6 + 1, 6 + 2, 6 + 5]]], I64)], kernel_shape=[2], strides=[2])
    for v in versions("MaxRoiPool"):
        x = n.floats(2, 3, 8, 9)
        rois = np.array([[0, 0, 0, 5, 4], [1, 2, 1, 8, 7], [0, 3, 3, 3, 3]], F32)
        add("plain", "MaxRoiPool", v, [x, rois], pooled_shape=[2, 3])
        add("scale", "MaxRoiPool", v, [x, rois * F32([1, 2, 2, 2, 2])], pooled_shape=[3, 2], spatial_scale=0.5)
        add("constant", "MaxRoiPool", v, [x, rois], pooled_shape=[2, 2], constants=(1,))


def norms():
    n = Numbers("norms")
    for v in versions("BatchNormalization"):
        for axes in [0, 1, 2, 3]:
            x = n.floats(2, 3, *([] if axes == 0 else image_shapes(axes)))
            rest = [n.floats(3), n.floats(3), n.floats(3), n.floats(3) + F32(1.5)]
            add(f"axes{axes}", "BatchNormalization", v, [x] + rest, constants=(1, 2, 3, 4))
            add(f"given{axes}", "BatchNormalization", v, [x] + rest, epsilon=1e-2, momentum=0.5)
        for t in kinds("BatchNormalization", v):
            x = n.floats(2, 3, 4)
            add(letters(t), "BatchNormalization", v, [y.astype(t) for y in [x] + rest])
    places = [n.floats(3, 4) for _ in range(3)] + [n.floats(3, 4) + F32(1.5)]
    add("places", "BatchNormalization", 7, [n.floats(2, 3, 4)] + places, spatial=0)
    for v in versions("InstanceNormalization"):
        for axes in [1, 2, 3]:
            add(f"axes{axes}", "InstanceNormalization", v, [n.floats(2, 3, *image_shapes(axes)), n.floats(3), n.floats(3)], constants=(1, 2))
        add("epsilon", "InstanceNormalization", v, [n.floats(2, 3, 4), n.floats(3), n.floats(3)], epsilon=0.1)
        for t in kinds("InstanceNormalization", v):
            add(letters(t), "InstanceNormalization", v, [n.floats(2, 3, 4).astype(t), n.floats(3).astype(t), n.floats(3).astype(t)])
    for v in versions("LayerNormalization"):
        x = n.floats(2, 3, 4, 5)
        for axis in [0, 1, 2, 3, -1, -2]:
            shape = x.shape[axis:]
            add(f"axis{axis}", "LayerNormalization", v, [x, n.floats(*shape), n.floats(*shape)], axis=axis, constants=(1, 2))
            add(f"axis{axis}_stats", "LayerNormalization", v, [x, n.floats(*shape)], axis=axis, outputs=3)
        add("epsilon", "LayerNormalization", v, [x, n.floats(5), n.floats(5)], epsilon=0.1)
        add("spread", "LayerNormalization", v, [x, n.floats(4, 1), n.floats(5)], axis=2)
        for t in kinds("LayerNormalization", v):
            add(letters(t), "LayerNormalization", v, [x.astype(t), n.floats(5).astype(t), n.floats(5).astype(t)])
    for v in versions("RMSNormalization"):
        x = n.floats(2, 3, 4, 5)
        for axis in [0, 1, 2, 3, -1, -2]:
            add(f"axis{axis}", "RMSNormalization", v, [x, n.floats(*x.shape[axis:])], axis=axis, epsilon=1e-3)
        add("default", "RMSNormalization", v, [x, n.floats(5)])
        for t in kinds("RMSNormalization", v):
            add(letters(t), "RMSNormalization", v, [x.astype(t), n.floats(5).astype(t)])
    for v in versions("GroupNormalization"):
        for groups in [1, 2, 6]:
            size = groups if v < 21 else 6
            for axes in [1, 2]:
                add(f"groups{groups}_{axes}", "GroupNormalization", v, [n.floats(2, 6, *image_shapes(axes)), n.floats(size), n.floats(size)], num_groups=groups, epsilon=1e-3, constants=(1, 2))
        add("given", "GroupNormalization", v, [n.floats(2, 6, 3), n.floats(2 if v < 21 else 6), n.floats(2 if v < 21 else 6)], num_groups=2)
    for v in versions("LRN"):
        for size in [1, 3, 5]:
            add(f"size{size}", "LRN", v, [n.floats(2, 6, 3, 4)], size=size, alpha=0.5, beta=0.6, bias=1.5)
        add("default", "LRN", v, [n.floats(2, 6, 3, 4)], size=5)
    for v in versions("LpNormalization"):
        for p, axis in product([1, 2], [0, 1, -1]):
            add(f"p{p}_{axis}", "LpNormalization", v, [n.floats(3, 4, 2)], p=p, axis=axis)
    for v in versions("MeanVarianceNormalization"):
        add("default", "MeanVarianceNormalization", v, [n.floats(2, 3, 4, 5)])
        for axes in [[1], [0, 1], [2, 3], [1, 2, 3]]:
            add("".join(map(str, axes)), "MeanVarianceNormalization", v, [n.floats(2, 3, 4, 5)], axes=axes)
    for v in versions("Dropout"):
        x = n.floats(2, 3)
        add("", "Dropout", v, [x])
        if v < 12:
            add("ratio", "Dropout", v, [x], ratio=0.7)
        else:
            add("ratio", "Dropout", v, [x, np.array(0.7, F32)], constants=(1,))
            add("off", "Dropout", v, [x, np.array(0.7, F32), np.array(False)], constants=(1, 2))
            add("off_seed", "Dropout", v, [x, None, np.array(False)], constants=(2,), seed=3)
            add("mask", "Dropout", v, [x], outputs=2)
            add("on_zero", "Dropout", v, [x, np.array(0.0, F32), np.array(True)], constants=(1, 2))
        for t in kinds("Dropout", v):
            add(letters(t), "Dropout", v, [x.astype(t)])
    for op in ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"]:
        for v in versions(op):
            for how in ["none", "mean", "sum"]:
                for tag, more in [("flat", []), ("image", [2, 3])]:
                    x, y, w = n.floats(4, 5, *more), n.ints(4, *more, high=4, dtype=I64), n.floats(5) + F32(1.5)
                    add(f"{how}_{tag}", op, v, [x, y], reduction=how)
                    add(f"{how}_{tag}_weight", op, v, [x, y, w], reduction=how)
                    add(f"{how}_{tag}_ignore", op, v, [x, y, w], reduction=how, ignore_index=2)
            add("narrow", op, v, [n.floats(4, 5), n.ints(4, high=4, dtype=I32)])
            if op == "SoftmaxCrossEntropyLoss":
                add("logs", op, v, [n.floats(4, 5), n.ints(4, high=4, dtype=I64)], outputs=2)


def recurrent():
    n = Numbers("recurrent")
    count = {"LSTM": 4, "GRU": 3, "RNN": 1}
    steps, batch, size, hidden = 4, 2, 3, 5
    for op in count:
        for v in versions(op):
            g = count[op]
            for way in ["forward", "reverse", "bidirectional"]:
                d = 2 if way == "bidirectional" else 1
                x = n.floats(steps, batch, size)
                w, r, b = n.floats(d, g * hidden, size), n.floats(d, g * hidden, hidden), n.floats(d, 2 * g * hidden)
                h = n.floats(d, batch, hidden)
                lens = ints(4, 2, dtype=I32)
                outs = 3 if op == "LSTM" else 2
                base = dict(hidden_size=hidden, direction=way)
                fixed = (1, 2, 3)
                c = [n.floats(d, batch, hidden)] if op == "LSTM" else []
                add(f"{way}_plain", op, v, [x, w, r], outputs=outs, constants=fixed, **base)
                add(f"{way}_bias", op, v, [x, w, r, b], outputs=outs, constants=fixed, **base)
                add(f"{way}_first", op, v, [x, w, r, b], outputs=1, constants=fixed, **base)
                add(f"{way}_last", op, v, [x, w, r, b], outputs=["", "y1"], constants=fixed, **base)
                add(f"{way}_state", op, v, [x, w, r, b, None, h] + c, outputs=outs, constants=fixed, **base)
                add(f"{way}_lens", op, v, [x, w, r, b, lens, h] + c, outputs=outs, constants=fixed + (4,), **base)
                add(f"{way}_lens_given", op, v, [x, w, r, b, lens, h] + c, outputs=outs, constants=fixed, **base)
                add(f"{way}_given", op, v, [x, w, r, b], outputs=outs, **base)
                add(f"{way}_clip", op, v, [x, w, r, b], outputs=outs, constants=fixed, clip=0.3, **base)
                names = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[op]
                others = {"LSTM": ["HardSigmoid", "Relu", "Tanh"], "GRU": ["HardSigmoid", "Relu"], "RNN": ["Relu"]}[op]
                add(f"{way}_activations", op, v, [x, w, r, b], outputs=outs, constants=fixed, activations=others * d, **base)
                add(f"{way}_same_activations", op, v, [x, w, r, b], outputs=outs, constants=fixed, activations=names * d, **base)
                if op == "RNN":
                    for f in ["Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"]:
                        extra = {"Affine": ([0.5], [0.1]), "LeakyRelu": ([0.1], []), "ThresholdedRelu": ([0.2], []), "ScaledTanh": ([0.8], [0.7]), "HardSigmoid": ([0.3], [0.4]), "Elu": ([0.7], [])}.get(f, ([], []))
                        more = {}
                        if extra[0]:
                            more["activation_alpha"] = extra[0] * d
                        if extra[1]:
                            more["activation_beta"] = extra[1] * d
                        add(f"{way}_{f}", op, v, [x, w, r, b], outputs=outs, constants=fixed, activations=[f] * d, **more, **base)
                if op == "LSTM":
                    p = n.floats(d, 3 * hidden)
                    add(f"{way}_peepholes", op, v, [x, w, r, b, None, h] + c + [p], outputs=outs, constants=fixed + (7,), **base)
                    add(f"{way}_coupled", op, v, [x, w, r, b], outputs=outs, constants=fixed, input_forget=1, **base)
                    add(f"{way}_cell", op, v, [x, w, r, b], outputs=["", "", "y2"], constants=fixed, **base)
                if op == "GRU":
                    add(f"{way}_after", op, v, [x, w, r, b], outputs=outs, constants=fixed, linear_before_reset=1, **base)
                    add(f"{way}_after_plain", op, v, [x, w, r], outputs=outs, constants=fixed, linear_before_reset=1, **base)
                    add(f"{way}_after_lens", op, v, [x, w, r, b, lens], outputs=outs, constants=fixed + (4,), linear_before_reset=1, **base)
                if v >= 14:
                    # ONNX Runtime reads only the other layout: its results with the axes swapped.
                    swap = lambda y: y.transpose(1, 0, 2).copy()
                    for tag, inputs in [("layout", [x, w, r, b]), ("layout_state", [x, w, r, b, None, h] + c)]:
                        names = [f"y{i}" for i in range(outs)]
                        def judged(inputs=inputs, names=names):
                            feeds = {f"x{i}": y for i, y in enumerate(inputs) if y is not None and i not in fixed}
                            found = run(model_of(op, v, inputs, names, base, set(fixed)), feeds)
                            return [found[0].transpose(2, 0, 1, 3).copy()] + [swap(y) for y in found[1:]]
                        given = [swap(x), w, r, b] + ([None] + [swap(y) for y in [h] + c] if tag == "layout_state" else [])
                        add(f"{way}_{tag}", op, v, given, outputs=outs, constants=fixed, layout=1, judged=judged, **base)


def attentions():
    n = Numbers("attentions")
    for v in versions("Attention"):
        q, k, w = n.floats(2, 4, 3, 8), n.floats(2, 4, 5, 8), n.floats(2, 4, 5, 6)
        add("plain", "Attention", v, [q, k, w])
        add("causal", "Attention", v, [q, k, w], is_causal=1)
        add("scale", "Attention", v, [q, k, w], scale=0.3)
        add("softcap", "Attention", v, [q, k, w], softcap=2.0)
        add("mask2", "Attention", v, [q, k, w, n.floats(3, 5)])
        add("mask4", "Attention", v, [q, k, w, n.floats(2, 4, 3, 5)])
        add("mask_spread", "Attention", v, [q, k, w, n.floats(2, 1, 3, 5)])
        add("mask_heads", "Attention", v, [q, k, w, n.floats(1, 4, 3, 5)])
        add("mask3", "Attention", v, [q, k, w, n.floats(4, 3, 5)])
        add("mask_bool", "Attention", v, [q, k, w, n.ints(3, 5, high=3) > 0])
        row = np.array([[0, 0, 0, 0, 0], [1, 0, 1, 1, 0], [1, 1, 1, 1, 1]]) > 0
        add("mask_bool_row", "Attention", v, [q, k, w, row])
        add("mask_row_scores", "Attention", v, [q, k, w, row], outputs=["y0", "", "", "y3"], qk_matmul_output_mode=3)
        add("mask_causal", "Attention", v, [q, k, w, n.floats(3, 5)], is_causal=1)
        add("groups", "Attention", v, [q, k[:, :2].copy(), w[:, :2].copy()])
        add("one", "Attention", v, [q, k[:, :1].copy(), w[:, :1].copy()])
        pk, pv = n.floats(2, 4, 2, 8), n.floats(2, 4, 2, 6)
        add("past", "Attention", v, [q, k, w, None, pk, pv], outputs=3)
        add("past_causal", "Attention", v, [q, k, w, None, pk, pv], outputs=3, is_causal=1)
        add("past_mask", "Attention", v, [q, k, w, n.floats(3, 7), pk, pv], outputs=3)
        for mode in [0, 1, 2, 3]:
            add(f"scores{mode}", "Attention", v, [q, k, w, n.floats(3, 5)], outputs=["y0", "", "", "y3"], qk_matmul_output_mode=mode, softcap=1.5)
        flat = lambda x: x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1).copy()
        add("flat", "Attention", v, [flat(q), flat(k), flat(w)], q_num_heads=4, kv_num_heads=4)
        add("flat_groups", "Attention", v, [flat(q), flat(k[:, :2]), flat(w[:, :2])], q_num_heads=4, kv_num_heads=2)
        add("flat_past", "Attention", v, [flat(q), flat(k), flat(w), None, pk, pv], outputs=3, q_num_heads=4, kv_num_heads=4)
        add("flat_causal", "Attention", v, [flat(q), flat(k), flat(w), n.floats(3, 5)], q_num_heads=4, kv_num_heads=4, is_causal=1, softcap=3.0)
        for t in kinds("Attention", v):
            if np.dtype(t).kind == "f":
                add(letters(t), "Attention", v, [q.astype(t), k.astype(t), w.astype(t)])
        add("precision", "Attention", v, [q.astype(F16), k.astype(F16), w.astype(F16)], softmax_precision=1)
        if v >= 24:
            add("lengths", "Attention", v, [q, k, w, None, None, None, ints(5, 3)])
            add("lengths_constant", "Attention", v, [q, k, w, None, None, None, ints(5, 3)], constants=(6,))
            add("lengths_causal", "Attention", v, [q, k, w, None, None, None, ints(5, 3)], is_causal=1)
            add("mask_short", "Attention", v, [q, k, w, n.floats(3, 4)])
    for v in versions("RotaryEmbedding"):
        x, cos, sin = n.floats(2, 3, 4, 8), n.floats(10, 4), n.floats(10, 4)
        place = np.array([[0, 1, 2, 3], [4, 5, 6, 9]], I64)
        add("plain", "RotaryEmbedding", v, [x, cos, sin, place])
        add("interleaved", "RotaryEmbedding", v, [x, cos, sin, place], interleaved=1)
        add("partial", "RotaryEmbedding", v, [x, n.floats(10, 2), n.floats(10, 2), place], rotary_embedding_dim=4)
        add("partial_interleaved", "RotaryEmbedding", v, [x, n.floats(10, 2), n.floats(10, 2), place], rotary_embedding_dim=4, interleaved=1)
        add("placed", "RotaryEmbedding", v, [x, n.floats(2, 4, 4), n.floats(2, 4, 4)])
        add("flat", "RotaryEmbedding", v, [n.floats(2, 4, 24), cos, sin, place], num_heads=3)
        add("flat_interleaved", "RotaryEmbedding", v, [n.floats(2, 4, 24), cos, sin, place], num_heads=3, interleaved=1)
        add("flat_placed", "RotaryEmbedding", v, [n.floats(2, 4, 24), n.floats(2, 4, 4), n.floats(2, 4, 4)], num_heads=3)
        add("tables", "RotaryEmbedding", v, [x, cos, sin, place], constants=(1, 2))


def quantized():
    n = Numbers("quantized")
    for v in versions("QuantizeLinear"):
        x = n.floats(3, 4, 5, scale=60)
        for t in [U8, I8] + ([U16, I16] if v >= 21 else []):
            zero = np.array(3, t)
            add(letters(t), "QuantizeLinear", v, [x, np.array(0.5, F32), zero], constants=(1, 2))
            add(f"{letters(t)}_given", "QuantizeLinear", v, [x, np.array(0.5, F32), zero])
            if v >= 13:
                for axis in [0, 1, 2, -1]:
                    size = x.shape[axis]
                    add(f"{letters(t)}_axis{axis}", "QuantizeLinear", v, [x, n.floats(size) * F32(0.2) + F32(0.5), n.ints(size, high=5).astype(t)], constants=(1, 2), axis=axis)
        add("no_zero", "QuantizeLinear", v, [x, np.array(0.5, F32)], constants=(1,))
        add("halves", "QuantizeLinear", v, [np.array([0.5, 1.5, 2.5, -0.5, -1.5, 300, -300], F32), np.array(1, F32), np.array(0, I8)], constants=(1, 2))
        if v >= 21:
            s = n.floats(3, 2, 5) * F32(0.2) + F32(0.5)
            add("blocks", "QuantizeLinear", v, [x, s, n.ints(3, 2, 5, high=5)], constants=(1, 2), axis=1, block_size=2)
            add("blocks_no_zero", "QuantizeLinear", v, [x, s], constants=(1,), axis=1, block_size=2)
            add("to_int8", "QuantizeLinear", v, [x, np.array(0.5, F32)], constants=(1,), output_dtype=TensorProto.INT8)
        if v >= 19:
            add("half", "QuantizeLinear", v, [x.astype(F16), np.array(0.5, F16), np.array(3, U8)], constants=(1, 2))
    for v in versions("DequantizeLinear"):
        for t in [U8, I8, I32] + ([U16, I16] if v >= 21 else []):
            x = numbers(n, t, 3, 4, 5, low=-90, high=90)
            zero = np.array(3 if t != I32 else 0, t)
            add(letters(t), "DequantizeLinear", v, [x, np.array(0.5, F32), zero], constants=(1, 2))
            add(f"{letters(t)}_given", "DequantizeLinear", v, [x, np.array(0.5, F32), zero])
            add(f"{letters(t)}_no_zero", "DequantizeLinear", v, [x, np.array(0.5, F32)], constants=(1,))
            add(f"{letters(t)}_weight", "DequantizeLinear", v, [x, np.array(0.5, F32), zero], constants=(0, 1, 2))
            if v >= 13:
                for axis in [0, 1, 2, -1]:
                    size = x.shape[axis]
                    zero = n.ints(size, high=5 if t != I32 else 0).astype(t)
                    for constants in [(1, 2), (0, 1, 2)]:
                        add(f"{letters(t)}_axis{axis}_{len(constants)}", "DequantizeLinear", v, [x, n.floats(size) * F32(0.2) + F32(0.5), zero], constants=constants, axis=axis)
        if v >= 21:
            x, s = n.ints(3, 4, 5), n.floats(3, 2, 5) * F32(0.2) + F32(0.5)
            for constants in [(1, 2), (0, 1, 2)]:
                add(f"blocks{len(constants)}", "DequantizeLinear", v, [x, s, n.ints(3, 2, 5, high=5)], constants=constants, axis=1, block_size=2)
            add("uneven", "DequantizeLinear", v, [n.ints(3, 5), n.floats(3, 3) + F32(2)], constants=(1,), axis=1, block_size=2)
        if v >= 19:
            add("half", "DequantizeLinear", v, [n.ints(3, 4), np.array(0.5, F16), np.array(3, U8)], constants=(1, 2))
    for v in versions("DynamicQuantizeLinear"):
        for i, x in enumerate([n.floats(3, 4, scale=5), np.abs(n.floats(3, 4)), -np.abs(n.floats(3, 4))]):
            add(f"range{i}", "DynamicQuantizeLinear", v, [x], outputs=3)
    # Weights of int8 stay within seven bits: see NARROW in contrib_cases.py.
    for v in versions("MatMulInteger"):
        for a, b in product([U8, I8], [U8, I8]):
            x, y = numbers(n, a, 3, 4, low=-60, high=60), numbers(n, b, 4, 5, low=-60, high=60)
            add(f"{letters(a)}_{letters(b)}", "MatMulInteger", v, [x, y])
            add(f"{letters(a)}_{letters(b)}_zeros", "MatMulInteger", v, [x, y, np.array(4, a), np.array(7, b)])
        x, y = n.ints(3, 4), numbers(n, I8, 4, 5, low=-60, high=60)
        add("columns", "MatMulInteger", v, [x, y, np.array(4, U8), n.ints(5, high=9).astype(I8)], constants=(1, 2, 3))
        add("batch", "MatMulInteger", v, [n.ints(2, 3, 4), n.ints(2, 4, 5), np.array(4, U8), np.array(7, U8)], constants=(2, 3))
    for v in versions("ConvInteger"):
        x, w = n.ints(1, 2, 6, 6), n.ints(3, 2, 3, 3)
        add("plain", "ConvInteger", v, [x, w])
        add("zeros", "ConvInteger", v, [x, w, np.array(4, U8), np.array(9, U8)], constants=(1, 2, 3), pads=[1, 1, 1, 1])
        add("signed", "ConvInteger", v, [x, w.astype(I8) // 2, np.array(4, U8), np.array(9, I8)], constants=(1, 2, 3), strides=[2, 2])
        add("groups", "ConvInteger", v, [x, n.ints(4, 1, 3, 3), np.array(4, U8)], constants=(1, 2), group=2)
        add("same", "ConvInteger", v, [x, w, np.array(4, U8)], constants=(1, 2), auto_pad="SAME_UPPER", strides=[2, 2])
    for v in versions("QLinearConv"):
        x, w = n.ints(1, 2, 6, 6), numbers(n, I8, 3, 2, 3, 3, low=-60, high=60)
        s = lambda y: np.array(y, F32)
        for tag, wz, ws in [("tensor", np.array(3, I8), s(0.015625)), ("channels", np.zeros(3, I8), np.array([0.0078125, 0.015625, 0.03125], F32))]:
            base = [x, s(0.0625), np.array(120, U8), w, ws, wz, s(0.3001), np.array(100, U8)]
            add(tag, "QLinearConv", v, base, constants=tuple(range(1, 9)))
            add(f"{tag}_bias", "QLinearConv", v, base + [numbers(n, I32, 3, low=-500, high=500)], constants=tuple(range(1, 9)), pads=[1, 1, 1, 1])
            add(f"{tag}_strides", "QLinearConv", v, base, constants=tuple(range(1, 9)), strides=[2, 2], auto_pad="SAME_LOWER")
        base = [x, s(0.0625), np.array(120, U8), n.ints(3, 2, 3, 3), s(0.03125), np.array(128, U8), s(0.7001), np.array(100, U8)]
        add("unsigned", "QLinearConv", v, base, constants=tuple(range(1, 9)), dilations=[2, 2])
        base[0], base[2], base[3], base[5], base[7] = (n.ints(1, 2, 6, 6, low=-128, high=127, dtype=I8), np.array(-8, I8), w, np.array(3, I8), np.array(-20, I8))
        add("signed", "QLinearConv", v, base, constants=tuple(range(1, 9)))
    for v in versions("QLinearMatMul"):
        s = lambda y: np.array(y, F32)
        for a, b in [(U8, U8), (U8, I8), (I8, I8)]:
            x, y = numbers(n, a, 3, 4, low=-60, high=60), numbers(n, b, 4, 5, low=-60, high=60)
            base = [x, s(0.05), np.array(5, a), y, s(0.02), np.array(3, b), s(0.3), np.array(20, a)]
            add(f"{letters(a)}_{letters(b)}", "QLinearMatMul", v, base, constants=(1, 2, 4, 5, 6, 7))
            add(f"{letters(a)}_{letters(b)}_weights", "QLinearMatMul", v, base, constants=(1, 2, 3, 4, 5, 6, 7))
        base = [n.ints(3, 4), s(0.05), np.array(5, U8), numbers(n, I8, 4, 5, low=-60, high=60), n.floats(5) * F32(0.01) + F32(0.02), np.zeros(5, I8), s(0.3), np.array(20, U8)]
        add("columns", "QLinearMatMul", v, base, constants=(1, 2, 3, 4, 5, 6, 7))
        base = [n.ints(2, 3, 4), s(0.05), np.array(5, U8), n.ints(2, 4, 5), s(0.02), np.array(3, U8), s(0.3), np.array(20, U8)]
        add("batch", "QLinearMatMul", v, base, constants=(1, 2, 4, 5, 6, 7))


def images():
    n = Numbers("images")
    x = n.floats(1, 2, 4, 5)
    for v, op in [(v, "Upsample") for v in versions("Upsample", high=9)] + [(10, "Resize")]:
        for mode, shape, scales in product(["nearest", "linear"], [0, 1], [[1, 1, 2, 3], [1, 1, 1.5, 2.4], [1, 1, 0.5, 0.6]]):
            if op == "Upsample" and min(scales) < 1:
                continue
            tag = f"{mode}{shape}_" + "_".join(str(s).replace(".", "d") for s in scales)
            y = x if shape == 0 else n.floats(4, 5)
            if shape == 1:
                scales = scales[2:]
            if v == 7:
                add(tag, op, v, [y], mode=mode, scales=[float(s) for s in scales])
            else:
                add(tag, op, v, [y, np.array(scales, F32)], constants=(1,), mode=mode)
                add(f"{tag}_given", op, v, [y, np.array(scales, F32)], mode=mode)
    for v in versions("Resize", low=11):
        ways = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_crop_and_resize"]
        ways += ["half_pixel_symmetric"] if v >= 19 else ["tf_half_pixel_for_nn"] if v == 11 else []
        grids = [("up", [1, 1, 2, 3], None), ("down", [1, 1, 0.5, 0.6], None), ("odd", [1, 1, 1.7, 0.8], None), ("size", None, [1, 2, 7, 3]), ("size_up", None, [1, 2, 8, 10])]
        for way, (tag, scales, sizes) in product(ways, grids):
            roi = np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9], F32) if way == "tf_crop_and_resize" else None
            if roi is None and v == 11:
                roi = np.zeros(0, F32)
            scales = np.array(scales, F32) if scales else (np.zeros(0, F32) if v == 11 else None)
            inputs = [x, roi, scales] + ([ints(*sizes)] if sizes else [])
            # Where a factor leaves a part of an element over, ONNX's reference keeps it for the last corner; ONNX Runtime drops it.
            base = dict(coordinate_transformation_mode=way, reference=way == "align_corners" and tag in ("down", "odd"))
            for near in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]:
                # Right on an element in single precision: the order of the steps decides, and is not written anywhere.
                if way == "half_pixel_symmetric" and near in ("floor", "ceil"):
                    continue
                add(f"nearest_{way}_{near}_{tag}", "Resize", v, inputs, constants=(1, 2, 3), mode="nearest", nearest_mode=near, **base)
            add(f"linear_{way}_{tag}", "Resize", v, inputs, constants=(1, 2, 3), mode="linear", **base)
            if way == "tf_crop_and_resize":
                add(f"linear_outside_{way}_{tag}", "Resize", v, [x, np.array([0, 0, -0.3, 0.2, 1, 1, 0.8, 1.5], F32), *inputs[2:]], constants=(1, 2, 3), mode="linear", extrapolation_value=7.0, **base)
            for a, outside in [(-0.75, 0), (-0.5, 0), (-0.75, 1)]:
                add(f"cubic_{way}_{a}_{outside}_{tag}".replace(".", "d"), "Resize", v, inputs, constants=(1, 2, 3), mode="cubic", cubic_coeff_a=a, exclude_outside=outside, **base)
            if v >= 18 and way in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel") :
                for mode in ["linear", "cubic"]:
                    add(f"antialias_{mode}_{way}_{tag}", "Resize", v, inputs, constants=(1, 2, 3), mode=mode, antialias=1, **base)
                    add(f"antialias_{mode}_{way}_{tag}_outside", "Resize", v, inputs, constants=(1, 2, 3), mode=mode, antialias=1, exclude_outside=1, **base)
        roi = [np.zeros(0, F32)] if v == 11 else [None]
        add("given_scales", "Resize", v, [x, *roi, np.array([1, 1, 2, 2], F32)], constants=(1,), mode="linear")
        add("given_sizes", "Resize", v, [x, *roi, np.zeros(0, F32) if v == 11 else None, ints(1, 2, 6, 7)], constants=(1, 2), mode="nearest")
        for t in [F32, F16, U8, I8, I32, F64]:
            add(letters(t), "Resize", v, [numbers(n, t, 1, 2, 4, 4, high=90), *roi, np.array([1, 1, 2, 2], F32)], constants=(1, 2), mode="nearest")
        add("line", "Resize", v, [n.floats(1, 2, 5), *roi, np.array([1, 1, 2], F32)], constants=(1, 2), mode="linear")
        add("volume", "Resize", v, [n.floats(1, 2, 3, 4, 3), *roi, np.array([1, 1, 2, 1.5, 2], F32)], constants=(1, 2), mode="linear")
        add("volume_nearest", "Resize", v, [n.floats(1, 2, 3, 4, 3), *roi, np.array([1, 1, 2, 1.5, 2], F32)], constants=(1, 2), mode="nearest")
        add("last", "Resize", v, [n.floats(1, 4, 5, 2), *roi, np.array([1, 2, 2, 1], F32)], constants=(1, 2), mode="linear")
        add("batch", "Resize", v, [n.floats(2, 2, 4, 4), *roi, np.array([2, 1, 1, 1], F32)], constants=(1, 2), mode="nearest")
        if v >= 18:
            for policy in ["stretch", "not_larger", "not_smaller"]:
                for mode in ["nearest", "linear", "cubic"]:
                    add(f"{policy}_{mode}", "Resize", v, [x, None, None, ints(7, 6)], constants=(3,), axes=[2, 3], keep_aspect_ratio_policy=policy, mode=mode)
            add("axes_scales", "Resize", v, [x, None, np.array([2, 1.5], F32)], constants=(2,), axes=[3, 2], mode="linear")
            add("axes_crop", "Resize", v, [x, np.array([0.1, 0.2, 0.8, 0.9], F32), None, ints(6, 3)], constants=(1, 3), axes=[2, 3], mode="linear", coordinate_transformation_mode="tf_crop_and_resize")
            add("axes_negative", "Resize", v, [x, None, None, ints(7, 6)], constants=(3,), axes=[-2, -1], mode="linear")
    for v in versions("GridSample"):
        image, grid = n.floats(2, 3, 4, 5), n.floats(2, 3, 6, 2, scale=1.3)
        modes = ["bilinear", "nearest", "bicubic"] if v < 20 else ["linear", "nearest", "cubic"]
        for mode, edge, corners in product(modes, ["zeros", "border", "reflection"], [0, 1]):
            add(f"{mode}_{edge}_{corners}", "GridSample", v, [image, grid], mode=mode, padding_mode=edge, align_corners=corners)
        if v >= 20:
            volume, places = n.floats(1, 2, 3, 4, 3), n.floats(1, 2, 3, 2, 3, scale=1.3)
            for mode, edge, corners in product(["linear", "nearest"], ["zeros", "border", "reflection"], [0, 1]):
                add(f"volume_{mode}_{edge}_{corners}", "GridSample", v, [volume, places], mode=mode, padding_mode=edge, align_corners=corners)
    for v in versions("AffineGrid"):
        for corners in [0, 1]:
            add(f"plane{corners}", "AffineGrid", v, [n.floats(2, 2, 3), ints(2, 3, 4, 5)], constants=(1,), align_corners=corners)
            add(f"volume{corners}", "AffineGrid", v, [n.floats(2, 3, 4), ints(2, 3, 3, 4, 5)], constants=(1,), align_corners=corners)
    for v in versions("RoiAlign"):
        image = n.floats(2, 3, 8, 9)
        rois = np.array([[0, 0, 5, 4], [2.3, 1.1, 8, 7], [3, 3, 3.5, 3.2], [-1, -2, 12, 11]], F32)
        batch = ints(0, 1, 0, 1)
        ways = ["half_pixel", "output_half_pixel"] if v >= 16 else [None]
        for mode, ratio, way in product(["avg", "max"], [0, 1, 2], ways):
            extra = {"coordinate_transformation_mode": way} if way else {}
            fixed = () if ratio else (1,)
            add(f"{mode}_{ratio}_{way}", "RoiAlign", v, [image, rois, batch], constants=fixed, mode=mode, sampling_ratio=ratio, output_height=3, output_width=2, **extra)
            add(f"{mode}_{ratio}_{way}_scale", "RoiAlign", v, [image, rois * 2, batch], constants=fixed, mode=mode, sampling_ratio=ratio, output_height=2, output_width=2, spatial_scale=0.5, **extra)
        add("default", "RoiAlign", v, [image, rois, batch], constants=(1, 2), output_height=2, output_width=2)
        # A region larger than the image has more samples than there is room for; the last one here is none such.
        inner = np.where(np.arange(4)[:, None] == 3, np.array([1, 2, 7, 8], F32), rois).astype(F32)
        add("default_given", "RoiAlign", v, [image, inner, batch], output_height=2, output_width=2)


def signal():
    n = Numbers("signal")
    for v in versions("DFT"):
        for inverse, onesided, parts, axis in product([0, 1], [0, 1], [1, 2], [0, 1, 2]):
            if (onesided and inverse and v < 20) or (onesided and not inverse and parts == 2):
                continue
            x = n.floats(2, 5, 6, parts)
            if v < 20:
                if axis == 0:
                    continue
                add(f"{inverse}{onesided}{parts}{axis}", "DFT", v, [x], axis=axis, inverse=inverse, onesided=onesided)
            else:
                add(f"{inverse}{onesided}{parts}{axis}", "DFT", v, [x, None, np.array(axis, I64)], constants=(2,), inverse=inverse, onesided=onesided)
        for length in [4, 8]:
            x = n.floats(2, 6, 1)
            if v < 20:
                add(f"length{length}", "DFT", v, [x, np.array(length, I64)], constants=(1,), axis=1)
            else:
                add(f"length{length}", "DFT", v, [x, np.array(length, I64), np.array(1, I64)], constants=(1, 2))
                add(f"length{length}_default", "DFT", v, [x, np.array(length, I64)], constants=(1,))
        add("default", "DFT", v, [n.floats(1, 7, 2)])
    for v in versions("STFT"):
        x, window = n.floats(2, 20, 1), n.floats(8)
        for onesided in [0, 1]:
            add(f"window{onesided}", "STFT", v, [x, np.array(4, I64), window], constants=(1, 2), onesided=onesided)
            add(f"length{onesided}", "STFT", v, [x, np.array(3, I64), None, np.array(8, I64)], constants=(1, 3), onesided=onesided)
            add(f"both{onesided}", "STFT", v, [x, np.array(3, I64), window, np.array(8, I64)], constants=(1, 2, 3), onesided=onesided)
        add("complex", "STFT", v, [n.floats(1, 20, 2), np.array(4, I64), window], constants=(1, 2), onesided=0)
        add("given_window", "STFT", v, [x, np.array(4, I64), window], constants=(1,))
    for op in ["HannWindow", "HammingWindow", "BlackmanWindow"]:
        for v in versions(op):
            for periodic, size in product([0, 1], [8, 9]):
                add(f"{periodic}{size}", op, v, [np.array(size, I64)], constants=(0,), periodic=periodic)
            add("double", op, v, [np.array(6, I32)], constants=(0,), output_datatype=TensorProto.DOUBLE)
    for v in versions("MelWeightMatrix"):
        values = [np.array(8, I64), np.array(16, I64), np.array(8192, I64), np.array(0, F32), np.array(4096, F32)]
        add("", "MelWeightMatrix", v, values, constants=(0, 1, 2, 3, 4))
        values = [np.array(5, I64), np.array(64, I64), np.array(16000, I64), np.array(20, F32), np.array(7600, F32)]
        add("speech", "MelWeightMatrix", v, values, constants=(0, 1, 2, 3, 4))


def randoms():
    for op in ["RandomNormal", "RandomUniform"]:
        for v in versions(op):
            spread = {"mean": 2.0, "scale": 0.5} if op == "RandomNormal" else {"low": -2.0, "high": 3.0}
            add("seed", op, v, [], seed=3.0, shape=[3, 5])
            add("spread", op, v, [], seed=7.0, shape=[4, 3], **spread)
            add("double", op, v, [], seed=7.0, shape=[4, 3], dtype=TensorProto.DOUBLE, **spread)
            add("like", f"{op}Like", v, [np.zeros((3, 5), F32)], seed=5.0, **spread)
            add("like_double", f"{op}Like", v, [np.zeros((3, 5), F32)], seed=5.0, dtype=TensorProto.DOUBLE, **spread)


def newest():
    n = Numbers("newest")
    x = n.floats(3, 4, 2)
    for exclusive, reverse, axis in product([0, 1], [0, 1], [0, 1, -1]):
        if not exclusive:
            found = np.cumprod(x[tuple(slice(None, None, -1) if a == axis % 3 and reverse else slice(None) for a in range(3))], axis=axis)
        else:
            y = x[tuple(slice(None, None, -1) if a == axis % 3 and reverse else slice(None) for a in range(3))]
            first = np.ones_like(np.take(y, [0], axis=axis))
            found = np.cumprod(np.concatenate([first, np.take(y, range(x.shape[axis] - 1), axis=axis)], axis=axis), axis=axis)
        if reverse:
            found = np.flip(found, axis=axis)
        add(f"{exclusive}{reverse}{axis}", "CumProd", 26, [x, np.array(axis, I64)], constants=(1,), judged=lambda found=found: [found.copy()], exclusive=exclusive, reverse=reverse)


FAMILIES = [newest, unary, binary, clip, casts, softmaxes, reduce, shapes, places, products, convolutions, pools, norms, recurrent, attentions, quantized, images, signal, randoms]
for family in FAMILIES:
    family()
print(f"{len(MADE)} cases, {len(BY_REFERENCE)} by ONNX's reference; nobody computes {len(LEFT_OUT)}")
if "--list" in sys.argv:
    print("by reference:", *BY_REFERENCE, sep="\n  ")
    print("left out:", *LEFT_OUT, sep="\n  ")
