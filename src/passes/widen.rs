//! Computes in single precision what the source computes in half. The interface changes with it; only states and images keep their types, since the
//! formats that keep them know no other.

// Only what names a type has one to widen.
#![allow(clippy::wildcard_enum_match_arm)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::rewrite::{Bodies, Rewrite};
use crate::error::{Context, Result};
use crate::ir::{Bindings, Def, Function, Module, Node, Op, Type, Value, ValueId};
use crate::tensor::DType;

/// Single precision in place of a 16-bit float type.
fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// The module with `f32` in place of the 16-bit float types, in bodies of control flow as well. Inputs and outputs that are named in `kept` have
/// the types that they had, and are cast inside.
///
/// # Numerics
/// Every 16-bit value is a value of `f32`, so constants stay what they are; results lose the roundings that the source declares.
///
/// # Errors
/// Never for a valid module.
pub fn widen(module: &Module, kept: &BTreeSet<String>) -> Result<Module> {
    let halves = |v: &Value| wide(v.ty.dtype) != v.ty.dtype;
    let mut functions = module.functions.iter().chain(&module.bodies);
    if !functions.any(|f| f.values.iter().any(halves)) {
        return Ok(module.clone());
    }
    // Bodies have names of their own.
    let keeps = |function: &Function, name: &str| {
        kept.contains(name) && module.functions.iter().any(|f| std::ptr::eq(f, function))
    };
    let retype = |function: &Function, value: &Value| {
        if keeps(function, &value.name) {
            value.ty.dtype
        } else {
            wide(value.ty.dtype)
        }
    };
    // Values of one function mean nothing in the next; each end of a function clears them.
    let widened = RefCell::new(BTreeMap::<ValueId, ValueId>::new());
    let operand = |rewrite: &mut Rewrite<'_>, old: ValueId| -> Result<ValueId> {
        if let Some(&new) = widened.borrow().get(&old) {
            return Ok(new);
        }
        let value = rewrite.function.value(old);
        let to = wide(value.ty.dtype);
        let new = match value.def {
            Def::Const(id) if to != value.ty.dtype => {
                let constant = rewrite.module.constant(id).cast(to);
                rewrite.builder.constant(constant)
            }
            Def::Const(_) | Def::Param(_) | Def::Node(_) => {
                let name = format!("{}/to_{to}", value.name);
                let new = rewrite.get(old);
                rewrite.builder.cast(&name, new, to)?
            }
        };
        widened.borrow_mut().insert(old, new);
        Ok(new)
    };
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &Node| {
        let name = &rewrite.function.value(node.result()).name;
        let mut op = node.op.clone();
        match &mut op {
            Op::Cast(cast) => cast.to = wide(cast.to),
            Op::If(branch) => branch.results.iter_mut().for_each(widen_type),
            Op::Loop(repeat) => repeat.results.iter_mut().for_each(widen_type),
            _ => {}
        }
        let mut operands = Vec::with_capacity(node.operands.len());
        for &old in &node.operands {
            operands.push(operand(rewrite, old)?);
        }
        // A cast between types that are one now.
        if let (Op::Cast(cast), [x]) = (&op, operands.as_slice())
            && rewrite.builder.ty(*x).dtype == cast.to
        {
            rewrite.set(node.result(), *x);
            return Ok(());
        }
        let new = rewrite.builder.push_all(name, op, &operands)?;
        rewrite.set_all(node, &new);
        Ok(())
    };
    let end = |rewrite: &mut Rewrite<'_>| {
        let function = rewrite.function;
        for output in &function.outputs {
            let state = function.states.iter().find(|s| s.output == output.name);
            let dtype = match state {
                Some(state) => Some(function.ty(state.param).dtype),
                None => keeps(function, &output.name).then(|| function.ty(output.value).dtype),
            };
            let new = match dtype {
                Some(dtype) => {
                    let name = format!("{}/to_{dtype}", function.value(output.value).name);
                    let new = rewrite.get(output.value);
                    rewrite.builder.cast(&name, new, dtype)?
                }
                None => operand(rewrite, output.value)?,
            };
            rewrite.set(output.value, new);
        }
        widened.borrow_mut().clear();
        Ok(())
    };
    let bindings = Bindings::new();
    Rewrite::retyped(module, &bindings, Bodies::Rebuilt, &retype, rebuild, end).at_pass("widen")
}

fn widen_type(ty: &mut Type) {
    ty.dtype = wide(ty.dtype);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ops::{BinaryKind, If};
    use crate::ir::{Builder, Domain, print};

    #[test]
    fn everything_but_states_is_single_precision() {
        let half = || Type::known(DType::F16, &[2]);
        let mut b = Builder::new("m");
        let body = b.body("then", |b| {
            let x = b.param("inner", half(), Domain::Any)?;
            let doubled = b.binary("doubled", BinaryKind::Add, x, x)?;
            Ok(b.output("out", doubled)?)
        });
        let body = body.unwrap();
        let c = Type::known(DType::Bool, &[]);
        let c = b.param("c", c, Domain::Any).unwrap();
        let x = b.param("x", half(), Domain::Any).unwrap();
        let memory = b.param("memory", half(), Domain::Any).unwrap();
        let op = If {
            then_body: body,
            else_body: body,
            results: vec![half()],
        };
        let y = b.push("y", Op::If(op), &[c, x]).unwrap();
        let again = b.cast("again", y, DType::F32).unwrap();
        let back = b.cast("back", again, DType::F16).unwrap();
        let next = b.binary("next", BinaryKind::Mul, back, memory).unwrap();
        b.output("y", back).unwrap();
        b.output("next", next).unwrap();
        b.state("memory", memory, "next");
        let module = b.finish().unwrap();
        let wide = widen(&module, &BTreeSet::new()).unwrap();
        let text = print(&wide);
        let main = wide.main().unwrap();
        let types: Vec<String> = main
            .params
            .iter()
            .map(|p| main.ty(p.value).to_string())
            .chain(main.outputs.iter().map(|o| main.ty(o.value).to_string()))
            .collect();
        let expected = ["bool[]", "f32[2]", "f16[2]", "f32[2]", "f16[2]"];
        assert_eq!(types, expected, "{text}");
        assert_eq!(main.nodes.len(), 4, "{text}");

        // What is to stay, of the function: the parameter of the same name in its body is wide.
        let kept = ["x", "inner", "y"].map(str::to_owned).into();
        let wide = widen(&module, &kept).unwrap();
        let text = print(&wide);
        let main = wide.main().unwrap();
        assert_eq!(main.ty(main.params[1].value).dtype, DType::F16, "{text}");
        assert_eq!(main.ty(main.outputs[0].value).dtype, DType::F16, "{text}");
        let inner = &wide.bodies[0];
        assert_eq!(inner.ty(inner.params[0].value).dtype, DType::F32, "{text}");
    }
}
