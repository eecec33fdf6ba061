//! Figures of two lists of answers to the same cases: how many are the same, and how far their distributions are apart.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::{float, floats, optional_float};
use super::task::{Task, TaskGates};
use super::tolerance::Check;
use crate::tensor::num;

/// An answer to a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Id of the case.
    pub case: String,
    /// Index into the task's classes: the most probable, the first of equals.
    pub class: usize,
    /// Probability of every class, if known: a softmax over the classes alone.
    #[serde(serialize_with = "distribution")]
    pub probabilities: Option<Vec<f64>>,
}

fn distribution<S: serde::Serializer>(
    list: &Option<Vec<f64>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match list {
        Some(list) => floats(list, serializer),
        None => serializer.serialize_none(),
    }
}

/// A case that source and artifact answer differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flip {
    /// Id of the case.
    pub case: String,
    /// The source's class.
    pub from: String,
    /// Whether the source's two best classes are within the near-tie margin.
    pub near_tie: bool,
    /// How far apart the source's two best classes are, in probability.
    #[serde(serialize_with = "optional_float")]
    pub source_margin: Option<f64>,
    /// The artifact's class.
    pub to: String,
}

/// How often a class was the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClassCounts {
    /// Cases that both answer so.
    pub agree: usize,
    /// Cases that the artifact answers so.
    pub artifact: usize,
    /// Share of the source's answers that the artifact gives too; none where the source never answers so.
    #[serde(serialize_with = "optional_float")]
    pub recall: Option<f64>,
    /// Cases that the source answers so.
    pub source: usize,
}

/// An engine's answers against the source's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairReport {
    /// Share of right answers of the artifact, over the cases whose answer is known.
    #[serde(serialize_with = "optional_float")]
    pub accuracy_artifact: Option<f64>,
    /// Share of right answers of the source.
    #[serde(serialize_with = "optional_float")]
    pub accuracy_source: Option<f64>,
    /// Every figure that is judged.
    pub checks: Vec<Check>,
    /// By class name.
    pub classes: BTreeMap<String, ClassCounts>,
    /// The engine.
    pub engine: String,
    /// Share of cases with the same answer.
    #[serde(serialize_with = "float")]
    pub exact_match_rate: f64,
    /// 95 % Wilson interval of that share.
    #[serde(serialize_with = "floats_pair")]
    pub exact_match_wilson95: [f64; 2],
    /// Why it failed, apart from the checks.
    pub failures: Vec<String>,
    /// Cases with another answer.
    pub flips: Vec<Flip>,
    /// Largest |p − q| of the source's class.
    #[serde(serialize_with = "float")]
    pub max_confidence_difference: f64,
    /// Largest KL(source ‖ artifact), in nats.
    #[serde(serialize_with = "float")]
    pub max_kl_divergence: f64,
    /// Largest ‖p − q‖₂.
    #[serde(serialize_with = "float")]
    pub max_l2_drift: f64,
    /// Mean |p − q| of the source's class.
    #[serde(serialize_with = "float")]
    pub mean_confidence_difference: f64,
    /// Mean Jensen-Shannon divergence, in nats.
    #[serde(serialize_with = "float")]
    pub mean_js_divergence: f64,
    /// Mean KL(source ‖ artifact), in nats.
    #[serde(serialize_with = "float")]
    pub mean_kl_divergence: f64,
    /// Mean ‖p − q‖₂.
    #[serde(serialize_with = "float")]
    pub mean_l2_drift: f64,
    /// Mean KL(artifact ‖ source), in nats.
    #[serde(serialize_with = "float")]
    pub mean_reverse_kl_divergence: f64,
    /// Whether the task is preserved.
    pub passed: bool,
    /// The answers.
    pub predictions: Vec<Prediction>,
}

fn floats_pair<S: serde::Serializer>(pair: &[f64; 2], serializer: S) -> Result<S::Ok, S::Error> {
    floats(pair, serializer)
}

pub(super) fn first_largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (i, x) in values.iter().enumerate() {
        if *x > values[best] {
            best = i;
        }
    }
    best
}

/// KL(p ‖ q) in nats.
fn kl(p: &[f64], q: &[f64]) -> f64 {
    let sum: f64 = p
        .iter()
        .zip(q)
        .map(|(&p, &q)| if p == 0.0 { 0.0 } else { p * (p / q).ln() })
        .sum();
    // Non-negative by definition; rounding may fall a hair below. NaN stays.
    if sum < 0.0 { 0.0 } else { sum }
}

/// The 95 % Wilson score interval of `hits` out of `n`.
fn wilson(hits: usize, n: usize) -> [f64; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return [f64::NAN, f64::NAN];
    }
    let (n, p) = (num::f64_of(n), num::f64_of(hits) / num::f64_of(n));
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [
        ((centre - half) / scale).max(0.0),
        ((centre + half) / scale).min(1.0),
    ]
}

