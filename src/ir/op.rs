//! The operations: one closed enum, one table. Adding a variant makes the compiler list every place that has to learn it.
//!
//! Payloads and type inference live in `ops/<family>.rs`; the meaning of an operation in `eval/<family>.rs`.

use super::dim::{Bindings, Dim};
use super::ops::{
    Binary, BinaryKind, Cast, Clip, Compare, CompareKind, Concat, CumSum, Expand, Gather,
    GatherElements, Iota, LayerNorm, Linear, MatMul, Reduce, ReduceKind, Reshape, RmsNorm, Select,
    Slice, Softmax, Squeeze, Transpose, Unary, UnaryKind, Unsqueeze,
};
use super::types::{IrError, Type};

/// An operation with its attributes. Operands are the node's.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Elementwise function of one operand.
    Unary(Unary),
    /// Elementwise function of two operands, broadcast.
    Binary(Binary),
    /// Elementwise comparison, broadcast, to `bool`.
    Compare(Compare),
    /// `condition ? a : b`, broadcast.
    Select(Select),
    /// Change of element type.
    Cast(Cast),
    /// Clamp to a closed range.
    Clip(Clip),
    /// Reduction over axes.
    Reduce(Reduce),
    /// Softmax over one axis.
    Softmax(Softmax),
    /// Running sum along one axis.
    CumSum(CumSum),
    /// Batched matrix product.
    MatMul(MatMul),
    /// `x · Wᵀ + b`.
    Linear(Linear),
    /// Layer normalisation.
    LayerNorm(LayerNorm),
    /// Root-mean-square normalisation.
    RmsNorm(RmsNorm),
    /// Same elements, another shape.
    Reshape(Reshape),
    /// Permutation of the axes.
    Transpose(Transpose),
    /// Broadcast to a shape.
    Expand(Expand),
    /// Part of a tensor.
    Slice(Slice),
    /// Tensors joined along an axis.
    Concat(Concat),
    /// Axes of size 1 removed.
    Squeeze(Squeeze),
    /// Axes of size 1 inserted.
    Unsqueeze(Unsqueeze),
    /// `0, 1, … len − 1`.
    Iota(Iota),
    /// Slices of a tensor picked by index along one axis.
    Gather(Gather),
    /// Elements of a tensor picked by index along one axis.
    GatherElements(GatherElements),
}

/// The family of an operation: names the file in every layer that deals with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// One result element per operand element.
    Elementwise,
    /// Along axes.
    Reduce,
    /// Matrix products.
    Linear,
    /// Normalisation.
    Norm,
    /// Data movement known from shapes.
    Shape,
    /// Data movement known from values.
    Index,
}

/// How results may differ between correct implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numerics {
    /// Bit for bit: data movement, comparison, integers.
    Exact,
    /// One correctly rounded operation.
    Rounded,
    /// A few units in the last place.
    Approximate,
    /// Depends on the order of summation.
    Accumulated,
}

/// Least and most operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// Least.
    pub min: usize,
    /// Most.
    pub max: usize,
}

/// One row of the table of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpInfo {
    /// Name in listings, reports and errors.
    pub name: &'static str,
    /// Family.
    pub family: Family,
    /// Number of operands.
    pub arity: Arity,
    /// Numerics class.
    pub numerics: Numerics,
}

macro_rules! op_table {
    ($($name:literal $family:ident $min:literal..=$max:literal $numerics:ident $pattern:pat),* $(,)?) => {
        impl Op {
            /// Every operation, in table order.
            pub const TABLE: &'static [OpInfo] = &[$(
                OpInfo {
                    name: $name,
                    family: Family::$family,
                    arity: Arity { min: $min, max: $max },
                    numerics: Numerics::$numerics,
                },
            )*];

            /// The operation's row of the table.
            #[must_use]
            pub fn info(&self) -> OpInfo {
                match self {
                    $($pattern => OpInfo {
                        name: $name,
                        family: Family::$family,
                        arity: Arity { min: $min, max: $max },
                        numerics: Numerics::$numerics,
                    },)*
                }
            }
        }
    };
}

