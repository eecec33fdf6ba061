#!/usr/bin/env python3
"""Loads every .mlpackage of a folder through coremltools' milproto loader, which rebuilds each operation with its own classes and compares
the types it infers with the declared ones. Prints `N passed, N failed`; fails when one failed or when there was none.

    check_mlpackage.py FOLDER
"""

import logging
import sys
from pathlib import Path

logging.disable(logging.WARNING)

from coremltools import proto
from coremltools.converters.mil.frontend.milproto import load


def check(package: Path) -> None:
    data = package / "Data" / "com.apple.CoreML"
    spec = proto.Model_pb2.Model()
    spec.ParseFromString((data / "model.mlmodel").read_bytes())
    program = load.load(spec, spec.specificationVersion, str(data / "weights"))
    several = {f.name: f for f in spec.description.functions} or {"main": spec.description}
    if set(several) != set(program.functions):
        raise ValueError(f"functions {sorted(program.functions)}, described {sorted(several)}")
    for name, function in program.functions.items():
        described = [f.name for f in several[name].output]
        found = [v.name for v in function.outputs]
        if described != found:
            raise ValueError(f"outputs {found}, described {described}")
        if not function.operations:
            raise ValueError("no operations")


def main() -> int:
    packages = sorted(Path(sys.argv[1]).rglob("*.mlpackage"))
    failed = 0
    for package in packages:
        try:
            check(package)
        except Exception as error:
            failed += 1
            print(f"{package.name}: {type(error).__name__}: {error}")
    print(f"{len(packages) - failed} passed, {failed} failed")
    return 1 if failed or not packages else 0


if __name__ == "__main__":
    sys.exit(main())
