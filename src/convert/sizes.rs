//! The sizes of an artifact's inputs, which its source is then built for.

use std::path::Path;

use super::check::read_package;
use super::error::ConvertError;
use super::request::{ArtifactKind, Shapes};
use crate::arch::Extent;
use crate::error::Result;
use crate::ir::{Dim, Symbol, SymbolRange};
use crate::onnx;
use crate::tensor::num;

/// Gives the inputs of an ONNX source the sizes that the artifact's inputs have, in order; those that are already given stay.
pub(super) fn adopt_sizes(
    source: &Path,
    artifact: &Path,
    kind: ArtifactKind,
    options: &mut onnx::ReadOptions,
) -> Result<()> {
    let module = match kind {
        ArtifactKind::Coreml => read_package(artifact, None)?,
        ArtifactKind::Onnx => onnx::read(artifact, &onnx::ReadOptions::default())?.module,
        ArtifactKind::Checkpoint => return Err(ConvertError::UnknownKind.into()),
    };
    let function = module.main()?;
    let inputs = onnx::inspect(source)?.inputs;
    let inputs = inputs
        .iter()
        .filter(|i| !options.constants.contains_key(&i.name))
        .cloned()
        .collect::<Vec<_>>();
    for (input, param) in inputs.iter().zip(&function.params) {
        let found = &function.ty(param.value).shape;
        let Some(shape) = input.shape.as_ref().filter(|s| s.len() == found.len()) else {
            continue;
        };
        for (i, (axis, dim)) in shape.iter().zip(found).enumerate() {
            let onnx::Axis::Symbol(symbol) = axis else {
                continue;
            };
            let name = if symbol == "?" {
                format!("{}.{i}", input.name)
            } else {
                symbol.clone()
            };
            let range = match (dim.known(), dim.as_symbol().and_then(|s| module.symbol(s))) {
                (Some(n), _) => SymbolRange::OneOf(vec![num::u64_of(n)]),
                (None, Some(symbol)) => symbol.range.clone(),
                (None, None) => continue,
            };
            options.dims.entry(name).or_insert(range);
        }
    }
    Ok(())
}

/// Batch and sequence extents of an artifact, from its first input of rank 2 or more.
pub(super) fn artifact_shapes(artifact: &Path, kind: ArtifactKind) -> Result<Shapes> {
    match kind {
        ArtifactKind::Checkpoint => Err(ConvertError::UnknownKind.into()),
        ArtifactKind::Coreml => {
            let module = read_package(artifact, None)?;
            let function = module.main()?;
            let first = function
                .params
                .iter()
                .map(|p| function.ty(p.value))
                .find(|ty| ty.rank() >= 2);
            let first = first.ok_or(ConvertError::UnknownKind)?;
            let extent =
                |dim: &Dim| match (dim.known(), dim.as_symbol().and_then(|s| module.symbol(s))) {
                    (Some(n), _) => Extent::Fixed(n),
                    (None, Some(symbol)) => extent_of(symbol),
                    (None, None) => Extent::Dynamic { min: 1, max: None },
                };
            Ok(Shapes {
                batch: extent(&first.shape[0]),
                seq: extent(&first.shape[1]),
            })
        }
        ArtifactKind::Onnx => {
            let summary = onnx::inspect(artifact)?;
            let shapes = summary
                .inputs
                .iter()
                .filter_map(|input| input.shape.as_ref());
            let [batch, seq, ..] = shapes
                .into_iter()
                .find(|s| s.len() >= 2)
                .map_or(&[][..], Vec::as_slice)
            else {
                return Err(ConvertError::UnknownKind.into());
            };
            let extent = |axis: &onnx::Axis| match axis {
                onnx::Axis::Known(n) => Extent::Fixed(usize::try_from(*n).unwrap_or_default()),
                onnx::Axis::Symbol(_) => Extent::Dynamic { min: 1, max: None },
            };
            Ok(Shapes {
                batch: extent(batch),
                seq: extent(seq),
            })
        }
    }
}

fn extent_of(symbol: &Symbol) -> Extent {
    match &symbol.range {
        SymbolRange::OneOf(sizes) => {
            Extent::OneOf(sizes.iter().map(|&n| num::usize_of(n)).collect())
        }
        SymbolRange::Between { min, max } => Extent::Dynamic {
            min: num::usize_of(*min),
            max: Some(num::usize_of(*max)),
        },
    }
}
