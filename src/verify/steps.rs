//! Outputs that are rounded to steps, as pixels and quantised values are: a number near the middle of two steps goes to one of them in one engine
//! and to the other in the next, and neither is wrong. Owns the size of a step and the gate on how many steps two outputs are apart.
// What is not named here rounds to no steps.
#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use super::metrics::Comparison;
use super::report::show;
use super::tolerance::{Check, Gates};
use crate::error::Result;
use crate::ir::{Def, Function, Module, Node, Op, ValueId};
use crate::tensor::{DType, Tensor, num};

/// Most steps between two outputs: one, and what the rounding of the step itself makes of it.
const MOST: f64 = 1.25;

/// The size of a step of each output that is rounded to steps just before it is given.
///
/// # Errors
/// When a scale cannot be read.
pub(super) fn steps(module: &Module, function: &Function) -> Result<BTreeMap<String, f64>> {
    let mut steps = BTreeMap::new();
    for output in &function.outputs {
        if let Some(step) = step(module, function, output.value)? {
            steps.insert(output.name.clone(), step);
        }
    }
    Ok(steps)
}

fn step(module: &Module, function: &Function, value: ValueId) -> Result<Option<f64>> {
    let Some(node) = rounder(function, value) else {
        return Ok(None);
    };
    let operand = node.operands.first().map(|&v| function.ty(v).dtype);
    let pixel = matches!(function.ty(node.result()).dtype, DType::U8 | DType::I8);
    Ok(match &node.op {
        Op::Quantize(_) => Some(1.0),
        Op::Cast(_) if pixel && operand.is_some_and(DType::is_float) => Some(1.0),
        Op::Dequantize(_) => {
            let made = |&v: &ValueId| rounder(function, v);
            let quantised = node.operands.first().and_then(made);
            let scale = node.operands.get(1).map(|&v| function.value(v).def);
            match (quantised.map(|n| &n.op), scale) {
                // Of several scales, the largest would let channels of small ones pass that are many of their own steps off.
                (Some(Op::Quantize(_)), Some(Def::Const(id))) if module.constant(id).len() == 1 => {
                    Some(f64::from(module.constant(id).scan()?.max_abs))
                }
                (_, _) => None,
            }
        }
        _ => None,
    })
}

/// The node that computes a value, past those that only move its elements.
fn rounder(function: &Function, value: ValueId) -> Option<&Node> {
    let mut node = function.producer(value)?;
    while let Op::Reshape(_) | Op::Transpose(_) | Op::Squeeze(_) | Op::Unsqueeze(_) = &node.op {
        node = function.producer(*node.operands.first()?)?;
    }
    Some(node)
}