/// An engine's answers against the source's. Both must answer every case of the task, in its order.
#[must_use]
pub fn compare_predictions(
    task: &Task,
    engine: &str,
    source: &[Prediction],
    artifact: Vec<Prediction>,
) -> PairReport {
    let mut failures = Vec::new();
    let ids =
        |list: &[Prediction]| -> Vec<String> { list.iter().map(|p| p.case.clone()).collect() };
    let wanted: Vec<String> = task.cases.iter().map(|c| c.id.clone()).collect();
    if ids(source) != wanted || ids(&artifact) != wanted {
        failures.push("not every case is answered on both sides".to_owned());
    }
    if wanted.is_empty() {
        failures.push("vacuous: no case".to_owned());
    }
    let mut drift = Drift::default();
    let mut classes: BTreeMap<String, ClassCounts> = task
        .classes
        .iter()
        .map(|c| (c.name.clone(), ClassCounts::default()))
        .collect();
    let name = |class: usize| task.classes.get(class).map_or("?", |c| c.name.as_str());
    let (mut same, mut flips) = (0usize, Vec::new());
    let (mut known, mut right_source, mut right_artifact) = (0usize, 0usize, 0usize);
    for ((case, p), q) in task.cases.iter().zip(source).zip(&artifact) {
        drift.add(p, q);
        let agree = p.class == q.class;
        same += usize::from(agree);
        if let Some(counts) = classes.get_mut(name(p.class)) {
            counts.source += 1;
            counts.agree += usize::from(agree);
        }
        if let Some(counts) = classes.get_mut(name(q.class)) {
            counts.artifact += 1;
        }
        if let Some(expected) = case.expected {
            known += 1;
            right_source += usize::from(p.class == expected);
            right_artifact += usize::from(q.class == expected);
        }
        if !agree {
            let margin = p.probabilities.as_deref().map(margin);
            flips.push(Flip {
                case: case.id.clone(),
                from: name(p.class).to_owned(),
                near_tie: margin.is_some_and(|m| m <= task.gates.near_tie_margin),
                source_margin: margin,
                to: name(q.class).to_owned(),
            });
        }
    }
    for counts in classes.values_mut() {
        counts.recall =
            (counts.source > 0).then(|| num::f64_of(counts.agree) / num::f64_of(counts.source));
    }
    let n = wanted.len();
    let share = |hits: usize, of: usize| {
        if of == 0 {
            f64::NAN
        } else {
            num::f64_of(hits) / num::f64_of(of)
        }
    };
    let mut report = PairReport {
        accuracy_artifact: (known > 0).then(|| share(right_artifact, known)),
        accuracy_source: (known > 0).then(|| share(right_source, known)),
        checks: Vec::new(),
        classes,
        engine: engine.to_owned(),
        exact_match_rate: share(same, n),
        exact_match_wilson95: wilson(same, n),
        failures,
        flips,
        max_confidence_difference: drift.max_confidence,
        max_kl_divergence: drift.max_kl,
        max_l2_drift: drift.max_l2,
        mean_confidence_difference: drift.mean(drift.confidence, n),
        mean_js_divergence: drift.mean(drift.js, n),
        mean_kl_divergence: drift.mean(drift.kl, n),
        mean_l2_drift: drift.mean(drift.l2, n),
        mean_reverse_kl_divergence: drift.mean(drift.reverse, n),
        passed: false,
        predictions: artifact,
    };
    report.checks = checks(&task.gates, &report);
    report.passed = report.failures.is_empty() && report.checks.iter().all(|c| c.passed);
    report
}

fn checks(gates: &TaskGates, report: &PairReport) -> Vec<Check> {
    let real_flips = report.flips.iter().filter(|f| !f.near_tie).count();
    let mut checks = vec![
        Check::at_least(
            "exact_match_rate",
            report.exact_match_rate,
            gates.exact_match_rate,
        ),
        Check::at_most("flips_beyond_near_ties", num::f64_of(real_flips), 0.0),
        Check::at_most(
            "mean_kl_divergence",
            report.mean_kl_divergence,
            gates.mean_kl_divergence,
        ),
        Check::at_most(
            "max_kl_divergence",
            report.max_kl_divergence,
            gates.max_kl_divergence,
        ),
    ];
    if let Some(limit) = gates.accuracy {
        let value = report.accuracy_artifact.unwrap_or(f64::NAN);
        checks.push(Check::at_least("accuracy", value, limit));
    }
    checks
}

/// The two best probabilities' difference.
fn margin(probabilities: &[f64]) -> f64 {
    let mut sorted = probabilities.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    match sorted.as_slice() {
        [first, second, ..] => first - second,
        [_] | [] => f64::NAN,
    }
}

/// Sums and maxima over the cases; NaN stays NaN, also in a maximum.
#[derive(Default)]
struct Drift {
    l2: f64,
    kl: f64,
    reverse: f64,
    js: f64,
    confidence: f64,
    max_l2: f64,
    max_kl: f64,
    max_confidence: f64,
}

