//! Figures of one output against its reference, all in `f64`. Owns what they mean; the limits are in [`super::tolerance`].

use serde::Serialize;

use super::kind::OutputKind;
use super::report::{float, optional_float};
use super::tolerance::{Check, Gates};
use crate::tensor::{DType, Storage, Tensor, num};

/// A reference output and a candidate's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Every figure that is judged.
    pub checks: Vec<Check>,
    /// Elements compared, after padding positions were left out.
    pub elements: usize,
    /// Why it failed, apart from the checks; empty when nothing else is wrong.
    pub failures: Vec<String>,
    /// Figures of floating-point outputs.
    pub figures: Option<Figures>,
    /// What the output is, which decides what is judged.
    pub kind: OutputKind,
    /// Figures of logits.
    pub logits: Option<LogitFigures>,
    /// Elements that differ, for integers and truth values.
    pub mismatches: Option<usize>,
    /// Counts of NaN and infinite elements.
    pub nonfinite: NonFinite,
    /// Whether the candidate is within every limit.
    pub passed: bool,
    /// Element type to which the reference was rounded, if that was allowed for.
    pub reference_rounding: Option<&'static str>,
    /// Shape of the candidate's output.
    pub shape: Vec<usize>,
    /// What is noteworthy, but no failure.
    pub warnings: Vec<String>,
    /// The element that is furthest off.
    pub worst: Option<Worst>,
}

/// Figures over the finite elements.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Cosine of the angle between both, as vectors; does not apply to single scores.
    #[serde(serialize_with = "optional_float")]
    pub cosine: Option<f64>,
    /// max|Δ|
    #[serde(serialize_with = "float")]
    pub max_abs: f64,
    /// max(|Δ| / max(|reference|, max|reference|/1000)), element by element.
    #[serde(serialize_with = "float")]
    pub max_rel: f64,
    /// 20·log₁₀(max|reference| / root-mean-square Δ), in dB; does not apply to single scores.
    #[serde(serialize_with = "optional_float")]
    pub psnr_db: Option<f64>,
    /// max|reference|
    #[serde(serialize_with = "float")]
    pub reference_peak: f64,
    /// Root mean square of Δ / root mean square of the reference.
    #[serde(serialize_with = "float")]
    pub relative_rms: f64,
    /// max|Δ| / max|reference|: the tolerance at which it would just pass.
    #[serde(serialize_with = "float")]
    pub required_tolerance: f64,
    /// Root mean square of Δ.
    #[serde(serialize_with = "float")]
    pub rms: f64,
}

/// Figures of logits: each row of the last axis is a distribution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogitFigures {
    /// The KL(reference ‖ candidate), in nats, that 99.9 % of the rows do not exceed: the largest, below a thousand rows.
    #[serde(serialize_with = "float")]
    pub kl_999: f64,
    /// Largest KL(reference ‖ candidate) of a row, in nats.
    #[serde(serialize_with = "float")]
    pub max_kl: f64,
    /// Mean KL(reference ‖ candidate) over the rows, in nats.
    #[serde(serialize_with = "float")]
    pub mean_kl: f64,
    /// Rows.
    pub rows: usize,
    /// Share of rows with the same top-1.
    #[serde(serialize_with = "float")]
    pub top1: f64,
    /// Share of rows with the same top-1, or where the reference itself is nearly a tie.
    #[serde(serialize_with = "float")]
    pub top1_tie_aware: f64,
    /// Mean overlap of the five largest (of all, when there are fewer).
    #[serde(serialize_with = "float")]
    pub top5: f64,
}

/// Counts over all compared elements.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NonFinite {
    /// Infinite in the candidate.
    pub candidate_inf: usize,
    /// NaN in the candidate.
    pub candidate_nan: usize,
    /// Positions at which only one of them is NaN, or only one infinite, or the signs of infinities differ.
    pub mask_differs: usize,
    /// Infinite in the reference.
    pub reference_inf: usize,
    /// NaN in the reference.
    pub reference_nan: usize,
}

