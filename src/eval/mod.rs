//! The meaning of every operation, by family, and the [`Interpreter`] that runs a module by it.
//!
//! Owns the numerics that other engines are compared with. Knows no file format and no runtime.

mod attention;
mod boxes;
mod conv;
mod elementwise;
mod error;
mod fold;
mod gemm;
mod grid;
mod index;
mod input;
mod interpreter;
mod layout;
mod linear;
mod math;
mod norm;
mod pad;
mod pool;
mod quant;
mod recurrent;
mod reduce;
mod resize;
mod scatter;
mod scratch;
mod shape;
mod sizes;
mod sort;
mod taps;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use half::slice::HalfFloatSliceExt;

use crate::error::Result;
use crate::ir::{Bindings, Family, Function, IrError, Op, Type, ValueId, concrete};
use crate::limits;
use crate::tensor::{DType, Storage, Tensor, num};
use gemm::Packed;

pub use error::EvalError;
pub use fold::fold_op;
pub use input::check_indices;
pub use interpreter::Interpreter;

/// How results of type `f16` and `bf16` are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is rounded to 16 bits: shows the fidelity of a conversion. A cast to `f16` keeps its operand.
    F32,
    /// Every operation computes in `f32` and rounds its result to the declared type once: what a device does, nearly.
    F16,
}

impl Mode {
    /// `f32` or `f16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::F32 => "f32",
            Mode::F16 => "f16",
        }
    }
}

/// Sees every node's result as it is computed.
pub trait Observer {
    /// Called once per node, in order. Values are freed after their last use: keep a clone (it is cheap) to keep the tensor.
    fn observe(&mut self, function: &Function, value: ValueId, tensor: &Tensor);
}

/// Computes one operation on its own, as constant folding does; results are rounded to their declared types.
///
/// # Errors
/// When the operands do not fit the operation, a symbol of `results` has no value in `bindings`, or an index is out of range; for control flow, whose
/// bodies only the [`Interpreter`] has.
pub fn eval_op(
    op: &Op,
    operands: &[&Tensor],
    results: &[&Type],
    bindings: &Bindings,
) -> Result<Vec<Tensor>> {
    let operands: Vec<Tensor> = operands.iter().map(|&t| t.clone()).collect();
    let mut bindings = bindings.clone();
    sizes::bind(op, &operands, &mut bindings)?;
    let targets = targets(op, results.iter().copied(), &bindings)?;
    check(op, &operands, &targets, &bindings)?;
    apply(op, operands, targets, &bindings, Mode::F16, None)
}

/// Type inference once more, with the sizes that the operands turned out to have.
fn check(op: &Op, operands: &[Tensor], targets: &[Target], bindings: &Bindings) -> Result<()> {
    let types: Vec<Type> = operands
        .iter()
        .map(|t| Type::known(t.dtype(), t.shape()))
        .collect();
    let known = op.substitute(bindings).ok_or_else(|| IrError::Unbound {
        dim: op.name().to_owned(),
    })?;
    let inferred = known.infer_all(&types.iter().collect::<Vec<_>>())?;
    for (inferred, target) in inferred.iter().zip(targets) {
        if *inferred != Type::known(target.dtype, &target.shape) {
            return Err(IrError::Declared {
                declared: target.describe(),
                inferred: inferred.to_string(),
            }
            .into());
        }
    }
    Ok(())
}

/// What an operation has to produce, result by result.
fn targets<'a>(
    op: &Op,
    results: impl IntoIterator<Item = &'a Type>,
    bindings: &Bindings,
) -> Result<Vec<Target>> {
    let target = |ty: &Type| Target::new(op, ty.dtype, concrete(&ty.shape, bindings)?);
    results.into_iter().map(target).collect()
}

/// What an operation has to produce.
struct Target {
    op: &'static str,
    dtype: DType,
    shape: Vec<usize>,
    len: usize,
}