op_table! {
    "abs" Elementwise 1..=1 Exact Op::Unary(Unary { kind: UnaryKind::Abs }),
    "neg" Elementwise 1..=1 Exact Op::Unary(Unary { kind: UnaryKind::Neg }),
    "sign" Elementwise 1..=1 Exact Op::Unary(Unary { kind: UnaryKind::Sign }),
    "floor" Elementwise 1..=1 Exact Op::Unary(Unary { kind: UnaryKind::Floor }),
    "ceil" Elementwise 1..=1 Exact Op::Unary(Unary { kind: UnaryKind::Ceil }),
    "round" Elementwise 1..=1 Exact Op::Unary(Unary { kind: UnaryKind::Round }),
    "not" Elementwise 1..=1 Exact Op::Unary(Unary { kind: UnaryKind::Not }),
    "relu" Elementwise 1..=1 Exact Op::Unary(Unary { kind: UnaryKind::Relu }),
    "sqrt" Elementwise 1..=1 Rounded Op::Unary(Unary { kind: UnaryKind::Sqrt }),
    "rsqrt" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Rsqrt }),
    "reciprocal" Elementwise 1..=1 Rounded Op::Unary(Unary { kind: UnaryKind::Reciprocal }),
    "exp" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Exp }),
    "log" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Log }),
    "sin" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Sin }),
    "cos" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Cos }),
    "tanh" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Tanh }),
    "sigmoid" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Sigmoid }),
    "erf" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Erf }),
    "silu" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Silu }),
    "gelu_erf" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::GeluErf }),
    "gelu_tanh" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::GeluTanh }),
    "add" Elementwise 2..=2 Rounded Op::Binary(Binary { kind: BinaryKind::Add }),
    "sub" Elementwise 2..=2 Rounded Op::Binary(Binary { kind: BinaryKind::Sub }),
    "mul" Elementwise 2..=2 Rounded Op::Binary(Binary { kind: BinaryKind::Mul }),
    "div" Elementwise 2..=2 Rounded Op::Binary(Binary { kind: BinaryKind::Div }),
    "pow" Elementwise 2..=2 Approximate Op::Binary(Binary { kind: BinaryKind::Pow }),
    "min" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::Min }),
    "max" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::Max }),
    "and" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::And }),
    "or" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::Or }),
    "xor" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::Xor }),
    "equal" Elementwise 2..=2 Exact Op::Compare(Compare { kind: CompareKind::Equal }),
    "not_equal" Elementwise 2..=2 Exact Op::Compare(Compare { kind: CompareKind::NotEqual }),
    "less" Elementwise 2..=2 Exact Op::Compare(Compare { kind: CompareKind::Less }),
    "less_equal" Elementwise 2..=2 Exact Op::Compare(Compare { kind: CompareKind::LessEqual }),
    "greater" Elementwise 2..=2 Exact Op::Compare(Compare { kind: CompareKind::Greater }),
    "greater_equal" Elementwise 2..=2 Exact Op::Compare(Compare { kind: CompareKind::GreaterEqual }),
    "select" Elementwise 3..=3 Exact Op::Select(_),
    "cast" Elementwise 1..=1 Exact Op::Cast(_),
    "clip" Elementwise 1..=1 Exact Op::Clip(_),
    "reduce_sum" Reduce 1..=1 Accumulated Op::Reduce(Reduce { kind: ReduceKind::Sum, .. }),
    "reduce_mean" Reduce 1..=1 Accumulated Op::Reduce(Reduce { kind: ReduceKind::Mean, .. }),
    "reduce_max" Reduce 1..=1 Exact Op::Reduce(Reduce { kind: ReduceKind::Max, .. }),
    "reduce_min" Reduce 1..=1 Exact Op::Reduce(Reduce { kind: ReduceKind::Min, .. }),
    "reduce_l2" Reduce 1..=1 Accumulated Op::Reduce(Reduce { kind: ReduceKind::L2, .. }),
    "softmax" Reduce 1..=1 Accumulated Op::Softmax(_),
    "cumsum" Reduce 1..=1 Accumulated Op::CumSum(_),
    "matmul" Linear 2..=2 Accumulated Op::MatMul(_),
    "linear" Linear 2..=3 Accumulated Op::Linear(_),
    "layer_norm" Norm 1..=3 Accumulated Op::LayerNorm(_),
    "rms_norm" Norm 1..=2 Accumulated Op::RmsNorm(_),
    "reshape" Shape 1..=1 Exact Op::Reshape(_),
    "transpose" Shape 1..=1 Exact Op::Transpose(_),
    "expand" Shape 1..=1 Exact Op::Expand(_),
    "slice" Shape 1..=1 Exact Op::Slice(_),
    "concat" Shape 1..=1024 Exact Op::Concat(_),
    "squeeze" Shape 1..=1 Exact Op::Squeeze(_),
    "unsqueeze" Shape 1..=1 Exact Op::Unsqueeze(_),
    "iota" Shape 0..=0 Exact Op::Iota(_),
    "gather" Index 2..=2 Exact Op::Gather(_),
    "gather_elements" Index 2..=2 Exact Op::GatherElements(_),
}