/// The element that is furthest off.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worst {
    /// The candidate's value.
    #[serde(serialize_with = "float")]
    pub candidate: f64,
    /// Its index.
    pub index: Vec<usize>,
    /// The reference's value.
    #[serde(serialize_with = "float")]
    pub reference: f64,
}

/// How a comparison is made.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// The limits.
    pub gates: &'a Gates,
    /// What the output is.
    pub kind: OutputKind,
    /// Rows over the first two axes to compare, or all. The others are padding.
    pub rows: Option<&'a [usize]>,
    /// Whether the reference may have been rounded to 16 bits by whoever made it: half a unit in its last place is then added to the limits.
    pub allow_rounded: bool,
}

/// Compares a candidate's output with its reference.
///
/// # Shapes
/// They must be equal: nothing is broadcast.
#[must_use]
pub fn compare(rule: Rule<'_>, reference: &Tensor, candidate: &Tensor) -> Comparison {
    let mut out = Comparison {
        checks: Vec::new(),
        elements: 0,
        failures: Vec::new(),
        figures: None,
        kind: rule.kind,
        logits: None,
        mismatches: None,
        nonfinite: NonFinite::default(),
        passed: false,
        reference_rounding: None,
        shape: candidate.shape().to_vec(),
        warnings: Vec::new(),
        worst: None,
    };
    if reference.shape() != candidate.shape() {
        out.failures.push(format!(
            "shape {:?}, expected {:?}",
            candidate.shape(),
            reference.shape()
        ));
        return out;
    }
    let kept = Kept::new(reference.shape(), rule.rows);
    out.elements = kept.indices.len();
    if out.elements == 0 {
        out.failures.push("no element was compared".into());
        return out;
    }
    match (reference.storage(), candidate.storage()) {
        (Storage::Float(r), Storage::Float(c)) => {
            let (r, c) = (kept.pick(r), kept.pick(c));
            compare_floats(rule, &kept, &r, &c, &mut out);
        }
        (Storage::Int(r), Storage::Int(c)) => {
            compare_exact(&kept, r, c, &mut out, |x| num::f64_of_i64(*x))
        }
        (Storage::Bool(r), Storage::Bool(c)) => {
            compare_exact(&kept, r, c, &mut out, |x| f64::from(u8::from(*x)));
        }
        (Storage::Float(_) | Storage::Int(_) | Storage::Bool(_), _) => out.failures.push(format!(
            "element type {}, expected {}",
            candidate.dtype(),
            reference.dtype()
        )),
    }
    if out.failures.is_empty() && out.checks.is_empty() {
        out.failures.push("no gate judged this output".into());
    }
    out.passed = out.failures.is_empty() && out.checks.iter().all(|c| c.passed);
    out
}

/// The flat indices that are compared.
struct Kept<'a> {
    shape: &'a [usize],
    indices: Vec<usize>,
}

impl<'a> Kept<'a> {
    fn new(shape: &'a [usize], rows: Option<&[usize]>) -> Self {
        let count = shape.iter().product();
        let indices = match rows {
            None => (0..count).collect(),
            Some(rows) => {
                let width: usize = shape.iter().skip(2).product();
                rows.iter()
                    .flat_map(|row| row * width..(row + 1) * width)
                    .filter(|&i| i < count)
                    .collect()
            }
        };
        Kept { shape, indices }
    }

    fn pick(&self, values: &[f32]) -> Vec<f64> {
        self.indices.iter().map(|&i| f64::from(values[i])).collect()
    }

    fn position(&self, k: usize) -> Vec<usize> {
        unravel(self.indices[k], self.shape)
    }
}

/// The index of the `flat`-th element of a row-major tensor.
pub(super) fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&n| {
            let i = flat % n.max(1);
            flat /= n.max(1);
            i
        })
        .collect();
    index.reverse();
    index
}

