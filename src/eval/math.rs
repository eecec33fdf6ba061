//! Transcendental functions in `f32`, written so that compilers can vectorise them: no branches, no calls, no tables.
//!
//! Only plain additions and multiplications are used (no fused ones), so that every machine gives the same bits.

/// 1.5 · 2²³: adding it rounds to the nearest integer, which then sits in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// eˣ.
///
/// # Numerics
/// Within 2 units in the last place; overflow gives infinity, underflow a subnormal or 0.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Outside these bounds the result is infinite or 0 anyway. Comparisons, not `min`, so that NaN stays.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    // ln 2 in two parts, the first with trailing zeros: n · LN2_HIGH is exact.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    // 2ⁿ in two factors, since n may lie outside the exponents of normal numbers.
    let n = shifted
        .to_bits()
        .wrapping_sub(ROUNDER.to_bits())
        .cast_signed();
    let half = n >> 1;
    y * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23).cast_unsigned())
}

/// 1/(1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh x, within 2 units in the last place.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let s = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * s + 2.063_909e-2;
    p = p * s - 5.373_971_5e-2;
    p = p * s + 1.333_144_2e-1;
    p = p * s - 3.333_328e-1;
    let small = p * s * a + a;
    let large = 1.0 - 2.0 / (exp(a + a) + 1.0);
    (if a < 0.625 { small } else { large }).copysign(x)
}

/// Where erf changes from one polynomial to the other.
const ERF_SPLIT: f32 = 0.927_734_4;

/// erf a for 0 ≤ a ≤ [`ERF_SPLIT`].
///
/// # Source
/// This polynomial and the next are minimax ones by N. Juffa (public domain).
#[inline(always)]
fn erf_small(a: f32) -> f32 {
    let s = a * a;
    let mut p = -5.967_617e-4;
    p = p * s + 4.991_194_2e-3;
    p = p * s - 2.676_813_5e-2;
    p = p * s + 1.128_199_25e-1;
    p = p * s - 3.761_253_3e-1;
    p = p * s + 1.283_791_7e-1;
    p * a + a
}

/// 1 − erf a for a ≥ [`ERF_SPLIT`].
#[inline(always)]
fn erfc_large(a: f32) -> f32 {
    let s = a * a;
    let mut q = -1.728_534_7e-5 * a + 3.831_971_3e-4;
    let u = -3.883_964_4e-3 * a + 2.425_462_2e-2;
    q = q * s + u;
    q = q * a - 1.067_778_8e-1;
    q = q * a - 6.348_469e-1;
    q = q * a - 1.287_175_1e-1;
    exp(q * a - a)
}

/// erf x, within 3 units in the last place.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let (small, large) = (erf_small(a), 1.0 - erfc_large(a));
    (if a > ERF_SPLIT { large } else { small }).copysign(x)
}

/// x/2 · (1 + erf(x/√2)), without the cancellation of the sum for negative x.
#[inline(always)]
pub(super) fn gelu_erf(x: f32) -> f32 {
    let z = x * std::f32::consts::FRAC_1_SQRT_2;
    let a = z.abs();
    let (small, tail) = (erf_small(a).copysign(z), erfc_large(a));
    let large = if z < 0.0 { tail } else { 2.0 - tail };
    0.5 * x * (if a > ERF_SPLIT { large } else { 1.0 + small })
}

/// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), by (1 + tanh u)/2 = sigmoid(2u).
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    x * sigmoid(1.595_769 * (x + 0.044_715 * (x * x * x)))
}

/// Sum in `f64`, in eight interleaved partial sums: accurate, vectorisable, and in one fixed order.
#[inline(always)]
pub(super) fn sum(values: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0f64; 8];
    let mut chunks = values.chunks_exact(8);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(f64::from(x));
        }
    }
    let tail: f64 = chunks.remainder().iter().map(|&x| f(f64::from(x))).sum();
    let [a, b, c, d, e, g, h, i] = lanes;
    ((a + b) + (c + d)) + ((e + g) + (h + i)) + tail
}

