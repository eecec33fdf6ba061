//! Values of inputs: seeded draws from a domain, and the checks and casts of given ones. Runs nothing.

use serde::Serialize;

use super::error::VerifyError;
use crate::error::Result;
use crate::ir::{Dim, Domain, display_shape};
use crate::runtime::NamedTensors;
use crate::tensor::{DType, Storage, Tensor, num};

/// The seed of every probe: the same models are asked the same questions on every machine.
const SEED: u64 = 0x6469_7374_696c_6c21;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(stream: u64) -> Self {
        let mut rng = Rng(SEED ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 when that is 0). Its bias is below 2⁻³² for every bound a model has.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    fn uniform(&mut self) -> f64 {
        num::f64_of_u64(self.next() >> 11) / num::f64_of_u64(1 << 53)
    }

    /// Nearly normal, mean 0, variance 1: a sum of four uniform numbers, which needs no function that differs between machines.
    fn normal(&mut self) -> f32 {
        let sum = self.uniform() + self.uniform() + self.uniform() + self.uniform();
        num::f32_of_f64((sum - 2.0) * 3f64.sqrt())
    }
}

/// Where a probe comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Seeded.
    Seeded,
    /// The reference file.
    ReferenceFile,
    /// The user's inputs.
    InputsFile,
}

/// One set of inputs.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) inputs: NamedTensors,
    /// Outputs that a reference file states.
    pub(super) expected: Option<NamedTensors>,
    /// Length before padding, if it was padded to a longer one.
    pub(super) padded_from: Option<usize>,
    /// What stands in for it if the source does not take its sizes; `None` if the source has to.
    pub(super) instead: Option<&'static str>,
    /// What was filled in.
    pub(super) notes: Vec<String>,
}

/// A tensor of random elements of a domain. The first and last index are the ends of the range.
pub(super) fn draw(
    rng: &mut Rng,
    dtype: DType,
    shape: Vec<usize>,
    domain: &Domain,
    padded: bool,
) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let ints = |values: Vec<i64>, shape: Vec<usize>| -> Result<Tensor> {
        Ok(Tensor::i64(shape, values)?.cast(dtype))
    };
    match domain {
        Domain::Index { below } => {
            let mut values: Vec<i64> = (0..count)
                .map(|_| i64::try_from(rng.below(*below)).unwrap_or(0))
                .collect();
            if let [first, .., last] = values.as_mut_slice() {
                *first = 0;
                *last = i64::try_from(below.saturating_sub(1)).unwrap_or(0);
            }
            ints(values, shape)
        }
        Domain::Mask => {
            let width = shape.last().copied().unwrap_or(1).max(1);
            let mut values = Vec::with_capacity(count);
            for _ in 0..count / width {
                // At least one counts, and at least one is padding where there is room.
                let real = if padded && width > 1 {
                    1 + num::usize_of(rng.below(num::u64_of(width - 1)))
                } else {
                    width
                };
                values.extend((0..width).map(|i| i64::from(i < real)));
            }
            ints(values, shape)
        }
        Domain::Pixel if is_image(&shape) => {
            let whole = |x: f32| (127.5 + 115.0 * x).round().clamp(0.0, 255.0);
            let values = strokes(rng, &shape).into_iter().map(whole).collect();
            Ok(Tensor::f32(shape, values)?.cast(dtype))
        }
        Domain::Pixel => {
            let values = (0..count).map(|_| i64::try_from(rng.below(256)).unwrap_or(0));
            ints(values.collect(), shape)
        }
        Domain::Any if dtype.is_float() && is_image(&shape) => {
            Ok(Tensor::f32(shape.clone(), strokes(rng, &shape))?.cast(dtype))
        }
        Domain::Any if dtype.is_float() => {
            let values = (0..count).map(|_| rng.normal()).collect();
            Ok(Tensor::f32(shape, values)?.cast(dtype))
        }
        // A number on its own is a count or a factor more often than not: 0 would show nothing.
        Domain::Any if count == 1 => ints(vec![1], shape),
        // Integers without a bound: 0 and 1 are in the range of whatever they index.
        Domain::Any => ints(
            (0..count)
                .map(|_| i64::try_from(rng.below(2)).unwrap_or(0))
                .collect(),
            shape,
        ),
    }
}

/// How often a seeded probe that the source refuses is drawn again.
pub(super) const REDRAWS: u64 = 3;

/// Values like those of `tensor` in type and shape that a model is less likely to refuse: floats between 0 and 1; integers that are all 0 in the
/// first attempt, all 1 in the second, then either.
pub(super) fn tame(rng: &mut Rng, tensor: &Tensor, attempt: u64) -> Result<Tensor> {
    let (dtype, shape, count) = (tensor.dtype(), tensor.shape().to_vec(), tensor.len());
    if dtype.is_float() {
        let values = (0..count).map(|_| num::f32_of_f64(rng.uniform())).collect();
        return Ok(Tensor::f32(shape, values)?.cast(dtype));
    }
    let values = (0..count).map(|_| match attempt {
        0 => 0,
        1 => 1,
        _ => i64::try_from(rng.below(2)).unwrap_or(0),
    });
    Ok(Tensor::i64(shape, values.collect())?.cast(dtype))
}

/// The smallest height and width of an image.
const IMAGE: usize = 16;

/// Whether a tensor of this shape looks like images: rows, grey or coloured, height, width.
fn is_image(shape: &[usize]) -> bool {
    matches!(shape, [_, 1 | 3 | 4, height, width] if *height >= IMAGE && *width >= IMAGE)
}