fn compare_exact<T: PartialEq>(
    kept: &Kept<'_>,
    reference: &[T],
    candidate: &[T],
    out: &mut Comparison,
    value: impl Fn(&T) -> f64,
) {
    let mut mismatches = 0;
    for (k, &i) in kept.indices.iter().enumerate() {
        if reference[i] != candidate[i] {
            mismatches += 1;
            if out.worst.is_none() {
                out.worst = Some(Worst {
                    candidate: value(&candidate[i]),
                    index: kept.position(k),
                    reference: value(&reference[i]),
                });
            }
        }
    }
    out.mismatches = Some(mismatches);
    out.checks
        .push(Check::at_most("mismatches", num::f64_of(mismatches), 0.0));
}

fn compare_floats(rule: Rule<'_>, kept: &Kept<'_>, r: &[f64], c: &[f64], out: &mut Comparison) {
    let mut n = NonFinite::default();
    let mut first_difference = None;
    let (mut max_abs, mut squares, mut peak) = (0.0f64, 0.0f64, 0.0f64);
    let (mut dot, mut rr, mut cc) = (0.0f64, 0.0f64, 0.0f64);
    let (mut finite, mut worst, mut nonzero) = (0usize, None, false);
    for (k, (&x, &y)) in r.iter().zip(c).enumerate() {
        n.reference_nan += usize::from(x.is_nan());
        n.candidate_nan += usize::from(y.is_nan());
        n.reference_inf += usize::from(x.is_infinite());
        n.candidate_inf += usize::from(y.is_infinite());
        if !x.is_finite() || !y.is_finite() {
            let same = (x.is_nan() && y.is_nan()) || x == y;
            if !same {
                n.mask_differs += 1;
                first_difference.get_or_insert(k);
            }
            continue;
        }
        finite += 1;
        nonzero |= y != 0.0;
        let delta = (x - y).abs();
        if delta > max_abs || worst.is_none() {
            max_abs = max_abs.max(delta);
            worst = Some(k);
        }
        squares += delta * delta;
        peak = peak.max(x.abs());
        dot += x * y;
        rr += x * x;
        cc += y * y;
    }
    let at = |k: usize| Worst {
        candidate: c[k],
        index: kept.position(k),
        reference: r[k],
    };
    // A NaN is worse than any number.
    out.worst = first_difference.or(worst).map(at);
    if n.mask_differs > 0 {
        out.failures.push(format!(
            "{} elements are NaN or infinite on one side only (candidate: {} NaN, {} inf; reference: {} NaN, {} inf)",
            n.mask_differs, n.candidate_nan, n.candidate_inf, n.reference_nan, n.reference_inf
        ));
    } else if n.reference_nan + n.reference_inf > 0 {
        out.warnings.push(format!(
            "reference_nonfinite: {} NaN and {} infinite elements in the reference, at the same positions in the candidate",
            n.reference_nan, n.reference_inf
        ));
    }
    out.nonfinite = n;
    if finite == 0 {
        out.failures.push("no finite element was compared".into());
        return;
    }
    // Where the source is all zero too, both agree: that this shows little is said of the whole.
    let zeros = !nonzero && peak == 0.0;
    if zeros {
        out.warnings.push("all zero, as in the reference".into());
    } else if !nonzero {
        out.failures.push("the output is all zero".into());
    }
    let rms = (squares / num::f64_of(finite)).sqrt();
    let floor = peak / 1000.0;
    let max_rel = r
        .iter()
        .zip(c)
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .map(|(x, y)| ratio((x - y).abs(), x.abs().max(floor)))
        .fold(0.0, f64::max);
    let is_score = rule.kind == OutputKind::Score;
    let figures = Figures {
        // Bounded: rounding in the sums may lead a hair beyond 1.
        cosine: (!is_score).then(|| (dot / (rr.sqrt() * cc.sqrt())).min(1.0)),
        max_abs,
        max_rel,
        psnr_db: match (is_score, zeros) {
            (true, _) => None,
            (false, true) => Some(f64::INFINITY),
            (false, false) => Some(20.0 * (peak / rms).log10()),
        },
        reference_peak: peak,
        relative_rms: ratio(squares.sqrt(), rr.sqrt()),
        required_tolerance: ratio(max_abs, peak),
        rms,
    };
    let slack = if rule.allow_rounded {
        rounding(r, c)
    } else {
        None
    };
    out.reference_rounding = slack.map(|(dtype, _)| dtype.name());
    if let Some((dtype, half_ulp)) = slack {
        out.warnings.push(format!(
            "the reference was rounded to {dtype} by whoever made it; half a unit in its last place ({half_ulp:.2e}) is allowed for"
        ));
    }
    let slack = slack.map_or(0.0, |(_, half_ulp)| half_ulp);
    out.checks = differences(rule, &figures, slack);
    if rule.kind == OutputKind::Logits {
        let classes = kept.shape.last().copied().unwrap_or(1);
        let gates = rule.gates;
        let logits = logit_figures(r, c, classes, gates.tie_margin + 2.0 * slack);
        // KL of two softmaxes is at most max|Δ|²/2 for small Δ.
        let allowed = (slack * peak).powi(2);
        let at_most = |name, value, limit: Option<f64>| {
            limit.map(|limit| Check::at_most(name, value, limit + allowed))
        };
        let checks = [
            at_most("mean_kl", logits.mean_kl, gates.max_mean_kl),
            at_most("kl_999", logits.kl_999, gates.max_kl_999),
            gates
                .min_top1
                .map(|limit| Check::at_least("top1_tie_aware", logits.top1_tie_aware, limit)),
        ];
        out.checks.extend(checks.into_iter().flatten());
        out.logits = Some(logits);
    }
    out.figures = Some(figures);
}

