"""Writes small ONNX models whose sizes vary, one file each, and `cases.json`: for each, the sizes to keep open and the reason that it is there.
Usage: varying_models.py FOLDER"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(sys.argv[1])
FLOAT, INT64, BFLOAT16 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BFLOAT16
CASES = {}
node = helper.make_node
F32 = np.float32


def const(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def save(name, nodes, x, constants=(), opset=18, dims="", inputs=(), dtype=FLOAT):
    info = [helper.make_tensor_value_info("x", dtype, x), *inputs]
    result = helper.make_tensor_value_info("y", dtype, None)
    graph = helper.make_graph(nodes, name, info, [result], list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, FOLDER / f"{name}.onnx")
    CASES[name] = dims.split()


IMAGE, SIZES = ["b", 3, "h", "w"], "b=1 h=6..23 w=5..16"
for scale in (2.0, 1.5, 0.5, 0.75, 3.0):
    for mode, nearest, place in (
        ("nearest", "floor", "asymmetric"),
        ("nearest", "round_prefer_floor", "half_pixel"),
        ("linear", "floor", "half_pixel"),
        ("linear", "floor", "asymmetric"),
        ("cubic", "floor", "half_pixel"),
    ):
        resize = node(
            "Resize", ["x", "", "s"], ["y"], mode=mode, nearest_mode=nearest, coordinate_transformation_mode=place
        )
        save(
            f"resize_{scale}_{mode}_{place}",
            [resize],
            IMAGE,
            [const("s", F32([1, 1, scale, scale]))],
            dims=SIZES,
        )
wide = node("Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="align_corners")
save("resize_corners", [wide], IMAGE, [const("s", F32([1, 1, 2, 3]))], dims=SIZES)

shape = [node("Shape", ["x"], ["shape"])]
# Sizes that are polynomials: the padded height and width, divided out again.
padded = [node("Pad", ["x", "pads"], ["p"]), node("Shape", ["p"], ["shape"])]
pads = const("pads", [0, 0, 0, 0, 0, 0, 1, 1])
save(
    "reshape_rows",
    [
        *padded,
        node("Slice", ["shape", "from", "to"], ["h"]),
        node("Concat", ["two", "h", "rest"], ["target"], axis=0),
        node("Reshape", ["p", "target"], ["y"]),
    ],
    [1, 4, "h", "w"],
    [pads, const("from", [2]), const("to", [3]), const("two", [2]), const("rest", [-1])],
    dims="h=4..9 w=3..8",
)
save(
    "reshape_pixels",
    [
        *padded,
        node("Slice", ["shape", "from", "to"], ["hw"]),
        node("ReduceProd", ["hw"], ["n"], keepdims=1),
        node("Mul", ["n", "four"], ["n4"]),
        node("Div", ["n4", "four"], ["again"]),
        node("Concat", ["one", "again", "rest"], ["target"], axis=0),
        node("Reshape", ["p", "target"], ["y"]),
    ],
    [1, 4, "h", "w"],
    [pads, const("from", [2]), const("to", [4]), const("one", [1]), const("rest", [-1]), const("four", [4])],
    dims="h=4..9 w=3..8",
)
# Windows: only multiples of 4 can be divided into them, and the source refuses the others.
save(
    "windows",
    [
        *shape,
        node("Slice", ["shape", "1", "2"], ["h"]),
        node("Div", ["h", "4"], ["rows"]),
        node("Concat", ["1", "rows", "4", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["r"]),
        node("Add", ["r", "six"], ["s"]),
        node("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "flat"], ["y"]),
    ],
    [1, "h", 6],
    [const(str(n), [n]) for n in (1, 2, 4)]
    + [const("rest", [-1]), const("flat", [-1, 6]), const("six", np.arange(6, dtype=F32))],
    dims="h=4,6,12",
)
weight = const("k", np.linspace(-1, 1, 4 * 3 * 3 * 3, dtype=F32).reshape(4, 3, 3, 3))
turned = const("k", np.linspace(-1, 1, 3 * 4 * 3 * 3, dtype=F32).reshape(3, 4, 3, 3))
narrow = const("k", np.linspace(-1, 1, 4 * 3 * 2 * 2, dtype=F32).reshape(4, 3, 2, 2))
for pad in ("SAME_UPPER", "SAME_LOWER"):
    same = {"auto_pad": pad, "strides": [2, 2]}
    pool = {**same, "kernel_shape": [3, 3]}
    save(f"conv_{pad}", [node("Conv", ["x", "k"], ["y"], **same)], IMAGE, [weight], dims=SIZES)
    save(f"max_{pad}", [node("MaxPool", ["x"], ["y"], **pool)], IMAGE, dims=SIZES)
    save(f"mean_{pad}", [node("AveragePool", ["x"], ["y"], **pool)], IMAGE, dims=SIZES)
    save(f"mean_all_{pad}", [node("AveragePool", ["x"], ["y"], count_include_pad=1, **pool)], IMAGE, dims=SIZES)
    save(f"turned_{pad}", [node("ConvTranspose", ["x", "k"], ["y"], **same)], IMAGE, [turned], dims=SIZES)
    apart = node("Conv", ["x", "k"], ["y"], auto_pad=pad, strides=[3, 3])
    save(f"apart_{pad}", [apart], IMAGE, [narrow], dims=SIZES)
for name, start, end, step in (
    ("all", -1, -(2**63) + 1, -1),
    ("twos", -2, 0, -2),
    ("threes", 2**62, -6, -3),
    ("first", 3, -(2**31), -2),
):
    back = node("Slice", ["x", "start", "end", "axis", "step"], ["y"])
    places = [const("start", [start]), const("end", [end]), const("axis", [1]), const("step", [step])]
    save(f"back_{name}", [back], ["b", "n"], places, dims="b=1 n=5..12")
# Nodes in another order than that in which they run, one of them taken by a branch.
branch = {
    f"{name}_branch": helper.make_graph(
        [node(op, ["late"], [op])], name, [], [helper.make_tensor_value_info(op, FLOAT, None)]
    )
    for name, op in (("then", "Abs"), ("else", "Neg"))
}
save(
    "order",
    [
        node("Add", ["r", "x"], ["y"]),
        node("If", ["condition"], ["r"], **branch),
        node("Greater", ["sum", "zero"], ["condition"]),
        node("ReduceSum", ["late"], ["sum"], keepdims=0),
        node("Sin", ["x"], ["late"]),
    ],
    ["b", 3],
    [const("zero", F32(0))],
    dims="b=1..4",
)
# What is scanned and counted has a size that varies, or is too long to be read round by round.
value = lambda name: helper.make_tensor_value_info(name, FLOAT, None)
body = helper.make_graph(
    [node("Add", ["before", "part"], ["sum"]), node("Tanh", ["sum"], ["after"]), node("Mul", ["after", "part"], ["row"])],
    "body",
    [value("before"), value("part")],
    [value("after"), value("row")],
)
begin = lambda *shape: const("begin", np.linspace(-1, 1, int(np.prod(shape)), dtype=F32).reshape(shape))
both = lambda **how: [
    node("Scan", ["begin", "x"], ["end", "rows"], body=body, num_scan_inputs=1, **how),
    node("ReduceSum", ["end"], ["total"], keepdims=0),
    node("Add", ["rows", "total"], ["y"]),
]
save("scan", both(), ["n", 4], [begin(4)], dims="n=1..9")
save("scan_sizes", both(), ["n", 4], [begin(4)], dims="n=3,7")
turned_around = dict(scan_input_axes=[-1], scan_input_directions=[1], scan_output_axes=[1], scan_output_directions=[1])
save("scan_back", both(**turned_around), [4, "n"], [begin(4)], dims="n=2..9")
summed = helper.make_graph(
    [
        node("ReduceSum", ["part"], ["one"]),
        node("Add", ["before", "one"], ["sum"]),
        node("Tanh", ["sum"], ["after"]),
        node("Mul", ["after", "after"], ["row"]),
    ],
    "summed",
    [value("before"), value("part")],
    [value("after"), value("row")],
)
long = node("Scan", ["begin", "x"], ["end", "y"], body=summed, num_scan_inputs=1, scan_input_axes=[1])
save("scan_long", [long], ["b", 1500], [begin(1)], dims="b=1..3")
batch = node("Scan", ["", "begin", "x"], ["end", "y"], body=body, num_scan_inputs=1, directions=[1])
save("scan_8", [batch], [2, "n", 3], [begin(2, 3)], opset=8, dims="n=2..6")
boolean = lambda name: helper.make_tensor_value_info(name, TensorProto.BOOL, [])
counted = helper.make_graph(
    [node("Identity", ["on"], ["goes_on"]), node("Gather", ["x", "i"], ["part"]), *body.node],
    "counted",
    [helper.make_tensor_value_info("i", INT64, []), boolean("on"), value("before")],
    [boolean("goes_on"), value("after"), value("row")],
)
save(
    "loop_rows",
    [
        *shape,
        node("Gather", ["shape", "zero"], ["rounds"]),
        node("Loop", ["rounds", "", "begin"], ["end", "y"], body=counted),
    ],
    ["n", 4],
    [begin(4), const("zero", 0)],
    dims="n=1..9",
)
(FOLDER / "cases.json").write_text(json.dumps(CASES))
