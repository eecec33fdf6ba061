//! Dimensions: known numbers or integer expressions over named symbols, kept in a normal form so that equal expressions compare equal.

use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::limits;
use crate::tensor::num;

/// How the names of sizes begin that are known only once a node has run.
pub(crate) const RUN_TIME: char = '?';

/// How the names of sizes begin whose expressions are longer than [`limits::SIZE_TERMS`]: what is computed of them stays correct, since each is
/// a number of its own, and the builder refuses them.
const TOO_LONG: &str = "an expression too long to follow #";

/// Values of symbols.
pub type Bindings = BTreeMap<String, u64>;

/// A factor of a term: a symbol, or an operation that sums and products cannot express.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Atom {
    Symbol(Arc<str>),
    FloorDiv(Dim, Dim),
    Min(Dim, Dim),
    Max(Dim, Dim),
}

/// A dimension: a polynomial with integer coefficients over symbols, ⌊a/b⌋, min and max.
///
/// A known dimension is the polynomial with only a constant term.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dim {
    // Products of atoms (sorted, with repetition), ascending, each with its coefficient, never 0. The empty product is the constant term.
    terms: Vec<(Vec<Atom>, i64)>,
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::constant(num::i64_of(n))
    }
}

impl Dim {
    /// An integer; negative only inside expressions.
    #[must_use]
    pub fn constant(n: i64) -> Self {
        let terms = if n == 0 {
            Vec::new()
        } else {
            vec![(Vec::new(), n)]
        };
        Dim { terms }
    }

    /// A named symbol.
    #[must_use]
    pub fn symbol(name: &str) -> Self {
        Dim::atom(Atom::Symbol(name.into()))
    }

    fn atom(atom: Atom) -> Self {
        Dim {
            terms: vec![(vec![atom], 1)],
        }
    }

    /// The length of the expression: its terms and their factors, those inside of divisions, minima and maxima included. 0 for a number.
    #[must_use]
    pub fn length(&self) -> usize {
        self.integer().map_or_else(|| self.size().0, |_| 0)
    }

