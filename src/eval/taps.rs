//! Which elements of an axis a place between them takes, and with which weights.

use crate::ir::ops::{Rounding, Sampling};
use crate::tensor::num;

/// The index of the nearest element; it may lie outside the axis.
pub(super) fn nearest(x: f64, rounding: Rounding) -> i64 {
    let whole = match rounding {
        Rounding::PreferFloor => (x - 0.5).ceil(),
        Rounding::PreferCeil => (x + 0.5).floor(),
        Rounding::Floor => x.floor(),
        Rounding::Ceil => x.ceil(),
        Rounding::Even => x.round_ties_even(),
    };
    num::i64_of_f64(whole)
}

/// Cubic convolution with coefficient `a` at distance `x`.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// The elements (which may lie outside) and their weights at place `x`. With `shrink` below 1 the kernel is stretched by its inverse, and the weights
/// sum to 1.
pub(super) fn taps(x: f64, sampling: Sampling, shrink: f64) -> Vec<(i64, f64)> {
    let (radius, kernel): (f64, Box<dyn Fn(f64) -> f64>) = match sampling {
        Sampling::Nearest(rounding) => return vec![(nearest(x, rounding), 1.0)],
        Sampling::Linear => (1.0, Box::new(|d: f64| (1.0 - d.abs()).max(0.0))),
        Sampling::Cubic { coefficient } => {
            (2.0, Box::new(move |d| cubic(d, f64::from(coefficient))))
        }
    };
    let shrink = shrink.min(1.0);
    let base = num::i64_of_f64(x.floor());
    let reach = num::i64_of_f64((radius / shrink).ceil());
    let fraction = x - x.floor();
    let mut out = Vec::new();
    for step in 1 - reach..=reach {
        let weight = kernel((num::f64_of_i64(step) - fraction) * shrink);
        if weight != 0.0 {
            out.push((base.saturating_add(step), weight));
        }
    }
    if shrink < 1.0 {
        scale_to_one(&mut out);
    }
    out
}

/// Scales weights so that they sum to 1.
pub(super) fn scale_to_one(taps: &mut [(i64, f64)]) {
    let total: f64 = taps.iter().map(|(_, w)| w).sum();
    if total != 0.0 {
        taps.iter_mut().for_each(|(_, w)| *w /= total);
    }
}
