//! Convolutions and pooling: windows that slide over the spatial axes of `[N, C, …]`.

use super::{float, same_dtype, shapes};
use crate::ir::dim::Dim;
use crate::ir::types::{IrError, Type};
use crate::tensor::num;

/// How a window slides, per spatial axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Steps between windows, at least 1.
    pub strides: Vec<usize>,
    /// Distances between the elements of a window, at least 1.
    pub dilations: Vec<usize>,
    /// Padding before and after.
    pub pads: Vec<(usize, usize)>,
}

impl Window {
    /// A window that moves by 1 over `axes` axes without padding.
    #[must_use]
    pub fn unit(axes: usize) -> Self {
        Window {
            strides: vec![1; axes],
            dilations: vec![1; axes],
            pads: vec![(0, 0); axes],
        }
    }

    fn check(&self, op: &'static str, axes: usize, operands: &[&Type]) -> Result<(), IrError> {
        let lengths = [self.strides.len(), self.dilations.len(), self.pads.len()];
        if axes == 0 || lengths != [axes; 3] {
            return Err(shapes(
                op,
                "strides, dilations and pads must have one entry per spatial axis",
                operands,
            ));
        }
        if self.strides.contains(&0) || self.dilations.contains(&0) {
            return Err(shapes(
                op,
                "strides and dilations must be at least 1",
                operands,
            ));
        }
        Ok(())
    }

    /// Elements that a window of `kernel` elements spans along an axis.
    fn span(&self, axis: usize, kernel: usize) -> usize {
        self.dilations[axis]
            .saturating_mul(kernel.saturating_sub(1))
            .saturating_add(1)
    }

    /// The number of windows along an axis.
    fn windows(&self, axis: usize, size: &Dim, kernel: usize, ceil: bool) -> Option<Dim> {
        let (before, after) = self.pads[axis];
        let stride = Dim::from(self.strides[axis]);
        let room = size
            .add(&Dim::from(before.saturating_add(after)))
            .sub(&Dim::from(self.span(axis, kernel)));
        let one = Dim::from(1);
        if !ceil {
            return Some(room.floor_div(&stride)?.add(&one));
        }
        // A window that would begin in the padding after the tensor is left out.
        let rounded = room.add(&stride).sub(&one).floor_div(&stride)?.add(&one);
        let inside = size
            .add(&Dim::from(before))
            .sub(&one)
            .floor_div(&stride)?
            .add(&one);
        Some(rounded.smaller(&inside))
    }
}

/// A spatial size that came out as a number below 0 means a window larger than the padded tensor.
fn sized(op: &'static str, size: Option<Dim>, operands: &[&Type]) -> Result<Dim, IrError> {
    match size {
        Some(d) if d.integer().is_none_or(|n| n >= 0) => Ok(d),
        Some(_) | None => Err(shapes(
            op,
            "the window is larger than the padded tensor",
            operands,
        )),
    }
}

/// Convolution (cross-correlation); operands `x`, `w` and optionally `b`. Accumulates in `f32`, one rounding at the end.
///
/// # Shapes
/// `x [N, C, s…]`, `w [O, C/groups, k…]`, `b [O]` → `[N, O, ⌊(s + pads − dilation·(k − 1) − 1)/stride⌋ + 1, …]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// How the window slides.
    pub window: Window,
    /// Number of groups.
    pub groups: usize,
}

impl Conv {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (x, kernel) = convolution(op, &self.window, operands)?;
        let (out, inner) = (&operands[1].shape[0], &operands[1].shape[1]);
        let channels = inner.mul(&Dim::from(self.groups));
        if !x.shape[1].may_equal(&channels) || self.groups == 0 {
            return Err(shapes(
                op,
                "the weight's channels times groups differ from the input's",
                operands,
            ));
        }
        bias(op, out, operands)?;
        let mut shape = vec![x.shape[0].clone(), out.clone()];
        for (axis, &k) in kernel.iter().enumerate() {
            let size = self.window.windows(axis, &x.shape[axis + 2], k, false);
            shape.push(sized(op, size, operands)?);
        }
        Ok(Type::new(x.dtype, shape))
    }
}

/// Transposed convolution: the gradient of [`Conv`] with respect to its input; operands `x`, `w` and optionally `b`.
///
/// # Shapes
/// `x [N, C, s…]`, `w [C, O/groups, k…]`, `b [O]` → `[N, O, (s − 1)·stride − pads + dilation·(k − 1) + 1 + output_pad, …]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// How the window slides over the result.
    pub window: Window,
    /// Number of groups.
    pub groups: usize,
    /// Extra size at the end, per spatial axis.
    pub output_pads: Vec<usize>,
}

