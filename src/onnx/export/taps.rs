//! Which elements an index of a resized axis takes, and with which weights: the definitions of `Coordinates`, `Sampling` and `Rounding`, for
//! resizing that is written out.

use crate::ir::ops::{Coordinates, Resize, ResizeAxis, Rounding, Sampling};
use crate::tensor::num;

/// The place of index `i` of `m` in an axis of `n` elements, in single precision as engines compute it, step by step.
pub(super) fn place(axis: &ResizeAxis, i: usize, n: usize, m: usize) -> f64 {
    let (i, n, m) = (num::f32_of(i), num::f32_of(n), num::f32_of(m));
    let scale = axis.scale.unwrap_or(m / n);
    f64::from(match axis.coordinates {
        Coordinates::HalfPixel => (i + 0.5) / scale - 0.5,
        Coordinates::HalfPixelSymmetric => {
            n / 2.0 * (1.0 - m / (scale * n)) + (i + 0.5) / scale - 0.5
        }
        Coordinates::PytorchHalfPixel if m > 1.0 => (i + 0.5) / scale - 0.5,
        Coordinates::AlignCorners if m > 1.0 => i * (n - 1.0) / (m - 1.0),
        Coordinates::PytorchHalfPixel | Coordinates::AlignCorners => 0.0,
        Coordinates::Asymmetric => i / scale,
        Coordinates::CropAndResize { start, end } if m > 1.0 => {
            start * (n - 1.0) + (i * (end - start) * (n - 1.0)) / (m - 1.0)
        }
        Coordinates::CropAndResize { start, end } => 0.5 * (start + end) * (n - 1.0),
        Coordinates::Affine { offset, step } => num::f32_of_f64(offset + f64::from(i) * step),
    })
}

/// The index nearest to a place.
pub(super) fn nearest(x: f64, rounding: Rounding) -> i64 {
    let half = (x - x.floor() - 0.5).abs() < f64::EPSILON;
    num::i64_of_f64(match rounding {
        Rounding::PreferFloor if half => x.floor(),
        Rounding::PreferCeil if half => x.ceil(),
        Rounding::PreferFloor | Rounding::PreferCeil => x.round(),
        Rounding::Floor => x.floor(),
        Rounding::Ceil => x.ceil(),
        Rounding::Even => x.round_ties_even(),
    })
}

/// The elements of an axis of `n` that index `i` of `m` takes, and their weights.
pub(super) fn taps(o: &Resize, axis: &ResizeAxis, i: usize, n: usize, m: usize) -> Vec<(i64, f32)> {
    let end = num::i64_of(n) - 1;
    let x = place(axis, i, n, m);
    if let Sampling::Nearest(rounding) = o.sampling {
        return vec![(nearest(x, rounding).clamp(0, end), 1.0)];
    }
    // How much the kernel is stretched.
    let stretch = if o.antialias {
        let scale = axis
            .scale
            .map_or(num::f64_of(m) / num::f64_of(n), f64::from);
        1.0 / scale.min(1.0)
    } else {
        1.0
    };
    let radius = match o.sampling {
        Sampling::Cubic { .. } => 2.0,
        Sampling::Nearest(_) | Sampling::Linear => 1.0,
    };
    let reach = radius * stretch;
    let first = num::i64_of_f64((x - reach).floor());
    let after = num::i64_of_f64((x + reach).ceil());
    let mut found: Vec<(i64, f64)> = (first..=after)
        .map(|k| (k, kernel(o.sampling, (num::f64_of_i64(k) - x) / stretch)))
        .filter(|&(k, w)| w != 0.0 && (!o.exclude_outside || (0..=end).contains(&k)))
        .collect();
    if stretch > 1.0 || o.exclude_outside {
        let total: f64 = found.iter().map(|t| t.1).sum();
        if total != 0.0 {
            found.iter_mut().for_each(|t| t.1 /= total);
        }
    }
    found
        .into_iter()
        .map(|(k, w)| (k.clamp(0, end), num::f32_of_f64(w)))
        .collect()
}

/// The weight of an element at a distance.
fn kernel(sampling: Sampling, distance: f64) -> f64 {
    let d = distance.abs();
    match sampling {
        Sampling::Nearest(_) | Sampling::Linear => (1.0 - d).max(0.0),
        Sampling::Cubic { coefficient } => {
            let a = f64::from(coefficient);
            if d <= 1.0 {
                (a + 2.0) * d.powi(3) - (a + 3.0) * d.powi(2) + 1.0
            } else if d < 2.0 {
                a * (d.powi(3) - 5.0 * d.powi(2) + 8.0 * d - 4.0)
            } else {
                0.0
            }
        }
    }
}
