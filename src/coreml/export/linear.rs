//! Matrix products.

use super::emit::{Arg, Emitter, Var};
use crate::error::Result;
use crate::ir::Node;
use crate::ir::ops::MatMul;

/// `linear` is documented for inputs of at most this rank.
const LINEAR_RANK: usize = 3;

pub(super) fn matmul(e: &mut Emitter<'_>, op: &MatMul, x: &Var, y: &Var) -> Result<()> {
    let params = [
        ("x", Arg::Var(x)),
        ("y", Arg::Var(y)),
        ("transpose_x", Arg::Bool(op.transpose_a)),
        ("transpose_y", Arg::Bool(op.transpose_b)),
    ];
    e.finish("matmul", &params)
}

/// `linear` takes constants only; anything else is a product and a sum.
pub(super) fn linear(e: &mut Emitter<'_>, node: &Node, operands: &[Var]) -> Result<()> {
    let [x, weight, bias @ ..] = operands else {
        return Ok(());
    };
    let constant = node.operands[1..]
        .iter()
        .all(|&v| e.as_constant(v).is_some());
    if constant && x.ty.rank() <= LINEAR_RANK {
        let mut params = vec![("x", Arg::Var(x)), ("weight", Arg::Var(weight))];
        params.extend(bias.first().map(|b| ("bias", Arg::Var(b))));
        return e.finish("linear", &params);
    }
    let product = [
        ("x", Arg::Var(x)),
        ("y", Arg::Var(weight)),
        ("transpose_x", Arg::Bool(false)),
        ("transpose_y", Arg::Bool(true)),
    ];
    match bias.first() {
        None => e.finish("matmul", &product),
        Some(bias) => {
            let ty = e.result_type().clone();
            let product = e.step("product", "matmul", ty, &product)?;
            e.finish("add", &[("x", Arg::Var(&product)), ("y", Arg::Var(bias))])
        }
    }
}