impl ConvTranspose {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let (x, kernel) = convolution(op, &self.window, operands)?;
        let (channels, inner) = (&operands[1].shape[0], &operands[1].shape[1]);
        if !x.shape[1].may_equal(channels)
            || self.groups == 0
            || self.output_pads.len() != kernel.len()
        {
            return Err(shapes(
                op,
                "the weight's channels differ from the input's",
                operands,
            ));
        }
        let out = inner.mul(&Dim::from(self.groups));
        bias(op, &out, operands)?;
        let mut shape = vec![x.shape[0].clone(), out];
        for (axis, &k) in kernel.iter().enumerate() {
            let (before, after) = self.window.pads[axis];
            let size = x.shape[axis + 2]
                .sub(&Dim::from(1))
                .mul(&Dim::from(self.window.strides[axis]))
                .sub(&Dim::from(before.saturating_add(after)))
                .add(&Dim::from(self.window.span(axis, k)))
                .add(&Dim::from(self.output_pads[axis]));
            shape.push(sized(op, Some(size), operands)?);
        }
        Ok(Type::new(x.dtype, shape))
    }
}

/// What both convolutions ask of their operands; gives the input and the kernel's size.
fn convolution<'a>(
    op: &'static str,
    window: &Window,
    operands: &[&'a Type],
) -> Result<(&'a Type, Vec<usize>), IrError> {
    same_dtype(op, operands)?;
    float(op, 0, operands[0])?;
    let (x, w) = (operands[0], operands[1]);
    if x.rank() < 3 || w.rank() != x.rank() {
        return Err(shapes(
            op,
            "input and weight must have the same rank, 3 or more",
            operands,
        ));
    }
    window.check(op, x.rank() - 2, operands)?;
    let kernel: Option<Vec<usize>> = w.shape[2..].iter().map(Dim::known).collect();
    match kernel {
        Some(kernel) if !kernel.contains(&0) => Ok((x, kernel)),
        Some(_) | None => Err(shapes(op, "the kernel's size must be known", operands)),
    }
}

fn bias(op: &'static str, out: &Dim, operands: &[&Type]) -> Result<(), IrError> {
    match operands.get(2) {
        Some(b) if b.rank() != 1 || !b.shape[0].may_equal(out) => Err(shapes(
            op,
            "the bias must have one element per output channel",
            operands,
        )),
        Some(_) | None => Ok(()),
    }
}

/// What is taken of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest element; padding does not count. NaN if any is NaN.
    Max,
    /// The mean; floats only. Accumulates in `f32`.
    Average {
        /// Whether padding counts as zeros.
        count_padding: bool,
    },
}

/// Pooling over the spatial axes.
///
/// # Shapes
/// `x [N, C, s…]` → `[N, C, windows…]`; see [`Conv`] for their number, which `ceil` rounds up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What is taken.
    pub kind: PoolKind,
    /// Size of the window, per spatial axis.
    pub kernel: Vec<usize>,
    /// How the window slides.
    pub window: Window,
    /// Whether a last window that is partly outside counts, as long as it begins inside the tensor or the padding before it.
    pub ceil: bool,
}

impl Pool {
    pub(crate) fn infer(&self, op: &'static str, operands: &[&Type]) -> Result<Type, IrError> {
        let x = operands[0];
        match self.kind {
            PoolKind::Max => {
                if x.dtype == crate::tensor::DType::Bool {
                    return Err(super::operand_type(op, 0, "a number", x));
                }
            }
            PoolKind::Average { .. } => float(op, 0, x)?,
        }
        let axes = x.rank().saturating_sub(2);
        self.window.check(op, axes, operands)?;
        if self.kernel.len() != axes || self.kernel.contains(&0) {
            return Err(shapes(
                op,
                "the kernel must have one size per spatial axis, at least 1",
                operands,
            ));
        }
        let mut shape = x.shape[..2].to_vec();
        for (axis, &k) in self.kernel.iter().enumerate() {
            let size = self.window.windows(axis, &x.shape[axis + 2], k, self.ceil);
            shape.push(sized(op, size, operands)?);
        }
        Ok(Type::new(x.dtype, shape))
    }

    /// The number of elements of a window.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.kernel
            .iter()
            .fold(1, |n, &k| n.saturating_mul(num::u64_of(k)))
    }
}
