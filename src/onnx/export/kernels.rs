//! Which element types runtimes compute an operator in, and which type stands in for one that they do not.
//!
//! The specification allows more types than engines have kernels for. The lists are what ONNX Runtime 1.31 loads, operator by operator; all of
//! them are within the specification of the opset. An integer type that is missing is computed in a wider one: casting back drops the high bits,
//! which is what wrapping means.

use super::emitter::{Emitter, Last, last};
use crate::error::Result;
use crate::ir::{Node, Type};
use crate::onnx::error::OnnxError;
use crate::tensor::DType;
use crate::tensor::DType::{Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};

const EVERY: &[DType] = &[Bool, I8, U8, I16, U16, I32, U32, I64, U64, F16, F32, F64];
const NUMBERS: &[DType] = &[I8, U8, I16, U16, I32, U32, I64, U64, F16, F32, F64];
const INTS: &[DType] = &[I8, U8, I16, U16, I32, U32, I64, U64];
const WIDE: &[DType] = &[I32, U32, I64, U64, F16, F32, F64];
const NOT_SHORT: &[DType] = &[I8, U8, I32, U32, I64, U64, F16, F32, F64];
const SIGNED_WIDE: &[DType] = &[I32, I64, F16, F32, F64];
const FLOATS: &[DType] = &[F16, F32, F64];
const SINGLE: &[DType] = &[F16, F32];
const F32_ONLY: &[DType] = &[F32, F64];

/// The element types that `op_type` is computed in.
fn kernels(op_type: &'static str, opset: i64) -> &'static [DType] {
    match op_type {
        "Abs" | "Sign" => NUMBERS,
        "Neg" => &[I8, I16, I32, I64, F16, F32, F64],
        "Add" | "Sub" | "Mul" | "Div" if opset < 14 => WIDE,
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Less" | "LessOrEqual" | "Greater"
        | "GreaterOrEqual" => NUMBERS,
        "Pow" => SIGNED_WIDE,
        "Min" | "Max" | "Clip" => NOT_SHORT,
        "Pad" => &[Bool, I8, U8, I32, U32, I64, U64, F16, F32, F64],
        "Where" => &[I8, U8, I32, U32, I64, F16, F32, F64],
        "BitShift" => &[U8, U32, U64],
        "BitwiseNot" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" => INTS,
        "MatMul" => WIDE,
        "Floor" | "Ceil" | "Round" | "Relu" | "Sqrt" | "Reciprocal" | "Exp" | "Log" | "Sin"
        | "Cos" | "Tanh" | "Sigmoid" | "Softmax" | "IsNaN" | "BatchNormalization" => FLOATS,
        "IsInf" if opset < 20 => F32_ONLY,
        "IsInf" => FLOATS,
        // Sums are made in single precision, whatever is summed; the specification leaves it to the engine, and tract adds halves to halves,
        // which overflow.
        "CumSum" | "ReduceSum" | "ReduceMean" | "ReduceL2" | "ReduceProd" | "ReduceLogSumExp" => {
            &[I32, I64, F32, F64]
        }
        "ReduceMax" | "ReduceMin" | "ArgMax" | "ArgMin" => &[I8, U8, I32, I64, F16, F32, F64],
        "TopK" => &[I8, U8, I16, I32, I64, F16, F32, F64],
        "NonZero" => &[Bool, U8, I32, I64, F16, F32],
        "Range" => &[I16, I32, I64, F32, F64],
        "DepthToSpace" | "SpaceToDepth" | "MaxPool" => &[I8, U8, F16, F32, F64],
        "Resize" => &[I8, U8, I32, F16, F32],
        "Equal" | "Tile" | "Slice" | "Expand" | "Concat" | "Transpose" | "Reshape" | "Gather"
        | "GatherElements" | "GatherND" | "ScatterElements" | "ScatterND" | "Identity" => EVERY,
        // Everything else takes floats; double precision is rare in engines, and the IR computes in single precision.
        _ => SINGLE,
    }
}

/// Types that hold every value of `dtype`, the nearest first.
fn wider(dtype: DType) -> &'static [DType] {
    match dtype {
        Bool => &[U8, I32],
        DType::U1 | DType::U2 | DType::U3 | DType::U4 | DType::U6 => &[U8, I32, I64, F32],
        DType::I4 => &[I8, I32, I64, F32],
        I8 => &[I16, I32, I64, F32],
        U8 => &[U16, I16, I32, I64, F32],
        I16 => &[I32, I64, F32],
        U16 => &[U32, I32, I64, F32],
        I32 => &[I64, F64],
        U32 => &[I64, F64],
        // The same bits: for what wraps and what moves. What compares has to turn the highest bit over, see `ordered`.
        U64 => &[I64],
        F16 | F64 => &[F32],
        I64 | DType::BF16 | DType::F8E4M3 | DType::F8E5M2 | F32 => &[],
    }
}

impl Emitter<'_> {
    /// The element type to compute `op_type` in for operands of type `dtype`.
    pub(super) fn kernel(&self, op_type: &'static str, dtype: DType) -> Result<DType, OnnxError> {
        let known = kernels(op_type, self.opset);
        if known.contains(&dtype) {
            return Ok(dtype);
        }
        wider(dtype)
            .iter()
            .copied()
            .find(|t| known.contains(t))
            .ok_or(OnnxError::OperandType { op_type, dtype })
    }

    /// An operator over operands of one type, computed where there is a kernel for it, with a result of that type.
    pub(super) fn simple(&mut self, op_type: &'static str, node: &Node) -> Result<Last> {
        let dtype = self.ty(node.operands[0]).dtype;
        let kernel = self.kernel(op_type, dtype)?;
        let mut inputs = Vec::with_capacity(node.operands.len());
        for &operand in &node.operands {
            inputs.push(self.operand_as(operand, kernel)?);
        }
        self.converted(Last::of(op_type, inputs), kernel, dtype)
    }

    /// A value as `i64` or another type whose order is that of `ty`: of `u64` the highest bit is turned over. Gives the type, too.
    pub(super) fn ordered(
        &mut self,
        op_type: &'static str,
        value: crate::ir::ValueId,
    ) -> Result<(String, DType)> {
        let dtype = self.ty(value).dtype;
        let kernel = self.kernel(op_type, dtype)?;
        let x = self.operand_as(value, kernel)?;
        if dtype == U64 && kernel == I64 {
            return Ok((self.turn_order(x)?, kernel));
        }
        Ok((x, kernel))
    }

    /// The reverse of [`Emitter::ordered`].
    pub(super) fn unordered(&mut self, result: Last, kernel: DType, ty: &Type) -> Result<Last> {
        if ty.dtype == U64 && kernel == I64 {
            let x = self.settle(result);
            let x = self.turn_order(x)?;
            return self.converted(last("Identity", [x]), kernel, ty.dtype);
        }
        self.converted(result, kernel, ty.dtype)
    }

    fn turn_order(&mut self, x: String) -> Result<String> {
        let least = self.scalar_int(i64::MIN)?;
        Ok(self.emit("Add", [x, least], vec![]))
    }
}