    /// Whether it stands for an expression that is longer, or nested deeper, than is followed.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        let mut symbols = BTreeSet::new();
        self.symbols(&mut symbols);
        symbols.iter().any(|s| s.starts_with(TOO_LONG))
    }

    /// Terms and factors, and how deep they nest.
    fn size(&self) -> (usize, usize) {
        let mut all = (0, 0);
        for (atoms, _) in &self.terms {
            let (length, depth) = size_of(atoms);
            all = (all.0 + length, all.1.max(depth));
        }
        all
    }

    /// The expression, or what stands for one that is too long; `what` and `operands` say what it was to be.
    fn bounded(self, what: &str, operands: [&Dim; 2]) -> Dim {
        let (length, depth) = self.size();
        if length <= limits::SIZE_TERMS.count() && depth <= limits::SIZE_NESTING {
            self
        } else {
            Dim::too_long(what, operands)
        }
    }

    /// The same for the same operation on the same operands, so that equal expressions stay equal.
    fn too_long(what: &str, operands: [&Dim; 2]) -> Dim {
        let mut hasher = DefaultHasher::new();
        (what, operands).hash(&mut hasher);
        Dim::symbol(&format!("{TOO_LONG}{:016x}", hasher.finish()))
    }

    /// The number, if it is known and not negative.
    #[must_use]
    pub fn known(&self) -> Option<usize> {
        self.integer().and_then(|n| usize::try_from(n).ok())
    }

    /// The integer, if it is known.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self.terms.as_slice() {
            [] => Some(0),
            [(atoms, n)] if atoms.is_empty() => Some(*n),
            [..] => None,
        }
    }

    /// The name, if it is just a symbol.
    #[must_use]
    pub fn as_symbol(&self) -> Option<&str> {
        match self.as_atom()? {
            Atom::Symbol(name) => Some(name),
            Atom::FloorDiv(..) | Atom::Min(..) | Atom::Max(..) => None,
        }
    }

    /// Whether it depends on a size that is known only once a node has run.
    #[must_use]
    pub fn is_run_time(&self) -> bool {
        let mut symbols = BTreeSet::new();
        self.symbols(&mut symbols);
        symbols.iter().any(|s| s.starts_with(RUN_TIME))
    }

    /// Whether two dimensions are equal, or may turn out to be when their symbols have values; a run checks it.
    #[must_use]
    pub fn may_equal(&self, other: &Dim) -> bool {
        self.sub(other).integer().is_none_or(|n| n == 0)
    }

    /// `(factor, symbol, rest)` if it is `factor · symbol + rest` with a positive factor.
    pub(crate) fn linear(&self) -> Option<(i64, &str, i64)> {
        let (mut factor, mut rest) = (None, 0);
        for (atoms, n) in &self.terms {
            match atoms.as_slice() {
                [] => rest = *n,
                [Atom::Symbol(name)] if factor.is_none() && *n > 0 => factor = Some((*n, &**name)),
                [..] => return None,
            }
        }
        factor.map(|(n, name)| (n, name, rest))
    }

    /// What `other` is compared with if this is `min(other, ·)`.
    pub(crate) fn least_with(&self, other: &Dim) -> Option<&Dim> {
        match self.as_atom()? {
            Atom::Min(a, b) if a == other => Some(b),
            Atom::Min(a, b) if b == other => Some(a),
            Atom::Min(..) | Atom::Max(..) | Atom::Symbol(_) | Atom::FloorDiv(..) => None,
        }
    }

    /// What `other` is compared with if this is `max(other, ·)`.
    fn greatest_with(&self, other: &Dim) -> Option<&Dim> {
        match self.as_atom()? {
            Atom::Max(a, b) if a == other => Some(b),
            Atom::Max(a, b) if b == other => Some(a),
            Atom::Min(..) | Atom::Max(..) | Atom::Symbol(_) | Atom::FloorDiv(..) => None,
        }
    }

    fn as_atom(&self) -> Option<&Atom> {
        match self.terms.as_slice() {
            [(atoms, 1)] => match atoms.as_slice() {
                [atom] => Some(atom),
                [..] => None,
            },
            [..] => None,
        }
    }

    /// `self + other`; saturates far outside any dimension.
    #[must_use]
    pub fn add(&self, other: &Dim) -> Dim {
        let mut terms = Vec::with_capacity(self.terms.len() + other.terms.len());
        let (mut mine, mut theirs) = (self.terms.iter().peekable(), other.terms.iter().peekable());
        while let (Some((a, n)), Some((b, m))) = (mine.peek(), theirs.peek()) {
            match a.cmp(b) {
                Ordering::Less => terms.extend(mine.next().cloned()),
                Ordering::Greater => terms.extend(theirs.next().cloned()),
                Ordering::Equal => {
                    terms.push((a.clone(), n.saturating_add(*m)));
                    mine.next();
                    theirs.next();
                }
            }
        }
        terms.extend(mine.chain(theirs).cloned());
        terms.retain(|(_, n)| *n != 0);
        terms.shrink_to_fit();
        Dim { terms }.bounded("+", [self, other])
    }

    /// `self - other`.
    #[must_use]
    pub fn sub(&self, other: &Dim) -> Dim {
        self.add(&other.mul(&Dim::constant(-1)))
    }

    /// `self · other`.
    #[must_use]
    pub fn mul(&self, other: &Dim) -> Dim {
        let mut terms: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
        let mut left = limits::SIZE_TERMS.count();
        for (a, n) in &self.terms {
            for (b, m) in &other.terms {
                let mut atoms: Vec<Atom> = a.iter().chain(b).cloned().collect();
                atoms.sort();
                let n = n.saturating_mul(*m);
                match terms.entry(atoms) {
                    Entry::Occupied(mut sum) => {
                        let sum = sum.get_mut();
                        *sum = sum.saturating_add(n);
                    }
                    // Counted before terms cancel, so that a product is never larger than what is followed, not even for a while.
                    Entry::Vacant(place) => match left.checked_sub(size_of(place.key()).0) {
                        Some(rest) => {
                            left = rest;
                            place.insert(n);
                        }
                        None => return Dim::too_long("*", [self, other]),
                    },
                }
            }
        }
        let terms = terms.into_iter().filter(|(_, n)| *n != 0).collect();
        Dim { terms }.bounded("*", [self, other])
    }

    /// ⌊self / other⌋, `None` for a division by zero.
    #[must_use]
    pub fn floor_div(&self, other: &Dim) -> Option<Dim> {
        if let Some(d) = other.integer() {
            if d == 0 {
                return None;
            }
            // Without the overflow that dividing the least number would have.
            if d == -1 {
                return Some(self.mul(other));
            }
            if let Some(n) = self.integer() {
                return Some(Dim::constant(
                    n.div_euclid(d) - i64::from(d < 0 && n.rem_euclid(d) != 0),
                ));
            }
            if self.terms.iter().all(|(_, n)| n.checked_rem(d) == Some(0)) {
                let terms = self.terms.iter().map(|(a, n)| (a.clone(), n / d)).collect();
                return Some(Dim { terms });
            }
        }
        if self == other {
            return Some(Dim::constant(1));
        }
        if let Some(quotient) = self.quotient(other) {
            return Some(quotient);
        }
        match other.integer() {
            Some(d) if d > 0 => Some(self.floor_div_by(d)),
            Some(_) | None => Some(self.open_quotient(other)),
        }
    }

    fn open_quotient(&self, other: &Dim) -> Dim {
        let quotient = Atom::FloorDiv(self.clone(), other.clone());
        Dim::atom(quotient).bounded("/", [self, other])
    }

    /// ⌊self / d⌋ for a positive number: whole multiples of it leave the division, and a division of a division is one.
    fn floor_div_by(&self, d: i64) -> Dim {
        let (mut whole, mut rest) = (Dim::default(), Dim::default());
        for (atoms, n) in &self.terms {
            // What is left is not negative, so that it does not matter how engines round what is.
            let left = n.rem_euclid(d);
            for (part, n) in [(&mut whole, n.saturating_sub(left) / d), (&mut rest, left)] {
                if n != 0 {
                    part.terms.push((atoms.clone(), n));
                }
            }
        }
        if let Some(n) = rest.integer() {
            return whole.add(&Dim::constant(n.div_euclid(d)));
        }
        let apart = Dim::constant(match rest.terms.as_slice() {
            [(atoms, n), ..] if atoms.is_empty() => *n,
            [..] => 0,
        });
        if let Some(Atom::FloorDiv(a, b)) = rest.sub(&apart).as_atom()
            && let Some(by) = b.integer().filter(|&b| b > 0)
            && let Some(both) = by.checked_mul(d)
        {
            return whole.add(&a.add(&apart.mul(b)).floor_div_by(both));
        }
        whole.add(&rest.open_quotient(&Dim::constant(d)))
    }

    /// The polynomial that times `other` is `self`, if there is one.
    #[must_use]
    pub fn quotient(&self, other: &Dim) -> Option<Dim> {
        let (atoms, d) = other.leading()?;
        let (mut rest, mut quotient) = (self.clone(), Dim::default());
        for _ in 0..=limits::QUOTIENT_TERMS {
            let Some((product, n)) = rest.leading() else {
                return Some(quotient);
            };
            let (mut product, n) = (product.clone(), *n);
            for atom in atoms {
                let at = product.iter().position(|a| a == atom)?;
                product.remove(at);
            }
            if n.checked_rem(*d) != Some(0) {
                return None;
            }
            let term = Dim {
                terms: vec![(product, n / d)],
            };
            rest = rest.sub(&term.mul(other));
            quotient = quotient.add(&term);
        }
        None
    }

    /// The expression where every `d · ⌊n / d⌋` is `n`: its value for multiples of all `d`.
    #[must_use]
    pub fn undivided(&self) -> Dim {
        let mut out = Dim::default();
        for (atoms, n) in &self.terms {
            let (mut left, mut product) = (*n, Dim::from(1));
            for atom in atoms {
                let division = match atom {
                    Atom::FloorDiv(a, b) => b.integer().map(|d| (a, d)),
                    Atom::Symbol(_) | Atom::Min(..) | Atom::Max(..) => None,
                };
                let factor = match division.filter(|&(_, d)| left.checked_rem(d) == Some(0)) {
                    Some((a, d)) => {
                        left /= d;
                        a.clone()
                    }
                    None => Dim::atom(atom.clone()),
                };
                product = product.mul(&factor);
            }
            out = out.add(&product.mul(&Dim::constant(left)));
        }
        out
    }

    /// The term of most factors, of those the last: what a product's is follows from those of its factors.
    fn leading(&self) -> Option<&(Vec<Atom>, i64)> {
        self.terms
            .iter()
            .max_by_key(|(atoms, _)| (atoms.len(), atoms))
    }

    /// The smaller of the two.
    #[must_use]
    pub fn smaller(&self, other: &Dim) -> Dim {
        match (self.integer(), other.integer()) {
            (Some(a), Some(b)) => Dim::constant(a.min(b)),
            _ if self == other || other.greatest_with(self).is_some() => self.clone(),
            _ if self.greatest_with(other).is_some() => other.clone(),
            _ if self.least_with(other).is_some() => self.clone(),
            _ if other.least_with(self).is_some() => other.clone(),
            _ => {
                let both = [self.clone().min_of(other), self.clone().max_of(other)];
                let [a, b] = both.clone();
                Dim::atom(Atom::Min(a, b)).bounded("min", both.each_ref())
            }
        }
    }

    /// The larger of the two.
    #[must_use]
    pub fn larger(&self, other: &Dim) -> Dim {
        match (self.integer(), other.integer()) {
            (Some(a), Some(b)) => Dim::constant(a.max(b)),
            _ if self == other || other.least_with(self).is_some() => self.clone(),
            _ if self.least_with(other).is_some() => other.clone(),
            _ if self.greatest_with(other).is_some() => self.clone(),
            _ if other.greatest_with(self).is_some() => other.clone(),
            _ => {
                let both = [self.clone().min_of(other), self.clone().max_of(other)];
                let [a, b] = both.clone();
                Dim::atom(Atom::Max(a, b)).bounded("max", both.each_ref())
            }
        }
    }

    // The structural order, so that min(a, b) and min(b, a) are one expression.
    fn min_of(self, other: &Dim) -> Dim {
        if &self <= other { self } else { other.clone() }
    }

    fn max_of(self, other: &Dim) -> Dim {
        if &self <= other { other.clone() } else { self }
    }

    /// The value under `bindings`, or `None` when a symbol is missing, something divides by zero or overflows.
    #[must_use]
    pub fn eval(&self, bindings: &Bindings) -> Option<i64> {
        self.substitute(bindings)?.integer()
    }

    /// The expression with the symbols of `bindings` replaced; `None` for a division by zero.
    #[must_use]
    pub fn substitute(&self, bindings: &Bindings) -> Option<Dim> {
        let mut out = Dim::default();
        for (atoms, n) in &self.terms {
            let mut product = Dim::constant(*n);
            for atom in atoms {
                let factor = match atom {
                    Atom::Symbol(name) => match bindings.get(&**name) {
                        Some(&value) => Dim::constant(i64::try_from(value).ok()?),
                        None => Dim::atom(atom.clone()),
                    },
                    Atom::FloorDiv(a, b) => a
                        .substitute(bindings)?
                        .floor_div(&b.substitute(bindings)?)?,
                    Atom::Min(a, b) => a.substitute(bindings)?.smaller(&b.substitute(bindings)?),
                    Atom::Max(a, b) => a.substitute(bindings)?.larger(&b.substitute(bindings)?),
                };
                product = product.mul(&factor);
            }
            out = out.add(&product);
        }
        Some(out)
    }

    /// Adds the symbols of this expression to `into`.
    pub fn symbols(&self, into: &mut BTreeSet<String>) {
        for atom in self.terms.iter().flat_map(|(atoms, _)| atoms) {
            match atom {
                Atom::Symbol(name) => {
                    into.insert(name.to_string());
                }
                Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                    a.symbols(into);
                    b.symbols(into);
                }
            }
        }
    }

    /// The expression as a tree, for writers that have to compute it at run time.
    #[must_use]
    pub fn tree(&self) -> DimTree {
        let mut sum: Option<DimTree> = None;
        for (atoms, n) in &self.terms {
            let n = *n;
            let mut product = (n != 1 || atoms.is_empty()).then_some(DimTree::Integer(n));
            for atom in atoms {
                let factor = match atom {
                    Atom::Symbol(name) => DimTree::Symbol(name.to_string()),
                    Atom::FloorDiv(a, b) => DimTree::binary(DimOp::FloorDiv, a.tree(), b.tree()),
                    Atom::Min(a, b) => DimTree::binary(DimOp::Min, a.tree(), b.tree()),
                    Atom::Max(a, b) => DimTree::binary(DimOp::Max, a.tree(), b.tree()),
                };
                product = Some(match product {
                    Some(p) => DimTree::binary(DimOp::Mul, p, factor),
                    None => factor,
                });
            }
            let term = product.unwrap_or(DimTree::Integer(n));
            sum = Some(match sum {
                Some(s) => DimTree::binary(DimOp::Add, s, term),
                None => term,
            });
        }
        sum.unwrap_or(DimTree::Integer(0))
    }
}

