//! Floating-point elements of a file's types ↔ `f32`, and from type to type, block by block: rounded to nearest even, never in between.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::{DType, f8, num, vectorised};

/// Elements that are converted at once by way of `f32`.
const BLOCK_ELEMENTS: usize = 128;

/// Elements of which all have to be normal numbers to be converted by shifting bits.
const SHIFTED_ELEMENTS: usize = 64;

/// Writes the elements of little-endian `bytes`, of the type `from`, to `out` as those of `to`: two floating-point types, or the same one.
///
/// # Panics
/// When `out` has not room for just as many elements.
pub fn convert_floats(from: DType, to: DType, bytes: &[u8], out: &mut [u8]) {
    vectorised(
        #[inline(always)]
        || convert(from, to, bytes, out),
    );
}

/// [`convert_floats`] for loops that are [`vectorised`] as a whole.
#[inline(always)]
pub(super) fn convert(from: DType, to: DType, bytes: &[u8], out: &mut [u8]) {
    if from == to {
        out.copy_from_slice(bytes);
    } else if (from, to) == (DType::BF16, DType::F16) {
        bf16_to_f16(bytes, out);
    } else if (from, to) == (DType::BF16, DType::F32) {
        let (wide, elements) = (out.as_chunks_mut::<4>().0, bytes.as_chunks::<2>().0);
        assert_eq!(wide.len(), elements.len());
        for (wide, &[low, high]) in wide.iter_mut().zip(elements) {
            *wide = [0, 0, low, high];
        }
    } else {
        by_way_of_f32(from, to, bytes, out);
    }
}

#[inline(never)]
fn by_way_of_f32(from: DType, to: DType, bytes: &[u8], out: &mut [u8]) {
    assert_eq!(bytes.len() / from.width(), out.len() / to.width());
    let mut floats = [0.0; BLOCK_ELEMENTS];
    for (block, out) in bytes
        .chunks(BLOCK_ELEMENTS * from.width())
        .zip(out.chunks_mut(BLOCK_ELEMENTS * to.width()))
    {
        let floats = &mut floats[..block.len() / from.width()];
        decode_block(from, block, floats);
        encode_block(to, floats, out);
    }
}

/// bf16 → f16. The two differ in the bias of the exponent and in three bits of the mantissa, which f16 has and bf16 has not: where both are
/// normal, or 0, nothing is rounded.
#[inline(always)]
fn bf16_to_f16(bytes: &[u8], out: &mut [u8]) {
    const BYTES: usize = 2 * SHIFTED_ELEMENTS;
    assert_eq!(bytes.len(), out.len());
    let (blocks, rest) = bytes.as_chunks::<BYTES>();
    let (out_blocks, out_rest) = out.as_chunks_mut::<BYTES>();
    for (block, out) in blocks.iter().zip(out_blocks) {
        if !shifted(block, out) {
            by_way_of_f32(DType::BF16, DType::F16, block, out);
        }
    }
    if !rest.is_empty() {
        by_way_of_f32(DType::BF16, DType::F16, rest, out_rest);
    }
}

/// Shifts the bits of bf16 elements to where f16 has them, and tells whether that was right for all of them.
#[inline(always)]
fn shifted<const BYTES: usize>(block: &[u8; BYTES], out: &mut [u8; BYTES]) -> bool {
    // 2⁻¹⁴, the smallest normal number of f16, and 2¹⁶, the first beyond its largest, as bf16.
    const SMALLEST: u16 = 0x3880;
    const BEYOND: u16 = 0x4780;
    // What the biases differ by, 127 − 15, before the mantissa of bf16.
    const REBIAS: u16 = 112 << 7;
    // Whole arrays, so that it vectorises.
    let mut elements = [0u16; SHIFTED_ELEMENTS];
    for (x, &le) in elements.iter_mut().zip(block.as_chunks::<2>().0) {
        *x = u16::from_le_bytes(le);
    }
    let mut other = [0u16; SHIFTED_ELEMENTS];
    for (x, other) in elements.iter_mut().zip(&mut other) {
        let (sign, magnitude) = (*x & 0x8000, *x & 0x7fff);
        let is_normal = magnitude.wrapping_sub(SMALLEST) < BEYOND - SMALLEST;
        *other = u16::from(!is_normal & (magnitude != 0));
        let moved = magnitude.wrapping_sub(REBIAS) << 3;
        *x = sign | if magnitude == 0 { 0 } else { moved };
    }
    for (x, le) in elements.iter().zip(out.as_chunks_mut::<2>().0) {
        *le = x.to_le_bytes();
    }
    other.iter().all(|&other| other == 0)
}

