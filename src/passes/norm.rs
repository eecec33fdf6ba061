//! Layer and root-mean-square normalisation, put back together from means, differences and roots.
//!
//! The decomposed forms square whole activations: in 16 bits they overflow from 256 on, the operations do not.

use super::graph::{Graph, Match, elements, is_statistic, near, unspread};
use super::rewrite::Rewrite;
use crate::error::Result;
use crate::ir::ops::{BinaryKind, Clip, LayerNorm, ReduceKind, RmsNorm, Transpose, UnaryKind};
use crate::ir::{Constant, Dim, Op, ValueId};
use crate::tensor::Tensor;

/// A normalisation that was recognised.
struct Norm {
    x: ValueId,
    /// Whether the mean is subtracted.
    centred: bool,
    axes: Vec<usize>,
    epsilon: f64,
    gamma: Option<ValueId>,
    beta: Option<ValueId>,
}

/// A normalisation whose last node is `root`.
///
/// Forms: `c / √(v + ε)`, or `c` times its reciprocal, with `c = x − mean(x)` and `v` the mean of `c²` or `mean(x²) − mean(x)²`, cut off at 0
/// or not; `x` in place of `c` and the mean of `x²` for the root-mean-square norm; `γ` on either factor or on `c`; then `β`; and
/// `x·s + (β − mean(x)·s)` with `s = γ/√(v + ε)`. Means are reductions or sums times 1/n.
pub(super) fn find(g: &Graph<'_>, root: ValueId) -> Option<Match> {
    let norm = shifted(g, root).or_else(|| scaled(g, root))?;
    let label = if norm.centred {
        "layer_norm"
    } else {
        "rms_norm"
    };
    replaced(g, root, norm, vec![label])
}

/// What becomes of a normalisation, if its parameters are such that the operation has them.
fn replaced(g: &Graph<'_>, root: ValueId, norm: Norm, labels: Vec<&'static str>) -> Option<Match> {
    let ty = g.ty(norm.x);
    if g.ty(root) != ty || ty.shape.iter().any(Dim::is_run_time) {
        return None;
    }
    for parameter in [norm.gamma, norm.beta].into_iter().flatten() {
        if !is_parameter(g, parameter, norm.x, &norm.axes) {
            return None;
        }
    }
    let rank = ty.rank();
    let sizes: Option<Vec<usize>> = norm.axes.iter().map(|&a| ty.shape[a].known()).collect();
    if sizes.is_none() && (norm.gamma.is_some() || norm.beta.is_some()) {
        return None;
    }
    let sizes = sizes.unwrap_or_default();
    let leaves = [Some(norm.x), norm.gamma, norm.beta];
    let leaves = leaves.into_iter().flatten().collect();
    Some(Match {
        labels,
        leaves,
        emit: Box::new(move |rewrite, name| emit(rewrite, &norm, rank, &sizes, name)),
    })
}

/// With `β`, or in the form that subtracts the scaled mean.
fn shifted(g: &Graph<'_>, root: ValueId) -> Option<Norm> {
    for (p, b) in g.either(root, BinaryKind::Add) {
        if g.constant(b).is_some()
            && let Some(norm) = scaled(g, p).filter(|n| n.centred)
        {
            return Some(Norm {
                beta: Some(b),
                ..norm
            });
        }
        if let Some([b, scaled_mean]) = g.binary(b, BinaryKind::Sub)
            && g.constant(b).is_some()
            && let Some(norm) = by_scale(g, p, scaled_mean)
        {
            return Some(Norm {
                beta: Some(b),
                ..norm
            });
        }
    }
    let [p, scaled_mean] = g.binary(root, BinaryKind::Sub)?;
    by_scale(g, p, scaled_mean)
}

/// `x·s` and `mean(x)·s` of one `s`.
fn by_scale(g: &Graph<'_>, product: ValueId, scaled_mean: ValueId) -> Option<Norm> {
    for (x, s) in g.either(product, BinaryKind::Mul) {
        for (mean, also_s) in g.either(scaled_mean, BinaryKind::Mul) {
            if s != also_s {
                continue;
            }
            let Some((found, axes)) = statistic(g, mean, x) else {
                continue;
            };
            let mut factors = vec![(s, None)];
            for (r, gamma) in g.either(s, BinaryKind::Mul) {
                if g.constant(gamma).is_some() {
                    factors.push((r, Some(gamma)));
                }
            }
            for (r, gamma) in factors {
                if found == x
                    && let Some(root) = reciprocal_root(g, r)
                    && let Some(epsilon) = variance(g, root, x, &axes)
                    && is_statistic(g, r, x, &axes)
                {
                    return Some(Norm {
                        x,
                        centred: true,
                        axes,
                        epsilon,
                        gamma,
                        beta: None,
                    });
                }
            }
        }
    }
    None
}