/// The checks of differences. `slack` is half a unit in the last place of a reference that was rounded, relative to its value.
fn differences(rule: Rule<'_>, figures: &Figures, slack: f64) -> Vec<Check> {
    let gates = rule.gates;
    if let (OutputKind::Score, Some(limit)) = (rule.kind, gates.max_score) {
        // Relative where the score is large, absolute where it is near 0: there a ratio says nothing.
        let error = figures.max_abs / figures.reference_peak.max(1.0);
        return vec![Check::at_most("score_error", error, limit + slack)];
    }
    let relative = figures.required_tolerance;
    let relative = gates
        .max_relative
        .map(|limit| Check::at_most("required_tolerance", relative, limit + slack));
    let rms = gates
        .max_relative_rms
        .map(|limit| Check::at_most("relative_rms", figures.relative_rms, limit + slack));
    let cosine = match rule.kind {
        OutputKind::Embedding => gates.min_embedding_cosine,
        OutputKind::Plain | OutputKind::Logits | OutputKind::Score => gates.min_cosine,
    };
    let cosine = figures
        .cosine
        .zip(cosine)
        .map(|(found, limit)| Check::at_least("cosine", found, limit - slack * slack));
    let psnr = figures
        .psnr_db
        .zip(gates.min_psnr_db)
        .map(|(found, limit)| Check::at_least("psnr_db", found, limit));
    [relative, rms, cosine, psnr]
        .into_iter()
        .flatten()
        .collect()
}

/// `a / b`, where 0/0 is 0: no error on nothing.
fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a / b }
}

