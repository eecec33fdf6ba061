//! The two 8-bit floating-point formats of the Open Compute Project, as PyTorch and safetensors use them.
//!
//! # Numerics
//! Every code is exact in `f32`. The other way rounds to nearest, ties to even; what is too large becomes infinity in `e5m2` and NaN in
//! `e4m3fn`, which has no infinity.
//!
//! # Source
//! OCP 8-bit Floating Point Specification 1.0, table 1.

use super::DType;

/// One of the formats.
#[derive(Clone, Copy)]
pub(super) struct Format {
    mantissa_bits: u32,
    bias: i32,
    /// Whether codes with all exponent bits set are infinity and NaN, as in IEEE formats; else only the one with all bits set is NaN.
    ieee: bool,
}

const E4M3: Format = Format {
    mantissa_bits: 3,
    bias: 7,
    ieee: false,
};
const E5M2: Format = Format {
    mantissa_bits: 2,
    bias: 15,
    ieee: true,
};

impl Format {
    /// The format of an element type, if it is an 8-bit one.
    pub(super) fn of(dtype: DType) -> Option<Self> {
        if dtype == DType::F8E4M3 {
            Some(E4M3)
        } else if dtype == DType::F8E5M2 {
            Some(E5M2)
        } else {
            None
        }
    }

    /// The largest code, without sign, that stands for a finite number.
    fn largest(self) -> u8 {
        if self.ieee { 0x7b } else { 0x7e }
    }

    /// The value of a code.
    pub(super) fn decode(self, code: u8) -> f32 {
        let magnitude = code & 0x7f;
        let value = if magnitude <= self.largest() {
            let exponent = i32::from(magnitude >> self.mantissa_bits);
            let mantissa = magnitude & ((1 << self.mantissa_bits) - 1);
            let unit = 1u8 << self.mantissa_bits;
            let (significand, exponent) = match exponent {
                0 => (mantissa, 1),
                _ => (unit + mantissa, exponent),
            };
            f32::from(significand) / f32::from(unit) * 2f32.powi(exponent - self.bias)
        } else if self.ieee && magnitude == 0x7c {
            f32::INFINITY
        } else {
            f32::NAN
        };
        if code & 0x80 == 0 { value } else { -value }
    }

    /// The code nearest to a value.
    pub(super) fn encode(self, x: f32) -> u8 {
        let sign = if x.is_sign_negative() { 0x80 } else { 0 };
        let magnitude = x.abs();
        let (nan, above) = (0x7f, self.largest() + 1);
        if magnitude.is_nan() {
            return sign | nan;
        }
        // Codes without sign are in the order of their values: find the last one that is not above.
        let (mut low, mut high) = (0u8, self.largest());
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.decode(middle) <= magnitude {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let below = self.decode(low);
        let (next, overflow) = if low == self.largest() {
            // As if the next binade went on.
            (2.0 * below - self.decode(low - 1), above)
        } else {
            (self.decode(low + 1), low + 1)
        };
        let (down, up) = (magnitude - below, next - magnitude);
        let code = if down < up || (down == up && low & 1 == 0) {
            low
        } else {
            overflow
        };
        sign | code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_and_neighbours_round_to_even() {
        for format in [E4M3, E5M2] {
            for code in 0..=255u8 {
                let x = format.decode(code);
                if x.is_nan() {
                    assert_eq!(format.encode(x) & 0x7f, 0x7f, "{code:#x}");
                } else {
                    assert_eq!(format.encode(x), code, "{code:#x} is {x}");
                }
            }
            for code in 0..format.largest() {
                let (a, b) = (format.decode(code), format.decode(code + 1));
                let even = if code & 1 == 0 { code } else { code + 1 };
                assert_eq!(format.encode((a + b) / 2.0), even);
                assert!(a < b);
            }
        }
    }

    #[test]
    fn the_extremes_are_those_of_the_specification() {
        assert_eq!(E4M3.decode(0x7e), 448.0);
        assert_eq!(E4M3.decode(0x01), 2f32.powi(-9));
        assert_eq!(E5M2.decode(0x7b), 57344.0);
        assert_eq!(E5M2.decode(0x01), 2f32.powi(-16));
        assert_eq!((E4M3.encode(464.0), E4M3.encode(465.0)), (0x7e, 0x7f));
        assert_eq!((E5M2.encode(61439.0), E5M2.encode(61440.0)), (0x7b, 0x7c));
        assert_eq!(
            (E4M3.encode(f32::INFINITY), E5M2.encode(-1e9)),
            (0x7f, 0xfc)
        );
    }
}
