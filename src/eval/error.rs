//! What can go wrong while a model is interpreted.

use crate::error::{Class, Diagnostic};
use crate::limits;
use crate::tensor::DType;

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A parameter got no tensor.
    #[error("input `{name}` is missing: expected {expected}")]
    MissingInput {
        /// The parameter.
        name: String,
        /// Its declared type.
        expected: String,
    },
    /// A tensor has no parameter.
    #[error("unknown input `{name}`: expected one of {known}")]
    UnknownInput {
        /// The name found.
        name: String,
        /// The parameters, in backquotes.
        known: String,
    },
    /// A tensor does not fit the declared type.
    #[error("input `{name}`: expected {expected}, found {found}")]
    InputType {
        /// The parameter.
        name: String,
        /// Its declared type.
        expected: String,
        /// The tensor's type.
        found: String,
    },
    /// An integer does not fit the declared element type.
    #[error("input `{name}`: {value} at {position:?} does not fit {expected}")]
    InputValue {
        /// The parameter.
        name: String,
        /// The first value that does not fit.
        value: i64,
        /// Its position.
        position: Vec<usize>,
        /// The declared element type.
        expected: DType,
    },
    /// An index that the parameter declares as impossible.
    #[error("input `{name}`: expected indices in 0..{below}, found {value} at {position:?}")]
    InputIndex {
        /// The parameter.
        name: String,
        /// One past the largest index.
        below: u64,
        /// The first index outside.
        value: i64,
        /// Its position.
        position: Vec<usize>,
    },
    /// Two inputs give one symbol two sizes.
    #[error(
        "input `{name}`: dimension `{symbol}` is {found} here, but another dimension says {expected}"
    )]
    SymbolConflict {
        /// The parameter.
        name: String,
        /// The symbol.
        symbol: String,
        /// The size found first.
        expected: u64,
        /// The size found here.
        found: u64,
    },
    /// A size outside the declared range of its symbol.
    #[error("input `{name}`: dimension `{symbol}` must be {expected}, found {found}")]
    SymbolRange {
        /// The parameter.
        name: String,
        /// The symbol.
        symbol: String,
        /// The declared range.
        expected: String,
        /// The size found.
        found: u64,
    },
    /// An index outside its axis.
    #[error("expected indices in 0..{size}, found {index} at {position:?} of the indices")]
    Index {
        /// The index.
        index: i64,
        /// Where it stands among the indices.
        position: Vec<usize>,
        /// Size of the axis.
        size: usize,
    },
    /// A slice leaves its axis at these sizes.
    #[error("slice {start}..{end} leaves axis {axis} of size {size}")]
    Slice {
        /// The axis.
        axis: usize,
        /// First index.
        start: i64,
        /// One past the last index.
        end: i64,
        /// Size of the axis.
        size: usize,
    },
    /// The largest or smallest of no integers.
    #[error("`{op}` over no elements has no integer result")]
    EmptyReduction {
        /// The operation.
        op: &'static str,
    },
    /// Operands of a matrix product that type inference would have refused.
    #[error("matrix product: {reason}")]
    Product {
        /// What is wrong.
        reason: &'static str,
    },
    /// A result with more elements than this crate will hold.
    #[error("the result has {elements} elements: at most {limit} are held in memory")]
    TooLarge {
        /// Elements.
        elements: u64,
        /// The limit.
        limit: u64,
    },
    /// A result that does not fit beside what is held already.
    #[error(
        "the result and what its computation needs take {result} bytes beside {held} that are held: at most {limit} are allowed"
    )]
    Memory {
        /// Bytes of the result and of working space.
        result: u64,
        /// Bytes of the tensors that are held.
        held: u64,
        /// The limit.
        limit: u64,
    },
    /// A computed size below 0.
    #[error("a computed size is {size}")]
    NegativeSize {
        /// The size.
        size: i64,
    },
    /// An integer division by 0, or a range that never ends.
    #[error("`{op}` divides by 0")]
    DivisionByZero {
        /// The operation.
        op: &'static str,
    },
    /// Nothing to mirror or repeat.
    #[error("axis {axis} has no elements to pad with")]
    EmptyPadding {
        /// The axis.
        axis: usize,
    },
    /// A matrix without an inverse.
    #[error("matrix {index} has no inverse")]
    Singular {
        /// Which of the matrices.
        index: usize,
    },
    /// More rounds than this crate runs.
    #[error(
        "the loop is still running after {limit} rounds (`--limit loop-rounds=N` changes that)"
    )]
    EndlessLoop {
        /// The limit.
        limit: u64,
    },
    /// An operation that cannot be computed on its own.
    #[error("`{op}` runs only within its module")]
    Bodies {
        /// The operation.
        op: &'static str,
    },
    /// A result that is not what its declaration says: the module was not verified.
    #[error("computed {found}, but the graph declares {declared}")]
    Result {
        /// The declared type.
        declared: String,
        /// What came out.
        found: String,
    },
}