impl Target {
    fn new(op: &Op, dtype: DType, shape: Vec<usize>) -> Result<Self> {
        let elements = shape
            .iter()
            .try_fold(1u64, |n, &d| n.checked_mul(num::u64_of(d)))
            .unwrap_or(u64::MAX);
        if elements > limits::VALUE_ELEMENTS.get() {
            return Err(EvalError::TooLarge {
                elements,
                limit: limits::VALUE_ELEMENTS.get(),
            }
            .into());
        }
        Ok(Target {
            op: op.name(),
            dtype,
            shape,
            len: num::usize_of(elements),
        })
    }

    fn op(&self) -> &'static str {
        self.op
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn len(&self) -> usize {
        self.len
    }

    fn describe(&self) -> String {
        Type::known(self.dtype, &self.shape).to_string()
    }

    fn float(self, values: Vec<f32>) -> Result<Tensor> {
        Ok(Tensor::float(self.dtype, self.shape, values)?)
    }

    /// Integers are wrapped to the declared width.
    fn int(self, values: Vec<i64>) -> Result<Tensor> {
        Ok(Tensor::int(self.dtype, self.shape, values)?)
    }

    fn bool(self, values: Vec<bool>) -> Result<Tensor> {
        Ok(Tensor::bool(self.shape, values)?)
    }

    fn storage(self, storage: Storage) -> Result<Tensor> {
        Ok(Tensor::from_storage(self.dtype, self.shape, storage)?)
    }

    /// Refuses operands that do not broadcast to the result: sizes that only a run tells are not compared before.
    fn broadcasts(&self, operands: &[&Tensor]) -> Result<()> {
        let fits = |t: &&Tensor| {
            let own = t.shape();
            own.len() <= self.shape.len()
                && own
                    .iter()
                    .rev()
                    .zip(self.shape.iter().rev())
                    .all(|(&n, &m)| n == m || n == 1)
        };
        if operands.iter().all(fits) {
            Ok(())
        } else {
            Err(self.mismatch(operands))
        }
    }

    /// Operands that type inference would have refused.
    fn mismatch(&self, operands: &[&Tensor]) -> crate::error::Error {
        let found: Vec<String> = operands
            .iter()
            .map(|t| Type::known(t.dtype(), t.shape()).to_string())
            .collect();
        IrError::Shapes {
            op: self.op,
            reason: "operands do not fit the result",
            shapes: format!("{} to {}{:?}", found.join(", "), self.dtype, self.shape),
        }
        .into()
    }
}

/// The elements of a float tensor, copied only when somebody else holds them.
fn floats_of(x: Tensor) -> Result<Vec<f32>> {
    let values = Arc::clone(x.floats()?);
    drop(x);
    Ok(Arc::try_unwrap(values).unwrap_or_else(|shared| shared.to_vec()))
}

/// Computes one operation. Operands that nobody else holds may be overwritten. `packed` is the right-hand side of a product, packed ahead.
fn apply(
    op: &Op,
    operands: Vec<Tensor>,
    targets: Vec<Target>,
    bindings: &Bindings,
    mode: Mode,
    packed: Option<&Packed>,
) -> Result<Vec<Tensor>> {
    let declared: Vec<(DType, Vec<usize>)> =
        targets.iter().map(|t| (t.dtype, t.shape.clone())).collect();
    let results = compute(op, operands, targets, bindings, mode, packed)?;
    let fits = |(tensor, (dtype, shape)): (&Tensor, &(DType, Vec<usize>))| {
        tensor.dtype() == *dtype && tensor.shape() == shape.as_slice()
    };
    if results.len() != declared.len() || !results.iter().zip(&declared).all(fits) {
        let list = |types: Vec<String>| types.join(", ");
        return Err(EvalError::Result {
            declared: list(
                declared
                    .iter()
                    .map(|(d, s)| Type::known(*d, s).to_string())
                    .collect(),
            ),
            found: list(
                results
                    .iter()
                    .map(|t| Type::known(t.dtype(), t.shape()).to_string())
                    .collect(),
            ),
        }
        .into());
    }
    match op.info().family {
        // What is only moved was rounded when it was made; a recurrent layer rounds every step itself.
        Family::Shape | Family::Recurrent | Family::Control => Ok(results),
        Family::Index
        | Family::Elementwise
        | Family::Reduce
        | Family::Linear
        | Family::Attention
        | Family::Norm
        | Family::Conv
        | Family::Image
        | Family::Quant => {
            let rounded: Result<Vec<Tensor>, _> =
                results.into_iter().map(|t| round(t, mode)).collect();
            Ok(rounded?)
        }
    }
}

