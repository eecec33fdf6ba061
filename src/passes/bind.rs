//! Gives symbols their values.

use super::rewrite::{Bodies, Rewrite, bound};
use crate::error::{Context, Result};
use crate::ir::{Bindings, Module};

/// The module with the symbols of `bindings` replaced by numbers; other symbols stay.
///
/// # Errors
/// When a dimension divides by zero under `bindings`, or the module is malformed.
pub fn bind(module: &Module, bindings: &Bindings) -> Result<Module> {
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &crate::ir::Node| {
        let name = &rewrite.function.value(node.result()).name;
        let op = bound(&node.op, bindings).at_node(name)?;
        rewrite.rebuild(node, op)
    };
    Rewrite::module(module, bindings, Bodies::Copied, rebuild, |_| Ok(())).at_pass("bind")
}
