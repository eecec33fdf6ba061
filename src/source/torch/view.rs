//! Views into storages: a contiguous one is a region of the checkpoint; any other is read through its strides, in row-major order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stored;
use crate::error::Result;
use crate::source::SourceTensor;
use crate::source::error::SourceError;
use crate::source::pickle::{Element, Tensor};
use crate::source::safetensors::byte_count;
use crate::tensor::{FileRegion, SourceFile, Tiles};

/// What a view with strides looks at: file offset, bytes of an element, shape, strides.
type Place = (u64, u64, Vec<u64>, Vec<u64>);

/// The views of a checkpoint that are not contiguous. Those that are the same are one.
#[derive(Default)]
pub(super) struct Views {
    known: BTreeMap<Place, Arc<SourceFile>>,
    tiles: Arc<Tiles>,
}

/// The bytes of a view.
///
/// # Errors
/// When the element type is not supported, or the view leaves its storage.
pub(super) fn resolve(tensor: &Tensor, stored: &Stored, views: &mut Views) -> Result<SourceTensor> {
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
    let available = stored.region.len;
    let outside = || SourceError::RangeOutside {
        begin: tensor.offset.saturating_mul(width),
        end: tensor.offset.saturating_mul(width).saturating_add(len),
        available,
    };
    let begin = match len {
        0 => 0,
        _ => tensor.offset.checked_mul(width).ok_or_else(outside)?,
    };
    let left = available.checked_sub(begin).ok_or_else(outside)?;
    let mut region = FileRegion {
        file: Arc::clone(&stored.region.file),
        offset: stored.region.offset + begin,
        len: left,
    };
    if len == 0 || is_contiguous(&tensor.shape, &tensor.strides) {
        if len > left {
            return Err(outside().into());
        }
        region.len = len;
    } else {
        let place = (
            region.offset,
            width,
            tensor.shape.clone(),
            tensor.strides.clone(),
        );
        let known = views.known.get(&place).cloned();
        let file = match known {
            Some(file) => file,
            None => {
                let (shape, strides) = (&tensor.shape, &tensor.strides);
                let file = SourceFile::strided(region, width, shape, strides, &views.tiles);
                let file = file.ok_or_else(outside)?;
                views.known.insert(place, Arc::clone(&file));
                file
            }
        };
        region = FileRegion {
            file,
            offset: 0,
            len,
        };
    }
    Ok(SourceTensor {
        dtype,
        shape,
        region,
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
