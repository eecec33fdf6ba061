//! Resampling by a whole factor, which is an operation of its own.

use super::emit::{Arg, Emitter, Var};
use crate::coreml::error::CoremlError;
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::Dim;
use crate::ir::Type;
use crate::ir::ops::{Coordinates, Resize, Rounding, Sampling};

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

pub(super) fn resize(e: &mut Emitter<'_>, op: &Resize, x: &Var) -> Result<()> {
    let Some([height, width]) = factors(op, &x.ty) else {
        return Err(CoremlError::NotWritten { op: e.op() }.into());
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
