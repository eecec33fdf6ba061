//! What an operation takes beside its operands and results while it is computed: columns of windows, turned weights, scores, orders.
//!
//! Counted before it is taken, like results. Not counted are the blocks that the kernels of matrix products pack, a few megabytes per
//! thread whatever the sizes, and lists of one element per axis or row.

use super::Target;
use crate::ir::Op;
use crate::ir::ops::{Reduce, Resize, Sampling};
use crate::tensor::{Tensor, num};

/// Bytes of working space, at most, for operands and results of these shapes.
pub(super) fn bytes(op: &Op, operands: &[Tensor], targets: &[Target]) -> u64 {
    let shape = |i: usize| operands.get(i).map_or(&[][..], Tensor::shape);
    let result = targets.first().map_or(&[][..], Target::shape);
    let floats = |n: u64| n.saturating_mul(4);
    if let Op::Conv(o) = op {
        let (kernel, w) = (shape(1), &o.window);
        let pointwise = kernel.iter().skip(2).all(|&k| k == 1)
            && w.strides.iter().all(|&s| s == 1)
            && w.pads.iter().all(|&p| p == (0, 0));
        if pointwise || kernel.get(1) == Some(&1) {
            return 0;
        }
        return floats(count(tail(kernel, 1)).saturating_mul(count(tail(result, 2))));
    }
    if let Op::ConvTranspose(o) = op {
        let (x, kernel) = (shape(0), shape(1));
        let rows = count(tail(kernel, 1));
        let inner = num::u64_of(x.get(1).map_or(0, |c| c / o.groups.max(1)));
        return floats(rows.saturating_mul(inner.saturating_add(count(tail(x, 2)))));
    }
    if let Op::Attention(_) = op {
        let blocks = count(&result[..result.len().saturating_sub(2)]);
        let rows = last(result, 2);
        let at_once = blocks.saturating_mul(rows.div_ceil(num::u64_of(super::attention::ROWS)));
        let scores = rows.min(num::u64_of(super::attention::ROWS)) * last(shape(1), 2);
        return floats(scores.saturating_mul(at_once.min(threads())));
    }
    if let Op::Recurrent(_) = op {
        let (x, w, r) = (shape(0), shape(1), shape(2));
        let width = last(w, 2);
        let turned = width.saturating_mul(last(w, 1).saturating_add(last(r, 1)));
        let sums = count(&x[..x.len().min(2)]).saturating_mul(width);
        return floats(turned.saturating_add(sums));
    }
    if let Op::Reduce(o) = op {
        return reduce(o, shape(0), operands.first().map_or(0, width));
    }
    if let Op::Resize(o) = op {
        return floats(resize(o, shape(0), result));
    }
    if let Op::GridSample(o) = op {
        let axes = u32::try_from(result.len().saturating_sub(2)).unwrap_or(u32::MAX);
        let taps: u64 = match o.sampling {
            Sampling::Nearest(_) => 1,
            Sampling::Linear => 2,
            Sampling::Cubic { .. } => 4,
        };
        // A list for every place, and 24 bytes for each offset with its weight.
        let place = taps
            .saturating_pow(axes)
            .saturating_add(1)
            .saturating_mul(24);
        return count(tail(result, 2)).saturating_mul(place);
    }
    if let Op::TopK(o) = op {
        let line = num::u64_of(shape(0).get(o.axis).copied().unwrap_or(0));
        return count(result)
            .saturating_add(line.saturating_mul(2))
            .saturating_mul(8);
    }
    if let Op::Inverse(_) = op {
        // The matrix and the identity, in `f64`.
        let n = last(shape(0), 1);
        return n.saturating_mul(n.saturating_add(1)).saturating_mul(16);
    }
    0
}

/// Axes that do not lie side by side are brought to the end in a copy; the totals of rows are kept in `f64`.
fn reduce(op: &Reduce, x: &[usize], width: u64) -> u64 {
    let (Some(&first), Some(&end)) = (op.axes.first(), op.axes.last()) else {
        return 0;
    };
    if end - first + 1 != op.axes.len() {
        return count(x).saturating_mul(width);
    }
    let inner = count(tail(x, end + 1));
    if inner == 1 {
        return 0;
    }
    let outer = count(&x[..first.min(x.len())]);
    inner.saturating_mul(8).saturating_mul(outer.min(threads()))
}

/// One axis after the other: what goes in, and what comes out of an axis that is not the last.
fn resize(op: &Resize, x: &[usize], result: &[usize]) -> u64 {
    if matches!(op.sampling, Sampling::Nearest(_)) {
        return 0;
    }
    let mut shape = x.to_vec();
    let (mut most, mut before) = (count(&shape), count(&shape));
    for axis in &op.axes {
        let (Some(size), Some(&new)) = (shape.get_mut(axis.axis), result.get(axis.axis)) else {
            return 0;
        };
        *size = new;
        let after = count(&shape);
        most = most.max(before.saturating_add(after));
        before = after;
    }
    most.saturating_sub(count(result).min(before)).max(count(x))
}

