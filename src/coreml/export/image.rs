//! Resampling by a whole factor, and to sizes that are computed: operations of their own.

use super::emit::{Arg, Emitter, Var};
use crate::coreml::error::CoremlError;
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::Dim;
use crate::ir::Type;
use crate::ir::ops::{Coordinates, Resize, ResizeAxis, Rounding, Sampling};
use crate::tensor::{DType, Tensor, num};

/// Largest factor that is looked for.
const MAX_FACTOR: usize = 64;

/// The factors of the last two axes, if the operation makes both of them larger by whole ones, and in a way that programs have.
pub(in crate::coreml) fn factors(op: &Resize, x: &Type) -> Option<[usize; 2]> {
    let rank = x.rank();
    let plain = !op.antialias && !op.exclude_outside && op.extrapolation.is_none();
    if !plain || !(3..=5).contains(&rank) || !x.dtype.is_float() {
        return None;
    }
    let mut factors = [1; 2];
    for axis in &op.axes {
        let place = (axis.axis + 2).checked_sub(rank)?;
        let had = &x.shape[axis.axis];
        let factor = (1..=MAX_FACTOR).find(|&k| had.mul(&Dim::from(k)) == axis.size)?;
        let known = match (op.sampling, axis.coordinates) {
            (Sampling::Nearest(Rounding::Floor), Coordinates::Asymmetric)
            | (Sampling::Nearest(Rounding::PreferFloor), Coordinates::HalfPixel)
            | (Sampling::Linear, Coordinates::HalfPixel | Coordinates::AlignCorners) => true,
            (_, _) => false,
        };
        if !known || axis.scale.is_some() || axis.coordinates != op.axes[0].coordinates {
            return None;
        }
        factors[place] = factor;
    }
    Some(factors)
}

/// The names of the sampling and interpolation modes, if programs of this opset resize so to sizes that are computed.
pub(in crate::coreml) fn modes(op: &Resize, opset: Opset) -> Option<(&'static str, &'static str)> {
    let plain = !op.antialias && !op.exclude_outside && op.extrapolation.is_none();
    let first = op.axes.first()?;
    let alike = |a: &ResizeAxis| a.scale.is_none() && a.coordinates == first.coordinates;
    if !plain || opset < Opset::CoreML7 || !op.axes.iter().all(alike) {
        return None;
    }
    let sampling = match first.coordinates {
        Coordinates::HalfPixel => "UNALIGN_CORNERS",
        Coordinates::AlignCorners => "STRICT_ALIGN_CORNERS",
        Coordinates::Asymmetric => "DEFAULT",
        Coordinates::HalfPixelSymmetric
        | Coordinates::PytorchHalfPixel
        | Coordinates::CropAndResize { .. }
        | Coordinates::Affine { .. } => return None,
    };
    let nearest = if first.coordinates == Coordinates::HalfPixel {
        Rounding::PreferCeil
    } else {
        Rounding::PreferFloor
    };
    match op.sampling {
        Sampling::Linear => Some((sampling, "LINEAR")),
        Sampling::Nearest(rounding) if rounding == nearest => Some((sampling, "NEAREST_NEIGHBOR")),
        Sampling::Nearest(_) | Sampling::Cubic { .. } => None,
    }
}

/// To sizes that are computed; 0 leaves an axis as it is.
fn to_sizes(e: &mut Emitter<'_>, op: &Resize, x: &Var) -> Result<()> {
    let Some((sampling, interpolation)) = modes(op, e.opset) else {
        return Err(CoremlError::NotWritten { op: e.op() }.into());
    };
    let rank = x.ty.rank();
    let first = op.axes.iter().map(|a| a.axis).min().unwrap_or(rank);
    let mut sizes = vec![Dim::from(0); rank - first];
    for axis in &op.axes {
        sizes[axis.axis - first] = axis.size.clone();
    }
    let shape = e.sizes("shape", &sizes)?;
    let count = Tensor::int(DType::U32, vec![], vec![num::i64_of(sizes.len())])?;
    let count = e.tensor("resized_dims", &count)?;
    let params = [
        ("x", Arg::Var(x)),
        ("shape", Arg::Var(&shape)),
        ("resized_dims", Arg::Var(&count)),
        ("interpolation_mode", Arg::Text(interpolation)),
        ("sampling_mode", Arg::Text(sampling)),
    ];
    e.finish("resize", &params)
}

pub(super) fn resize(e: &mut Emitter<'_>, op: &Resize, x: &Var) -> Result<()> {
    let Some([height, width]) = factors(op, &x.ty) else {
        return to_sizes(e, op, x);
    };
    let mut params = vec![
        ("x", Arg::Var(x)),
        ("scale_factor_height", Arg::Int(height)),
        ("scale_factor_width", Arg::Int(width)),
    ];
    if op.sampling != Sampling::Linear {
        return e.finish("upsample_nearest_neighbor", &params);
    }
    let corners = op
        .axes
        .iter()
        .any(|a| a.coordinates == Coordinates::AlignCorners);
    params.push(("align_corners", Arg::Bool(corners)));
    if e.opset >= Opset::CoreML6 {
        params.push(("half_pixel_centers", Arg::Bool(!corners)));
    }
    e.finish("upsample_bilinear", &params)
}
