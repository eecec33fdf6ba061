#!/usr/bin/env python3
"""Loads packages that this project wrote through coremltools and compares the weights as coremltools decodes them: `compressed_values.py FOLDER`.

Every `*.mlpackage` beside a `weight.npz` must hold that weight (its only array `w`), as the result of an operation on constants or as a constant;
`model.mlpackage`, which coremltools wrote, is left out. Prints how each is stored. coremltools does not evaluate some operations on
the results of others; of those it only has to load what was written.
"""

import logging
import sys
from pathlib import Path

logging.disable(logging.WARNING)

import numpy as np
from coremltools import proto
from coremltools.converters.mil.frontend.milproto import load


# How many operations they are.
NOT_EVALUATED = {"sparse-palette-scaled/iOS18-false.mlpackage": 3, "palette-scaled/iOS18-false.mlpackage": 2}


def values(package: Path, evaluated: bool):
    """Everything that is constant, with the operation that gives it."""
    data = package / "Data" / "com.apple.CoreML"
    spec = proto.Model_pb2.Model()
    spec.ParseFromString((data / "model.mlmodel").read_bytes())
    program = load.load(spec, spec.specificationVersion, str(data / "weights"))
    for op in program.functions["main"].operations:
        if op.op_type == "const":
            yield op.op_type, op.outputs[0].val
        elif op.op_type.startswith("constexpr_"):
            found = op.materialized_val_inference() if evaluated else None
            for value in found if isinstance(found, tuple) else (found,):
                yield op.op_type, value


def main() -> int:
    passed = failed = 0
    for expected in sorted(Path(sys.argv[1]).rglob("weight.npz")):
        want = np.load(expected)["w"]
        for package in sorted(expected.parent.glob("*.mlpackage")):
            if package.name == "model.mlpackage":
                continue
            label = f"{expected.parent.name}/{package.name}"
            if label in NOT_EVALUATED:
                forms = [op for op, _ in values(package, False) if op != "const"]
                print(f"{label}: {forms} loaded")
                right = len(forms) == NOT_EVALUATED[label]
                passed += right
                failed += not right
                continue
            found = [
                (op, np.asarray(value).astype(np.float32))
                for op, value in values(package, True)
                if np.size(value) == want.size
            ]
            right = [
                op
                for op, value in found
                if np.shape(value) == want.shape and np.allclose(value, want, rtol=1e-6, atol=0)
            ]
            print(f"{label}: {right or [op for op, _ in found]} {'ok' if right else 'WRONG'}")
            passed += bool(right)
            failed += not right
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