/// Bytes of an element in memory.
fn width(x: &Tensor) -> u64 {
    super::interpreter::bytes_of(x.dtype(), 1)
}

fn count(shape: &[usize]) -> u64 {
    shape
        .iter()
        .fold(1, |n: u64, &d| n.saturating_mul(num::u64_of(d)))
}

fn tail(shape: &[usize], from: usize) -> &[usize] {
    shape.get(from..).unwrap_or(&[])
}

/// The size of an axis, counted from the end.
fn last(shape: &[usize], from_end: usize) -> u64 {
    let at = shape.len().checked_sub(from_end);
    at.map_or(0, |i| num::u64_of(shape[i]))
}

fn threads() -> u64 {
    num::u64_of(rayon::current_num_threads())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::ops::{Attention, Conv, ConvTranspose, Inverse, ReduceKind, TopK, Window};
    use crate::tensor::DType;

    fn taken(op: &Op, operands: &[&[usize]], result: &[usize]) -> u64 {
        let zeros = |s: &&[usize]| Tensor::f32(s.to_vec(), vec![0.0; s.iter().product()]).unwrap();
        let operands: Vec<Tensor> = operands.iter().map(zeros).collect();
        let target = Target::new(op, DType::F32, result.to_vec()).unwrap();
        bytes(op, &operands, &[target])
    }

    fn window(stride: usize) -> Window {
        Window {
            strides: vec![stride; 2],
            pads: vec![(0, 0); 2],
            dilations: vec![1; 2],
        }
    }

    #[test]
    fn working_space_is_what_the_code_allocates() {
        let conv = |stride| {
            Op::Conv(Conv {
                window: window(stride),
                groups: 1,
            })
        };
        // 3 channels of 3 × 3 for each of 4 × 5 windows.
        let columns = taken(&conv(1), &[&[2, 3, 6, 7], &[8, 3, 3, 3]], &[2, 8, 4, 5]);
        assert_eq!(columns, 3 * 3 * 3 * 4 * 5 * 4);
        // The image itself, every second element of it, and one channel at a time.
        let pointwise: [&[usize]; 2] = [&[1, 3, 4, 4], &[8, 3, 1, 1]];
        assert_eq!(taken(&conv(1), &pointwise, &[1, 8, 4, 4]), 0);
        assert_eq!(taken(&conv(2), &pointwise, &[1, 8, 2, 2]), 3 * 4 * 4);
        let depthwise: [&[usize]; 2] = [&[1, 8, 4, 4], &[8, 1, 3, 3]];
        assert_eq!(taken(&conv(1), &depthwise, &[1, 8, 2, 2]), 0);
        let transposed = Op::ConvTranspose(ConvTranspose {
            window: window(2),
            groups: 2,
            output_pads: vec![0; 2],
        });
        // Turned weights of a group [3·2·2, 2], and columns [3·2·2, 25].
        let found = taken(
            &transposed,
            &[&[1, 4, 5, 5], &[4, 3, 2, 2]],
            &[1, 6, 10, 10],
        );
        assert_eq!(found, 12 * (2 + 25) * 4);
        let attention = Op::Attention(Attention { scale: 1.0 });
        let qkv: [&[usize]; 3] = [&[1, 1, 100, 8], &[1, 1, 300, 8], &[1, 1, 300, 8]];
        let found = taken(&attention, &qkv, &[1, 1, 100, 8]);
        assert_eq!(found, 64 * 300 * 4 * threads().min(2));
        let reduce = |axes: Vec<usize>| {
            Op::Reduce(Reduce {
                kind: ReduceKind::Sum,
                axes,
                keep_dims: false,
            })
        };
        assert_eq!(taken(&reduce(vec![1]), &[&[3, 5]], &[3]), 0);
        assert_eq!(taken(&reduce(vec![0]), &[&[3, 5]], &[5]), 5 * 8);
        assert_eq!(taken(&reduce(vec![0, 2]), &[&[3, 5, 7]], &[5]), 105 * 4);
        let top = Op::TopK(TopK {
            axis: 1,
            k: 3.into(),
            largest: true,
            dtype: DType::I64,
        });
        // Found places of 2 × 3, and an order of 50 with its copy.
        assert_eq!(taken(&top, &[&[2, 50]], &[2, 3]), (6 + 100) * 8);
        assert_eq!(
            taken(&Op::Inverse(Inverse), &[&[2, 4, 4]], &[2, 4, 4]),
            20 * 16
        );
    }
}