/// With `γ`, on the normalised value or on the factor.
fn scaled(g: &Graph<'_>, root: ValueId) -> Option<Norm> {
    if let Some(norm) = normal(g, root) {
        return Some(norm);
    }
    for (p, q) in g.either(root, BinaryKind::Mul) {
        if g.constant(q).is_some()
            && let Some(norm) = normal(g, p)
        {
            return Some(Norm {
                gamma: Some(q),
                ..norm
            });
        }
        for (c, gamma) in g.either(p, BinaryKind::Mul) {
            if g.constant(gamma).is_some()
                && let Some(under) = reciprocal_root(g, q)
                && let Some(norm) = by_root(g, c, q, under)
            {
                return Some(Norm {
                    gamma: Some(gamma),
                    ..norm
                });
            }
        }
        for (r, gamma) in g.either(q, BinaryKind::Mul) {
            if g.constant(gamma).is_some()
                && let Some(under) = reciprocal_root(g, r)
                && let Some(norm) = by_root(g, p, r, under)
            {
                return Some(Norm {
                    gamma: Some(gamma),
                    ..norm
                });
            }
        }
    }
    let [p, d] = g.binary(root, BinaryKind::Div)?;
    for (c, gamma) in g.either(p, BinaryKind::Mul) {
        if g.constant(gamma).is_some()
            && let Some(under) = square_root(g, unspread(g, d))
            && let Some(norm) = by_root(g, c, d, under)
        {
            return Some(Norm {
                gamma: Some(gamma),
                ..norm
            });
        }
    }
    None
}

/// Parameters behind a normalisation that has none, which become its own.
pub(super) fn find_parameters(g: &Graph<'_>, root: ValueId) -> Option<Match> {
    let mut shifts = vec![(root, None)];
    let sums = g.either(root, BinaryKind::Add).into_iter();
    shifts.extend(sums.filter_map(|(p, b)| g.constant(b).map(|_| (p, Some(b)))));
    for (p, beta) in shifts {
        let bare = operation(g, p).filter(|n| n.beta.is_none());
        if let (Some(norm), Some(_)) = (bare, beta) {
            if norm.centred {
                return replaced(g, root, Norm { beta, ..norm }, vec!["bias"]);
            }
            continue;
        }
        for (n, gamma) in g.either(p, BinaryKind::Mul) {
            let bare = operation(g, n).filter(|n| n.gamma.is_none() && n.beta.is_none());
            let Some(norm) =
                bare.filter(|n| g.constant(gamma).is_some() && (n.centred || beta.is_none()))
            else {
                continue;
            };
            let gamma = Some(gamma);
            let labels = if beta.is_some() {
                vec!["scale", "bias"]
            } else {
                vec!["scale"]
            };
            return replaced(
                g,
                root,
                Norm {
                    gamma,
                    beta,
                    ..norm
                },
                labels,
            );
        }
    }
    None
}

/// A normalisation that is an operation already.
fn operation(g: &Graph<'_>, v: ValueId) -> Option<Norm> {
    let node = g.node(v)?;
    let (centred, axis, epsilon) = if let Op::LayerNorm(o) = &node.op {
        (true, o.axis, o.epsilon)
    } else if let Op::RmsNorm(o) = &node.op {
        (false, o.axis, o.epsilon)
    } else {
        return None;
    };
    let x = node.operands[0];
    Some(Norm {
        x,
        centred,
        axes: (axis..g.ty(x).rank()).collect(),
        epsilon,
        gamma: node.operands.get(1).copied(),
        beta: node.operands.get(2).copied(),
    })
}

/// Without parameters.
fn normal(g: &Graph<'_>, root: ValueId) -> Option<Norm> {
    if let Some([c, d]) = g.binary(root, BinaryKind::Div) {
        let under = square_root(g, unspread(g, d))?;
        return by_root(g, c, d, under);
    }
    g.either(root, BinaryKind::Mul)
        .into_iter()
        .find_map(|(c, r)| by_root(g, c, r, reciprocal_root(g, r)?))
}

/// `c` over the root of `under`, which stands in the graph as `factor`.
fn by_root(g: &Graph<'_>, c: ValueId, factor: ValueId, under: ValueId) -> Option<Norm> {
    let norm = |x, centred, axes, epsilon| Norm {
        x,
        centred,
        axes,
        epsilon,
        gamma: None,
        beta: None,
    };
    if let Some((x, axes)) = centred(g, c)
        && let Some(epsilon) = variance(g, under, x, &axes)
    {
        return is_statistic(g, factor, x, &axes).then(|| norm(x, true, axes, epsilon));
    }
    let (mean, epsilon) = plus_epsilon(g, under)?;
    let (square, axes) = mean_of(g, mean)?;
    (squared(g, square) == Some(c) && is_statistic(g, factor, c, &axes))
        .then(|| norm(c, false, axes, epsilon))
}