/// Terms and factors of a product, and how deep they nest.
fn size_of(atoms: &[Atom]) -> (usize, usize) {
    let mut all = (1, 0);
    for atom in atoms {
        let (length, depth) = match atom {
            Atom::Symbol(_) => (0, 0),
            Atom::FloorDiv(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                let (a, b) = (a.size(), b.size());
                (a.0 + b.0, a.1.max(b.1) + 1)
            }
        };
        all = (all.0 + 1 + length, all.1.max(depth));
    }
    all
}

/// A binary operation of a [`DimTree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DimOp {
    /// a + b
    Add,
    /// a · b
    Mul,
    /// ⌊a / b⌋
    FloorDiv,
    /// The smaller.
    Min,
    /// The larger.
    Max,
}

/// A dimension as an expression tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimTree {
    /// A number.
    Integer(i64),
    /// A symbol.
    Symbol(String),
    /// An operation on two expressions.
    Binary(DimOp, Box<DimTree>, Box<DimTree>),
}

impl DimTree {
    fn binary(op: DimOp, a: DimTree, b: DimTree) -> Self {
        DimTree::Binary(op, Box::new(a), Box::new(b))
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // Symbols first, the constant last: `seq + 1`.
        for (i, (atoms, n)) in self.terms.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(if *n < 0 { " - " } else { " + " })?;
            } else if *n < 0 {
                f.write_str("-")?;
            }
            let magnitude = n.unsigned_abs();
            if atoms.is_empty() || magnitude != 1 {
                write!(f, "{magnitude}")?;
                if !atoms.is_empty() {
                    f.write_str("*")?;
                }
            }
            for (j, atom) in atoms.iter().enumerate() {
                if j > 0 {
                    f.write_str("*")?;
                }
                match atom {
                    Atom::Symbol(name) => f.write_str(name)?,
                    Atom::FloorDiv(a, b) => write!(f, "(({a})//({b}))")?,
                    Atom::Min(a, b) => write!(f, "min({a}, {b})")?,
                    Atom::Max(a, b) => write!(f, "max({a}, {b})")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_expressions_are_equal() {
        let (s, b) = (Dim::symbol("seq"), Dim::symbol("batch"));
        let two = Dim::from(2);
        assert_eq!(s.add(&s), s.mul(&two));
        assert_eq!(s.mul(&b).mul(&two), two.mul(&b).mul(&s));
        assert_eq!(s.add(&b).sub(&b), s);
        assert_eq!(s.mul(&two).floor_div(&two), Some(s.clone()));
        assert_eq!(s.mul(&b).floor_div(&b), Some(s.clone()));
        assert_eq!(s.smaller(&b), b.smaller(&s));
        let capped = s.smaller(&Dim::from(64));
        assert_eq!(
            (s.larger(&capped), s.smaller(&capped)),
            (s.clone(), capped.clone())
        );
        let (least, size) = (s.larger(&two), s.clone());
        assert_eq!((size.smaller(&least), least.larger(&size)), (size, least));
        assert_eq!(s.sub(&s), Dim::from(0));
        assert_eq!(s.floor_div(&Dim::from(0)), None);
    }

    #[test]
    fn expressions_that_are_too_long_are_numbers_of_their_own() {
        let mut sum = Dim::from(1);
        let mut steps = 0;
        while !sum.is_too_long() {
            let symbol = Dim::symbol(&format!("x{steps}"));
            (sum, steps) = (sum.mul(&symbol.add(&Dim::from(1))), steps + 1);
        }
        assert!((6..10).contains(&steps), "{steps}");
        // What is computed of them stays right: nothing is equal that was not, and what was stays so.
        assert!(sum != sum.add(&Dim::from(1)) && sum.sub(&sum) == Dim::from(0));
        let (s, mut least, mut nested) = (Dim::symbol("s"), Dim::symbol("t"), Dim::symbol("u"));
        let mut depth = 0;
        while !nested.is_too_long() {
            let least_next = least.smaller(&s.add(&least.mul(&Dim::from(depth))));
            let next = nested.add(&Dim::from(1)).floor_div(&s).unwrap();
            (least, nested, depth) = (least_next, next, depth + 1);
        }
        assert!(least.is_too_long() && depth == limits::SIZE_NESTING + 1);
        let again = s.floor_div(&sum.mul(&s)).unwrap();
        assert_eq!(again.eval(&Bindings::from([("s".into(), 8)])), None);
    }

    #[test]
    fn the_longest_expressions_are_handled_by_small_stacks() {
        // The highest value of the cap, in a chain that nests as deep as it may.
        let sum = |name: &str, n: usize| {
            let all = (0..n).map(|i| Dim::symbol(&format!("{name}{i}")));
            all.fold(Dim::from(0), |sum, x| sum.add(&x))
        };
        let terms = limits::SIZE_TERMS.count() / 2 - 2 * limits::SIZE_NESTING;
        let mut dim = sum("x", terms);
        for _ in 0..limits::SIZE_NESTING - 1 {
            dim = dim.floor_div(&Dim::symbol("d")).unwrap();
        }
        assert!(!dim.is_too_long());
        assert!(dim.to_string().len() > terms);
        assert_eq!(dim.tree(), dim.clone().tree());
        assert_eq!(dim.substitute(&Bindings::new()), Some(dim));
    }

    #[test]
    fn the_least_number_is_divided_without_overflow() {
        let (least, minus, s) = (
            Dim::constant(i64::MIN),
            Dim::constant(-1),
            Dim::symbol("seq"),
        );
        assert_eq!(least.floor_div(&minus).unwrap().integer(), Some(i64::MAX));
        let product = s.mul(&least);
        assert!(product.floor_div(&s.mul(&minus)).is_some());
        assert!(product.floor_div(&minus).is_some());
    }

    #[test]
    fn quotients_of_polynomials_are_found() {
        let (h, w, one) = (Dim::symbol("h"), Dim::symbol("w"), Dim::from(1));
        let (h1, w1) = (h.add(&one), w.add(&one));
        let four = Dim::from(4);
        let product = h1.mul(&w1).mul(&four);
        assert_eq!(product.floor_div(&h1), Some(w1.mul(&four)));
        assert_eq!(product.floor_div(&h1.mul(&w1)), Some(four));
        assert_eq!(product.quotient(&w), None);
        assert_eq!(product.quotient(&Dim::from(0)), None);
        let third = Dim::symbol("n").floor_div(&Dim::from(3)).unwrap();
        let mixed = third.sub(&w).mul(&third.add(&h));
        assert_eq!(mixed.quotient(&third.sub(&w)), Some(third.add(&h)));
    }

    #[test]
    fn whole_multiples_leave_a_division() {
        let (s, two) = (Dim::symbol("s"), Dim::from(2));
        let add = |d: &Dim, n: i64| d.add(&Dim::constant(n));
        let twice = s.mul(&two);
        assert_eq!(add(&twice, 1).floor_div(&two), Some(s.clone()));
        assert_eq!(add(&twice, -1).floor_div(&two), Some(add(&s, -1)));
        let half = s.floor_div(&two).unwrap();
        assert_eq!(add(&s, 4).floor_div(&two), Some(add(&half, 2)));
        assert_eq!(half.floor_div(&two), s.floor_div(&Dim::from(4)));
        // Sizes after strides of 2 and 2, and after one of 4.
        let halved = |d: &Dim| Some(add(&add(d, -1).floor_div(&two)?, 1));
        assert_eq!(
            halved(&s).and_then(|h| halved(&h)),
            add(&s, 3).floor_div(&Dim::from(4))
        );
        for (n, a, d) in [(3, -7, 2), (-3, 5, 4), (5, -1, 3), (1, -5, 6), (-7, 2, 3)] {
            let whole = add(&s.mul(&Dim::constant(n)), a).floor_div(&Dim::constant(d));
            for size in 0..40u32 {
                let bound = Bindings::from([("s".to_owned(), u64::from(size))]);
                let value = whole.as_ref().and_then(|w| w.eval(&bound));
                let exact = (n * i64::from(size) + a).div_euclid(d);
                assert_eq!(value, Some(exact), "({n}*{size} + {a}) // {d}");
            }
        }
    }

    #[test]
    fn dimensions_that_never_meet_are_told_from_those_that_may() {
        let (s, b, two) = (Dim::symbol("seq"), Dim::symbol("batch"), Dim::from(2));
        assert!(s.may_equal(&b) && s.may_equal(&two) && s.may_equal(&s.mul(&two)));
        assert!(!s.may_equal(&s.add(&two)) && !two.may_equal(&Dim::from(3)));
        assert_eq!(s.mul(&two).sub(&two).linear(), Some((2, "seq", -2)));
        assert_eq!(s.add(&b).linear(), None);
    }

    #[test]
    fn evaluation_follows_floor_division() {
        let s = Dim::symbol("seq");
        let half = s.add(&Dim::from(1)).floor_div(&Dim::from(2)).unwrap();
        assert_eq!(half.eval(&Bindings::from([("seq".into(), 8)])), Some(4));
        assert_eq!(half.eval(&Bindings::new()), None);
        assert_eq!(half.to_string(), "((seq + 1)//(2))");
        assert_eq!(
            Dim::constant(-7)
                .floor_div(&Dim::from(2))
                .unwrap()
                .integer(),
            Some(-4)
        );
        assert_eq!(
            Dim::constant(7)
                .floor_div(&Dim::constant(-2))
                .unwrap()
                .integer(),
            Some(-4)
        );
    }
}
