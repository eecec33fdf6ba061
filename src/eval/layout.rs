//! How elements lie in memory: strides, broadcasting, and the one loop that every strided or elementwise operation runs in.
//!
//! Work is cut into pieces of a fixed size, so that no result depends on the number of threads.

use super::Target;
use crate::error::Result;
use crate::tensor::{Storage, Tensor};
use rayon::prelude::*;

/// Elements per piece of parallel work: enough to outweigh handing it to a thread, small enough to stay in the cache.
pub(super) const PIECE: usize = 1 << 13;

/// Calls `body` with the index and the elements of every piece of `len` elements; in parallel when there is enough to do.
pub(super) fn pieces<T: Send>(
    values: &mut [T],
    len: usize,
    body: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let len = len.max(1);
    if values.len() <= PIECE {
        let pieces = values.chunks_mut(len).enumerate();
        pieces.for_each(|(i, piece)| body(i, piece));
    } else {
        let pieces = values.par_chunks_mut(len).enumerate();
        pieces.for_each(|(i, piece)| body(i, piece));
    }
}

/// Row-major strides, in elements.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

/// Strides of a tensor of `shape` seen as one of shape `out`: 0 along axes that repeat.
pub(super) fn broadcast_strides(shape: &[usize], out: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    let missing = out.len().saturating_sub(shape.len());
    (0..out.len())
        .map(|i| match i.checked_sub(missing) {
            Some(j) if shape[j] != 1 => own[j],
            Some(_) | None => 0,
        })
        .collect()
}

/// The coordinates of element `index` of a tensor of `shape`.
pub(super) fn position(index: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = index;
    let mut out = vec![0; shape.len()];
    for (o, &n) in out.iter_mut().zip(shape).rev() {
        *o = rest % n.max(1);
        rest /= n.max(1);
    }
    out
}

/// A row-major walk over a result, with the place of each of `N` operands.
#[derive(Clone, Debug)]
pub(super) struct Walk<const N: usize> {
    // Axes that can be walked as one are merged; there is always at least one.
    shape: Vec<usize>,
    strides: Vec<[usize; N]>,
}

impl<const N: usize> Walk<N> {
    /// A walk over `shape`; `strides` has one list per operand.
    pub(super) fn new(shape: &[usize], strides: [&[usize]; N]) -> Self {
        let mut walk = Walk {
            shape: Vec::new(),
            strides: Vec::new(),
        };
        for (axis, &n) in shape.iter().enumerate() {
            if n == 1 {
                continue;
            }
            let step: [usize; N] = std::array::from_fn(|k| strides[k][axis]);
            if let (Some(last_n), Some(last)) = (walk.shape.last_mut(), walk.strides.last_mut())
                && (0..N).all(|k| last[k] == step[k] * n)
            {
                *last_n *= n;
                *last = step;
            } else {
                walk.shape.push(n);
                walk.strides.push(step);
            }
        }
        if walk.shape.is_empty() {
            walk.shape.push(1);
            walk.strides.push([1; N]);
        }
        walk
    }

    /// A walk in which every operand broadcasts to `shape`.
    pub(super) fn broadcast(shape: &[usize], operands: [&[usize]; N]) -> Self {
        let strides = operands.map(|o| broadcast_strides(o, shape));
        Walk::new(shape, std::array::from_fn(|k| strides[k].as_slice()))
    }

    /// Steps of the operands along the innermost axis.
    pub(super) fn steps(&self) -> [usize; N] {
        self.strides[self.shape.len() - 1]
    }

    /// Calls `body` for every innermost stretch of `out` with the offsets of the operands.
    pub(super) fn fill<T: Send>(
        &self,
        out: &mut [T],
        body: impl Fn(&mut [T], [usize; N]) + Sync + Send,
    ) {
        pieces(out, PIECE, |i, piece| {
            self.fill_from(i * PIECE, piece, &body)
        });
    }

