//! What is known about sizes that vary: intervals that decide comparisons of dimension expressions.

use std::collections::BTreeMap;

use super::dim::{Dim, DimOp, DimTree};
use super::module::{Symbol, SymbolRange};

/// The sizes that symbols may have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    symbols: BTreeMap<String, (i64, i64)>,
}

impl Bounds {
    /// Adds a symbol.
    pub(crate) fn insert(&mut self, symbol: &Symbol) {
        let size = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let range = match &symbol.range {
            SymbolRange::Between { min, max } => (size(*min), size(*max)),
            SymbolRange::OneOf(sizes) => (
                sizes.first().copied().map_or(0, size),
                sizes.last().copied().map_or(i64::MAX, size),
            ),
        };
        self.symbols.insert(symbol.name.clone(), range);
    }

    /// Least and greatest value, as far as interval arithmetic can tell.
    pub(crate) fn of(&self, dim: &Dim) -> Option<(i64, i64)> {
        self.of_tree(&dim.tree())
    }

    /// The only value that an expression can have, if it is plain that there is but one.
    pub(crate) fn settled(&self, dim: &Dim) -> Option<i64> {
        self.of(dim).filter(|(a, b)| a == b).map(|(a, _)| a)
    }

    fn of_tree(&self, tree: &DimTree) -> Option<(i64, i64)> {
        Some(match tree {
            DimTree::Integer(n) => (*n, *n),
            // A size that is only known at run time.
            DimTree::Symbol(name) => self
                .symbols
                .get(name)
                .copied()
                .unwrap_or((0, i64::MAX >> 8)),
            DimTree::Binary(op, a, b) => {
                let ((a0, a1), (b0, b1)) = (self.of_tree(a)?, self.of_tree(b)?);
                match op {
                    DimOp::Add => (a0.saturating_add(b0), a1.saturating_add(b1)),
                    DimOp::Min => (a0.min(b0), a1.min(b1)),
                    DimOp::Max => (a0.max(b0), a1.max(b1)),
                    DimOp::Mul => ends(a0, a1, b0, b1, i64::saturating_mul),
                    DimOp::FloorDiv if b0 > 0 => ends(a0, a1, b0, b1, i64::div_euclid),
                    DimOp::FloorDiv => return None,
                }
            }
        })
    }

    /// Whether `a ≤ b` for all sizes of the symbols.
    pub(crate) fn at_most(&self, a: &Dim, b: &Dim) -> bool {
        self.of(&b.sub(a)).is_some_and(|(least, _)| least >= 0)
    }

    /// Whether `a < b` for all sizes of the symbols.
    pub(crate) fn below(&self, a: &Dim, b: &Dim) -> bool {
        self.of(&b.sub(a)).is_some_and(|(least, _)| least > 0)
    }

    /// Whether the expression is never negative.
    pub(crate) fn is_natural(&self, dim: &Dim) -> bool {
        self.of(dim).is_some_and(|(least, _)| least >= 0)
    }

    fn is_negative(&self, dim: &Dim) -> bool {
        self.of(dim).is_some_and(|(_, greatest)| greatest < 0)
    }

    /// Whether two expressions are never equal.
    pub(crate) fn differ(&self, a: &Dim, b: &Dim) -> bool {
        self.below(a, b) || self.below(b, a)
    }

    /// The smaller one, as a plain expression where the sizes allow it.
    pub(crate) fn smaller(&self, a: &Dim, b: &Dim) -> Dim {
        if self.at_most(a, b) {
            a.clone()
        } else if self.at_most(b, a) {
            b.clone()
        } else {
            a.smaller(b)
        }
    }

    /// The larger one, as a plain expression where the sizes allow it.
    pub(crate) fn larger(&self, a: &Dim, b: &Dim) -> Dim {
        if self.at_most(a, b) {
            b.clone()
        } else if self.at_most(b, a) {
            a.clone()
        } else {
            a.larger(b)
        }
    }

    /// A position of a slice on an axis: negative ones count from the end, then it is clamped to `low..=high`. `None` when its sign is not known.
    pub(crate) fn position(&self, at: &Dim, size: &Dim, low: &Dim, high: &Dim) -> Option<Dim> {
        let at = if self.is_natural(at) {
            at.clone()
        } else if self.is_negative(at) {
            at.add(size)
        } else {
            return None;
        };
        Some(self.smaller(&self.larger(&at, low), high))
    }
}

fn ends(a0: i64, a1: i64, b0: i64, b1: i64, f: fn(i64, i64) -> i64) -> (i64, i64) {
    let ends = [f(a0, b0), f(a0, b1), f(a1, b0), f(a1, b1)];
    let least = ends.iter().copied().min().unwrap_or(i64::MIN);
    (least, ends.iter().copied().max().unwrap_or(i64::MAX))
}
