//! Constants ↔ what a file holds at their places: whether a weight that was written is, bit by bit, the one that was meant.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;

use super::Placed;
use super::stream::Scratch;
use super::write::in_pieces;
use crate::error::Result;
use crate::tensor::{SourceFile, num};

/// How much of an artifact is what converting its source once more would write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Bytes of the constants that were compared.
    pub bytes: u64,
    /// How many constants those are.
    pub constants: usize,
    /// Everything that differs, by name.
    pub differences: Vec<String>,
}

/// Where a constant differs.
#[derive(Clone, Copy)]
struct Found {
    elements: u64,
    first: u64,
}

impl Agreement {
    /// Compares constants with the bytes that `file` holds at their places. Holds a chunk per thread, and a matrix where one has to be transposed.
    ///
    /// # Errors
    /// When a constant or the file cannot be read.
    pub fn add(&mut self, file: &SourceFile, constants: &[Placed]) -> Result<()> {
        let found: Mutex<BTreeMap<String, Found>> = Mutex::default();
        in_pieces(constants, &|job: &Placed, scratch: &mut Scratch| {
            if let Some(new) = differing(job, file, scratch)? {
                let mut found = found
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let old = found.entry(job.constant.name().to_owned());
                let sum = old.or_insert(Found {
                    elements: 0,
                    first: u64::MAX,
                });
                sum.elements += new.elements;
                sum.first = sum.first.min(new.first);
            }
            Ok(())
        })?;
        self.constants += constants.len();
        let bytes = constants.iter().map(|p| p.constant.byte_len());
        self.bytes += bytes.sum::<u64>();
        let found = found
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for (name, Found { elements, first }) in found {
            let what = if elements == 1 {
                "element differs"
            } else {
                "elements differ"
            };
            self.differences.push(format!(
                "`{name}`: {elements} {what}, the first at byte {first} of {}",
                file_name(file)
            ));
        }
        Ok(())
    }

    /// Compares bytes that are no constants. `what` names them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn add_bytes(
        &mut self,
        file: &SourceFile,
        offset: u64,
        expected: &[u8],
        what: &str,
    ) -> Result<()> {
        if let Some(at) = first_difference(file, offset, expected)? {
            self.differences
                .push(format!("{what} at byte {at} of {}", file_name(file)));
        }
        Ok(())
    }
}

fn file_name(file: &SourceFile) -> String {
    let name = file.path().file_name().unwrap_or_default();
    format!("`{}`", name.to_string_lossy())
}

/// How many elements differ, and the offset of the first byte that does. What the file is too short for differs.
fn differing(job: &Placed, file: &SourceFile, scratch: &mut Scratch) -> Result<Option<Found>> {
    let width = num::u64_of(job.constant.dtype().width().max(1));
    let (mut at, mut elements, mut first) = (0, 0, u64::MAX);
    let (mut there, mut last) = (Vec::new(), None);
    job.constant
        .stream_to(job.offset, scratch, &mut |expected| {
            let n = num::u64_of(expected.len());
            if job.offset + at + n > file.len() {
                // A piece may begin within an element that was counted with the one before.
                let (from, to) = (at / width, (at + n).div_ceil(width));
                elements += to - from - u64::from(last == Some(from));
                (last, first) = (Some(to - 1), first.min(job.offset + at));
                at += n;
                return Ok(());
            }
            there.resize(expected.len(), 0);
            file.read_at(job.offset + at, &mut there)?;
            if there != expected {
                let pairs = (0..n).zip(there.iter().zip(expected));
                for (i, _) in pairs.filter(|(_, (a, b))| a != b) {
                    let element = (at + i) / width;
                    elements += u64::from(last != Some(element));
                    last = Some(element);
                    first = first.min(job.offset + at + i);
                }
            }
            at += n;
            Ok(())
        })?;
    Ok((elements > 0).then_some(Found { elements, first }))
}

/// Where the file first holds something else than `expected`.
fn first_difference(file: &SourceFile, offset: u64, expected: &[u8]) -> Result<Option<u64>> {
    let n = num::u64_of(expected.len());
    let held = file.len().saturating_sub(offset).min(n);
    let mut there = vec![0; num::usize_of(held)];
    file.read_at(offset, &mut there)?;
    let differs = there.iter().zip(expected).position(|(a, b)| a != b);
    Ok(match differs {
        Some(i) => Some(offset + num::u64_of(i)),
        None => (held < n).then_some(offset + held),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Constant;
    use crate::tensor::{DType, Tensor};
    use std::path::Path;

    #[test]
    fn every_bit_counts_and_what_is_missing_differs() {
        let values = (0..64u16).map(f32::from).collect();
        let tensor = Tensor::float(DType::F16, vec![8, 8], values).unwrap();
        let constant = Constant::from_tensor("w", &tensor).unwrap();
        let constant = constant.transpose().unwrap();
        let mut bytes = vec![7; 10];
        constant
            .stream(&mut |b| {
                bytes.extend_from_slice(b);
                Ok(())
            })
            .unwrap();
        let placed = [Placed {
            constant,
            offset: 10,
        }];
        let found = |bytes: Vec<u8>| {
            let mut agreement = Agreement::default();
            let file = SourceFile::in_memory(Path::new("a/weight.bin"), bytes);
            agreement.add(&file, &placed).unwrap();
            agreement
        };
        let good = found(bytes.clone());
        assert_eq!(
            (good.constants, good.bytes, good.differences.len()),
            (1, 128, 0)
        );
        for bit in 0..128 * 8 {
            let mut flipped = bytes.clone();
            flipped[10 + bit / 8] ^= 1 << (bit % 8);
            let at = 10 + bit / 8;
            assert_eq!(
                found(flipped).differences,
                [format!(
                    "`w`: 1 element differs, the first at byte {at} of `weight.bin`"
                )]
            );
        }
        let short = found(bytes[..40].to_vec());
        assert_eq!(short.differences.len(), 1);
        let file = SourceFile::in_memory(Path::new("m"), vec![1, 2, 3]);
        let mut agreement = Agreement::default();
        agreement.add_bytes(&file, 1, &[2, 3], "x").unwrap();
        assert!(agreement.differences.is_empty());
        agreement.add_bytes(&file, 1, &[2, 4], "x").unwrap();
        agreement.add_bytes(&file, 2, &[3, 4], "y").unwrap();
        assert_eq!(
            agreement.differences,
            ["x at byte 2 of `m`", "y at byte 3 of `m`"]
        );
    }

    #[test]
    fn an_element_across_two_pieces_counts_once() {
        let tensor = Tensor::float(DType::F16, vec![400_000], vec![1.0; 400_000]).unwrap();
        let constant = Constant::from_tensor("w", &tensor).unwrap();
        let placed = [Placed {
            constant,
            offset: 9,
        }];
        for file in [vec![], vec![0xff; 800_009]] {
            let mut agreement = Agreement::default();
            let file = SourceFile::in_memory(Path::new("a/weight.bin"), file);
            agreement.add(&file, &placed).unwrap();
            assert_eq!(
                agreement.differences,
                ["`w`: 400000 elements differ, the first at byte 9 of `weight.bin`"]
            );
        }
    }
}