/// Appends `values` to `out` as little-endian `dtype` (a floating-point type), rounded to nearest even. Uses the CPU's conversion instructions.
pub fn encode_floats(dtype: DType, values: &[f32], out: &mut Vec<u8>) {
    let start = out.len();
    let width = dtype.width();
    out.resize(start + values.len() * width, 0);
    encode_block(dtype, values, &mut out[start..]);
}

fn encode_block(dtype: DType, values: &[f32], out: &mut [u8]) {
    if dtype == DType::F16 {
        let mut block = [f16::ZERO; BLOCK_ELEMENTS];
        for (chunk, bytes) in values
            .chunks(block.len())
            .zip(out.chunks_mut(2 * block.len()))
        {
            let block = &mut block[..chunk.len()];
            block.convert_from_f32_slice(chunk);
            for (b, x) in bytes.chunks_exact_mut(2).zip(block) {
                b.copy_from_slice(&x.to_le_bytes());
            }
        }
    } else if dtype == DType::BF16 {
        for (o, &x) in out.chunks_exact_mut(2).zip(values) {
            o.copy_from_slice(&bf16::from_f32(x).to_le_bytes());
        }
    } else if dtype == DType::F64 {
        for (o, &x) in out.chunks_exact_mut(8).zip(values) {
            o.copy_from_slice(&f64::from(x).to_le_bytes());
        }
    } else if let Some(format) = f8::Format::of(dtype) {
        for (o, &x) in out.iter_mut().zip(values) {
            *o = format.encode(x);
        }
    } else {
        for (o, &x) in out.chunks_exact_mut(4).zip(values) {
            o.copy_from_slice(&x.to_le_bytes());
        }
    }
}

/// Appends the elements of little-endian `bytes` of `dtype` (a floating-point type) to `out`; a trailing partial element is ignored.
pub fn decode_floats(dtype: DType, bytes: &[u8], out: &mut Vec<f32>) {
    let start = out.len();
    let width = dtype.width();
    out.resize(start + bytes.len() / width, 0.0);
    decode_block(dtype, bytes, &mut out[start..]);
}

fn decode_block(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    if dtype == DType::F16 {
        let mut halves = [f16::ZERO; BLOCK_ELEMENTS];
        for (chunk, out) in bytes
            .chunks(2 * halves.len())
            .zip(out.chunks_mut(halves.len()))
        {
            let halves = &mut halves[..out.len()];
            for (h, b) in halves.iter_mut().zip(chunk.chunks_exact(2)) {
                *h = f16::from_le_bytes([b[0], b[1]]);
            }
            halves.convert_to_f32_slice(out);
        }
    } else if dtype == DType::BF16 {
        for (x, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            *x = f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
        }
    } else if dtype == DType::F64 {
        for (x, b) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *x = num::f32_of_f64(f64::from_le_bytes(*b));
        }
    } else if let Some(format) = f8::Format::of(dtype) {
        for (x, &b) in out.iter_mut().zip(bytes) {
            *x = format.decode(b);
        }
    } else {
        for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *x = f32::from_le_bytes(*b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All elements of two bytes, once in their order and once so that each stands among normal ones.
    fn all_halves() -> Vec<u8> {
        let all = (0..=u16::MAX).flat_map(u16::to_le_bytes);
        let among = (0..=u16::MAX).flat_map(|x| {
            let mut block = [0x3f80u16; SHIFTED_ELEMENTS];
            block[usize::from(x) % SHIFTED_ELEMENTS] = x;
            block.map(u16::to_le_bytes).into_iter().flatten()
        });
        all.chain(among).chain([0x80, 0x3f, 0x01, 0x00]).collect()
    }

    #[test]
    fn every_element_is_converted_as_through_f32() {
        let bytes = all_halves();
        for to in [DType::F16, DType::F32, DType::BF16, DType::F64] {
            for from in [DType::BF16, DType::F16] {
                let mut floats = Vec::new();
                decode_floats(from, &bytes, &mut floats);
                let mut expected = Vec::new();
                encode_floats(to, &floats, &mut expected);
                if from == to {
                    expected.clone_from(&bytes);
                }
                let mut found = vec![7; expected.len()];
                convert_floats(from, to, &bytes, &mut found);
                assert!(found == expected, "{from} to {to}");
            }
        }
    }
}
