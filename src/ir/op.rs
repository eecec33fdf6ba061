//! The operations: one closed enum, one table. Adding a variant makes the compiler list every place that has to learn it.
//!
//! Payloads and type inference live in `ops/<family>.rs`; the meaning of an operation in `eval/<family>.rs`.

use super::dim::{Bindings, Dim};
use super::module::BodyId;
use super::ops::{
    Activation, ActivationKind, ArgReduce, Attention, BatchNorm, Binary, BinaryKind, Cast, Cell,
    Classify, ClassifyKind, Clip, Compare, CompareKind, Concat, Conv, ConvTranspose, CumSum,
    DepthToSpace, Dequantize, Expand, ExpandTo, Gather, GatherElements, GatherNd, GridSample, If,
    InstanceNorm, Inverse, Iota, LayerNorm, Linear, Loop, Lrn, MatMul, NonMaxSuppression, NonZero,
    Pad, PadBy, Pool, PoolKind, Quantize, RangeBy, Recurrent, Reduce, ReduceKind, Reshape,
    ReshapeTo, Resize, Reverse, RmsNorm, ScatterElements, ScatterNd, Select, Size, Slice, SliceBy,
    Softmax, SpaceToDepth, Squeeze, Tile, TileBy, TopK, Transpose, Unary, UnaryKind, Unsqueeze,
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
    /// Scaled dot-product attention.
    Attention(Attention),
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
    /// Whether floats are NaN or infinite.
    Classify(Classify),
    /// Elementwise function with parameters.
    Activation(Activation),
    /// Index of the largest or smallest element along an axis.
    ArgReduce(ArgReduce),
    /// Largest or smallest elements along an axis, with their indices.
    TopK(TopK),
    /// Inverse of square matrices.
    Inverse(Inverse),
    /// Convolution.
    Conv(Conv),
    /// Transposed convolution.
    ConvTranspose(ConvTranspose),
    /// Pooling.
    Pool(Pool),
    /// Normalisation by given statistics per channel.
    BatchNorm(BatchNorm),
    /// Normalisation per sample and channel.
    InstanceNorm(InstanceNorm),
    /// Local response normalisation.
    Lrn(Lrn),
    /// More elements at the ends of axes.
    Pad(Pad),
    /// Copies side by side.
    Tile(Tile),
    /// Reverse order along axes.
    Reverse(Reverse),
    /// Channels to blocks of pixels.
    DepthToSpace(DepthToSpace),
    /// Blocks of pixels to channels.
    SpaceToDepth(SpaceToDepth),
    /// A dimension as a value.
    Size(Size),
    /// Reshape to a computed shape.
    ReshapeTo(ReshapeTo),
    /// Broadcast with a computed shape.
    ExpandTo(ExpandTo),
    /// Copies, as many as computed.
    TileBy(TileBy),
    /// Part of a tensor between computed bounds.
    SliceBy(SliceBy),
    /// Padding of computed size.
    PadBy(PadBy),
    /// Arithmetic progression between computed bounds.
    RangeBy(RangeBy),
    /// Places of what is not 0.
    NonZero(NonZero),
    /// Parts of a tensor picked by index vectors.
    GatherNd(GatherNd),
    /// Elements put into a tensor by index along one axis.
    ScatterElements(ScatterElements),
    /// Parts put into a tensor by index vectors.
    ScatterNd(ScatterNd),
    /// Boxes that overlap little.
    NonMaxSuppression(NonMaxSuppression),
    /// Resampling of axes.
    Resize(Resize),
    /// Resampling at given places.
    GridSample(GridSample),
    /// Recurrent layer.
    Recurrent(Recurrent),
    /// Floats to integers.
    Quantize(Quantize),
    /// Integers to floats.
    Dequantize(Dequantize),
    /// One of two bodies.
    If(If),
    /// A body again and again.
    Loop(Loop),
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
    /// Attention.
    Attention,
    /// Data movement known from shapes.
    Shape,
    /// Data movement known from values.
    Index,
    /// Windows over spatial axes.
    Conv,
    /// Resampling.
    Image,
    /// Recurrent layers.
    Recurrent,
    /// Quantisation.
    Quant,
    /// Control flow.
    Control,
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
    "tan" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Tan }),
    "asin" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Asin }),
    "acos" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Acos }),
    "atan" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Atan }),
    "sinh" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Sinh }),
    "cosh" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Cosh }),
    "asinh" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Asinh }),
    "acosh" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Acosh }),
    "atanh" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Atanh }),
    "softplus" Elementwise 1..=1 Approximate Op::Unary(Unary { kind: UnaryKind::Softplus }),
    "softsign" Elementwise 1..=1 Rounded Op::Unary(Unary { kind: UnaryKind::Softsign }),
    "bit_not" Elementwise 1..=1 Exact Op::Unary(Unary { kind: UnaryKind::BitNot }),
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
    "floor_div" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::FloorDiv }),
    "trunc_div" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::TruncDiv }),
    "mod" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::Mod }),
    "rem" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::Rem }),
    "bit_and" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::BitAnd }),
    "bit_or" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::BitOr }),
    "bit_xor" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::BitXor }),
    "shift_left" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::ShiftLeft }),
    "shift_right" Elementwise 2..=2 Exact Op::Binary(Binary { kind: BinaryKind::ShiftRight }),
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
    "is_nan" Elementwise 1..=1 Exact Op::Classify(Classify { kind: ClassifyKind::Nan }),
    "is_infinite" Elementwise 1..=1 Exact Op::Classify(Classify { kind: ClassifyKind::Infinite }),
    "is_positive_infinite" Elementwise 1..=1 Exact Op::Classify(Classify { kind: ClassifyKind::PositiveInfinite }),
    "is_negative_infinite" Elementwise 1..=1 Exact Op::Classify(Classify { kind: ClassifyKind::NegativeInfinite }),
    "leaky_relu" Elementwise 1..=1 Rounded Op::Activation(Activation { kind: ActivationKind::LeakyRelu { .. } }),
    "elu" Elementwise 1..=1 Approximate Op::Activation(Activation { kind: ActivationKind::Elu { .. } }),
    "hard_sigmoid" Elementwise 1..=1 Rounded Op::Activation(Activation { kind: ActivationKind::HardSigmoid { .. } }),
    "reduce_sum" Reduce 1..=1 Accumulated Op::Reduce(Reduce { kind: ReduceKind::Sum, .. }),
    "reduce_mean" Reduce 1..=1 Accumulated Op::Reduce(Reduce { kind: ReduceKind::Mean, .. }),
    "reduce_max" Reduce 1..=1 Exact Op::Reduce(Reduce { kind: ReduceKind::Max, .. }),
    "reduce_min" Reduce 1..=1 Exact Op::Reduce(Reduce { kind: ReduceKind::Min, .. }),
    "reduce_l2" Reduce 1..=1 Accumulated Op::Reduce(Reduce { kind: ReduceKind::L2, .. }),
    "reduce_prod" Reduce 1..=1 Accumulated Op::Reduce(Reduce { kind: ReduceKind::Prod, .. }),
    "reduce_log_sum_exp" Reduce 1..=1 Accumulated Op::Reduce(Reduce { kind: ReduceKind::LogSumExp, .. }),
    "arg_max" Reduce 1..=1 Exact Op::ArgReduce(ArgReduce { largest: true, .. }),
    "arg_min" Reduce 1..=1 Exact Op::ArgReduce(ArgReduce { largest: false, .. }),
    "top_k" Reduce 1..=2 Exact Op::TopK(_),
    "softmax" Reduce 1..=1 Accumulated Op::Softmax(_),
    "cumsum" Reduce 1..=1 Accumulated Op::CumSum(_),
    "matmul" Linear 2..=2 Accumulated Op::MatMul(_),
    "linear" Linear 2..=3 Accumulated Op::Linear(_),
    "inverse" Linear 1..=1 Accumulated Op::Inverse(_),
    "attention" Attention 3..=4 Accumulated Op::Attention(_),
    "batch_norm" Norm 5..=5 Rounded Op::BatchNorm(_),
    "instance_norm" Norm 3..=3 Accumulated Op::InstanceNorm(_),
    "lrn" Norm 1..=1 Accumulated Op::Lrn(_),
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
    "pad" Shape 1..=2 Exact Op::Pad(_),
    "tile" Shape 1..=1 Exact Op::Tile(_),
    "reverse" Shape 1..=1 Exact Op::Reverse(_),
    "depth_to_space" Shape 1..=1 Exact Op::DepthToSpace(_),
    "space_to_depth" Shape 1..=1 Exact Op::SpaceToDepth(_),
    "size" Shape 0..=0 Exact Op::Size(_),
    "reshape_to" Shape 2..=2 Exact Op::ReshapeTo(_),
    "expand_to" Shape 2..=2 Exact Op::ExpandTo(_),
    "tile_by" Shape 2..=2 Exact Op::TileBy(_),
    "slice_by" Shape 3..=3 Exact Op::SliceBy(_),
    "pad_by" Shape 2..=3 Exact Op::PadBy(_),
    "range_by" Shape 3..=3 Rounded Op::RangeBy(_),
    "non_zero" Shape 1..=1 Exact Op::NonZero(_),
    "gather" Index 2..=2 Exact Op::Gather(_),
    "gather_elements" Index 2..=2 Exact Op::GatherElements(_),
    "gather_nd" Index 2..=2 Exact Op::GatherNd(_),
    "scatter_elements" Index 3..=3 Rounded Op::ScatterElements(_),
    "scatter_nd" Index 3..=3 Rounded Op::ScatterNd(_),
    "non_max_suppression" Index 5..=5 Exact Op::NonMaxSuppression(_),
    "conv" Conv 2..=3 Accumulated Op::Conv(_),
    "conv_transpose" Conv 2..=3 Accumulated Op::ConvTranspose(_),
    "max_pool" Conv 1..=1 Exact Op::Pool(Pool { kind: PoolKind::Max, .. }),
    "average_pool" Conv 1..=1 Accumulated Op::Pool(Pool { kind: PoolKind::Average { .. }, .. }),
    "resize" Image 1..=1 Accumulated Op::Resize(_),
    "grid_sample" Image 2..=2 Accumulated Op::GridSample(_),
    "rnn" Recurrent 5..=7 Accumulated Op::Recurrent(Recurrent { cell: Cell::Rnn, .. }),
    "gru" Recurrent 5..=7 Accumulated Op::Recurrent(Recurrent { cell: Cell::Gru { .. }, .. }),
    "lstm" Recurrent 6..=8 Accumulated Op::Recurrent(Recurrent { cell: Cell::Lstm { .. }, .. }),
    "quantize" Quant 2..=3 Rounded Op::Quantize(_),
    "dequantize" Quant 2..=3 Rounded Op::Dequantize(_),
    "if" Control 1..=1024 Exact Op::If(_),
    "loop" Control 2..=1024 Exact Op::Loop(_),
}

