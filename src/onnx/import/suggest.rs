//! Sizes to propose for what a model leaves open: usual ones, tried until the model can be read with them.

use super::interface::{OpenSize, ReadOptions};
use crate::ir::SymbolRange;

/// Heights and widths of images: for detectors, for classifiers, of lines of text.
const IMAGES: [(u64, u64); 6] = [
    (320, 320),
    (224, 224),
    (48, 320),
    (640, 640),
    (32, 128),
    (64, 64),
];
/// Lengths of sequences and signals.
const LENGTHS: [u64; 6] = [128, 512, 576, 2048, 16_000, 16];

/// What an open size is most likely to be, at one attempt.
fn guess(open: &OpenSize, attempt: usize) -> u64 {
    let size = match (open.axis, open.rank) {
        (0, _) => 1,
        (1, 4) => 3,
        (2, 4) => IMAGES[attempt % IMAGES.len()].0,
        (_, 4) => IMAGES[attempt % IMAGES.len()].1,
        _ => LENGTHS[attempt % LENGTHS.len()],
    };
    size.min(open.most.unwrap_or(size))
}

/// The first sizes with which `reads` succeeds, in the order of `open`.
pub(super) fn sizes(
    open: &[OpenSize],
    options: &ReadOptions,
    reads: impl Fn(&ReadOptions) -> bool,
) -> Option<Vec<u64>> {
    let attempts = IMAGES.len().max(LENGTHS.len());
    for attempt in 0..attempts {
        let sizes: Vec<u64> = open.iter().map(|o| guess(o, attempt)).collect();
        let mut options = options.clone();
        for (open, &size) in open.iter().zip(&sizes) {
            let range = SymbolRange::OneOf(vec![size]);
            options.dims.insert(open.symbol.clone(), range);
        }
        if reads(&options) {
            return Some(sizes);
        }
    }
    None
}
