//! Order along an axis. NaN counts as the largest; equal elements keep the order of their indices.

use std::cmp::Ordering;

use super::Target;
use super::elementwise::order;
use crate::error::Result;
use crate::ir::ops::{ArgReduce, TopK};
use crate::tensor::{Storage, Tensor, num};

/// The lines of a tensor along an axis: `[outer, n, inner]`.
struct Lines {
    n: usize,
    inner: usize,
    count: usize,
}

impl Lines {
    fn new(x: &Tensor, axis: usize) -> Self {
        let n = x.shape()[axis];
        let inner: usize = x.shape()[axis + 1..].iter().product();
        let outer: usize = x.shape()[..axis].iter().product();
        Lines {
            n,
            inner,
            count: outer * inner,
        }
    }

    /// Where element `i` of line `line` lies in a tensor with `n` elements along the axis.
    fn place(&self, line: usize, i: usize, n: usize) -> usize {
        let (outer, inner) = (line / self.inner, line % self.inner);
        (outer * n + i) * self.inner + inner
    }
}

/// How elements `i` and `j` of a tensor compare.
fn comparison(x: &Tensor) -> Result<Box<dyn Fn(usize, usize) -> Ordering + '_>> {
    Ok(match x.storage() {
        Storage::Float(v) => Box::new(|i, j| {
            let (a, b) = (v[i], v[j]);
            a.partial_cmp(&b)
                .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }),
        Storage::Int(v) => {
            let key = order(x.dtype());
            Box::new(move |i, j| key(v[i]).cmp(&key(v[j])))
        }
        Storage::Bool(v) => Box::new(|i, j| v[i].cmp(&v[j])),
    })
}

pub(super) fn arg_reduce(op: ArgReduce, x: &Tensor, target: Target) -> Result<Tensor> {
    if op.axis >= x.shape().len() {
        return Err(target.mismatch(&[x]));
    }
    let lines = Lines::new(x, op.axis);
    if lines.n == 0 && lines.count != 0 {
        return Err(super::EvalError::EmptyReduction { op: target.op() }.into());
    }
    let compare = comparison(x)?;
    let mut out = Vec::with_capacity(lines.count);
    for line in 0..lines.count {
        let mut best = 0;
        for i in 1..lines.n {
            let (a, b) = (
                lines.place(line, i, lines.n),
                lines.place(line, best, lines.n),
            );
            let ordering = if op.largest {
                compare(a, b)
            } else {
                compare(b, a)
            };
            if ordering == Ordering::Greater || (op.last && ordering == Ordering::Equal) {
                best = i;
            }
        }
        out.push(num::i64_of(best));
    }
    target.int(out)
}

pub(super) fn top_k(op: &TopK, x: &Tensor, mut targets: Vec<Target>) -> Result<Vec<Tensor>> {
    let (Some(indices), Some(values), true) =
        (targets.pop(), targets.pop(), op.axis < x.shape().len())
    else {
        return Err(super::EvalError::Bodies { op: "top_k" }.into());
    };
    let lines = Lines::new(x, op.axis);
    let k = values.shape().get(op.axis).copied().unwrap_or(0);
    if k > lines.n {
        return Err(values.mismatch(&[x]));
    }
    let compare = comparison(x)?;
    // Places in `x`, and indices along the axis, in the order of the result.
    let mut places = vec![0; values.len()];
    let mut picks = vec![0i64; values.len()];
    for line in 0..lines.count {
        let mut sorted: Vec<usize> = (0..lines.n).collect();
        sorted.sort_by(|&i, &j| {
            let (a, b) = (lines.place(line, i, lines.n), lines.place(line, j, lines.n));
            if op.largest {
                compare(b, a)
            } else {
                compare(a, b)
            }
        });
        for (i, &pick) in sorted.iter().take(k).enumerate() {
            let at = lines.place(line, i, k);
            places[at] = lines.place(line, pick, lines.n);
            picks[at] = num::i64_of(pick);
        }
    }
    drop(compare);
    let storage = match x.storage() {
        Storage::Float(v) => {
            Storage::Float(places.iter().map(|&p| v[p]).collect::<Vec<_>>().into())
        }
        Storage::Int(v) => Storage::Int(places.iter().map(|&p| v[p]).collect::<Vec<_>>().into()),
        Storage::Bool(v) => Storage::Bool(places.iter().map(|&p| v[p]).collect::<Vec<_>>().into()),
    };
    Ok(vec![values.storage(storage)?, indices.int(picks)?])
}
