//! Convolutions as matrix products: the windows become columns. Depthwise ones are computed directly.

use rayon::prelude::*;

use super::Target;
use super::layout::{pieces, position, strides};
use super::linear::multiply;
use crate::error::Result;
use crate::ir::ops::{Conv, ConvTranspose, Window};
use crate::tensor::Tensor;

/// Where windows and elements of a convolution lie.
struct Geometry<'a> {
    window: &'a Window,
    /// Spatial size of the side that windows slide over.
    image: Vec<usize>,
    /// Number of windows per axis.
    windows: Vec<usize>,
    kernel: Vec<usize>,
}

impl Geometry<'_> {
    fn image_len(&self) -> usize {
        self.image.iter().product()
    }

    fn windows_len(&self) -> usize {
        self.windows.iter().product()
    }

    fn kernel_len(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Whether the columns are the image itself.
    fn is_pointwise(&self) -> bool {
        let w = self.window;
        self.kernel.iter().all(|&k| k == 1)
            && w.strides.iter().all(|&s| s == 1)
            && w.pads.iter().all(|&p| p == (0, 0))
    }

    /// The windows of an axis for which kernel element `k` lies inside the image, and the place of the first.
    fn inside(&self, axis: usize, k: usize) -> (usize, usize, usize) {
        let (stride, before) = (self.window.strides[axis], self.window.pads[axis].0);
        let offset = k * self.window.dilations[axis];
        let first = before.saturating_sub(offset).div_ceil(stride);
        let end = (self.image[axis] + before)
            .saturating_sub(offset)
            .div_ceil(stride)
            .min(self.windows[axis]);
        let place = (first * stride + offset).saturating_sub(before);
        (first.min(end), end, place)
    }

    /// Calls `body(window, place, count, step)` for every stretch of windows along the last axis that sees kernel element `element` inside the
    /// image: windows `window..window + count`, elements `place, place + step, …`.
    fn stretches(&self, element: usize, mut body: impl FnMut(usize, usize, usize, usize)) {
        let at = position(element, &self.kernel);
        let ranges: Vec<_> = at
            .iter()
            .enumerate()
            .map(|(a, &k)| self.inside(a, k))
            .collect();
        let Some((&(first, end, place), outer)) = ranges.split_last() else {
            return;
        };
        if first >= end || outer.iter().any(|&(f, e, _)| f >= e) {
            return;
        }
        let last = ranges.len() - 1;
        let counts: Vec<usize> = outer.iter().map(|&(f, e, _)| e - f).collect();
        let (image, windows) = (strides(&self.image), strides(&self.windows));
        if let &[(f, e, start)] = outer {
            // Images: the place of every row follows from the one before, without a list of indices for each.
            let (mut w, mut p) = (first + f * windows[0], place + start * image[0]);
            for _ in f..e {
                body(w, p, end - first, self.window.strides[last]);
                w += windows[0];
                p += self.window.strides[0] * image[0];
            }
            return;
        }
        for i in 0..counts.iter().product() {
            let at = position(i, &counts);
            let (mut w, mut p) = (first, place);
            for (axis, (&i, &(f, _, start))) in at.iter().zip(outer).enumerate() {
                w += (f + i) * windows[axis];
                p += (start + i * self.window.strides[axis]) * image[axis];
            }
            body(w, p, end - first, self.window.strides[last]);
        }
    }

    /// The row of columns for one channel and kernel element: what every window sees there.
    fn gather(&self, channel: &[f32], element: usize, row: &mut [f32]) {
        row.fill(0.0);
        self.stretches(element, |w, p, count, step| {
            if step == 1 {
                row[w..w + count].copy_from_slice(&channel[p..p + count]);
            } else {
                let from = channel[p..].iter().step_by(step);
                row[w..w + count]
                    .iter_mut()
                    .zip(from)
                    .for_each(|(o, x)| *o = *x);
            }
        });
    }

    /// The reverse: adds a row of columns to the image.
    fn scatter(&self, row: &[f32], element: usize, channel: &mut [f32]) {
        self.stretches(element, |w, p, count, step| {
            let to = channel[p..].iter_mut().step_by(step);
            to.zip(&row[w..w + count]).for_each(|(o, x)| *o += x);
        });
    }
}

/// Adds every output channel its bias.
fn biased(
    mut out: Vec<f32>,
    bias: Option<&Tensor>,
    target: Target,
    channels: usize,
    plane: usize,
) -> Result<Tensor> {
    if let (Some(bias), false) = (bias, out.is_empty()) {
        let bias = bias.floats()?;
        pieces(&mut out, plane, |i, plane| {
            let b = bias[i % channels];
            plane.iter_mut().for_each(|x| *x += b);
        });
    }
    target.float(out)
}