/// The largest element, or -∞; NaN elements are skipped.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    let tail = chunks.remainder().iter().copied();
    lanes
        .into_iter()
        .chain(tail)
        .fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::num;

    /// erf to double precision: Taylor's series near 0, Lentz's continued fraction of erfc beyond.
    fn erf64(x: f64) -> f64 {
        let a = x.abs();
        if a < 2.5 {
            let (mut term, mut total, mut n) = (a, a, 0.0);
            while term.abs() > 1e-18 * total.abs() {
                n += 1.0;
                term *= -a * a / n;
                total += term / (2.0 * n + 1.0);
            }
            (total * std::f64::consts::FRAC_2_SQRT_PI).copysign(x)
        } else {
            let mut fraction = a;
            for k in (1..200).rev() {
                fraction = a + f64::from(k) / 2.0 / fraction;
            }
            let erfc = (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt());
            (1.0 - erfc).copysign(x)
        }
    }

    /// Distance of `found` from `expected`, in units of the last place of `expected` as `f32`.
    fn ulps(found: f32, expected: f64) -> f64 {
        let e = num::f32_of_f64(expected);
        if found == e || (found.is_nan() && e.is_nan()) {
            return 0.0;
        }
        let unit = f64::from(f32::from_bits(e.abs().to_bits() + 1)) - f64::from(e.abs());
        (f64::from(found) - expected).abs() / unit
    }

    fn worst(from: f32, to: f32, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        let steps: u16 = 60_000;
        (0..=steps)
            .map(|i| from + (to - from) * f32::from(i) / f32::from(steps))
            .map(|x| ulps(f(x), exact(f64::from(x))))
            .fold(0.0, f64::max)
    }

    #[test]
    fn reference_erf_is_right() {
        // From Abramowitz and Stegun, table 7.1, and mpmath.
        for (x, y) in [
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (2.4, 0.999_311_486_103_354_9),
            (3.0, 0.999_977_909_503_001_4),
        ] {
            assert!((erf64(x) - y).abs() < 1e-15, "{x}");
        }
    }

    #[test]
    fn within_a_few_units_in_the_last_place() {
        let cases: [(&str, f64, f64); 9] = [
            ("exp", worst(-87.0, 88.7, exp, f64::exp), 2.0),
            ("exp near 0", worst(-1.0, 1.0, exp, f64::exp), 2.0),
            ("tanh", worst(-10.0, 10.0, tanh, f64::tanh), 2.0),
            ("tanh near 0", worst(-0.7, 0.7, tanh, f64::tanh), 2.0),
            ("erf", worst(-5.0, 5.0, erf, erf64), 3.0),
            ("erf near 0", worst(-1.0, 1.0, erf, erf64), 3.0),
            (
                "sigmoid",
                worst(-80.0, 30.0, sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
                3.0,
            ),
            (
                "gelu",
                worst(0.0, 8.0, gelu_erf, |x| {
                    0.5 * x * (1.0 + erf64(x / std::f64::consts::SQRT_2))
                }),
                3.0,
            ),
            (
                "negative gelu",
                worst(-2.0, 0.0, gelu_erf, |x| {
                    0.5 * x * (1.0 + erf64(x / std::f64::consts::SQRT_2))
                }),
                16.0,
            ),
        ];
        for (name, found, limit) in cases {
            assert!(found <= limit, "{name}: {found} units");
        }
    }

    #[test]
    fn limits_and_nan() {
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.73), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-100.0) > 0.0 && exp(-100.0) < f32::MIN_POSITIVE);
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(-30.0), -1.0);
        assert_eq!(erf(f32::NEG_INFINITY), -1.0);
        assert_eq!(erf(4.5), 1.0);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert!(tanh(-0.0).is_sign_negative() && erf(-0.0).is_sign_negative());
        for f in [exp, tanh, erf, sigmoid, gelu_erf, gelu_tanh] {
            assert!(f(f32::NAN).is_nan());
        }
    }

    #[test]
    fn sums_keep_what_f32_would_lose() {
        let mut values = vec![1.0f32; 1 << 16];
        values[0] = 1e9;
        assert_eq!(sum(&values, |x| x), 1e9 + 65_535.0);
        assert_eq!(max(&[1.0, f32::NAN, 3.0]), 3.0);
        assert_eq!(max(&[]), f32::NEG_INFINITY);
    }
}