/// The 16-bit type on whose grid every reference element lies while the candidate's do not, with half a unit in the last place relative to the value.
fn rounding(r: &[f64], c: &[f64]) -> Option<(DType, f64)> {
    // Fewer elements may lie on the grid by chance.
    const LEAST: usize = 16;
    let on = |round: fn(f32) -> f32, values: &[f64]| {
        values.iter().filter(|x| x.is_finite()).all(|&x| {
            let x = num::f32_of_f64(x);
            round(x) == x
        })
    };
    if r.len() < LEAST {
        return None;
    }
    // The coarser grid first: within the range of `f16`, it is a part of the finer one.
    let (dtype, round, half_ulp): (DType, fn(f32) -> f32, f64) = if on(num::round_bf16, r) {
        (DType::BF16, num::round_bf16, 1.0 / 256.0)
    } else if on(num::round_f16, r) {
        (DType::F16, num::round_f16, 1.0 / 2048.0)
    } else {
        return None;
    };
    (!on(round, c)).then_some((dtype, half_ulp))
}

fn logit_figures(r: &[f64], c: &[f64], classes: usize, tie_margin: f64) -> LogitFigures {
    let (mut rows, mut same, mut tie_aware) = (0usize, 0usize, 0usize);
    let (mut divergences, mut overlap) = (Vec::new(), 0.0f64);
    for (x, y) in r.chunks_exact(classes).zip(c.chunks_exact(classes)) {
        let Some(kl) = kl(x, y) else { continue };
        rows += 1;
        divergences.push(kl);
        let (xs, ys) = (largest(x, 5), largest(y, 5));
        let both = xs.iter().filter(|i| ys.contains(i)).count();
        overlap += num::f64_of(both) / num::f64_of(xs.len());
        let agree = xs[0] == ys[0];
        same += usize::from(agree);
        let margin = x[xs[0]] - x[ys[0]];
        tie_aware += usize::from(agree || margin <= tie_margin * x[xs[0]].abs());
    }
    let share = |n: f64| {
        if rows == 0 {
            f64::NAN
        } else {
            n / num::f64_of(rows)
        }
    };
    let mean_kl = share(divergences.iter().sum());
    divergences.sort_by(f64::total_cmp);
    // The nearest rank; of no row at all there is none.
    let rank = (divergences.len() * 999).div_ceil(1000);
    let nth = |rank: usize| {
        let value = rank.checked_sub(1).and_then(|i| divergences.get(i));
        value.copied().unwrap_or(f64::NAN)
    };
    LogitFigures {
        kl_999: nth(rank),
        max_kl: nth(divergences.len()),
        mean_kl,
        rows,
        top1: share(num::f64_of(same)),
        top1_tie_aware: share(num::f64_of(tie_aware)),
        top5: share(overlap),
    }
}

/// The indices of the `k` largest, first of equals first; never empty for a non-empty slice.
fn largest(values: &[f64], k: usize) -> Vec<usize> {
    let mut top: Vec<usize> = Vec::with_capacity(k + 1);
    for (i, x) in values.iter().enumerate() {
        if top.len() < k || top.last().is_some_and(|&j| *x > values[j]) {
            let at = top.partition_point(|&j| values[j] >= *x);
            top.insert(at, i);
            top.truncate(k);
        }
    }
    top
}

/// Natural logarithm of the softmax.
pub(super) fn log_softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|v| (v - max).exp()).sum();
    x.iter().map(|v| v - max - sum.ln()).collect()
}

/// KL(softmax x ‖ softmax y) in nats; entries that are −∞ in both have no part. `None` when another element is not finite.
pub(super) fn kl(x: &[f64], y: &[f64]) -> Option<f64> {
    let mut pairs = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    for (&a, &b) in x.iter().zip(y) {
        if a == f64::NEG_INFINITY && b == f64::NEG_INFINITY {
            continue;
        }
        if !a.is_finite() || !b.is_finite() {
            return None;
        }
        pairs.0.push(a);
        pairs.1.push(b);
    }
    let (p, q) = (log_softmax(&pairs.0), log_softmax(&pairs.1));
    let sum: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
    // Non-negative by definition; rounding may fall a hair below. NaN stays.
    Some(if sum < 0.0 { 0.0 } else { sum })
}

#[cfg(test)]
mod tests;
