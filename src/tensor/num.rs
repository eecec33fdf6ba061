//! Number conversions with a stated rule: the one place where `as` is used.
#![allow(clippy::as_conversions)]

/// `usize` → `u64`: lossless on every supported platform.
#[must_use]
pub const fn u64_of(n: usize) -> u64 {
    n as u64
}

/// `u64` → `usize`, saturating: a length that does not fit fails its bounds check instead of wrapping.
#[must_use]
pub fn usize_of(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// `usize` → `i64`, saturating.
#[must_use]
pub fn i64_of(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// `usize` → `f32`, rounded to nearest even.
#[must_use]
pub const fn f32_of(n: usize) -> f32 {
    n as f32
}

/// `usize` → `f64`, rounded to nearest even (exact below 2^53).
#[must_use]
pub const fn f64_of(n: usize) -> f64 {
    n as f64
}

/// `u64` → `f64`, rounded to nearest even (exact below 2^53).
#[must_use]
pub const fn f64_of_u64(n: u64) -> f64 {
    n as f64
}

/// `i64` → `f32`, rounded to nearest even.
#[must_use]
pub const fn f32_of_i64(n: i64) -> f32 {
    n as f32
}

/// `u64` → `f32`, rounded to nearest even.
#[must_use]
pub const fn f32_of_u64(n: u64) -> f32 {
    n as f32
}

/// `i64` → `f64`, rounded to nearest even.
#[must_use]
pub const fn f64_of_i64(n: i64) -> f64 {
    n as f64
}

/// `f64` → `f32`, rounded to nearest even; overflow gives infinity.
#[must_use]
pub const fn f32_of_f64(x: f64) -> f32 {
    x as f32
}

/// `f32` → `i64`, truncated towards zero, saturating, NaN → 0.
#[must_use]
pub const fn i64_of_f32(x: f32) -> i64 {
    x as i64
}

/// `f64` → `i64`, truncated towards zero, saturating, NaN → 0.
#[must_use]
pub const fn i64_of_f64(x: f64) -> i64 {
    x as i64
}

/// `f64` → `u64`, truncated towards zero, saturating, NaN → 0.
#[must_use]
pub const fn u64_of_f64(x: f64) -> u64 {
    x as u64
}

/// The value of `x` wrapped to `bits` bits, two's complement or unsigned.
#[must_use]
pub const fn wrap(x: i64, bits: u32, signed: bool) -> i64 {
    if bits >= 64 {
        return x;
    }
    let shift = 64 - bits;
    if signed {
        (x << shift) >> shift
    } else {
        (((x as u64) << shift) >> shift) as i64
    }
}

/// The low `n` bytes of `x`, little endian, appended to `out`.
pub fn push_le(out: &mut Vec<u8>, x: i64, n: usize) {
    out.extend_from_slice(&x.to_le_bytes()[..n]);
}

/// `x` rounded to the nearest binary16, ties to even, as `f32`; overflow gives infinity.
#[must_use]
pub fn round_f16(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

/// `x` rounded to the nearest bfloat16, ties to even, as `f32`.
#[must_use]
pub fn round_bf16(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}