impl Op {
    /// The bodies it runs.
    #[must_use]
    pub fn bodies(&self) -> Vec<BodyId> {
        if let Op::If(o) = self {
            vec![o.then_body, o.else_body]
        } else if let Op::Loop(o) = self {
            vec![o.body]
        } else {
            Vec::new()
        }
    }

    /// Whether the operation only moves elements of its first operand: their values, and their order but for a permutation, stay.
    #[must_use]
    pub fn is_view(&self) -> bool {
        matches!(
            self,
            Op::Reshape(_)
                | Op::Transpose(_)
                | Op::Expand(_)
                | Op::Slice(_)
                | Op::Squeeze(_)
                | Op::Unsqueeze(_)
                | Op::Tile(_)
                | Op::Reverse(_)
                | Op::DepthToSpace(_)
                | Op::SpaceToDepth(_)
                | Op::ReshapeTo(_)
                | Op::ExpandTo(_)
                | Op::TileBy(_)
                | Op::SliceBy(_)
        )
    }

    /// The operation's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.info().name
    }

    /// The type of the first result, from the types of the operands.
    ///
    /// # Errors
    /// When the operands do not fit the operation.
    pub fn infer(&self, operands: &[&Type]) -> Result<Type, IrError> {
        Ok(self.infer_all(operands)?.swap_remove(0))
    }

    /// The types of the results, at least one, from the types of the operands.
    ///
    /// # Errors
    /// When the operands do not fit the operation.
    pub fn infer_all(&self, operands: &[&Type]) -> Result<Vec<Type>, IrError> {
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
        let one = |ty: Result<Type, IrError>| ty.map(|ty| vec![ty]);
        match self {
            Op::Unary(o) => one(o.infer(info.name, operands)),
            Op::Binary(o) => one(o.infer(info.name, operands)),
            Op::Compare(o) => one(o.infer(info.name, operands)),
            Op::Select(o) => one(o.infer(info.name, operands)),
            Op::Cast(o) => one(o.infer(info.name, operands)),
            Op::Clip(o) => one(o.infer(info.name, operands)),
            Op::Reduce(o) => one(o.infer(info.name, operands)),
            Op::Softmax(o) => one(o.infer(info.name, operands)),
            Op::CumSum(o) => one(o.infer(info.name, operands)),
            Op::MatMul(o) => one(o.infer(info.name, operands)),
            Op::Linear(o) => one(o.infer(info.name, operands)),
            Op::Attention(o) => one(o.infer(info.name, operands)),
            Op::LayerNorm(o) => one(o.infer(info.name, operands)),
            Op::RmsNorm(o) => one(o.infer(info.name, operands)),
            Op::Reshape(o) => one(o.infer(info.name, operands)),
            Op::Transpose(o) => one(o.infer(info.name, operands)),
            Op::Expand(o) => one(o.infer(info.name, operands)),
            Op::Slice(o) => one(o.infer(info.name, operands)),
            Op::Concat(o) => one(o.infer(info.name, operands)),
            Op::Squeeze(o) => one(o.infer(info.name, operands)),
            Op::Unsqueeze(o) => one(o.infer(info.name, operands)),
            Op::Iota(o) => one(o.infer(info.name, operands)),
            Op::Gather(o) => one(o.infer(info.name, operands)),
            Op::GatherElements(o) => one(o.infer(info.name, operands)),
            Op::Classify(o) => one(o.infer(info.name, operands)),
            Op::Activation(o) => one(o.infer(info.name, operands)),
            Op::ArgReduce(o) => one(o.infer(info.name, operands)),
            Op::Inverse(o) => one(o.infer(info.name, operands)),
            Op::Conv(o) => one(o.infer(info.name, operands)),
            Op::ConvTranspose(o) => one(o.infer(info.name, operands)),
            Op::Pool(o) => one(o.infer(info.name, operands)),
            Op::BatchNorm(o) => one(o.infer(info.name, operands)),
            Op::InstanceNorm(o) => one(o.infer(info.name, operands)),
            Op::Lrn(o) => one(o.infer(info.name, operands)),
            Op::Pad(o) => one(o.infer(info.name, operands)),
            Op::Tile(o) => one(o.infer(info.name, operands)),
            Op::Reverse(o) => one(o.infer(info.name, operands)),
            Op::DepthToSpace(o) => one(o.infer(info.name, operands)),
            Op::SpaceToDepth(o) => one(o.infer(info.name, operands)),
            Op::Size(o) => one(o.infer(info.name, operands)),
            Op::ReshapeTo(o) => one(o.infer(info.name, operands)),
            Op::ExpandTo(o) => one(o.infer(info.name, operands)),
            Op::TileBy(o) => one(o.infer(info.name, operands)),
            Op::SliceBy(o) => one(o.infer(info.name, operands)),
            Op::PadBy(o) => one(o.infer(info.name, operands)),
            Op::RangeBy(o) => one(o.infer(info.name, operands)),
            Op::NonZero(o) => one(o.infer(info.name, operands)),
            Op::GatherNd(o) => one(o.infer(info.name, operands)),
            Op::ScatterElements(o) => one(o.infer(info.name, operands)),
            Op::ScatterNd(o) => one(o.infer(info.name, operands)),
            Op::NonMaxSuppression(o) => one(o.infer(info.name, operands)),
            Op::Resize(o) => one(o.infer(info.name, operands)),
            Op::GridSample(o) => one(o.infer(info.name, operands)),
            Op::Quantize(o) => one(o.infer(info.name, operands)),
            Op::Dequantize(o) => one(o.infer(info.name, operands)),
            Op::TopK(o) => o.infer(info.name, operands),
            Op::Recurrent(o) => o.infer(info.name, operands),
            Op::If(o) => o.infer(info.name, operands),
            Op::Loop(o) => o.infer(info.name, operands),
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
        let types = |types: &[Type]| {
            let bound = |t: &Type| Some(Type::new(t.dtype, dims(&t.shape)?));
            types.iter().map(bound).collect::<Option<Vec<_>>>()
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
            Op::TopK(o) => Op::TopK(TopK {
                k: o.k.substitute(bindings)?,
                ..o.clone()
            }),
            Op::Pad(o) => Op::Pad(Pad {
                mode: o.mode,
                begin: dims(&o.begin)?,
                end: dims(&o.end)?,
            }),
            Op::Tile(o) => Op::Tile(Tile {
                repeats: dims(&o.repeats)?,
            }),
            Op::Size(o) => Op::Size(Size {
                dtype: o.dtype,
                dim: o.dim.substitute(bindings)?,
            }),
            Op::ReshapeTo(o) => Op::ReshapeTo(ReshapeTo {
                shape: dims(&o.shape)?,
                ..o.clone()
            }),
            Op::ExpandTo(o) => Op::ExpandTo(ExpandTo {
                shape: dims(&o.shape)?,
            }),
            Op::TileBy(o) => Op::TileBy(TileBy {
                shape: dims(&o.shape)?,
            }),
            Op::SliceBy(o) => Op::SliceBy(SliceBy {
                shape: dims(&o.shape)?,
                ..o.clone()
            }),
            Op::PadBy(o) => Op::PadBy(PadBy {
                mode: o.mode,
                shape: dims(&o.shape)?,
            }),
            Op::RangeBy(o) => Op::RangeBy(RangeBy {
                len: o.len.substitute(bindings)?,
            }),
            Op::NonZero(o) => Op::NonZero(NonZero {
                dtype: o.dtype,
                count: o.count.substitute(bindings)?,
            }),
            Op::NonMaxSuppression(o) => Op::NonMaxSuppression(NonMaxSuppression {
                dtype: o.dtype,
                center: o.center,
                count: o.count.substitute(bindings)?,
            }),
            Op::Resize(o) => {
                let mut resize = o.clone();
                for axis in &mut resize.axes {
                    axis.size = axis.size.substitute(bindings)?;
                }
                Op::Resize(resize)
            }
            Op::If(o) => Op::If(If {
                results: types(&o.results)?,
                ..o.clone()
            }),
            Op::Loop(o) => Op::Loop(Loop {
                results: types(&o.results)?,
                ..o.clone()
            }),
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
            | Op::Attention(_)
            | Op::LayerNorm(_)
            | Op::RmsNorm(_)
            | Op::Transpose(_)
            | Op::Concat(_)
            | Op::Squeeze(_)
            | Op::Unsqueeze(_)
            | Op::Gather(_)
            | Op::GatherElements(_)
            | Op::Classify(_)
            | Op::Activation(_)
            | Op::ArgReduce(_)
            | Op::Inverse(_)
            | Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Pool(_)
            | Op::BatchNorm(_)
            | Op::InstanceNorm(_)
            | Op::Lrn(_)
            | Op::Reverse(_)
            | Op::DepthToSpace(_)
            | Op::SpaceToDepth(_)
            | Op::GatherNd(_)
            | Op::ScatterElements(_)
            | Op::ScatterNd(_)
            | Op::GridSample(_)
            | Op::Recurrent(_)
            | Op::Quantize(_)
            | Op::Dequantize(_) => self.clone(),
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
