//! Checks of a finished module, run after every front end and every pass.

use std::collections::BTreeSet;

use super::dim::Bindings;
use super::module::{Def, Function, Module, Node, State, SymbolRange};
use super::op::Op;
use super::types::{IrError, Type};
use crate::error::{Context, Result};

/// Checks that every operand is defined before its use, every type is what inference gives, names are unique and symbols declared.
///
/// # Errors
/// The first violation, with its node.
pub fn verify(module: &Module) -> Result<()> {
    if module.functions.is_empty() {
        return Err(IrError::NoFunction {
            name: "main".into(),
        }
        .into());
    }
    for (i, body) in module.bodies.iter().enumerate() {
        check_function(module, body, i)?;
    }
    for function in &module.functions {
        check_function(module, function, module.bodies.len())?;
        for state in &function.states {
            check_state(function, state).at_node(&state.name)?;
        }
    }
    Ok(())
}

/// A state's parameter and output have one type.
fn check_state(function: &Function, state: &State) -> std::result::Result<(), IrError> {
    let output = function.outputs.iter().find(|o| o.name == state.output);
    let (Some(output), true) = (
        output,
        function.params.iter().any(|p| p.value == state.param),
    ) else {
        return Err(IrError::Undefined { operand: 0 });
    };
    same_type(function.ty(state.param), function.ty(output.value))
}

/// What a node hands to its bodies and takes from them.
fn check_bodies(
    module: &Module,
    function: &Function,
    node: &Node,
    known: usize,
) -> std::result::Result<(), IrError> {
    for id in node.op.bodies() {
        if id.0 >= known {
            return Err(IrError::NoFunction {
                name: format!("body {}", id.0),
            });
        }
    }
    // A shape may be known on one side and open on the other.
    let check = |declared: &Type, found: &Type| {
        let fits = declared.dtype == found.dtype
            && declared.rank() == found.rank()
            && declared
                .shape
                .iter()
                .zip(&found.shape)
                .all(|(a, b)| a.may_equal(b));
        if fits {
            Ok(())
        } else {
            same_type(declared, found)
        }
    };
    let arity = |expected: usize, found: usize| {
        if expected == found {
            Ok(())
        } else {
            Err(IrError::Arity {
                op: node.op.name(),
                expected: expected.to_string(),
                found,
            })
        }
    };
    let operands: Vec<&Type> = node.operands.iter().map(|&v| function.ty(v)).collect();
    if let Op::If(o) = &node.op {
        for id in [o.then_body, o.else_body] {
            let body = module.body(id);
            arity(body.params.len() + 1, operands.len())?;
            for (param, operand) in body.params.iter().zip(&operands[1..]) {
                check(body.ty(param.value), operand)?;
            }
            arity(body.outputs.len(), o.results.len())?;
            for (output, result) in body.outputs.iter().zip(&o.results) {
                check(result, body.ty(output.value))?;
            }
        }
    } else if let Op::Loop(o) = &node.op {
        let body = module.body(o.body);
        arity(body.params.len(), operands.len())?;
        for (param, operand) in body.params.iter().zip(&operands).skip(2) {
            check(body.ty(param.value), operand)?;
        }
        arity(body.outputs.len(), o.results.len() + 1)?;
        for (i, result) in o.results.iter().enumerate() {
            let output = body.ty(body.outputs[i + 1].value);
            if i < o.carried {
                check(result, output)?;
            } else {
                let row = Type::new(result.dtype, result.shape.iter().skip(1).cloned().collect());
                check(&row, output)?;
            }
        }
    }
    Ok(())
}