impl Diagnostic for EvalError {
    fn class(&self) -> Class {
        match self {
            EvalError::TooLarge { .. }
            | EvalError::Memory { .. }
            | EvalError::EndlessLoop { .. } => Class::Unsupported,
            EvalError::MissingInput { .. }
            | EvalError::UnknownInput { .. }
            | EvalError::InputType { .. }
            | EvalError::InputValue { .. }
            | EvalError::InputIndex { .. }
            | EvalError::SymbolConflict { .. }
            | EvalError::SymbolRange { .. }
            | EvalError::Index { .. }
            | EvalError::Slice { .. }
            | EvalError::EmptyReduction { .. }
            | EvalError::Product { .. }
            | EvalError::NegativeSize { .. }
            | EvalError::DivisionByZero { .. }
            | EvalError::EmptyPadding { .. }
            | EvalError::Singular { .. }
            | EvalError::Bodies { .. }
            | EvalError::Result { .. } => Class::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            EvalError::MissingInput { .. }
            | EvalError::UnknownInput { .. }
            | EvalError::InputType { .. }
            | EvalError::InputValue { .. }
            | EvalError::SymbolConflict { .. }
            | EvalError::SymbolRange { .. } => "bad_input",
            EvalError::InputIndex { .. } | EvalError::Index { .. } => "index_out_of_range",
            EvalError::TooLarge { .. } | EvalError::Memory { .. } => "value_too_large",
            EvalError::EndlessLoop { .. } => "endless_loop",
            EvalError::Slice { .. }
            | EvalError::EmptyReduction { .. }
            | EvalError::Product { .. }
            | EvalError::NegativeSize { .. }
            | EvalError::DivisionByZero { .. }
            | EvalError::EmptyPadding { .. }
            | EvalError::Singular { .. }
            | EvalError::Bodies { .. }
            | EvalError::Result { .. } => "bad_graph",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            EvalError::InputIndex { .. } => {
                Some("the ids may come from another tokenizer than the model's".to_owned())
            }
            EvalError::SymbolRange { symbol, .. } => Some(format!(
                "pad or cut the inputs, or convert again with another range for `{symbol}`"
            )),
            EvalError::TooLarge { .. } => Some(format!(
                "run with a smaller batch or sequence; {}",
                limits::VALUE_ELEMENTS.hint()
            )),
            EvalError::Memory { .. } => Some(
                "run with a smaller batch or sequence, or allow more with `--max-memory`"
                    .to_owned(),
            ),
            EvalError::MissingInput { .. }
            | EvalError::UnknownInput { .. }
            | EvalError::InputType { .. }
            | EvalError::InputValue { .. }
            | EvalError::SymbolConflict { .. }
            | EvalError::Index { .. }
            | EvalError::Slice { .. }
            | EvalError::EmptyReduction { .. }
            | EvalError::Product { .. }
            | EvalError::EndlessLoop { .. }
            | EvalError::NegativeSize { .. }
            | EvalError::DivisionByZero { .. }
            | EvalError::EmptyPadding { .. }
            | EvalError::Singular { .. }
            | EvalError::Bodies { .. }
            | EvalError::Result { .. } => None,
        }
    }
}
