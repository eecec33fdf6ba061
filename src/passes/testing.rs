//! What the tests of the passes share: graphs in a few lines, and the interpreter's word on whether two of them compute the same.

#![allow(clippy::as_conversions)]

use crate::eval::{Interpreter, Mode};
use crate::ir::{Builder, Domain, Module, Type, ValueId};
use crate::tensor::{DType, NamedTensors, Tensor};

/// A module with the parameter `x` and the output `y`.
pub(super) fn graph(
    dtype: DType,
    shape: &[usize],
    build: impl FnOnce(&mut Builder, ValueId) -> ValueId,
) -> Module {
    let mut b = Builder::new("m");
    let x = b
        .param("x", Type::known(dtype, shape), Domain::Any)
        .unwrap();
    let y = build(&mut b, x);
    b.output("y", y).unwrap();
    b.finish().unwrap()
}

/// Numbers in −1..1 that depend on nothing but `seed`.
pub(super) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// A constant of seeded numbers around `centre`.
pub(super) fn weights(b: &mut Builder, seed: u64, shape: &[usize], centre: f32) -> ValueId {
    let values = noise(seed, shape.iter().product());
    let values = values.iter().map(|v| centre + v * 0.5).collect();
    let tensor = Tensor::f32(shape.to_vec(), values).unwrap();
    b.tensor(&format!("w{seed}"), &tensor).unwrap()
}

/// Seeded inputs for every parameter, floats of this magnitude.
pub(super) fn inputs(module: &Module, seed: u64, magnitude: f32) -> NamedTensors {
    let function = module.main().unwrap();
    let mut out = NamedTensors::new();
    for (i, param) in function.params.iter().enumerate() {
        let value = function.value(param.value);
        let shape = value.ty.known_shape().unwrap();
        let values = noise(seed + i as u64, shape.iter().product());
        let values: Vec<f32> = values.iter().map(|v| v * magnitude).collect();
        let tensor = Tensor::f32(shape, values).unwrap().cast(value.ty.dtype);
        out.insert(value.name.clone(), tensor);
    }
    out
}

pub(super) fn run(module: &Module, mode: Mode, inputs: &NamedTensors) -> NamedTensors {
    let interpreter = Interpreter::new(module, mode).unwrap();
    interpreter.run(inputs, None).unwrap()
}

/// Largest difference over the largest element, over all outputs; everything must be finite.
pub(super) fn distance(found: &NamedTensors, expected: &NamedTensors) -> f64 {
    assert!(!expected.is_empty() && found.len() == expected.len());
    let mut worst = 0.0f64;
    for (name, expected) in expected {
        let found = &found[name];
        assert_eq!(
            (found.shape(), found.dtype()),
            (expected.shape(), expected.dtype())
        );
        let largest = expected
            .to_f64()
            .iter()
            .fold(1e-30f64, |m, v| m.max(v.abs()));
        for (a, b) in found.to_f64().iter().zip(expected.to_f64()) {
            assert!(a.is_finite() && b.is_finite(), "`{name}`: {a} for {b}");
            worst = worst.max((a - b).abs() / largest);
        }
    }
    worst
}

/// Asserts that two modules compute the same in `f32`, on several seeded inputs of different magnitudes.
pub(super) fn assert_equivalent(before: &Module, after: &Module, tolerance: f64) {
    for seed in 0..6u16 {
        let magnitude = [0.1, 1.0, 5.0][usize::from(seed) % 3];
        let given = inputs(before, u64::from(seed) * 11 + 3, magnitude);
        let expected = run(before, Mode::F32, &given);
        let found = run(after, Mode::F32, &given);
        let distance = distance(&found, &expected);
        assert!(distance <= tolerance, "seed {seed}: {distance:e}");
    }
}

/// The names of the operations of the default function, in order.
pub(super) fn ops(module: &Module) -> Vec<&'static str> {
    let function = module.main().unwrap();
    function.nodes.iter().map(|n| n.op.name()).collect()
}