fn compute(
    op: &Op,
    mut operands: Vec<Tensor>,
    mut targets: Vec<Target>,
    bindings: &Bindings,
    mode: Mode,
    packed: Option<&Packed>,
) -> Result<Vec<Tensor>> {
    if let Op::Recurrent(o) = op {
        return recurrent::recurrent(o, &operands, targets, mode);
    }
    if let Op::TopK(o) = op {
        return sort::top_k(o, &operands[0], targets);
    }
    let Some(target) = targets.pop().filter(|_| targets.is_empty()) else {
        return Err(EvalError::Bodies { op: op.name() }.into());
    };
    Ok(vec![dispatch(op, &mut operands, target, bindings, packed)?])
}

fn dispatch(
    op: &Op,
    operands: &mut Vec<Tensor>,
    target: Target,
    bindings: &Bindings,
    packed: Option<&Packed>,
) -> Result<Tensor> {
    let arity = op.info().arity;
    if !(arity.min..=arity.max).contains(&operands.len()) {
        return Err(target.mismatch(&operands.iter().collect::<Vec<_>>()));
    }
    // The arity is checked, so every operand taken below is there.
    let x = |operands: &mut Vec<Tensor>| operands.remove(0);
    match op {
        Op::Unary(o) => elementwise::unary(*o, x(operands), target),
        Op::Binary(o) => {
            let (a, b) = (x(operands), x(operands));
            elementwise::binary(*o, a, b, target)
        }
        Op::Compare(o) => elementwise::compare(*o, &operands[0], &operands[1], target),
        Op::Select(o) => elementwise::select(*o, &operands[0], &operands[1], &operands[2], target),
        Op::Cast(o) => elementwise::cast(*o, x(operands), target),
        Op::Clip(o) => elementwise::clip(*o, x(operands), target),
        Op::Reduce(o) => reduce::reduce(o, &operands[0], target),
        Op::Softmax(o) => reduce::softmax(*o, x(operands), target),
        Op::CumSum(o) => reduce::cumsum(*o, &operands[0], target),
        Op::MatMul(o) => linear::matmul(*o, &operands[0], &operands[1], packed, target),
        Op::Linear(o) => linear::linear(
            *o,
            &operands[0],
            &operands[1],
            operands.get(2),
            packed,
            target,
        ),
        Op::Attention(o) => attention::attention(*o, operands, target),
        Op::LayerNorm(o) => {
            let x = x(operands);
            norm::layer_norm(*o, x, operands.first(), operands.get(1), target)
        }
        Op::RmsNorm(o) => {
            let x = x(operands);
            norm::rms_norm(*o, x, operands.first(), target)
        }
        Op::Reshape(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => shape::reshape(x(operands), target),
        Op::Transpose(o) => shape::transpose(o, &operands[0], target),
        Op::Expand(_) => shape::expand(x(operands), target),
        Op::Slice(o) => shape::slice(o, &operands[0], bindings, target),
        Op::Concat(o) => shape::concat(*o, operands, target),
        Op::Iota(_) => shape::iota(target),
        Op::Gather(o) => index::gather(*o, &operands[0], &operands[1], target),
        Op::GatherElements(o) => index::gather_elements(*o, &operands[0], &operands[1], target),
        Op::Classify(o) => elementwise::classify(*o, &operands[0], target),
        Op::Activation(o) => elementwise::activation(*o, x(operands), target),
        Op::ArgReduce(o) => sort::arg_reduce(*o, &operands[0], target),
        Op::Inverse(_) => linear::inverse(&operands[0], target),
        Op::Conv(o) => conv::conv(o, &operands[0], &operands[1], operands.get(2), target),
        Op::ConvTranspose(o) => {
            conv::conv_transpose(o, &operands[0], &operands[1], operands.get(2), target)
        }
        Op::Pool(o) => pool::pool(o, &operands[0], target),
        Op::BatchNorm(o) => norm::batch_norm(*o, operands, target),
        Op::InstanceNorm(o) => norm::instance_norm(*o, operands, target),
        Op::Lrn(o) => norm::lrn(*o, &operands[0], target),
        Op::Pad(o) => pad::pad(o, &operands[0], operands.get(1), bindings, target),
        Op::PadBy(o) => pad::pad_by(o, &operands[0], &operands[1], operands.get(2), target),
        Op::Tile(_) | Op::TileBy(_) => shape::tile(&operands[0], target),
        Op::Reverse(o) => shape::reverse(o, &operands[0], target),
        Op::DepthToSpace(o) => shape::depth_to_space(*o, &operands[0], target),
        Op::SpaceToDepth(o) => shape::space_to_depth(*o, &operands[0], target),
        Op::Size(o) => sizes::size(o, bindings, target),
        Op::ReshapeTo(_) => shape::reshape(x(operands), target),
        Op::ExpandTo(_) => shape::expand(x(operands), target),
        Op::SliceBy(o) => sizes::slice_by(o, operands, target),
        Op::RangeBy(_) => sizes::range_by(operands, target),
        Op::NonZero(_) => sizes::non_zero(&operands[0], target),
        Op::GatherNd(o) => index::gather_nd(*o, &operands[0], &operands[1], target),
        Op::ScatterElements(o) => scatter::scatter_elements(*o, operands, target),
        Op::ScatterNd(o) => scatter::scatter_nd(*o, operands, target),
        Op::NonMaxSuppression(o) => boxes::non_max_suppression(o, operands, target),
        Op::Resize(o) => resize::resize(o, &operands[0], target),
        Op::GridSample(o) => grid::grid_sample(*o, &operands[0], &operands[1], target),
        Op::Quantize(o) => quant::quantize(o, operands, target),
        Op::Dequantize(o) => quant::dequantize(o, operands, target),
        Op::TopK(_) | Op::Recurrent(_) | Op::If(_) | Op::Loop(_) => {
            Err(EvalError::Bodies { op: op.name() }.into())
        }
    }
}

/// The tensor rounded to what its 16-bit type can hold, if the mode asks for it.
fn round(tensor: Tensor, mode: Mode) -> Result<Tensor, crate::tensor::TensorError> {
    let dtype = tensor.dtype();
    if mode == Mode::F32 || !matches!(dtype, DType::F16 | DType::BF16) {
        return Ok(tensor);
    }
    let shape = tensor.shape().to_vec();
    let storage = match tensor.into_storage() {
        Storage::Float(mut values) => {
            round_floats(dtype, Arc::make_mut(&mut values).as_mut_slice());
            Storage::Float(values)
        }
        other @ (Storage::Int(_) | Storage::Bool(_)) => other,
    };
    Tensor::from_storage(dtype, shape, storage)
}

fn round_floats(dtype: DType, values: &mut [f32]) {
    layout::pieces(values, layout::PIECE, |_, piece| {
        if dtype == DType::F16 {
            // Through the CPU's conversion instructions.
            let mut halves = [half::f16::ZERO; 1024];
            for chunk in piece.chunks_mut(halves.len()) {
                let halves = &mut halves[..chunk.len()];
                halves.convert_from_f32_slice(chunk);
                halves.convert_to_f32_slice(chunk);
            }
        } else {
            piece.iter_mut().for_each(|x| *x = num::round_bf16(*x));
        }
    });
}
