//! Activations, put back together from the arithmetic around one transcendental function.
//!
//! An expression is read as a polynomial in the activation's input `x` and the function's value `t`; so every order of its products and sums is
//! the same expression, and what does not amount to the definition is left alone.
// What a pattern does not name is no part of it: a new operation is left alone.
#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use super::graph::{Graph, Match, near};
use crate::ir::ops::{Activation, ActivationKind, Binary, BinaryKind, Clip, Unary, UnaryKind};
use crate::ir::{Op, ValueId};
use crate::tensor::num;

/// Most values of one expression that are looked at.
const EXPRESSION_VALUES: usize = 32;
/// Highest power of `x` in an activation.
const DEGREE: u32 = 3;
/// Coefficients below this part of the largest are what rounding left of zero.
const VANISHING: f64 = 1e-7;

/// Coefficients by the powers of `x` and `t`.
type Polynomial = BTreeMap<(u32, u32), f64>;

/// The function inside of an activation.
#[derive(Clone, Copy)]
enum Inner {
    Erf,
    Tanh,
    Sigmoid,
    /// Cut off at 0 and at this.
    Clip(f64),
}

/// What was recognised.
#[derive(Clone, Copy)]
enum Known {
    Unary(UnaryKind),
    HardSigmoid { alpha: f32, beta: f32 },
    HardSwish { alpha: f32, beta: f32 },
}

/// An activation whose last node is `root`.
///
/// Forms, with constants within 1e-5 of the exact ones (within the rounding of 16-bit types): GELU by erf and by tanh (or the sigmoid of twice
/// the argument), `x·sigmoid(x)`, `clip(a·x + b, 0, m)/m` and `x` times that.
pub(super) fn find(g: &Graph<'_>, root: ValueId) -> Option<Match> {
    let node = g.node(root)?;
    if !g.ty(root).dtype.is_float()
        || !matches!(
            node.op,
            Op::Binary(_)
                | Op::Clip(_)
                | Op::Unary(Unary {
                    kind: UnaryKind::Relu
                })
        )
    {
        return None;
    }
    let values = expression(g, root);
    for &t in &values {
        let Some((inner, argument)) = inner(g, t) else {
            continue;
        };
        let mut candidates: Vec<ValueId> = values.clone();
        candidates.extend(expression(g, argument));
        candidates.push(argument);
        candidates.sort_unstable();
        candidates.dedup();
        for x in candidates {
            if x == root || x == t || g.ty(x) != g.ty(root) {
                continue;
            }
            if let Some(known) = recognise(g, root, t, inner, argument, x) {
                return Some(found(known, x));
            }
        }
    }
    None
}

fn found(known: Known, x: ValueId) -> Match {
    let gate = |alpha, beta| {
        Op::Activation(Activation {
            kind: ActivationKind::HardSigmoid { alpha, beta },
        })
    };
    Match {
        labels: vec![match known {
            Known::Unary(UnaryKind::Silu) => "silu",
            Known::Unary(_) => "gelu",
            Known::HardSigmoid { .. } => "hard_sigmoid",
            Known::HardSwish { .. } => "hard_swish",
        }],
        leaves: vec![x],
        emit: Box::new(move |rewrite, name| {
            let x = rewrite.get(x);
            let b = &mut rewrite.builder;
            match known {
                Known::Unary(kind) => b.unary(name, kind, x),
                Known::HardSigmoid { alpha, beta } => b.push(name, gate(alpha, beta), &[x]),
                Known::HardSwish { alpha, beta } => {
                    let gate = b.push(&format!("{name}/gate"), gate(alpha, beta), &[x])?;
                    b.binary(name, BinaryKind::Mul, x, gate)
                }
            }
        }),
    }
}

/// The values of the arithmetic that ends in `root`, nearest first, constants left out.
fn expression(g: &Graph<'_>, root: ValueId) -> Vec<ValueId> {
    let mut values = vec![root];
    let mut next = 0;
    while next < values.len() && values.len() < EXPRESSION_VALUES {
        let v = values[next];
        next += 1;
        let Some(node) = g.node(v) else {
            continue;
        };
        if arithmetic(&node.op) {
            for &operand in &node.operands {
                if g.constant(operand).is_none() && !values.contains(&operand) {
                    values.push(operand);
                }
            }
        }
    }
    values
}

fn arithmetic(op: &Op) -> bool {
    match op {
        Op::Binary(Binary { kind }) => matches!(
            kind,
            BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul | BinaryKind::Div | BinaryKind::Pow
        ),
        Op::Unary(Unary { kind }) => *kind == UnaryKind::Neg,
        _ => false,
    }
}