/// `x` and the axes of `x − mean(x)`.
fn centred(g: &Graph<'_>, c: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let [x, mean] = g.binary(c, BinaryKind::Sub)?;
    let (found, axes) = statistic(g, mean, x)?;
    (found == x).then_some((x, axes))
}

/// The operand and axes of a mean that lines up with `x`.
fn statistic(g: &Graph<'_>, mean: ValueId, x: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let (found, axes) = mean_of(g, unspread(g, mean))?;
    is_statistic(g, mean, x, &axes).then_some((found, axes))
}

/// The ε of `variance(x) + ε`.
fn variance(g: &Graph<'_>, v: ValueId, x: ValueId, axes: &[usize]) -> Option<f64> {
    let (v, epsilon) = plus_epsilon(g, v)?;
    let v = not_negative(g, g.reshaped(v));
    let mean_over = |v: ValueId| mean_of(g, v).filter(|(_, a)| a == axes).map(|(x, _)| x);
    if let Some(square) = mean_over(v) {
        let [a, b] = g.binary(squared(g, square)?, BinaryKind::Sub)?;
        let is_centred = |x_side: ValueId, mean: ValueId| {
            x_side == x && statistic(g, mean, x).is_some_and(|(f, a)| f == x && a == axes)
        };
        return (is_centred(a, b) || is_centred(b, a)).then_some(epsilon);
    }
    let [of_squares, of_mean] = g.binary(v, BinaryKind::Sub)?;
    let squares = squared(g, mean_over(of_squares)?)?;
    let mean = squared(g, g.reshaped(of_mean))?;
    let fits = squares == x && mean_over(mean)? == x && g.ty(of_squares) == g.ty(of_mean);
    fits.then_some(epsilon)
}

/// What is cut off at 0, which a variance never is but for rounding.
fn not_negative(g: &Graph<'_>, v: ValueId) -> ValueId {
    if let Some(x) = g.unary(v, UnaryKind::Relu) {
        return g.reshaped(x);
    }
    let zero = g.either(v, BinaryKind::Max);
    if let Some((x, _)) = zero.into_iter().find(|&(_, n)| g.number(n) == Some(0.0)) {
        return g.reshaped(x);
    }
    match g.node(v) {
        Some(node) if matches!(node.op, Op::Clip(Clip { min, max }) if min == 0.0 && max == f32::INFINITY) => {
            g.reshaped(node.operands[0])
        }
        Some(_) | None => v,
    }
}

/// `v` and ε of `v + ε`.
fn plus_epsilon(g: &Graph<'_>, v: ValueId) -> Option<(ValueId, f64)> {
    g.either(g.reshaped(v), BinaryKind::Add)
        .into_iter()
        .find_map(|(x, n)| Some((x, g.number(n).filter(|e| (0.0..=1.0).contains(e))?)))
}

/// What a value is the square root of.
fn square_root(g: &Graph<'_>, v: ValueId) -> Option<ValueId> {
    let v = g.reshaped(v);
    g.unary(v, UnaryKind::Sqrt).or_else(|| power(g, v, 0.5))
}

/// What a value is 1 over the square root of.
fn reciprocal_root(g: &Graph<'_>, v: ValueId) -> Option<ValueId> {
    let v = g.reshaped(unspread(g, v));
    if let Some(x) = g.unary(v, UnaryKind::Rsqrt) {
        return Some(x);
    }
    if let Some(x) = g.unary(v, UnaryKind::Reciprocal) {
        return square_root(g, x);
    }
    if let Some(x) = square_root(g, v).and_then(|r| g.unary(g.reshaped(r), UnaryKind::Reciprocal)) {
        return Some(x);
    }
    match g.binary(v, BinaryKind::Div) {
        Some([one, x]) if g.is_number(one, 1.0) => square_root(g, x),
        Some(_) | None => power(g, v, -0.5),
    }
}

fn power(g: &Graph<'_>, v: ValueId, exponent: f64) -> Option<ValueId> {
    let [x, n] = g.binary(v, BinaryKind::Pow)?;
    (g.number(n) == Some(exponent)).then_some(x)
}