impl Op {
    /// The operation's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.info().name
    }

    /// The type of the result (every operation has exactly one), from the types of the operands.
    ///
    /// # Errors
    /// When the operands do not fit the operation.
    pub fn infer(&self, operands: &[&Type]) -> Result<Type, IrError> {
        let info = self.info();
        if !(info.arity.min..=info.arity.max).contains(&operands.len()) {
            let Arity { min, max } = info.arity;
            let expected = if min == max {
                min.to_string()
            } else {
                format!("{min} to {max}")
            };
            return Err(IrError::Arity {
                op: info.name,
                expected,
                found: operands.len(),
            });
        }
        match self {
            Op::Unary(o) => o.infer(info.name, operands),
            Op::Binary(o) => o.infer(info.name, operands),
            Op::Compare(o) => o.infer(info.name, operands),
            Op::Select(o) => o.infer(info.name, operands),
            Op::Cast(o) => o.infer(info.name, operands),
            Op::Clip(o) => o.infer(info.name, operands),
            Op::Reduce(o) => o.infer(info.name, operands),
            Op::Softmax(o) => o.infer(info.name, operands),
            Op::CumSum(o) => o.infer(info.name, operands),
            Op::MatMul(o) => o.infer(info.name, operands),
            Op::Linear(o) => o.infer(info.name, operands),
            Op::LayerNorm(o) => o.infer(info.name, operands),
            Op::RmsNorm(o) => o.infer(info.name, operands),
            Op::Reshape(o) => o.infer(info.name, operands),
            Op::Transpose(o) => o.infer(info.name, operands),
            Op::Expand(o) => o.infer(info.name, operands),
            Op::Slice(o) => o.infer(info.name, operands),
            Op::Concat(o) => o.infer(info.name, operands),
            Op::Squeeze(o) => o.infer(info.name, operands),
            Op::Unsqueeze(o) => o.infer(info.name, operands),
            Op::Iota(o) => o.infer(info.name, operands),
            Op::Gather(o) => o.infer(info.name, operands),
            Op::GatherElements(o) => o.infer(info.name, operands),
        }
    }

    /// The operation with the symbols in its attributes replaced; `None` for a division by zero.
    #[must_use]
    pub fn substitute(&self, bindings: &Bindings) -> Option<Op> {
        let dims = |dims: &[Dim]| {
            dims.iter()
                .map(|d| d.substitute(bindings))
                .collect::<Option<Vec<_>>>()
        };
        Some(match self {
            Op::Reshape(o) => Op::Reshape(Reshape {
                shape: dims(&o.shape)?,
            }),
            Op::Expand(o) => Op::Expand(Expand {
                shape: dims(&o.shape)?,
            }),
            Op::Iota(o) => Op::Iota(Iota {
                dtype: o.dtype,
                len: o.len.substitute(bindings)?,
            }),
            Op::Slice(o) => {
                let mut slice = o.clone();
                for range in &mut slice.ranges {
                    range.start = range.start.substitute(bindings)?;
                    range.end = range.end.substitute(bindings)?;
                }
                Op::Slice(slice)
            }
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select(_)
            | Op::Cast(_)
            | Op::Clip(_)
            | Op::Reduce(_)
            | Op::Softmax(_)
            | Op::CumSum(_)
            | Op::MatMul(_)
            | Op::Linear(_)
            | Op::LayerNorm(_)
            | Op::RmsNorm(_)
            | Op::Transpose(_)
            | Op::Concat(_)
            | Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::Gather(_)
            | Op::GatherElements(_) => self.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = Op::TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), Op::TABLE.len());
    }
}