/// The function that makes a value, if it is one of those inside of an activation, and its argument.
fn inner(g: &Graph<'_>, t: ValueId) -> Option<(Inner, ValueId)> {
    let node = g.node(t)?;
    if let Some((x, most)) = cut_off(g, t) {
        return Some((Inner::Clip(most), x));
    }
    let inner = match &node.op {
        Op::Unary(Unary {
            kind: UnaryKind::Erf,
        }) => Inner::Erf,
        Op::Unary(Unary {
            kind: UnaryKind::Tanh,
        }) => Inner::Tanh,
        Op::Unary(Unary {
            kind: UnaryKind::Sigmoid,
        }) => Inner::Sigmoid,
        _ => return None,
    };
    Some((inner, node.operands[0]))
}

/// What a value cuts off at 0 and at a number, and the number: a clip, or minimum and maximum in either order.
fn cut_off(g: &Graph<'_>, t: ValueId) -> Option<(ValueId, f64)> {
    if let Op::Clip(Clip { min: 0.0, max }) = g.node(t)?.op {
        let found = (g.node(t)?.operands[0], f64::from(max));
        return (max > 0.0 && max.is_finite()).then_some(found);
    }
    let at_number = |v: ValueId, kind: BinaryKind| {
        let found = g.either(v, kind).into_iter();
        found.filter_map(|(x, n)| Some((x, g.number(n)?))).next()
    };
    let at_zero = |v: ValueId| {
        let relu = g.unary(v, UnaryKind::Relu);
        relu.or_else(|| {
            let (x, n) = at_number(v, BinaryKind::Max)?;
            (n == 0.0).then_some(x)
        })
    };
    let found = match at_number(t, BinaryKind::Min) {
        Some((v, most)) => Some((at_zero(v)?, most)),
        None => at_number(at_zero(t)?, BinaryKind::Min),
    };
    found.filter(|(x, most)| *most > 0.0 && most.is_finite() && g.ty(*x) == g.ty(t))
}

/// A sigmoid, or the product with one, whose last node is `root`: `1/(1 + e⁻ˣ)` and `x/(1 + e⁻ˣ)`.
pub(super) fn find_sigmoid(g: &Graph<'_>, root: ValueId) -> Option<Match> {
    let (over, under) = match g.binary(root, BinaryKind::Div) {
        Some([over, under]) => (Some(over), under),
        None => (None, g.unary(root, UnaryKind::Reciprocal)?),
    };
    let exponential = |(e, n): (ValueId, ValueId)| {
        g.is_number(n, 1.0)
            .then(|| g.unary(e, UnaryKind::Exp))
            .flatten()
    };
    let negated = g.either(under, BinaryKind::Add).into_iter();
    let negated = negated.filter_map(exponential).next()?;
    let x = g.unary(negated, UnaryKind::Neg).or_else(|| {
        let found = g.either(negated, BinaryKind::Mul).into_iter();
        let mut found = found.filter(|&(_, n)| g.is_number(n, -1.0));
        found.next().map(|(x, _)| x)
    })?;
    let kind = match over {
        Some(over) if over == x => UnaryKind::Silu,
        Some(over) if !g.is_number(over, 1.0) => return None,
        Some(_) | None => UnaryKind::Sigmoid,
    };
    let label = if kind == UnaryKind::Silu {
        "silu"
    } else {
        "sigmoid"
    };
    (g.ty(x) == g.ty(root) && g.ty(x).dtype.is_float()).then(|| Match {
        labels: vec![label],
        leaves: vec![x],
        emit: Box::new(move |rewrite, name| {
            let x = rewrite.get(x);
            rewrite.builder.unary(name, kind, x)
        }),
    })
}

