//! Choice of boxes that overlap little.

use super::Target;
use crate::error::Result;
use crate::ir::ops::NonMaxSuppression;
use crate::tensor::{Tensor, num};

/// A box by its edges.
#[derive(Clone, Copy)]
struct Edges {
    y: (f32, f32),
    x: (f32, f32),
}

impl Edges {
    fn new(b: &[f32], center: bool) -> Self {
        let sorted = |a: f32, b: f32| if a <= b { (a, b) } else { (b, a) };
        if center {
            let around = |c: f32, size: f32| (c - size / 2.0, c + size / 2.0);
            Edges {
                x: around(b[0], b[2]),
                y: around(b[1], b[3]),
            }
        } else {
            Edges {
                y: sorted(b[0], b[2]),
                x: sorted(b[1], b[3]),
            }
        }
    }

    fn area(self) -> f32 {
        (self.y.1 - self.y.0) * (self.x.1 - self.x.0)
    }

    /// Intersection over union.
    fn overlap(self, other: Edges) -> f32 {
        let common = |a: (f32, f32), b: (f32, f32)| (a.1.min(b.1) - a.0.max(b.0)).max(0.0);
        let both = common(self.y, other.y) * common(self.x, other.x);
        let either = self.area() + other.area() - both;
        if either > 0.0 { both / either } else { 0.0 }
    }
}

/// The chosen boxes as (batch, class, box).
pub(super) fn choose(op: &NonMaxSuppression, operands: &[Tensor]) -> Result<Vec<[usize; 3]>> {
    let (boxes, scores) = (&operands[0], &operands[1]);
    let most = operands[2].ints()?.first().copied().unwrap_or_default();
    let most = usize::try_from(most).unwrap_or(0);
    let number = |i: usize, default: f32| -> Result<f32> {
        let t: &Tensor = &operands[i];
        Ok(t.floats()?.first().copied().unwrap_or(default))
    };
    let (limit, least) = (number(3, 0.0)?, number(4, f32::NEG_INFINITY)?);
    let (&[batches, n, 4], &[_, classes, _]) = (boxes.shape(), scores.shape()) else {
        return Ok(Vec::new());
    };
    let (b, s) = (boxes.floats()?, scores.floats()?);
    let mut out = Vec::new();
    for batch in 0..batches {
        let edges: Vec<Edges> = b[batch * n * 4..(batch + 1) * n * 4]
            .chunks_exact(4)
            .map(|b| Edges::new(b, op.center))
            .collect();
        for class in 0..classes {
            let scores = &s[(batch * classes + class) * n..][..n];
            let mut order: Vec<usize> = (0..n).filter(|&i| scores[i] > least).collect();
            order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
            let mut chosen: Vec<usize> = Vec::new();
            for i in order {
                if chosen.len() >= most {
                    break;
                }
                if chosen.iter().all(|&c| edges[c].overlap(edges[i]) <= limit) {
                    chosen.push(i);
                }
            }
            out.extend(chosen.into_iter().map(|i| [batch, class, i]));
        }
    }
    Ok(out)
}

pub(super) fn non_max_suppression(
    op: &NonMaxSuppression,
    operands: &[Tensor],
    target: Target,
) -> Result<Tensor> {
    let chosen = choose(op, operands)?;
    target.int(chosen.into_iter().flatten().map(num::i64_of).collect())
}
