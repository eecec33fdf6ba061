//! Matrix products.

use super::call::Call;
use super::entry::Entry;
use super::table::{Row, row};
use super::{Importer, one};
use crate::error::Result;
use crate::ir::ops::MatMul;
use crate::ir::{Op, ValueId};

pub(super) const ROWS: &[Row] = &[row("MatMul", 1, matmul), row("Gemm", 7, gemm)];

fn matmul(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    one(product(m, a, b)?)
}

/// NumPy's product: vectors count as a row or a column, which the result loses again.
pub(super) fn product(m: &mut Importer<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (ra, rb) = (m.b.rank(a), m.b.rank(b));
    let a = if ra == 1 { m.b.unsqueeze(a, &[0])? } else { a };
    let b = if rb == 1 { m.b.unsqueeze(b, &[1])? } else { b };
    let y = m.b.matmul(a, b)?;
    let rank = m.b.rank(y);
    let mut gone = Vec::new();
    if ra == 1 {
        gone.push(rank - 2);
    }
    if rb == 1 {
        gone.push(rank - 1);
    }
    m.b.squeeze(y, &gone)
}

fn gemm(m: &mut Importer<'_>, call: &mut Call<'_>) -> Result<Vec<Entry>> {
    let (a, b) = (m.input(call, 0)?, m.input(call, 1)?);
    let c = m.optional(call, 2)?;
    let op = MatMul {
        transpose_a: call.flag("transA", false)?,
        transpose_b: call.flag("transB", false)?,
    };
    let (alpha, beta) = (call.float_or("alpha", 1.0)?, call.float_or("beta", 1.0)?);
    if m.b.rank(a) != 2 || m.b.rank(b) != 2 {
        return Err(call
            .wrong(
                "A",
                "two matrices",
                format!("{} and {}", m.b.ty(a), m.b.ty(b)),
            )
            .into());
    }
    let plain = alpha.to_bits() == 1f32.to_bits() && beta.to_bits() == 1f32.to_bits();
    // The common case is the IR's own layer.
    if plain
        && op.transpose_b
        && !op.transpose_a
        && m.b.dtype(a).is_float()
        && let Some(c) = c
        && m.b.shape(c) == vec![m.b.shape(b)[0].clone()]
    {
        return one(m.b.node(Op::Linear(crate::ir::ops::Linear), &[a, b, c])?);
    }
    let mut y = m.b.node(Op::MatMul(op), &[a, b])?;
    if alpha.to_bits() != 1f32.to_bits() {
        y = m.b.mul_n(y, f64::from(alpha))?;
    }
    if let Some(mut c) = c.filter(|_| beta != 0.0) {
        if beta.to_bits() != 1f32.to_bits() {
            c = m.b.mul_n(c, f64::from(beta))?;
        }
        y = m.b.add(y, c)?;
    }
    one(y)
}
