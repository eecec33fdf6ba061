//! Operations against naive loops on random shapes; and with them, inferred against computed shapes.

use proptest::prelude::*;

use super::*;

/// All coordinates of a shape, in row-major order.
fn coordinates(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |all, &n| {
        all.iter()
            .flat_map(|c| (0..n).map(move |k| [c.as_slice(), &[k]].concat()))
            .collect()
    })
}

/// The element of `t` at `at`, broadcast from the right.
pub(super) fn element(t: &Tensor, at: &[usize]) -> f64 {
    let at = &at[at.len() - t.shape().len()..];
    let index = at
        .iter()
        .zip(t.shape())
        .fold(0, |n, (&k, &d)| n * d + if d == 1 { 0 } else { k });
    t.to_f64()[index]
}

/// A float tensor of small integers, in which every sum and product below is exact.
fn tensor(shape: Vec<usize>) -> impl Strategy<Value = Tensor> {
    let n = shape.iter().product::<usize>();
    prop::collection::vec(-8i8..8, n)
        .prop_map(move |v| f(&shape, &v.into_iter().map(f32::from).collect::<Vec<_>>()))
}

/// A shape, and the same with some axes made 1 and some leading ones dropped.
fn broadcastable() -> impl Strategy<Value = (Tensor, Tensor)> {
    (
        prop::collection::vec((1usize..5, any::<[bool; 2]>()), 1..5),
        0usize..3,
        0usize..3,
    )
        .prop_flat_map(|(axes, drop_a, drop_b)| {
            let side = |which: usize, dropped: usize| -> Vec<usize> {
                let shape = axes
                    .iter()
                    .map(|(n, ones)| if ones[which] { 1 } else { *n });
                shape.skip(dropped.min(axes.len())).collect()
            };
            (tensor(side(0, drop_a)), tensor(side(1, drop_b)))
        })
}

proptest! {
    #[test]
    fn broadcasting_follows_numpy((a, b) in broadcastable()) {
        let found = run(&binary(BinaryKind::Sub), &[&a, &b]).unwrap();
        for (at, x) in coordinates(found.shape()).iter().zip(found.to_f64()) {
            prop_assert_eq!(x, element(&a, at) - element(&b, at));
        }
        let less = run(&compare(CompareKind::Less), &[&a, &b]).unwrap();
        let chosen = run(&Op::Select(Select), &[&less, &a, &b]).unwrap();
        let smaller = run(&binary(BinaryKind::Min), &[&a, &b]).unwrap();
        prop_assert_eq!(chosen.to_f64(), smaller.to_f64());
    }

    #[test]
    fn transposing_slicing_and_reducing_follow_their_indices(
        (x, seed, mask) in prop::collection::vec(1usize..5, 1..5)
            .prop_flat_map(|s| (tensor(s), any::<u16>(), any::<u8>()))
    ) {
        let rank = x.shape().len();
        let turn = usize::from(seed) % rank;
        let perm: Vec<usize> = (0..rank).map(|k| (k + turn) % rank).rev().collect();
        let moved = run(&Op::Transpose(Transpose { perm: perm.clone() }), &[&x]).unwrap();
        for (at, y) in coordinates(moved.shape()).iter().zip(moved.to_f64()) {
            let mut from = vec![0; rank];
            perm.iter().zip(at).for_each(|(&axis, &k)| from[axis] = k);
            prop_assert_eq!(y, element(&x, &from));
        }
        let mut axes: Vec<usize> = (0..rank).filter(|k| mask >> k & 1 == 1).collect();
        if axes.is_empty() {
            axes.push(turn);
        }
        let sums = run(&reduce(ReduceKind::Sum, &axes, true), &[&x]).unwrap();
        let mut expected = vec![0.0; sums.len()];
        for at in coordinates(x.shape()) {
            let kept = at.iter().enumerate().map(|(k, &i)| if axes.contains(&k) { 0 } else { i });
            let index = kept.zip(sums.shape()).fold(0, |n, (i, &d)| n * d + i);
            expected[index] += element(&x, &at);
        }
        prop_assert_eq!(sums.to_f64(), expected);
        let (n, step) = (x.shape()[turn], 1 + usize::from(seed >> 8) % 3);
        let start = usize::from(seed >> 4) % (n + 1);
        let range = SliceRange { step, ..SliceRange::new(turn, start, n) };
        let part = run(&Op::Slice(Slice { ranges: vec![range] }), &[&x]).unwrap();
        for (at, y) in coordinates(part.shape()).iter().zip(part.to_f64()) {
            let mut from = at.clone();
            from[turn] = start + at[turn] * step;
            prop_assert_eq!(y, element(&x, &from));
        }
    }

    #[test]
    fn matrix_products_follow_their_sum(
        (a, b, transpose_a, transpose_b) in
            (1usize..4, 1usize..40, 1usize..20, 1usize..40, any::<[bool; 4]>()).prop_flat_map(
                |(batch, m, k, n, [ta, tb, ba, bb])| {
                    let a = if ta { [k, m] } else { [m, k] };
                    let b = if tb { [n, k] } else { [k, n] };
                    let side = |one: bool, s: [usize; 2]| vec![if one { 1 } else { batch }, s[0], s[1]];
                    (tensor(side(ba, a)), tensor(side(bb, b)), Just(ta), Just(tb))
                })
    ) {
        let op = Op::MatMul(MatMul { transpose_a, transpose_b });
        let found = run(&op, &[&a, &b]).unwrap();
        let inner = if transpose_a { a.shape()[1] } else { a.shape()[2] };
        for (at, x) in coordinates(found.shape()).iter().zip(found.to_f64()) {
            let sum: f64 = (0..inner).map(|k| {
                let left = if transpose_a { [at[0], k, at[1]] } else { [at[0], at[1], k] };
                let right = if transpose_b { [at[0], at[2], k] } else { [at[0], k, at[2]] };
                element(&a, &left) * element(&b, &right)
            }).sum();
            prop_assert_eq!(x, sum);
        }
    }
}
