//! Attention in its parts, where one of them is to be computed otherwise than the others.

use super::rewrite::{Bodies, Rewrite};
use crate::error::{Context, Result};
use crate::ir::ops::{Attention, BinaryKind, MatMul, Softmax};
use crate::ir::{Bindings, Module, Node, Op};

/// What attention is made of, by name.
pub(super) const PARTS: [&str; 4] = ["mul", "matmul", "add", "softmax"];

/// The module with the decomposition in place of every attention of its functions; the last part has its name.
///
/// # Errors
/// Never for a valid module.
pub fn parts(module: &Module) -> Result<Module> {
    let attends = |node: &Node| matches!(node.op, Op::Attention(_));
    if !module.functions.iter().any(|f| f.nodes.iter().any(attends)) {
        return Ok(module.clone());
    }
    let rebuild = |rewrite: &mut Rewrite<'_>, node: &Node| {
        if let Op::Attention(o) = node.op {
            apart(rewrite, node, o)
        } else {
            rewrite.copy(node)
        }
    };
    let bindings = Bindings::new();
    Rewrite::module(module, &bindings, Bodies::Copied, rebuild, |_| Ok(())).at_pass("parts")
}

fn apart(rewrite: &mut Rewrite<'_>, node: &Node, op: Attention) -> Result<()> {
    let name = &rewrite.function.value(node.result()).name;
    let mut operands = Vec::with_capacity(node.operands.len());
    for &operand in &node.operands {
        operands.push(rewrite.get(operand));
    }
    let b = &mut rewrite.builder;
    let dtype = b.ty(operands[0]).dtype;
    let mut query = operands[0];
    if op.scale != 1.0 {
        let scale = b.scalar(&format!("{name}/scale"), dtype, op.scale)?;
        query = b.binary(&format!("{name}/query"), BinaryKind::Mul, query, scale)?;
    }
    let by_key = MatMul {
        transpose_a: false,
        transpose_b: true,
    };
    let by_key = Op::MatMul(by_key);
    let mut scores = b.push(&format!("{name}/scores"), by_key, &[query, operands[1]])?;
    if let Some(&mask) = operands.get(3) {
        scores = b.binary(&format!("{name}/masked"), BinaryKind::Add, scores, mask)?;
    }
    let axis = b.ty(scores).rank() - 1;
    let softmax = Op::Softmax(Softmax { axis });
    let weights = b.push(&format!("{name}/weights"), softmax, &[scores])?;
    let op = Op::MatMul(MatMul::default());
    let result = b.push(name, op, &[weights, operands[2]])?;
    rewrite.set(node.result(), result);
    Ok(())
}
