//! Views into storages: a contiguous one is a region of the checkpoint; any other is written out, in row-major order, into a private
//! temporary file that has no name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use super::Stored;
use super::error::TorchError;
use crate::error::{Result, io_error};
use crate::limits;
use crate::source::SourceTensor;
use crate::source::error::SourceError;
use crate::source::pickle::{Element, Tensor};
use crate::source::safetensors::byte_count;
use crate::tensor::{DType, FileRegion, SourceFile, num};

/// Where views are written out.
#[derive(Default)]
pub(super) struct Spool {
    out: Option<BufWriter<File>>,
    written: u64,
    expanded: u64,
}

/// A tensor whose bytes are known, or wait at an offset of the spool.
pub(super) enum Resolved {
    Here(SourceTensor),
    Spooled {
        dtype: DType,
        shape: Vec<usize>,
        offset: u64,
        len: u64,
    },
}

/// The bytes of a view.
///
/// # Errors
/// When the element type is not supported, or the view leaves its storage or repeats it beyond the limit.
pub(super) fn resolve(tensor: &Tensor, stored: &Stored, spool: &mut Spool) -> Result<Resolved> {
    let unsupported = |found: &str| SourceError::Dtype {
        found: found.to_owned(),
        format: "PyTorch",
    };
    let dtype = match tensor.element {
        Element::Known(dtype) => dtype,
        Element::Foreign { name, .. } => return Err(unsupported(name).into()),
        Element::Untyped => return Err(unsupported("untyped").into()),
    };
    let width = tensor.element.bytes();
    let (shape, len) = byte_count(dtype, &tensor.shape)?;
    let outside = || SourceError::RangeOutside {
        begin: tensor.offset.saturating_mul(width),
        end: tensor.offset.saturating_mul(width).saturating_add(len),
        available: stored.region.len,
    };
    let begin = match len {
        0 => 0,
        _ => tensor.offset.checked_mul(width).ok_or_else(outside)?,
    };
    let fits = |bytes: u64| {
        begin
            .checked_add(bytes)
            .is_some_and(|end| end <= stored.region.len)
    };
    if len == 0 || is_contiguous(&tensor.shape, &tensor.strides) {
        if !fits(len) {
            return Err(outside().into());
        }
        return Ok(Resolved::Here(SourceTensor {
            dtype,
            shape,
            region: FileRegion {
                file: Arc::clone(&stored.region.file),
                offset: stored.region.offset + begin,
                len,
            },
        }));
    }
    // The part of the storage between the first and the last element that the view looks at.
    let span = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(1u64, |n, (&d, &s)| n.checked_add((d - 1).checked_mul(s)?))
        .and_then(|n| n.checked_mul(width))
        .filter(|&n| fits(n))
        .ok_or_else(outside)?;
    if len > span {
        spool.expanded = spool.expanded.saturating_add(len);
        if spool.expanded > limits::REPEATED_BYTES.get() {
            let bytes = spool.expanded;
            return Err(TorchError::Expanded { bytes }.into());
        }
    }
    let mut bytes = vec![0; num::usize_of(span)];
    let region = &stored.region;
    region.file.read_at(region.offset + begin, &mut bytes)?;
    let offset = spool.write(&bytes, tensor, num::usize_of(width))?;
    Ok(Resolved::Spooled {
        dtype,
        shape,
        offset,
        len,
    })
}

/// Whether the elements lie one after another in row-major order. The stride of an axis of one element means nothing.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1u64;
    for (&extent, &stride) in shape.iter().zip(strides).rev() {
        if extent != 1 {
            if stride != expected {
                return false;
            }
            expected = expected.saturating_mul(extent);
        }
    }
    true
}

fn name() -> &'static Path {
    Path::new("temporary file of rearranged tensors")
}

impl Spool {
    /// Writes the view in row-major order; gives where it begins.
    fn write(&mut self, bytes: &[u8], tensor: &Tensor, width: usize) -> Result<u64> {
        let begin = self.written;
        let out = match &mut self.out {
            Some(out) => out,
            none => {
                let file = tempfile::tempfile().map_err(io_error("create", name()))?;
                none.insert(BufWriter::with_capacity(1 << 20, file))
            }
        };
        let mut index = vec![0u64; tensor.shape.len()];
        let mut at = 0u64;
        'elements: loop {
            let start = num::usize_of(at).saturating_mul(width);
            let element = bytes.get(start..start.saturating_add(width));
            let element = element.unwrap_or_default();
            out.write_all(element).map_err(io_error("write", name()))?;
            self.written += num::u64_of(element.len());
            // Count up in row-major order: the last axis moves fastest.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += tensor.strides[axis];
                if index[axis] < tensor.shape[axis] {
                    continue 'elements;
                }
                at -= tensor.strides[axis] * tensor.shape[axis];
                index[axis] = 0;
            }
            return Ok(begin);
        }
    }

    /// The tensors, once everything was written.
    pub(super) fn finish(
        self,
        tensors: BTreeMap<String, Resolved>,
    ) -> Result<BTreeMap<String, SourceTensor>> {
        let file = match self.out {
            Some(out) => {
                let file = out
                    .into_inner()
                    .map_err(|e| io_error("write", name())(e.into_error()))?;
                SourceFile::from_file(name(), file)?
            }
            None => SourceFile::in_memory(name(), Vec::new()),
        };
        let tensors = tensors.into_iter().map(|(n, resolved)| {
            let tensor = match resolved {
                Resolved::Here(tensor) => tensor,
                Resolved::Spooled {
                    dtype,
                    shape,
                    offset,
                    len,
                } => SourceTensor {
                    dtype,
                    shape,
                    region: FileRegion {
                        file: Arc::clone(&file),
                        offset,
                        len,
                    },
                },
            };
            (n, tensor)
        });
        Ok(tensors.collect())
    }
}