fn recognise(
    g: &Graph<'_>,
    root: ValueId,
    t: ValueId,
    inner: Inner,
    argument: ValueId,
    x: ValueId,
) -> Option<Known> {
    let dtype = g.ty(root).dtype;
    let of_x = polynomial(g, argument, x, None)?;
    let whole = polynomial(g, root, x, Some(t))?;
    let is = |p: &Polynomial, expected: &[((u32, u32), f64)]| {
        p.len() == expected.len()
            && expected
                .iter()
                .all(|(power, c)| p.get(power).is_some_and(|found| near(*found, *c, dtype)))
    };
    // An odd function of −x is minus that of x.
    let half_of_one_and = |t: f64| is(&whole, &[((1, 0), 0.5), ((1, 1), 0.5 * t)]);
    let times_t = is(&whole, &[((1, 1), 1.0)]);
    let cubic = |k: f64| is(&of_x, &[((1, 0), k), ((3, 0), 0.044_715 * k)]);
    let k = (2.0 / std::f64::consts::PI).sqrt();
    match inner {
        Inner::Erf => {
            let argument = |t: f64| is(&of_x, &[((1, 0), t * std::f64::consts::FRAC_1_SQRT_2)]);
            let either = [1.0, -1.0]
                .into_iter()
                .any(|t| argument(t) && half_of_one_and(t));
            either.then_some(Known::Unary(UnaryKind::GeluErf))
        }
        Inner::Tanh => {
            (cubic(k) && half_of_one_and(1.0)).then_some(Known::Unary(UnaryKind::GeluTanh))
        }
        Inner::Sigmoid if !times_t => None,
        // (1 + tanh u)/2 is the sigmoid of 2u.
        Inner::Sigmoid if cubic(2.0 * k) => Some(Known::Unary(UnaryKind::GeluTanh)),
        Inner::Sigmoid => is(&of_x, &[((1, 0), 1.0)]).then_some(Known::Unary(UnaryKind::Silu)),
        Inner::Clip(most) => {
            let line = of_x.keys().all(|power| matches!(power, (0 | 1, 0)));
            let (a, b) = (
                *of_x.get(&(1, 0))?,
                of_x.get(&(0, 0)).copied().unwrap_or(0.0),
            );
            let (&power, &scale) = whole.first_key_value()?;
            if !line || whole.len() != 1 || !near(scale * most, 1.0, dtype) {
                return None;
            }
            let (alpha, beta) = (num::f32_of_f64(a / most), num::f32_of_f64(b / most));
            match power {
                // Nothing but a clip is no gate.
                (0, 1) if (alpha, beta) == (1.0, 0.0) => None,
                (0, 1) => Some(Known::HardSigmoid { alpha, beta }),
                (1, 1) => Some(Known::HardSwish { alpha, beta }),
                _ => None,
            }
        }
    }
}

/// `v` as a polynomial in `x` and `t`; `None` when it is something else.
fn polynomial(g: &Graph<'_>, v: ValueId, x: ValueId, t: Option<ValueId>) -> Option<Polynomial> {
    let mut budget = EXPRESSION_VALUES * 2;
    let mut p = expand(g, v, x, t, &mut budget)?;
    let largest = p.values().fold(0.0f64, |m, c| m.max(c.abs()));
    p.retain(|_, c| c.abs() > VANISHING * largest);
    Some(p)
}

fn expand(
    g: &Graph<'_>,
    v: ValueId,
    x: ValueId,
    t: Option<ValueId>,
    budget: &mut usize,
) -> Option<Polynomial> {
    *budget = budget.checked_sub(1)?;
    if v == x {
        return Some(Polynomial::from([((1, 0), 1.0)]));
    }
    if Some(v) == t {
        return Some(Polynomial::from([((0, 1), 1.0)]));
    }
    if let Some(n) = g.number(v) {
        return n.is_finite().then(|| Polynomial::from([((0, 0), n)]));
    }
    let node = g.node(v)?;
    let mut operand = |i: usize| expand(g, node.operands[i], x, t, budget);
    match &node.op {
        Op::Unary(Unary {
            kind: UnaryKind::Neg,
        }) => Some(scaled(operand(0)?, -1.0)),
        Op::Binary(Binary { kind }) => match kind {
            BinaryKind::Add => Some(sum(operand(0)?, &operand(1)?)),
            BinaryKind::Sub => Some(sum(operand(0)?, &scaled(operand(1)?, -1.0))),
            BinaryKind::Mul => product(&operand(0)?, &operand(1)?),
            BinaryKind::Div => {
                let n = g.number(node.operands[1]).filter(|n| *n != 0.0)?;
                Some(scaled(operand(0)?, 1.0 / n))
            }
            BinaryKind::Pow => {
                let n = g.number(node.operands[1])?;
                let p = operand(0)?;
                let square = product(&p, &p);
                if n == 2.0 {
                    square
                } else if n == 3.0 {
                    product(&square?, &p)
                } else {
                    None
                }
            }
            _ => None,
        },
        _ => None,
    }
}

fn scaled(mut p: Polynomial, n: f64) -> Polynomial {
    p.values_mut().for_each(|c| *c *= n);
    p
}

fn sum(mut a: Polynomial, b: &Polynomial) -> Polynomial {
    for (power, c) in b {
        *a.entry(*power).or_insert(0.0) += c;
    }
    a
}

fn product(a: &Polynomial, b: &Polynomial) -> Option<Polynomial> {
    let mut out = Polynomial::new();
    for ((ax, at), ac) in a {
        for ((bx, bt), bc) in b {
            let power = (ax + bx, at + bt);
            if power.0 > DEGREE || power.1 > 1 {
                return None;
            }
            *out.entry(power).or_insert(0.0) += ac * bc;
        }
    }
    Some(out)
}