    fn fill_from<T>(&self, start: usize, out: &mut [T], body: &impl Fn(&mut [T], [usize; N])) {
        let last = self.shape.len() - 1;
        let inner = self.shape[last];
        let mut at = position(start, &self.shape);
        let mut rest = out;
        while !rest.is_empty() {
            let n = (inner - at[last]).min(rest.len());
            let (stretch, tail) = std::mem::take(&mut rest).split_at_mut(n);
            rest = tail;
            let offsets =
                std::array::from_fn(|k| at.iter().zip(&self.strides).map(|(i, s)| i * s[k]).sum());
            body(stretch, offsets);
            // The next stretch begins a new row.
            at[last] = 0;
            for axis in (0..last).rev() {
                at[axis] += 1;
                if at[axis] < self.shape[axis] {
                    break;
                }
                at[axis] = 0;
            }
        }
    }
}

/// The elements of a strided view of `source`, in row-major order.
pub(super) fn copy_strided<T: Copy + Send + Sync + Default>(
    source: &[T],
    offset: usize,
    shape: &[usize],
    strides: &[usize],
) -> Vec<T> {
    let mut out = vec![T::default(); shape.iter().product()];
    let walk = Walk::new(shape, [strides]);
    let [step] = walk.steps();
    walk.fill(&mut out, |stretch, [from]| {
        let from = offset + from;
        match step {
            0 => stretch.fill(source[from]),
            1 => stretch.copy_from_slice(&source[from..from + stretch.len()]),
            _ => {
                for (o, x) in stretch.iter_mut().zip(source[from..].iter().step_by(step)) {
                    *o = *x;
                }
            }
        }
    });
    out
}

/// `f` of two broadcast operands.
pub(super) fn zip<A: Copy + Sync, B: Copy + Sync, R: Copy + Send + Default>(
    (a, a_shape): (&[A], &[usize]),
    (b, b_shape): (&[B], &[usize]),
    shape: &[usize],
    f: impl Fn(A, B) -> R + Sync + Send,
) -> Vec<R> {
    let mut out = vec![R::default(); shape.iter().product()];
    let walk = Walk::broadcast(shape, [a_shape, b_shape]);
    let steps = walk.steps();
    walk.fill(&mut out, |stretch, [i, j]| {
        let n = stretch.len();
        match steps {
            [1, 1] => {
                for ((o, &x), &y) in stretch.iter_mut().zip(&a[i..i + n]).zip(&b[j..j + n]) {
                    *o = f(x, y);
                }
            }
            [1, 0] => {
                let y = b[j];
                for (o, &x) in stretch.iter_mut().zip(&a[i..i + n]) {
                    *o = f(x, y);
                }
            }
            [0, 1] => {
                let x = a[i];
                for (o, &y) in stretch.iter_mut().zip(&b[j..j + n]) {
                    *o = f(x, y);
                }
            }
            [da, db] => {
                for (k, o) in stretch.iter_mut().enumerate() {
                    *o = f(a[i + k * da], b[j + k * db]);
                }
            }
        }
    });
    out
}

/// `f` of an operand that already has the result's shape, written in its place, and of one that broadcasts to it.
pub(super) fn zip_in_place<T: Copy + Send + Sync>(
    a: &mut [T],
    (b, b_shape): (&[T], &[usize]),
    shape: &[usize],
    f: impl Fn(T, T) -> T + Sync + Send,
) {
    // The operand in place takes part in the walk, so that both move alike.
    let walk = Walk::broadcast(shape, [b_shape]);
    let [step] = walk.steps();
    walk.fill(a, |stretch, [j]| match step {
        0 => {
            let y = b[j];
            for o in stretch {
                *o = f(*o, y);
            }
        }
        1 => {
            let n = stretch.len();
            for (o, &y) in stretch.iter_mut().zip(&b[j..j + n]) {
                *o = f(*o, y);
            }
        }
        _ => {
            for (k, o) in stretch.iter_mut().enumerate() {
                *o = f(*o, b[j + k * step]);
            }
        }
    });
}

/// Marks an index that lies outside its axis.
pub(super) const OUTSIDE: usize = usize::MAX;

/// The tensor with every axis picked by its map: `result[i, j, …] = x[maps[0][i], maps[1][j], …]`.
pub(super) fn pick_axes(x: &Tensor, maps: &[Vec<usize>], target: Target) -> Result<Tensor> {
    pick_axes_or(x, maps, None, target)
}