/// Images of dark strokes in lines on a bright ground, a little like text, with some noise. On noise alone, networks for images find nothing
/// and answer with rounding errors: what is compared then are the last digits of a number near 0.
fn strokes(rng: &mut Rng, shape: &[usize]) -> Vec<f32> {
    let [images, channels, height, width] = *shape else {
        return Vec::new();
    };
    let mut values = Vec::with_capacity(images * channels * height * width);
    for _ in 0..images {
        let mut pick = |from: u64, to: u64| num::usize_of(from + rng.below(to - from));
        let (line, stroke) = (pick(24, 48), pick(3, 7));
        let (top, phase) = (pick(0, 16), pick(0, 3));
        for at in 0..channels * height * width {
            let (row, column) = (at / width % height, at % width);
            let dark = (row + top) % line >= line / 3 && (column / stroke + phase) % 3 == 1;
            let ground = if dark { -1.0 } else { 1.0 };
            values.push(ground + 0.05 * rng.normal());
        }
    }
    values
}

/// A given input as the declared element type: integers and truth values are converted exactly or refused, floats are rounded.
pub(super) fn cast_input(name: &str, tensor: &Tensor, to: DType) -> Result<Tensor, VerifyError> {
    let refuse = || VerifyError::InputType {
        input: name.to_owned(),
        expected: to.to_string(),
        found: tensor.dtype().to_string(),
    };
    match tensor.storage() {
        Storage::Float(_) if to.is_float() => Ok(tensor.cast(to)),
        Storage::Float(_) => Err(refuse()),
        Storage::Int(values) if to.is_int() => {
            let cast = tensor.cast(to);
            let same = cast.ints().is_ok_and(|c| c == values);
            match values
                .iter()
                .zip(cast.to_f64())
                .find(|(v, c)| num::f64_of_i64(**v) != *c)
            {
                Some((&value, _)) if !same => Err(VerifyError::InputValue {
                    input: name.to_owned(),
                    value,
                    expected: to.to_string(),
                }),
                Some(_) | None => Ok(cast),
            }
        }
        Storage::Int(values) if to == DType::Bool => {
            match values.iter().find(|v| !(0..=1).contains(*v)) {
                Some(&value) => Err(VerifyError::InputValue {
                    input: name.to_owned(),
                    value,
                    expected: to.to_string(),
                }),
                None => Ok(tensor.cast(to)),
            }
        }
        // A mask of a model that takes floats.
        Storage::Int(_) | Storage::Bool(_) => Ok(tensor.cast(to)),
    }
}

/// Refuses values outside a domain.
pub(super) fn check_domain(
    name: &str,
    tensor: &Tensor,
    domain: &Domain,
) -> Result<(), VerifyError> {
    match domain {
        // A network that takes pixels computes on numbers between them as well.
        Domain::Any | Domain::Pixel => Ok(()),
        Domain::Index { below } => {
            let Ok(values) = tensor.ints() else {
                return Ok(());
            };
            let bad = values
                .iter()
                .position(|&v| u64::try_from(v).map_or(true, |v| v >= *below));
            match bad {
                Some(at) => Err(VerifyError::IdOutOfRange {
                    input: name.to_owned(),
                    value: values[at],
                    position: super::metrics::unravel(at, tensor.shape()),
                    below: *below,
                }),
                None => Ok(()),
            }
        }
        Domain::Mask => {
            let width = tensor.shape().last().copied().unwrap_or(1).max(1);
            for (row, values) in tensor.to_f64().chunks(width).enumerate() {
                let problem = if values.iter().any(|&v| v != 0.0 && v != 1.0) {
                    "holds something else than 0 and 1"
                } else if values.iter().all(|&v| v == 0.0) {
                    "has no 1"
                } else {
                    continue;
                };
                return Err(VerifyError::BadMask {
                    input: name.to_owned(),
                    row,
                    problem,
                });
            }
            Ok(())
        }
    }
}

/// `tensor` with zeros appended along axis 1 up to `shape`.
pub(super) fn pad(
    name: &str,
    tensor: &Tensor,
    shape: &[usize],
    declared: &[Dim],
) -> Result<Tensor> {
    if tensor.shape() == shape {
        return Ok(tensor.clone());
    }
    let refuse = || VerifyError::InputShape {
        input: name.to_owned(),
        expected: display_shape(declared),
        found: tensor.shape().to_vec(),
        note: "",
    };
    let ([rows, from], [to_rows, to]) = (tensor.shape(), shape) else {
        return Err(refuse().into());
    };
    if rows != to_rows || from > to {
        return Err(refuse().into());
    }
    let wide = tensor.cast(DType::I64);
    let mut values = Vec::with_capacity(rows * to);
    for row in wide.ints()?.chunks(*from.max(&1)) {
        values.extend_from_slice(row);
        values.resize(values.len() + (to - from), 0);
    }
    Ok(Tensor::i64(shape.to_vec(), values)?.cast(tensor.dtype()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_integers_are_checked() {
        let big = Tensor::i64(vec![1], vec![1 << 40]).unwrap();
        assert!(cast_input("x", &big, DType::I32).is_err());
        assert!(cast_input("x", &big, DType::I64).is_ok());
        assert!(cast_input("x", &Tensor::i64(vec![1], vec![2]).unwrap(), DType::Bool).is_err());
    }
}