/// What a value is the square of.
fn squared(g: &Graph<'_>, v: ValueId) -> Option<ValueId> {
    match g.binary(v, BinaryKind::Mul) {
        Some([a, b]) if a == b => Some(a),
        Some(_) | None => power(g, v, 2.0),
    }
}

/// What a value is the mean of, and over which axes.
fn mean_of(g: &Graph<'_>, v: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let v = g.reshaped(v);
    if let Some((x, axes)) = g.reduction(v, ReduceKind::Mean) {
        return Some((x, axes.to_vec()));
    }
    let sum = |s: ValueId| {
        let (x, axes) = g.reduction(g.reshaped(s), ReduceKind::Sum)?;
        Some((x, axes.to_vec(), elements(g.ty(x), axes)?))
    };
    let dtype = g.ty(v).dtype;
    if let Some([s, n]) = g.binary(v, BinaryKind::Div) {
        let (x, axes, count) = sum(s)?;
        return near(g.number(n)?, count, dtype).then_some((x, axes));
    }
    for (s, n) in g.either(v, BinaryKind::Mul) {
        if let Some((x, axes, count)) = sum(s)
            && g.number(n).is_some_and(|n| near(n, 1.0 / count, dtype))
        {
            return Some((x, axes));
        }
    }
    None
}

/// Whether a constant has one element per position of `axes`, or is one number.
fn is_parameter(g: &Graph<'_>, v: ValueId, x: ValueId, axes: &[usize]) -> bool {
    if g.number(v).is_some() {
        return true;
    }
    let (found, x) = (&g.ty(v).shape, &g.ty(x).shape);
    if found.len() > x.len() {
        return false;
    }
    let missing = x.len() - found.len();
    (0..x.len()).all(|i| match i.checked_sub(missing) {
        Some(j) if axes.contains(&i) => found[j] == x[i],
        Some(j) => found[j].integer() == Some(1),
        None => !axes.contains(&i),
    })
}

fn emit(
    rewrite: &mut Rewrite<'_>,
    norm: &Norm,
    rank: usize,
    sizes: &[usize],
    name: &str,
) -> Result<ValueId> {
    let first = rank - norm.axes.len();
    let mut perm: Vec<usize> = (0..rank).filter(|i| !norm.axes.contains(i)).collect();
    perm.extend(&norm.axes);
    let trailing = perm.iter().copied().eq(0..rank);
    let mut x = rewrite.get(norm.x);
    if !trailing {
        let perm = perm.clone();
        let op = Op::Transpose(Transpose { perm });
        x = rewrite.builder.push(&format!("{name}/last"), op, &[x])?;
    }
    let mut operands = vec![x];
    if let Some(gamma) = norm.gamma {
        operands.push(parameter(rewrite, gamma, sizes)?);
    } else if norm.beta.is_some() {
        let dtype = rewrite.builder.ty(x).dtype;
        let count = sizes.iter().product();
        let ones = Tensor::f32(sizes.to_vec(), vec![1.0; count])?.cast(dtype);
        operands.push(rewrite.builder.tensor(&format!("{name}/ones"), &ones)?);
    }
    if let Some(beta) = norm.beta {
        operands.push(parameter(rewrite, beta, sizes)?);
    }
    let (axis, epsilon) = (first, norm.epsilon);
    let op = if norm.centred {
        Op::LayerNorm(LayerNorm { axis, epsilon })
    } else {
        Op::RmsNorm(RmsNorm { axis, epsilon })
    };
    if trailing {
        return rewrite.builder.push(name, op, &operands);
    }
    let normal = format!("{name}/normal");
    let y = rewrite.builder.push(&normal, op, &operands)?;
    let mut back = vec![0; rank];
    for (to, &from) in perm.iter().enumerate() {
        back[from] = to;
    }
    let op = Op::Transpose(Transpose { perm: back });
    rewrite.builder.push(name, op, &[y])
}

/// A constant in the shape of the normalised axes.
fn parameter(rewrite: &mut Rewrite<'_>, old: ValueId, sizes: &[usize]) -> Result<ValueId> {
    let value = rewrite.get(old);
    let Some(constant) = rewrite.builder.as_constant(value).cloned() else {
        return Ok(value);
    };
    if constant.shape() == sizes {
        return Ok(value);
    }
    let count: usize = sizes.iter().product();
    let fitted = if constant.len() == count {
        constant.reshape(sizes.to_vec())?
    } else {
        // One number: it is repeated.
        let tensor = constant.read()?;
        let number = tensor.floats()?.first().copied().unwrap_or_default();
        let filled = Tensor::float(tensor.dtype(), sizes.to_vec(), vec![number; count])?;
        Constant::from_tensor(constant.name(), &filled)?
    };
    Ok(rewrite.builder.constant(fitted))
}
