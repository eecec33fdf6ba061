//! Floating-point elements of a file's types ↔ `f32`, and from type to type, block by block: rounded to nearest even, never in between.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::{DType, f8, num, vectorised};

/// Elements that are converted at once: what lies between the two forms stays in the first-level cache.
const BLOCK_ELEMENTS: usize = 2048;

/// Elements of which all have to be normal numbers to be converted by shifting bits.
const SHIFTED_ELEMENTS: usize = 64;

/// Writes the elements of little-endian `bytes`, of the floating-point type `from`, to `out` as those of another, `to`; what was in `out` is gone.
/// A trailing partial element is ignored.
pub fn convert_floats(from: DType, to: DType, bytes: &[u8], out: &mut Vec<u8>) {
    if (from, to) == (DType::BF16, DType::F16) {
        return bf16_to_f16(bytes, out);
    }
    out.clear();
    if (from, to) == (DType::BF16, DType::F32) {
        let (elements, _) = bytes.as_chunks::<2>();
        out.resize(2 * bytes.len(), 0);
        let wide = out.as_chunks_mut::<4>().0;
        vectorised(
            #[inline(always)]
            || {
                for (wide, &[low, high]) in wide.iter_mut().zip(elements) {
                    *wide = [0, 0, low, high];
                }
            },
        );
        return out.truncate(4 * elements.len());
    }
    let width = num::usize_of(u64::from(from.bits() / 8));
    let mut floats = Vec::new();
    for block in bytes.chunks(BLOCK_ELEMENTS * width) {
        floats.clear();
        decode_floats(from, block, &mut floats);
        encode_floats(to, &floats, out);
    }
}

/// bf16 → f16. The two differ in the bias of the exponent and in three bits of the mantissa, which f16 has and bf16 has not: where both are
/// normal, or 0, nothing is rounded.
fn bf16_to_f16(bytes: &[u8], out: &mut Vec<u8>) {
    const BYTES: usize = 2 * SHIFTED_ELEMENTS;
    out.resize(bytes.len() / 2 * 2, 0);
    let (blocks, rest) = bytes.as_chunks::<BYTES>();
    let (out_blocks, out_rest) = out.as_chunks_mut::<BYTES>();
    let mut floats = Vec::new();
    let mut rounded = Vec::new();
    let mut round = |bytes: &[u8], out: &mut [u8]| {
        floats.clear();
        rounded.clear();
        decode_floats(DType::BF16, bytes, &mut floats);
        encode_floats(DType::F16, &floats, &mut rounded);
        out.copy_from_slice(&rounded);
    };
    vectorised(
        #[inline(always)]
        || {
            for (block, out) in blocks.iter().zip(out_blocks) {
                if !shifted(block, out) {
                    round(block, out);
                }
            }
        },
    );
    round(rest, out_rest);
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
    if dtype == DType::F16 {
        out.resize(start + values.len() * 2, 0);
        let mut block = [f16::ZERO; 1024];
        for (chunk, bytes) in values
            .chunks(block.len())
            .zip(out[start..].chunks_mut(2 * block.len()))
        {
            let block = &mut block[..chunk.len()];
            block.convert_from_f32_slice(chunk);
            for (b, x) in bytes.chunks_exact_mut(2).zip(block) {
                b.copy_from_slice(&x.to_le_bytes());
            }
        }
    } else if dtype == DType::BF16 {
        out.resize(start + values.len() * 2, 0);
        for (o, &x) in out[start..].chunks_exact_mut(2).zip(values) {
            o.copy_from_slice(&bf16::from_f32(x).to_le_bytes());
        }
    } else if dtype == DType::F64 {
        out.resize(start + values.len() * 8, 0);
        for (o, &x) in out[start..].chunks_exact_mut(8).zip(values) {
            o.copy_from_slice(&f64::from(x).to_le_bytes());
        }
    } else if let Some(format) = f8::Format::of(dtype) {
        out.extend(values.iter().map(|&x| format.encode(x)));
    } else {
        out.resize(start + values.len() * 4, 0);
        for (o, &x) in out[start..].chunks_exact_mut(4).zip(values) {
            o.copy_from_slice(&x.to_le_bytes());
        }
    }
}

/// Appends the elements of little-endian `bytes` of `dtype` (a floating-point type) to `out`; a trailing partial element is ignored.
pub fn decode_floats(dtype: DType, bytes: &[u8], out: &mut Vec<f32>) {
    if dtype == DType::F16 {
        let mut halves = [f16::ZERO; 1024];
        for chunk in bytes.chunks(2 * halves.len()) {
            let n = chunk.len() / 2;
            for (h, b) in halves.iter_mut().zip(chunk.chunks_exact(2)) {
                *h = f16::from_le_bytes([b[0], b[1]]);
            }
            let start = out.len();
            out.resize(start + n, 0.0);
            halves[..n].convert_to_f32_slice(&mut out[start..]);
        }
    } else if dtype == DType::BF16 {
        out.extend(
            bytes
                .chunks_exact(2)
                .map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16)),
        );
    } else if dtype == DType::F64 {
        out.extend(bytes.chunks_exact(8).map(|b| {
            num::f32_of_f64(f64::from_le_bytes([
                b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7],
            ]))
        }));
    } else if let Some(format) = f8::Format::of(dtype) {
        out.extend(bytes.iter().map(|&b| format.decode(b)));
    } else {
        out.extend(
            bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        );
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
        all.chain(among)
            .chain([0x80, 0x3f, 0x01, 0x00, 0xff])
            .collect()
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
                let mut found = vec![7; 3];
                convert_floats(from, to, &bytes, &mut found);
                assert!(found == expected, "{from} to {to}");
            }
        }
    }
}