pub(super) fn conv(
    op: &Conv,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    target: Target,
) -> Result<Tensor> {
    let (&[batch, channels, ref image @ ..], &[out_channels, inner, ref kernel @ ..]) =
        (x.shape(), w.shape())
    else {
        return Err(target.mismatch(&[x, w]));
    };
    let geometry = Geometry {
        window: &op.window,
        image: image.to_vec(),
        windows: target.shape()[2..].to_vec(),
        kernel: kernel.to_vec(),
    };
    let groups = op.groups;
    if inner * groups != channels || out_channels % groups != 0 {
        return Err(target.mismatch(&[x, w]));
    }
    let (plane, windows, taps) = (
        geometry.image_len(),
        geometry.windows_len(),
        geometry.kernel_len(),
    );
    let mut out = vec![0.0; target.len()];
    let (v, weights) = (x.floats()?, w.floats()?);
    if out.is_empty() || v.is_empty() {
        return biased(out, bias, target, out_channels, windows);
    }
    let per_group = out_channels / groups;
    if inner == 1 {
        out.par_chunks_exact_mut(windows)
            .enumerate()
            .for_each(|(i, out)| {
                let (n, o) = (i / out_channels, i % out_channels);
                let channel = &v[(n * channels + o / per_group) * plane..][..plane];
                for (element, &weight) in weights[o * taps..(o + 1) * taps].iter().enumerate() {
                    geometry.stretches(element, |w, p, count, step| {
                        let out = &mut out[w..w + count];
                        if step == 1 {
                            let from = &channel[p..p + count];
                            out.iter_mut().zip(from).for_each(|(o, x)| *o += weight * x);
                        } else {
                            let from = channel[p..].iter().step_by(step);
                            out.iter_mut().zip(from).for_each(|(o, x)| *o += weight * x);
                        }
                    });
                }
            });
        return biased(out, bias, target, out_channels, windows);
    }
    let depth = inner * taps;
    let mut columns = Vec::new();
    for n in 0..batch {
        for g in 0..groups {
            let first = (n * channels + g * inner) * plane;
            let image = &v[first..first + inner * plane];
            let weights = &weights[g * per_group * depth..][..per_group * depth];
            let out =
                &mut out[(n * out_channels + g * per_group) * windows..][..per_group * windows];
            if geometry.is_pointwise() {
                multiply(weights, image, None, out, (per_group, depth, windows))?;
                continue;
            }
            columns.resize(depth * windows, 0.0);
            columns
                .par_chunks_exact_mut(windows)
                .enumerate()
                .for_each(|(row, out)| {
                    let channel = &image[row / taps * plane..][..plane];
                    geometry.gather(channel, row % taps, out);
                });
            multiply(weights, &columns, None, out, (per_group, depth, windows))?;
        }
    }
    biased(out, bias, target, out_channels, windows)
}

pub(super) fn conv_transpose(
    op: &ConvTranspose,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    target: Target,
) -> Result<Tensor> {
    let (&[batch, channels, ref windows @ ..], &[_, per_group, ref kernel @ ..]) =
        (x.shape(), w.shape())
    else {
        return Err(target.mismatch(&[x, w]));
    };
    let groups = op.groups;
    let out_channels = per_group * groups;
    if w.shape()[0] != channels || channels % groups != 0 {
        return Err(target.mismatch(&[x, w]));
    }
    let geometry = Geometry {
        window: &op.window,
        image: target.shape()[2..].to_vec(),
        windows: windows.to_vec(),
        kernel: kernel.to_vec(),
    };
    let (plane, count, taps) = (
        geometry.image_len(),
        geometry.windows_len(),
        geometry.kernel_len(),
    );
    let mut out = vec![0.0; target.len()];
    let (v, weights) = (x.floats()?, w.floats()?);
    if out.is_empty() || v.is_empty() {
        return biased(out, bias, target, out_channels, plane);
    }
    let inner = channels / groups;
    let rows = per_group * taps;
    for n in 0..batch {
        for g in 0..groups {
            let image = &v[(n * channels + g * inner) * count..][..inner * count];
            // [rows, inner], out of [inner, rows].
            let own = &weights[g * inner * rows..][..inner * rows];
            let turned: Vec<f32> = (0..rows * inner)
                .map(|i| own[i % inner * rows + i / inner])
                .collect();
            let mut columns = vec![0.0; rows * count];
            multiply(&turned, image, None, &mut columns, (rows, inner, count))?;
            let out = &mut out[(n * out_channels + g * per_group) * plane..][..per_group * plane];
            out.par_chunks_exact_mut(plane)
                .enumerate()
                .for_each(|(o, channel)| {
                    for element in 0..taps {
                        let row = &columns[(o * taps + element) * count..][..count];
                        geometry.scatter(row, element, channel);
                    }
                });
        }
    }
    biased(out, bias, target, out_channels, plane)
}