/// As [`pick_axes`]; where an index is [`OUTSIDE`], the element is `value`, or 0.
pub(super) fn pick_axes_or(
    x: &Tensor,
    maps: &[Vec<usize>],
    value: Option<&Tensor>,
    target: Target,
) -> Result<Tensor> {
    let shape: Vec<usize> = maps.iter().map(Vec::len).collect();
    if shape != target.shape() || x.shape().len() != maps.len() {
        return Err(target.mismatch(&[x]));
    }
    let storage = match x.storage() {
        Storage::Float(v) => {
            let value = value.map(Tensor::floats).transpose()?;
            Storage::Float(picked(v, x.shape(), maps, first(value)).into())
        }
        Storage::Int(v) => {
            let value = value.map(Tensor::ints).transpose()?;
            Storage::Int(picked(v, x.shape(), maps, first(value)).into())
        }
        Storage::Bool(v) => {
            let value = value.map(Tensor::bools).transpose()?;
            Storage::Bool(picked(v, x.shape(), maps, first(value)).into())
        }
    };
    target.storage(storage)
}

fn first<T: Copy + Default>(values: Option<&std::sync::Arc<Vec<T>>>) -> T {
    values.and_then(|v| v.first().copied()).unwrap_or_default()
}

fn picked<T: Copy + Send + Sync>(
    v: &[T],
    shape: &[usize],
    maps: &[Vec<usize>],
    value: T,
) -> Vec<T> {
    let sizes: Vec<usize> = maps.iter().map(Vec::len).collect();
    let mut out = vec![value; sizes.iter().product()];
    let Some((last, outer)) = maps.split_last() else {
        v.iter().zip(&mut out).for_each(|(x, o)| *o = *x);
        return out;
    };
    if out.is_empty() {
        return out;
    }
    let own = strides(shape);
    let row = last.len();
    pieces(&mut out, row * (PIECE / row).max(1), |i, piece| {
        let first = i * (PIECE / row).max(1);
        for (k, out) in piece.chunks_mut(row).enumerate() {
            let at = position(first + k, &sizes[..outer.len()]);
            let places = at.iter().zip(outer).map(|(&i, map)| map[i]);
            let mut base = Some(0);
            for (place, stride) in places.zip(&own) {
                base = base
                    .filter(|_| place != OUTSIDE)
                    .map(|b| b + place * stride);
            }
            let Some(base) = base else { continue };
            for (o, &i) in out.iter_mut().zip(last) {
                if i != OUTSIDE {
                    *o = v[base + i];
                }
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_move_alike_are_merged() {
        let walk = Walk::broadcast(&[2, 1, 3, 4], [&[2, 1, 3, 4], &[4]]);
        assert_eq!(walk.shape, [6, 4]);
        assert_eq!(walk.strides, [[4, 0], [1, 1]]);
        let whole = Walk::broadcast(&[2, 3], [&[2, 3], &[2, 3]]);
        assert_eq!(whole.shape, [6]);
    }

    #[test]
    fn pieces_do_not_change_the_result() {
        let shape = [7, 5, 1001];
        let a: Vec<i64> = (0..7 * 5 * 1001).collect();
        let b: Vec<i64> = (0..5).map(|i| i * 1_000_000).collect();
        let got = zip((&a, &shape), (&b, &[5, 1]), &shape, |x, y| x + y);
        let mut expected = Vec::new();
        for i in 0..7 {
            for j in 0..5 {
                for k in 0..1001 {
                    expected.push((i * 5 + j) * 1001 + k + j * 1_000_000);
                }
            }
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn broadcasting_repeats_and_transposing_reorders() {
        let x = [1, 2, 3];
        assert_eq!(
            copy_strided(&x, 0, &[2, 3], &broadcast_strides(&[3], &[2, 3])),
            [1, 2, 3, 1, 2, 3]
        );
        assert_eq!(
            copy_strided(&[1, 2, 3, 4, 5, 6], 0, &[3, 2], &[1, 3]),
            [1, 4, 2, 5, 3, 6]
        );
        assert_eq!(copy_strided(&x, 0, &[0, 3], &[3, 1]), Vec::<i32>::new());
    }
}