/// Judges an output that is not within the gates of numbers by its steps instead.
pub(super) fn judge(
    comparison: &mut Comparison,
    step: f64,
    reference: &Tensor,
    candidate: &Tensor,
    gates: &Gates,
) {
    if comparison.passed || !comparison.failures.is_empty() {
        return;
    }
    let apart = reference.to_f64().into_iter().zip(candidate.to_f64());
    let apart: Vec<f64> = apart.map(|(a, b)| (a - b).abs() / step).collect();
    let furthest = apart.iter().copied().fold(0.0, f64::max);
    let off = apart.iter().filter(|steps| **steps > 0.5).count();
    // One element is no share of a small tensor.
    let most = (num::f64_of(apart.len()) * gates.max_step_share).max(1.0);
    comparison.checks = vec![
        Check::at_most("quantisation_steps", furthest, MOST),
        Check::at_most("elements_a_step_apart", num::f64_of(off), most.floor()),
    ];
    comparison.passed = comparison.checks.iter().all(|c| c.passed);
    comparison.warnings.push(format!(
        "it is rounded to steps of {}, and {off} of {} elements are a step apart: judged by steps",
        show(step),
        apart.len()
    ));
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{Rule, compare};
    use super::super::tolerance::Numerics;
    use super::*;
    use crate::ir::ops::{ArgReduce, Cast, Dequantize, Granularity, Quantize, Reshape};
    use crate::ir::{Builder, Dim, Domain, Type};

    #[test]
    fn what_rounds_an_output_gives_its_step() {
        let mut b = Builder::new("m");
        let x = b
            .param("x", Type::known(DType::F32, &[2, 4]), Domain::Any)
            .unwrap();
        let scale = b.scalar("scale", DType::F32, 0.25).unwrap();
        let granularity = Granularity::Tensor;
        let to = Op::Quantize(Quantize {
            granularity: granularity.clone(),
            to: DType::I8,
        });
        let q = b.push("q", to, &[x, scale]).unwrap();
        let back = Op::Dequantize(Dequantize { granularity });
        let d = b.push("d", back, &[q, scale]).unwrap();
        let shape = vec![Dim::from(8)];
        let flat = b
            .push("flat", Op::Reshape(Reshape { shape }), &[d])
            .unwrap();
        let pixel = b
            .push("pixel", Op::Cast(Cast { to: DType::U8 }), &[x])
            .unwrap();
        let class = Op::ArgReduce(ArgReduce {
            axis: 1,
            largest: true,
            last: false,
            dtype: DType::I64,
        });
        let class = b.push("class", class, &[x]).unwrap();
        let class = b
            .push("label", Op::Cast(Cast { to: DType::U8 }), &[class])
            .unwrap();
        // Every row has a step of its own: none speaks for all.
        let scales = Tensor::f32(vec![2], vec![0.25, 0.001]).unwrap();
        let scales = b.tensor("scales", &scales).unwrap();
        let granularity = Granularity::Axis(0);
        let to = Op::Quantize(Quantize {
            granularity: granularity.clone(),
            to: DType::I8,
        });
        let rows = b.push("rows", to, &[x, scales]).unwrap();
        let rows = b
            .push(
                "wide",
                Op::Dequantize(Dequantize { granularity }),
                &[rows, scales],
            )
            .unwrap();
        for (name, value) in [
            ("x", x),
            ("rows", rows),
            ("q", q),
            ("y", flat),
            ("pixel", pixel),
            ("class", class),
        ] {
            b.output(&format!("out_{name}"), value).unwrap();
        }
        let module = b.finish().unwrap();
        let found = steps(&module, module.main().unwrap()).unwrap();
        let found: Vec<(&str, f64)> = found.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(found, [("out_pixel", 1.0), ("out_q", 1.0), ("out_y", 0.25)]);
    }

    #[test]
    fn one_step_is_no_failure_and_two_are() {
        let judged = |numerics, values: &[f32]| {
            let gates = Gates::for_numerics(numerics);
            let tensor = |v: &[f32]| Tensor::f32(vec![v.len()], v.to_vec()).unwrap();
            let (r, c) = (tensor(&[0.5, 1.0, -0.25, 0.75]), tensor(values));
            let rule = Rule {
                gates: &gates,
                kind: super::super::kind::OutputKind::Plain,
                rows: None,
                allow_rounded: false,
            };
            let mut comparison = compare(rule, &r, &c);
            judge(&mut comparison, 0.25, &r, &c, &gates);
            let names: Vec<&str> = comparison.checks.iter().map(|c| c.name).collect();
            (comparison.passed, names[0], comparison.warnings.len())
        };
        let steps = "quantisation_steps";
        let one = [0.5, 1.0, 0.0, 0.75];
        assert_eq!(judged(Numerics::F32, &one), (true, steps, 1));
        let two = [0.75, 1.0, 0.0, 0.75];
        assert_eq!(judged(Numerics::F32, &two), (false, steps, 1));
        assert_eq!(judged(Numerics::F16, &two), (true, steps, 1));
        let far = [0.5, 1.0, 0.25, 0.75];
        assert_eq!(judged(Numerics::F16, &far), (false, steps, 1));
        // Equal outputs are judged as they always are.
        let same = [0.5, 1.0, -0.25, 0.75];
        assert_eq!(
            judged(Numerics::F32, &same),
            (true, "required_tolerance", 0)
        );
    }
}
