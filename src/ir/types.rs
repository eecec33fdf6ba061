//! Value types, shape helpers shared by every operation, and the errors of the IR.

use super::dim::{Bindings, Dim};
use crate::error::{Class, Diagnostic};
use crate::limits;
use crate::tensor::{DType, TensorError};

/// A shape: one dimension per axis.
pub type Shape = Vec<Dim>;

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Shape,
}

impl Type {
    /// A type from its parts.
    #[must_use]
    pub fn new(dtype: DType, shape: Shape) -> Self {
        Type { dtype, shape }
    }

    /// A type of known shape.
    #[must_use]
    pub fn known(dtype: DType, shape: &[usize]) -> Self {
        Type {
            dtype,
            shape: shape.iter().map(|&d| Dim::from(d)).collect(),
        }
    }

    /// Number of axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The shape as numbers, if all are known.
    #[must_use]
    pub fn known_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::known).collect()
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.dtype, display_shape(&self.shape))
    }
}

/// `[2, seq, 64]`
#[must_use]
pub fn display_shape(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// What can be wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IrError {
    /// Too few or too many operands.
    #[error("`{op}` takes {expected} operands, found {found}")]
    Arity {
        /// The operation.
        op: &'static str,
        /// What it takes.
        expected: String,
        /// What it got.
        found: usize,
    },
    /// An operand of the wrong element type.
    #[error("`{op}` expects operand {operand} to be {expected}, found {found}")]
    OperandType {
        /// The operation.
        op: &'static str,
        /// Index of the operand.
        operand: usize,
        /// What it takes.
        expected: String,
        /// What it got.
        found: String,
    },
    /// Shapes that do not fit together.
    #[error("`{op}`: {reason}: {shapes}")]
    Shapes {
        /// The operation.
        op: &'static str,
        /// What does not fit.
        reason: &'static str,
        /// The shapes.
        shapes: String,
    },
    /// An axis outside the rank.
    #[error("axis {axis} is outside rank {rank}")]
    Axis {
        /// The axis.
        axis: i64,
        /// The rank.
        rank: usize,
    },
    /// A declared type that contradicts the inferred one.
    #[error("declared type {declared} contradicts the inferred type {inferred}")]
    Declared {
        /// What the file says.
        declared: String,
        /// What follows from the operands.
        inferred: String,
    },
    /// An operand that is not defined before its use.
    #[error("operand {operand} is not defined before its use")]
    Undefined {
        /// Index of the operand.
        operand: usize,
    },
    /// Two values or interface entries with one name.
    #[error("the name `{name}` is used twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A symbol without a declaration, or without a value when one is needed.
    #[error("the dimension `{dim}` has no value here")]
    Unbound {
        /// The expression.
        dim: String,
    },
    /// Sizes whose expressions are longer than is followed.
    #[error(
        "{what} too long to follow: more than {limit} terms and factors, or {} levels",
        limits::SIZE_NESTING
    )]
    SizeLength {
        /// One size or all of them.
        what: &'static str,
        /// The cap.
        limit: String,
    },
    /// Constants that take too much memory.
    #[error("the constants that operators ask for take more than twice {limit} bytes")]
    Held {
        /// The cap.
        limit: String,
    },
    /// A function that does not exist.
    #[error("no function `{name}`")]
    NoFunction {
        /// The name.
        name: String,
    },
    /// A function without outputs.
    #[error("the function has no outputs")]
    NoOutputs,
    /// A record of the parameters' domains that does not fit.
    #[error("metadata `{}`: {problem}", super::DOMAINS_KEY)]
    Domains {
        /// What is wrong.
        problem: String,
    },
    /// A malformed tensor.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl Diagnostic for IrError {
    fn class(&self) -> Class {
        Class::Invalid
    }

    fn code(&self) -> &'static str {
        "bad_graph"
    }

    fn hint(&self) -> Option<String> {
        matches!(self, IrError::SizeLength { .. })
            .then(|| "fix sizes that vary with `--dim` or `--shape`".into())
    }
}

/// NumPy's broadcast of two shapes. Dimensions that are equal for some sizes only are taken to meet: a run checks it.
///
/// # Errors
/// When two dimensions are never equal and neither is 1.
pub fn broadcast(op: &'static str, a: &[Dim], b: &[Dim]) -> Result<Shape, IrError> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1);
    let at = |s: &[Dim], i: usize| {
        (i + s.len())
            .checked_sub(rank)
            .map_or_else(|| one.clone(), |j| s[j].clone())
    };
    (0..rank)
        .map(|i| {
            let (x, y) = (at(a, i), at(b, i));
            if x == y || y == one {
                Ok(x)
            } else if x == one {
                Ok(y)
            } else if x.may_equal(&y) {
                // One of them may be 1. A known size can only stand; two that are open may each give way.
                Ok(match (x.known(), y.known()) {
                    (Some(_), _) => x,
                    (_, Some(_)) => y,
                    (None, None) => x.larger(&y),
                })
            } else {
                Err(IrError::Shapes {
                    op,
                    reason: "shapes do not broadcast",
                    shapes: format!("{} and {}", display_shape(a), display_shape(b)),
                })
            }
        })
        .collect()
}

/// The axis as an index; negative axes count from the end.
///
/// # Errors
/// When it is outside `-rank..rank`.
pub fn normalize_axis(axis: i64, rank: usize) -> Result<usize, IrError> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let index = if axis < 0 {
        axis.saturating_add(signed)
    } else {
        axis
    };
    if (0..signed).contains(&index) {
        usize::try_from(index).map_err(|_| IrError::Axis { axis, rank })
    } else {
        Err(IrError::Axis { axis, rank })
    }
}

/// The shape in numbers under `bindings`.
///
/// # Errors
/// When a symbol has no value or a dimension is negative.
pub fn concrete(shape: &[Dim], bindings: &Bindings) -> Result<Vec<usize>, IrError> {
    shape
        .iter()
        .map(|d| {
            d.eval(bindings)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| IrError::Unbound { dim: d.to_string() })
        })
        .collect()
}
