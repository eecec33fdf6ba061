//! Resampling of images and other grids.

use std::ops::RangeInclusive;

use super::{float, same_dtype, shapes};
use crate::ir::dim::Dim;
use crate::ir::types::{IrError, Type};
use crate::tensor::{DType, num};

/// How a place of the result becomes a place of the operand, along one axis of `n` elements becoming `m`. `i` is the index in the result,
/// `scale` the factor, `m / n` unless the model says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coordinates {
    /// `(i + ½) / scale − ½`
    HalfPixel,
    /// As [`Coordinates::HalfPixel`], but symmetric when `m` is not `n · scale`: `n/2 · (1 − m/(n·scale)) + (i + ½)/scale − ½`.
    HalfPixelSymmetric,
    /// As [`Coordinates::HalfPixel`]; 0 when `m` is 1.
    PytorchHalfPixel,
    /// `i / scale`
    Asymmetric,
    /// `i · (n − 1) / (m − 1)`; 0 when `m` is 1.
    AlignCorners,
    /// Between `start` and `end` in units of the axis: `start·(n − 1) + i·(end − start)·(n − 1)/(m − 1)`; the middle when `m` is 1.
    CropAndResize {
        /// Where the first result lies.
        start: f32,
        /// Where the last result lies.
        end: f32,
    },
    /// `offset + i · step`, in elements.
    Affine {
        /// Where the first result lies.
        offset: f64,
        /// Distance between results.
        step: f64,
    },
}

/// What is taken at a place between elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// One element.
    Nearest(Rounding),
    /// Linear interpolation between the two nearest.
    Linear,
    /// Cubic convolution over the four nearest with this coefficient (−0.75 or −0.5).
    Cubic {
        /// The coefficient.
        coefficient: f32,
    },
}

/// Which element is the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Halves go down.
    PreferFloor,
    /// Halves go up.
    PreferCeil,
    /// The one below.
    Floor,
    /// The one above.
    Ceil,
    /// Halves go to the even one.
    Even,
}

/// One axis that is resized.
#[derive(Clone, Debug, PartialEq)]
pub struct ResizeAxis {
    /// The axis.
    pub axis: usize,
    /// Its new size.
    pub size: Dim,
    /// The factor that coordinates are computed with, if it is not new size by old.
    pub scale: Option<f32>,
    /// How places are computed.
    pub coordinates: Coordinates,
}

/// Largest denominator of a factor of sizes that vary.
const MAX_DENOMINATOR: i64 = 64;
/// Most sizes at which a fraction is compared with the factor it stands for.
const MAX_SIZES: i64 = 1 << 16;

/// ⌊`size` · `scale`⌋, the product in single precision, as engines compute it. Of a size that varies between `sizes`, the factor has to be a fraction whose
/// products round down to the same numbers.
pub(crate) fn scaled(size: &Dim, scale: f32, sizes: RangeInclusive<i64>) -> Option<Dim> {
    let product = |n: i64| num::i64_of_f64(f64::from((num::f32_of_i64(n) * scale).floor()));
    if let Some(n) = size.integer() {
        return Some(Dim::constant(product(n)));
    }
    let (above, below) = (1..=MAX_DENOMINATOR).find_map(|below| {
        let above = (f64::from(scale) * num::f64_of_i64(below)).round();
        let fraction = num::f32_of_f64(above / num::f64_of_i64(below));
        (fraction.total_cmp(&scale).is_eq() && above > 0.0).then(|| (num::i64_of_f64(above), below))
    })?;
    let (least, most) = sizes.into_inner();
    let most = most.min(least.saturating_add(MAX_SIZES));
    let same = |n: i64| product(n) == n.saturating_mul(above).div_euclid(below);
    if !(least..=most).all(same) {
        return None;
    }
    size.mul(&Dim::constant(above))
        .floor_div(&Dim::constant(below))
}

impl ResizeAxis {
    /// The factor by which an axis of size `had` becomes this one, if that is the same whatever the size is: the one that is given, by the fraction that it
    /// stands for, or a whole one.
    pub(crate) fn factor(&self, had: &Dim) -> Option<f32> {
        match self.scale {
            Some(scale) => (scaled(had, scale, 0..=0)? == self.size).then_some(scale),
            None => Some(num::f32_of_i64(self.size.quotient(had)?.integer()?)),
        }
    }
}

/// Some axes resampled to new sizes, each on its own.
///
/// # Numerics
/// Places are computed in `f64`, weights and sums in `f32`. Places outside the axis take the element at its border, but with
/// `exclude_outside` their weight is 0 and the others are scaled up, and with `extrapolation` a place outside gives that value.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// The axes, ascending.
    pub axes: Vec<ResizeAxis>,
    /// What is taken between elements.
    pub sampling: Sampling,
    /// Weights of elements outside are 0.
    pub exclude_outside: bool,
    /// The kernel is stretched when an axis shrinks.
    pub antialias: bool,
    /// What a place outside the tensor gives, if not the border's element.
    pub extrapolation: Option<f32>,
}

impl Resize {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        if !matches!(self.sampling, Sampling::Nearest(_)) && x.dtype == DType::Bool {
            return Err(super::operand_type(op, 0, "a number", x));
        }
        let mut shape = x.shape.clone();
        if self.axes.is_empty() || self.axes.windows(2).any(|w| w[0].axis >= w[1].axis) {
            return Err(shapes(
                op,
                "axes must be ascending and at least one",
                operands,
            ));
        }
        for resized in &self.axes {
            super::axis(resized.axis, shape.len())?;
            shape[resized.axis] = resized.size.clone();
        }
        Ok(Type::new(x.dtype, shape))
    }
}

/// What lies outside a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outside {
    /// This value.
    Constant(f32),
    /// The element at the border.
    Border,
    /// The tensor mirrored at its border.
    Reflection,
}

/// Samples `x` at the places of `grid`, which run from −1 to 1 over each spatial axis, last axis first.
///
/// # Shapes
/// `x [N, C, s…]` with two or three spatial axes, `grid [N, t…, number of spatial axes]` → `[N, C, t…]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridSample {
    /// What is taken between elements.
    pub sampling: Sampling,
    /// What lies outside.
    pub outside: Outside,
    /// Whether −1 and 1 are the centres of the outermost elements, not their outer edges.
    pub align_corners: bool,
}

impl GridSample {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        same_dtype(op, operands)?;
        float(op, 0, operands[0])?;
        let (x, grid) = (operands[0], operands[1]);
        let spatial = x.rank().saturating_sub(2);
        let fits = (1..=3).contains(&spatial)
            && grid.rank() == x.rank()
            && grid.shape[0].may_equal(&x.shape[0])
            && grid.shape[x.rank() - 1].known() == Some(spatial);
        if !fits {
            return Err(shapes(
                op,
                "the grid must be [N, places…, spatial axes of x]",
                operands,
            ));
        }
        let mut shape = x.shape[..2].to_vec();
        shape.extend_from_slice(&grid.shape[1..x.rank() - 1]);
        Ok(Type::new(x.dtype, shape))
    }
}
