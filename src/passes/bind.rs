//! Gives symbols their values.

use super::rewrite::Rewrite;
use crate::error::{Context, Result};
use crate::ir::{Bindings, IrError, Module, Type};

/// The module with the symbols of `bindings` replaced by numbers; other symbols stay.
///
/// # Errors
/// When a dimension divides by zero under `bindings`, or the module is malformed.
pub fn bind(module: &Module, bindings: &Bindings) -> Result<Module> {
    let mut rewrite = Rewrite::new(module)?;
    for symbol in module
        .symbols
        .iter()
        .filter(|s| !bindings.contains_key(&s.name))
    {
        rewrite.builder.symbol(symbol.clone())?;
    }
    for param in &rewrite.function.params {
        let value = rewrite.function.value(param.value);
        let shape: Option<Vec<_>> = value
            .ty
            .shape
            .iter()
            .map(|d| d.substitute(bindings))
            .collect();
        let shape = shape.ok_or_else(|| IrError::Unbound {
            dim: value.ty.to_string(),
        })?;
        let ty = Type::new(value.ty.dtype, shape);
        let new = rewrite
            .builder
            .param(&value.name, ty, param.domain.clone())?;
        rewrite.set(param.value, new);
    }
    let live = rewrite.live();
    for (node, _) in rewrite
        .function
        .nodes
        .iter()
        .zip(live)
        .filter(|(_, live)| *live)
    {
        let name = &rewrite.function.value(node.result).name;
        let op = node
            .op
            .substitute(bindings)
            .ok_or_else(|| IrError::Unbound {
                dim: format!("{:?}", node.op),
            })
            .at_node(name)
            .at_pass("bind")?;
        let operands: Vec<_> = node.operands.iter().map(|&v| rewrite.get(v)).collect();
        let new = rewrite.builder.push(name, op, &operands).at_pass("bind")?;
        rewrite.set(node.result, new);
    }
    rewrite.finish()
}
