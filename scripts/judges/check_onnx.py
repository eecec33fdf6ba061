"""Checks every .onnx file below a folder with onnx.checker: the whole model, with strict shape inference and data propagation.

Usage: check_onnx.py FOLDER
Needs the package `onnx` (pinned in the project's judge requirements). Exit code 1 on any failure, and when there is nothing to check.
"""

import pathlib
import sys

import onnx
import onnx.checker
import onnx.shape_inference


def check(path: pathlib.Path) -> None:
    # By path, so that external data is found and checked too.
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    if model.functions or any(o.domain not in ("", "ai.onnx") for o in model.opset_import):
        raise ValueError("uses functions or operators that are not standard")
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    # What is inferred must not contradict what the file declares.
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    fresh = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    declared = {v.name: v.type for v in inferred.graph.value_info}
    for value in fresh.graph.value_info:
        if value.name not in declared:
            continue
        ours, theirs = declared[value.name].tensor_type, value.type.tensor_type
        if ours.elem_type != theirs.elem_type:
            raise ValueError(f"{value.name}: element type {ours.elem_type}, inferred {theirs.elem_type}")
        if not theirs.HasField("shape"):
            continue
        if len(ours.shape.dim) != len(theirs.shape.dim):
            raise ValueError(f"{value.name}: rank {len(ours.shape.dim)}, inferred {len(theirs.shape.dim)}")
        for a, b in zip(ours.shape.dim, theirs.shape.dim):
            if a.HasField("dim_value") and b.HasField("dim_value") and a.dim_value != b.dim_value:
                raise ValueError(f"{value.name}: size {a.dim_value}, inferred {b.dim_value}")


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    passed = failed = 0
    for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.onnx")):
        try:
            check(path)
            passed += 1
        except Exception as error:  # whatever the checker raises is a failure of this file
            failed += 1
            print(f"{path}: {error}")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
