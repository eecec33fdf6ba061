//! The meaning of every operation, by family, and the [`Interpreter`] that runs a module by it.
//!
//! Owns the numerics that other engines are compared with. Knows no file format and no runtime.

mod elementwise;
mod error;
mod fold;
mod gemm;
mod index;
mod input;
mod interpreter;
mod layout;
mod linear;
mod math;
mod norm;
mod reduce;
mod shape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use half::slice::HalfFloatSliceExt;

use crate::error::Result;
use crate::ir::{Bindings, Family, Function, IrError, Op, Type, ValueId, concrete};
use crate::limits;
use crate::tensor::{DType, Storage, Tensor, num};

pub use error::EvalError;
pub use fold::fold_op;
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

/// Computes one operation on its own, as constant folding does; the result is rounded to its declared type.
///
/// # Errors
/// When the operands do not fit the operation, a symbol of `result` has no value in `bindings`, or an index is out of range.
pub fn eval_op(
    op: &Op,
    operands: &[&Tensor],
    result: &Type,
    bindings: &Bindings,
) -> Result<Tensor> {
    let types: Vec<Type> = operands
        .iter()
        .map(|t| Type::known(t.dtype(), t.shape()))
        .collect();
    let known = op.substitute(bindings).ok_or_else(|| IrError::Unbound {
        dim: result.to_string(),
    })?;
    let inferred = known.infer(&types.iter().collect::<Vec<_>>())?;
    let target = Target::new(op, result.dtype, concrete(&result.shape, bindings)?)?;
    if inferred != Type::known(target.dtype, &target.shape) {
        return Err(IrError::Declared {
            declared: result.to_string(),
            inferred: inferred.to_string(),
        }
        .into());
    }
    let operands = operands.iter().map(|&t| t.clone()).collect();
    apply(op, operands, target, bindings, Mode::F16)
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

/// Computes one operation. Operands that nobody else holds may be overwritten.
fn apply(
    op: &Op,
    mut operands: Vec<Tensor>,
    target: Target,
    bindings: &Bindings,
    mode: Mode,
) -> Result<Tensor> {
    let declared = (target.dtype, target.shape.clone());
    let family = op.info().family;
    let result = dispatch(op, &mut operands, target, bindings)?;
    if (result.dtype(), result.shape()) != (declared.0, declared.1.as_slice()) {
        return Err(EvalError::Result {
            declared: Type::known(declared.0, &declared.1).to_string(),
            found: Type::known(result.dtype(), result.shape()).to_string(),
        }
        .into());
    }
    match family {
        // What is only moved was rounded when it was made.
        Family::Shape | Family::Index => Ok(result),
        Family::Elementwise | Family::Reduce | Family::Linear | Family::Norm => {
            Ok(round(result, mode)?)
        }
    }
}

fn dispatch(
    op: &Op,
    operands: &mut Vec<Tensor>,
    target: Target,
    bindings: &Bindings,
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
        Op::MatMul(o) => linear::matmul(*o, &operands[0], &operands[1], target),
        Op::Linear(o) => linear::linear(*o, &operands[0], &operands[1], operands.get(2), target),
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