/// Checks one function, which may use the first `bodies` bodies.
fn check_function(module: &Module, function: &Function, bodies: usize) -> Result<()> {
    if function.outputs.is_empty() {
        return Err(IrError::NoOutputs.into());
    }
    let mut names = BTreeSet::new();
    for value in &function.values {
        if !names.insert(value.name.as_str()) {
            return Err(IrError::DuplicateName {
                name: value.name.clone(),
            }
            .into());
        }
        let mut symbols = BTreeSet::new();
        value.ty.shape.iter().for_each(|d| d.symbols(&mut symbols));
        if let Some(missing) = symbols.into_iter().find(|s| module.symbol(s).is_none()) {
            return Err(IrError::Unbound { dim: missing }).at_node(&value.name);
        }
        if let Def::Const(id) = value.def {
            let found = module
                .constants
                .get(id.0)
                .map(|c| Type::known(c.dtype(), c.shape()))
                .ok_or(IrError::Undefined { operand: 0 })
                .at_node(&value.name)?;
            same_type(&value.ty, &found).at_node(&value.name)?;
        }
    }
    for (i, node) in function.nodes.iter().enumerate() {
        let name = &function.value(node.result()).name;
        for (operand, value) in node.operands.iter().enumerate() {
            let defined = match function.values.get(value.0).map(|v| v.def) {
                None => false,
                Some(Def::Node(id)) => id.0 < i,
                Some(Def::Param(_) | Def::Const(_)) => true,
            };
            if !defined {
                return Err(IrError::Undefined { operand }).at_node(name);
            }
        }
        let types: Vec<&Type> = node.operands.iter().map(|&v| function.ty(v)).collect();
        check_bodies(module, function, node, bodies).at_node(name)?;
        let inferred = node.op.infer_all(&types).at_node(name)?;
        if inferred.len() != node.results.len() {
            return Err(IrError::Undefined {
                operand: node.operands.len(),
            })
            .at_node(name);
        }
        for (&result, inferred) in node.results.iter().zip(&inferred) {
            same_type(function.ty(result), inferred).at_node(name)?;
        }
    }
    for output in &function.outputs {
        if output.value.0 >= function.values.len() {
            return Err(IrError::Undefined { operand: 0 }).at_node(&output.name);
        }
    }
    Ok(())
}

/// Checks that the types still hold where the sizes of the interface are numbers of their own: that nothing takes sizes to be equal, or to be 1,
/// that only may be.
///
/// # Errors
/// The first node that needs sizes to be equal.
pub fn verify_apart(module: &Module) -> Result<()> {
    let mut bindings = Bindings::new();
    // Primes, so that products and sums do not meet by chance either.
    let apart = [5u64, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43];
    for (symbol, wanted) in module.interface_symbols().zip(apart.into_iter().cycle()) {
        let taken = |size: &u64| bindings.values().any(|other| other == size);
        let size = match &symbol.range {
            // Beyond a range of a few sizes: what holds for all of them may still be a coincidence.
            SymbolRange::Between { min, max } if max.saturating_sub(*min) < 4 => {
                max.saturating_add(wanted)
            }
            SymbolRange::Between { min, max } => {
                let first = min.saturating_add(wanted).min(*max);
                let mut down = (*min..=first).rev().take(apart.len() * 2);
                down.find(|n| !taken(n)).unwrap_or(first)
            }
            SymbolRange::OneOf(sizes) => {
                let free = sizes.iter().rev().find(|n| !taken(n));
                free.or(sizes.last()).copied().unwrap_or(wanted)
            }
        };
        bindings.insert(symbol.name.clone(), size);
    }
    for function in module.bodies.iter().chain(&module.functions) {
        for node in &function.nodes {
            let name = &function.value(node.result()).name;
            let at = |ty: &Type| {
                let shape = ty.shape.iter().map(|d| d.substitute(&bindings));
                let shape = shape.collect::<Option<Vec<_>>>();
                shape
                    .map(|s| Type::new(ty.dtype, s))
                    .ok_or_else(|| IrError::Unbound {
                        dim: ty.to_string(),
                    })
            };
            let operands = node.operands.iter().map(|&v| at(function.ty(v)));
            let operands = operands.collect::<Result<Vec<_>, _>>().at_node(name)?;
            let unbound = || IrError::Unbound {
                dim: node.op.name().to_owned(),
            };
            let op = node
                .op
                .substitute(&bindings)
                .ok_or_else(unbound)
                .at_node(name)?;
            op.infer_all(&operands.iter().collect::<Vec<_>>())
                .at_node(name)?;
        }
    }
    Ok(())
}

fn same_type(declared: &Type, inferred: &Type) -> std::result::Result<(), IrError> {
    if declared == inferred {
        Ok(())
    } else {
        Err(IrError::Declared {
            declared: declared.to_string(),
            inferred: inferred.to_string(),
        })
    }
}