impl Drift {
    fn add(&mut self, source: &Prediction, artifact: &Prediction) {
        let (Some(p), Some(q)) = (&source.probabilities, &artifact.probabilities) else {
            // Without distributions nothing is known of the drift.
            for figure in [
                &mut self.l2,
                &mut self.kl,
                &mut self.reverse,
                &mut self.js,
                &mut self.confidence,
                &mut self.max_l2,
                &mut self.max_kl,
                &mut self.max_confidence,
            ] {
                *figure = f64::NAN;
            }
            return;
        };
        let squares: f64 = p.iter().zip(q).map(|(p, q)| (p - q).powi(2)).sum();
        let l2 = if p.len() == q.len() {
            squares.sqrt()
        } else {
            f64::NAN
        };
        let forward = kl(p, q);
        let middle: Vec<f64> = p
            .iter()
            .zip(q)
            .map(|(p, q)| f64::midpoint(*p, *q))
            .collect();
        let at = |list: &[f64]| list.get(source.class).copied().unwrap_or(f64::NAN);
        let confidence = (at(p) - at(q)).abs();
        self.l2 += l2;
        self.kl += forward;
        self.reverse += kl(q, p);
        self.js += f64::midpoint(kl(p, &middle), kl(q, &middle));
        self.confidence += confidence;
        self.max_l2 = larger(self.max_l2, l2);
        self.max_kl = larger(self.max_kl, forward);
        self.max_confidence = larger(self.max_confidence, confidence);
    }

    fn mean(&self, sum: f64, n: usize) -> f64 {
        if n == 0 {
            f64::NAN
        } else {
            sum / num::f64_of(n)
        }
    }
}

fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{answer, task};
    use super::*;

    #[test]
    fn figures_are_what_they_say() {
        let task = task(&[("a", &[1], Some(0)), ("b", &[2], Some(0))]);
        let source = [answer("a", 0.8), answer("b", 0.505)];
        let pair = compare_predictions(
            &task,
            "x",
            &source,
            vec![answer("a", 0.6), answer("b", 0.495)],
        );
        assert_eq!(pair.exact_match_rate, 0.5);
        assert_eq!((pair.flips.len(), pair.flips[0].near_tie), (1, true));
        let expected = 0.8 * (0.8f64 / 0.6).ln() + 0.2 * (0.2f64 / 0.4).ln();
        assert!((pair.max_kl_divergence - expected).abs() < 1e-12);
        assert!((pair.max_l2_drift - 0.2 * 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(
            (pair.accuracy_source, pair.accuracy_artifact),
            (Some(1.0), Some(0.5))
        );
        assert_eq!(
            pair.classes["A"],
            ClassCounts {
                agree: 1,
                artifact: 1,
                recall: Some(0.5),
                source: 2
            }
        );
        assert_eq!(pair.classes["B"].recall, None);
        assert!(!pair.passed);
        let same = compare_predictions(&task, "x", &source, source.to_vec());
        assert!(same.passed, "{same:?}");
        assert_eq!(same.mean_kl_divergence, 0.0);
    }

    #[test]
    fn wilson_is_the_textbook_interval() {
        let [low, high] = wilson(8, 10);
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4);
        assert!(wilson(0, 0)[0].is_nan());
        assert_eq!(wilson(20, 20)[1], 1.0);
    }

    #[test]
    fn one_real_flip_among_many_fails_however_good_the_rate() {
        let ids: Vec<String> = (0..200).map(|i| format!("c{i}")).collect();
        let cases: Vec<(&str, &[i64], Option<usize>)> = ids
            .iter()
            .map(|id| (id.as_str(), [1i64].as_slice(), None))
            .collect();
        let task = task(&cases);
        let mut source: Vec<Prediction> = ids.iter().map(|id| answer(id, 0.9)).collect();
        let mut artifact = source.clone();
        artifact[7].class = 1;
        let pair = compare_predictions(&task, "x", &source, artifact.clone());
        assert!(pair.exact_match_rate > 0.99 && !pair.passed);
        // A near tie is excused as long as the rate and the drift are within their limits.
        source[7] = answer("c7", 0.501);
        artifact[7] = answer("c7", 0.499);
        assert!(compare_predictions(&task, "x", &source, artifact).passed);
    }

    #[test]
    fn nothing_passes_by_absence() {
        let none = task(&[]);
        assert!(!compare_predictions(&none, "x", &[], Vec::new()).passed);
        let one = task(&[("a", &[1], None)]);
        let full = [answer("a", 0.9)];
        assert!(!compare_predictions(&one, "x", &full, Vec::new()).passed);
        assert!(!compare_predictions(&one, "x", &[], full.to_vec()).passed);
        let silent = Prediction {
            probabilities: None,
            ..answer("a", 0.9)
        };
        let pair = compare_predictions(&one, "x", &full, vec![silent]);
        assert!(
            pair.mean_kl_divergence.is_nan() && pair.max_kl_divergence.is_nan() && !pair.passed
        );
        let nan = Prediction {
            probabilities: Some(vec![f64::NAN; 2]),
            ..answer("a", 0.9)
        };
        let pair = compare_predictions(&one, "x", &full, vec![nan]);
        assert!(pair.max_kl_divergence.is_nan() && !pair.passed);
        // A rate of exactly 0 is below a gate of 1.
        let pair = compare_predictions(&one, "x", &full, vec![answer("a", 0.1)]);
        assert_eq!(pair.exact_match_rate, 0.0);
        assert!(!pair.passed);
    }
}
