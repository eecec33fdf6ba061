//! Checks of a finished module, run after every front end and every pass.

use std::collections::BTreeSet;

use super::module::{Def, Function, Module};
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
    for function in &module.functions {
        check_function(module, function)?;
    }
    Ok(())
}

fn check_function(module: &Module, function: &Function) -> Result<()> {
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
        let name = &function.value(node.result).name;
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
        let inferred = node.op.infer(&types).at_node(name)?;
        same_type(function.ty(node.result), &inferred).at_node(name)?;
    }
    for output in &function.outputs {
        if output.value.0 >= function.values.len() {
            return Err(IrError::Undefined { operand: 0 }).at_node(&output.name);
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
