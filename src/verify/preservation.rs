//! Whether an artifact still answers as its source does: the class distribution of every case of a task, on both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::Subject;
use super::error::VerifyError;
use super::inputs::{Case, Interface, Origin, Padding};
use super::metrics::log_softmax;
use super::report::{float, floats, optional_float, show, write_table};
use super::task::{ClassKind, Task, TaskCase, TaskGates, read_bytes};
use super::tolerance::Check;
use crate::error::{Context, Result};
use crate::ir::Domain;
use crate::runtime::NamedTensors;
use crate::tensor::{DType, Tensor, num};

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

/// A task on source and artifact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    /// Number of cases.
    pub cases: usize,
    /// Class names, in order.
    pub classes: Vec<String>,
    /// Every engine against the source.
    pub engines: Vec<PairReport>,
    /// What is wrong with the task's run as a whole.
    pub failures: Vec<String>,
    /// Name of the task.
    pub name: String,
    /// A source margin up to this, in probability, is a near tie.
    #[serde(serialize_with = "float")]
    pub near_tie_margin: f64,
    /// Whether every engine preserves it.
    pub passed: bool,
    /// The source's answers.
    pub source_predictions: Vec<Prediction>,
    /// SHA-256 of the tokenizer.
    pub tokenizer_sha256: Option<String>,
}

impl TaskReport {
    /// A table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "  task `{}`, {} cases: {}\n",
            self.name,
            self.cases,
            if self.passed {
                "preserved"
            } else {
                "NOT PRESERVED"
            }
        );
        let mut table = vec![
            [
                "engine",
                "same",
                "95 %",
                "flips",
                "mean KL",
                "max KL",
                "mean L2",
                "right",
                "source right",
                "",
            ]
            .map(str::to_owned),
        ];
        for pair in &self.engines {
            let share = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), show);
            let [low, high] = pair.exact_match_wilson95;
            let near = pair.flips.iter().filter(|f| f.near_tie).count();
            table.push([
                pair.engine.clone(),
                show(pair.exact_match_rate),
                format!("{low:.3}..{high:.3}"),
                format!("{} ({near} near ties)", pair.flips.len()),
                show(pair.mean_kl_divergence),
                show(pair.max_kl_divergence),
                show(pair.mean_l2_drift),
                share(pair.accuracy_artifact),
                share(pair.accuracy_source),
                if pair.passed { "ok" } else { "FAILED" }.to_owned(),
            ]);
        }
        // Writing to a string does not fail.
        let _ = write_table(&mut out, &table);
        for failure in &self.failures {
            let _ = writeln!(out, "  {failure}");
        }
        out
    }
}

/// Runs a task on source and candidates.
pub(super) fn run(
    task: &Task,
    interface: &Interface<'_>,
    source: &Subject<'_>,
    candidates: &[Subject<'_>],
) -> Result<TaskReport> {
    let asked = Asked::new(task, interface)?;
    let mut report = TaskReport {
        cases: task.cases.len(),
        classes: task.classes.iter().map(|c| c.name.clone()).collect(),
        engines: Vec::new(),
        failures: Vec::new(),
        name: task.name.clone(),
        near_tie_margin: task.gates.near_tie_margin,
        passed: false,
        source_predictions: Vec::new(),
        tokenizer_sha256: task.tokenizer_sha256.clone(),
    };
    if task.cases.is_empty() {
        report.failures.push("vacuous: the task has no case".into());
        return Ok(report);
    }
    report.source_predictions = match asked.answers(source) {
        Ok(predictions) => predictions,
        Err(error) => {
            report
                .failures
                .push(format!("{} did not answer: {error}", source.name));
            return Ok(report);
        }
    };
    for candidate in candidates {
        let pair = match asked.answers(candidate) {
            Ok(predictions) => compare_predictions(
                task,
                &candidate.name,
                &report.source_predictions,
                predictions,
            ),
            Err(error) => {
                report
                    .failures
                    .push(format!("{} did not answer: {error}", candidate.name));
                continue;
            }
        };
        report.engines.push(pair);
    }
    if report.engines.is_empty() {
        report.failures.push("no engine answered".into());
    }
    report.passed = report.failures.is_empty() && report.engines.iter().all(|p| p.passed);
    Ok(report)
}

/// A task, checked against a model.
struct Asked<'a> {
    task: &'a Task,
    output: String,
    probes: Vec<NamedTensors>,
}

impl<'a> Asked<'a> {
    fn new(task: &'a Task, interface: &Interface<'_>) -> Result<Self> {
        let function = interface.function;
        let content = |message: String| VerifyError::TaskContent { message };
        let named = function.outputs.iter().find(|o| o.name == "logits");
        let output = match (named, function.outputs.as_slice()) {
            (Some(output), _) => output,
            (None, [only]) => only,
            (None, _) => {
                return Err(
                    content("the model has several outputs, and none is `logits`".into()).into(),
                );
            }
        };
        let ty = function.ty(output.value);
        let expected = match task.kind {
            ClassKind::TokenId => 3,
            ClassKind::LabelIndex => 2,
        };
        let bound = ty.shape.last().and_then(crate::ir::Dim::known);
        let (true, Some(bound)) = (ty.rank() == expected, bound) else {
            return Err(content(format!(
                "classes by `{}` need an output of {expected} axes, `{}` is {ty}",
                task.kind.key(),
                output.name
            ))
            .into());
        };
        if let Some(class) = task.classes.iter().find(|c| c.index >= num::u64_of(bound)) {
            return Err(VerifyError::ClassRange {
                class: class.name.clone(),
                kind: task.kind.key(),
                id: class.index,
                bound,
                output: output.name.clone(),
            }
            .into());
        }
        let ids = function
            .params
            .iter()
            .filter_map(|p| match p.domain {
                Domain::Index { below } => Some((interface.name(p), below)),
                Domain::Any | Domain::Mask => None,
            })
            .min_by_key(|(name, _)| *name != "input_ids");
        let Some((input, vocab)) = ids else {
            return Err(content("the model takes no token ids".into()).into());
        };
        let mut probes = Vec::with_capacity(task.cases.len());
        for case in &task.cases {
            check_ids(case, vocab)?;
            let tensor = Tensor::int(DType::I64, vec![1, case.ids.len()], case.ids.clone())?;
            let probe = interface
                .fit(
                    &Case {
                        name: format!("case `{}`", case.id),
                        inputs: NamedTensors::from([(input.to_owned(), tensor)]),
                        outputs: NamedTensors::new(),
                    },
                    Origin::InputsFile,
                )
                .at_tensor(&case.id)?;
            if probe.padded_from.is_some() && interface.padding(&output.name) == Padding::Matters {
                return Err(content(format!(
                    "case `{}` of {} tokens has to be padded, and the model does not claim that `{}` ignores padding",
                    case.id,
                    case.ids.len(),
                    output.name
                ))
                .into());
            }
            probes.push(probe.inputs);
        }
        Ok(Asked {
            task,
            output: output.name.clone(),
            probes,
        })
    }

    fn answers(&self, subject: &Subject<'_>) -> Result<Vec<Prediction>> {
        self.task
            .cases
            .iter()
            .zip(&self.probes)
            .map(|(case, inputs)| self.answer(subject, case, inputs).at_tensor(&case.id))
            .collect()
    }

    /// The answer to one case: the most probable class at the last real token, never at padding.
    fn answer(
        &self,
        subject: &Subject<'_>,
        case: &TaskCase,
        inputs: &NamedTensors,
    ) -> Result<Prediction> {
        let outputs = subject.run(inputs)?;
        let content = |message: String| VerifyError::TaskContent { message };
        let logits = outputs
            .get(&self.output)
            .ok_or_else(|| content(format!("no output `{}`", self.output)))?;
        let values = logits.floats()?;
        let shape = logits.shape();
        let position = match (self.task.kind, shape) {
            (ClassKind::TokenId, [1, length, _]) if case.ids.len() <= *length => case.ids.len() - 1,
            (ClassKind::LabelIndex, [1, _]) => 0,
            (ClassKind::TokenId | ClassKind::LabelIndex, _) => {
                return Err(content(format!(
                    "`{}` has shape {shape:?} for {} tokens",
                    self.output,
                    case.ids.len()
                ))
                .into());
            }
        };
        let width = shape.last().copied().unwrap_or(0);
        let mut class_logits = Vec::with_capacity(self.task.classes.len());
        for class in &self.task.classes {
            let index = num::usize_of(class.index);
            let value = values
                .get(position * width + index)
                .filter(|_| index < width)
                .ok_or_else(|| {
                    content(format!(
                        "`{}` has shape {shape:?}, class `{}` is {index}",
                        self.output, class.name
                    ))
                })?;
            class_logits.push(f64::from(*value));
        }
        let probabilities: Vec<f64> = log_softmax(&class_logits).iter().map(|p| p.exp()).collect();
        Ok(Prediction {
            case: case.id.clone(),
            class: first_largest(&probabilities),
            probabilities: Some(probabilities),
        })
    }
}

fn check_ids(case: &TaskCase, vocab: u64) -> Result<(), VerifyError> {
    let bad = case
        .ids
        .iter()
        .position(|&id| u64::try_from(id).map_or(true, |id| id >= vocab));
    match bad {
        Some(position) => Err(VerifyError::CaseToken {
            case: case.id.clone(),
            id: case.ids[position],
            position,
            vocab,
        }),
        None => Ok(()),
    }
}

fn first_largest(values: &[f64]) -> usize {
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

/// The predecessor's `<backend>_predictions.json`, with its key names and the case's id.
#[must_use]
pub fn predictions_json(task: &Task, backend: &str, model: &str, answers: &[Prediction]) -> Value {
    let text: BTreeMap<&str, Option<&str>> = task
        .cases
        .iter()
        .map(|c| (c.id.as_str(), c.text.as_deref()))
        .collect();
    let predictions: Vec<Value> = answers
        .iter()
        .map(|answer| {
            let class = task.classes.get(answer.class);
            json!({
                "class_probabilities": answer.probabilities.as_ref().map(|p| p.iter().map(|&x| figure(x)).collect::<Vec<_>>()),
                "id": answer.case,
                "predicted_answer": class.map(|c| c.name.as_str()),
                "predicted_class_id": class.map(|c| c.index),
                "predicted_class_name": class.map(|c| c.name.as_str()),
                "question": text.get(answer.case.as_str()).copied().flatten(),
            })
        })
        .collect();
    json!({
        "backend": backend,
        "config": task.name,
        "model": model,
        "predictions": predictions,
    })
}

/// The predecessor's `comparison_metrics.json`, with its key names: `pair` is `pytorch_vs_coreml` or the like.
#[must_use]
pub fn comparison_json(pair: &str, report: &PairReport) -> Value {
    json!({
        pair: {
            "exact_match_rate": figure(report.exact_match_rate),
            "mean_kl_divergence": figure(report.mean_kl_divergence),
            "mean_l2_drift": figure(report.mean_l2_drift),
        }
    })
}

fn figure(x: f64) -> Value {
    if x.is_finite() {
        json!(x)
    } else {
        json!(x.to_string())
    }
}

/// Reads predictions made elsewhere, in the predecessor's form: one for every case, matched by `id`, or by `question` where there is none.
///
/// # Errors
/// When the file cannot be parsed, a class is unknown, or a case is missing, unknown or answered twice. An unparsable answer is never class 0.
pub fn read_predictions(path: &Path, task: &Task) -> Result<Vec<Prediction>> {
    let bytes = read_bytes(path)?;
    parse_predictions(&bytes, task).at_file(path)
}

fn parse_predictions(bytes: &[u8], task: &Task) -> Result<Vec<Prediction>, VerifyError> {
    let wrong = |message: String| VerifyError::Predictions { message };
    let file: Value = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    let list = file
        .get("predictions")
        .and_then(Value::as_array)
        .ok_or_else(|| wrong("no list `predictions`".into()))?;
    let mut answers: BTreeMap<&str, Prediction> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (i, entry) in list.iter().enumerate() {
        let case = case_of(entry, task)
            .ok_or_else(|| wrong(format!("prediction {i} answers no case of `{}`", task.name)))?;
        if !seen.insert(case.id.as_str()) {
            return Err(wrong(format!("case `{}` is answered twice", case.id)));
        }
        let class = class_of(entry, task).map_err(|what| {
            wrong(format!(
                "case `{}`: {what}, expected a class of `{}`",
                case.id, task.name
            ))
        })?;
        let probabilities = match entry.get("class_probabilities") {
            None | Some(Value::Null) => None,
            Some(list) => {
                Some(probabilities_of(list, task.classes.len()).ok_or_else(|| {
                    wrong(format!("case `{}`: bad `class_probabilities`", case.id))
                })?)
            }
        };
        if probabilities
            .as_deref()
            .is_some_and(|p| p[class] < p[first_largest(p)])
        {
            return Err(wrong(format!(
                "case `{}`: the class is not the most probable one",
                case.id
            )));
        }
        answers.insert(
            &case.id,
            Prediction {
                case: case.id.clone(),
                class,
                probabilities,
            },
        );
    }
    task.cases
        .iter()
        .map(|case| {
            answers
                .remove(case.id.as_str())
                .ok_or_else(|| wrong(format!("case `{}` is not answered", case.id)))
        })
        .collect()
}

fn case_of<'t>(entry: &Value, task: &'t Task) -> Option<&'t TaskCase> {
    let text = |key| entry.get(key).and_then(Value::as_str);
    if let Some(id) = text("id") {
        return task.cases.iter().find(|c| c.id == id);
    }
    let question = text("question")?;
    let mut found = task
        .cases
        .iter()
        .filter(|c| c.text.as_deref() == Some(question));
    match (found.next(), found.next()) {
        (Some(case), None) => Some(case),
        (_, _) => None,
    }
}

fn class_of(entry: &Value, task: &Task) -> Result<usize, String> {
    let by_id = match entry.get("predicted_class_id") {
        None | Some(Value::Null) => None,
        Some(id) => Some(
            id.as_u64()
                .and_then(|id| task.classes.iter().position(|c| c.index == id))
                .ok_or_else(|| format!("`predicted_class_id` is {id}"))?,
        ),
    };
    let name = ["predicted_class_name", "predicted_answer"]
        .into_iter()
        .find_map(|key| entry.get(key).filter(|v| !v.is_null()));
    let by_name = match name {
        None => None,
        Some(name) => Some(
            name.as_str()
                .and_then(|name| task.classes.iter().position(|c| c.name == name))
                .ok_or_else(|| format!("the class's name is {name}"))?,
        ),
    };
    match (by_id, by_name) {
        (Some(a), Some(b)) if a != b => Err("id and name are of different classes".into()),
        (Some(class), _) | (None, Some(class)) => Ok(class),
        (None, None) => Err("there is no class".into()),
    }
}

/// A distribution over the classes; what was stored in 32 bits need not sum to exactly 1.
fn probabilities_of(list: &Value, classes: usize) -> Option<Vec<f64>> {
    let values: Vec<f64> = list
        .as_array()?
        .iter()
        .map(Value::as_f64)
        .collect::<Option<_>>()?;
    let sum: f64 = values.iter().sum();
    let valid = values.len() == classes
        && values.iter().all(|p| (0.0..=1.0).contains(p))
        && (sum - 1.0).abs() < 1e-3;
    valid.then_some(values)
}

#[cfg(test)]
mod tests {
    use super::super::{Numerics, fixture, tolerance::Gates};
    use super::*;

    fn task(cases: &[(&str, &[i64], Option<usize>)]) -> Task {
        let mut text = String::from(
            "name = \"t\"\n[[classes]]\nname = \"A\"\ntoken_id = 2\n[[classes]]\nname = \"B\"\ntoken_id = 5\n",
        );
        for (id, ids, expected) in cases {
            let _ = write!(text, "[[cases]]\nid = \"{id}\"\ninput_ids = {ids:?}\n");
            if let Some(class) = expected {
                let _ = writeln!(text, "expected = \"{}\"", ["A", "B"][*class]);
            }
        }
        Task::parse(&text, Path::new(".")).unwrap()
    }

    fn answer(case: &str, p: f64) -> Prediction {
        Prediction {
            case: case.into(),
            class: usize::from(p < 0.5),
            probabilities: Some(vec![p, 1.0 - p]),
        }
    }

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

    #[test]
    fn cases_are_asked_at_their_last_real_token() {
        let module = fixture::fixed(8, true);
        let interface = Interface::new(&module, &[]).unwrap();
        let honest = fixture::Fake::honest();
        let gates = Gates::for_numerics(Numerics::F32);
        let subject = Subject::new(&honest, None, gates);
        let short = task(&[("a", &[9, 3], None), ("b", &[3], None)]);
        let report = run(&short, &interface, &subject, std::slice::from_ref(&subject)).unwrap();
        assert!(report.passed, "{report:?}");
        // Both end in token 3: the fixture's logits depend on the token alone.
        assert_eq!(
            report.source_predictions[0].probabilities,
            report.source_predictions[1].probabilities
        );
        let pad = run(
            &task(&[("p", &[0], None)]),
            &interface,
            &subject,
            std::slice::from_ref(&subject),
        )
        .unwrap();
        assert_ne!(
            pad.source_predictions[0].probabilities,
            report.source_predictions[0].probabilities
        );
        let empty = run(
            &task(&[]),
            &interface,
            &subject,
            std::slice::from_ref(&subject),
        )
        .unwrap();
        assert!(!empty.passed && empty.failures[0].starts_with("vacuous"));
        assert!(!run(&short, &interface, &subject, &[]).unwrap().passed);
        let broken = fixture::Fake::broken();
        let broken = Subject::new(&broken, None, Gates::for_numerics(Numerics::F32));
        let report = run(&short, &interface, &subject, &[broken]).unwrap();
        assert!(!report.passed && report.failures.len() == 2, "{report:?}");
    }

    #[test]
    fn ids_and_classes_are_held_to_the_vocabulary() {
        let module = fixture::fixed(4, true);
        let interface = Interface::new(&module, &[]).unwrap();
        let refuse = |task: &Task| Asked::new(task, &interface).err().unwrap();
        assert_eq!(
            refuse(&task(&[("a", &[1, 16], None)])).code(),
            "id_out_of_range"
        );
        assert_eq!(
            refuse(&task(&[("a", &[-1], None)])).code(),
            "id_out_of_range"
        );
        assert_eq!(refuse(&task(&[("a", &[1; 5], None)])).code(), "input_shape");
        let mut big = task(&[("a", &[1], None)]);
        big.classes[1].index = 8;
        assert_eq!(refuse(&big).code(), "class_out_of_range");
        big.kind = ClassKind::LabelIndex;
        assert!(refuse(&big).to_string().contains("2 axes"));
    }

    #[test]
    fn predictions_from_elsewhere_are_never_class_zero_by_default() {
        let task = task(&[("a", &[1], None)]);
        let parse = |entry: &str| {
            parse_predictions(format!("{{\"predictions\":[{entry}]}}").as_bytes(), &task)
        };
        let good = parse(r#"{"id":"a","predicted_class_id":5,"class_probabilities":[0.25,0.75]}"#)
            .unwrap();
        assert_eq!(good[0].class, 1);
        for bad in [
            r#"{"id":"a","predicted_class_id":0}"#,
            r#"{"id":"a","predicted_class_id":"B"}"#,
            r#"{"id":"a","predicted_class_name":"C"}"#,
            r#"{"id":"a","predicted_class_id":5,"predicted_class_name":"A"}"#,
            r#"{"id":"a"}"#,
            r#"{"id":"a","predicted_class_id":null}"#,
            r#"{"id":"z","predicted_class_id":5}"#,
            r#"{"question":"?","predicted_class_id":5}"#,
            r#"{"id":"a","predicted_class_id":5,"class_probabilities":[1.0]}"#,
            r#"{"id":"a","predicted_class_id":5,"class_probabilities":[0.9,0.1]}"#,
            r#"{"id":"a","predicted_class_id":5},{"id":"a","predicted_class_id":5}"#,
            "",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse_predictions(b"nonsense", &task).is_err());
        assert!(parse_predictions(b"{}", &task).is_err());
    }

    #[test]
    fn predecessor_files_keep_their_keys() {
        let task = task(&[("a", &[1], None)]);
        let answers = vec![answer("a", 0.25)];
        let file = predictions_json(&task, "coreml", "m.mlpackage", &answers);
        assert_eq!(file["predictions"][0]["predicted_class_id"], 5);
        assert_eq!(
            file["predictions"][0]["class_probabilities"],
            json!([0.25, 0.75])
        );
        let bytes = serde_json::to_vec(&file).unwrap();
        assert_eq!(parse_predictions(&bytes, &task).unwrap(), answers);
        let pair = compare_predictions(&task, "x", &answers, answers.clone());
        assert_eq!(
            comparison_json("pytorch_vs_coreml", &pair).to_string(),
            r#"{"pytorch_vs_coreml":{"exact_match_rate":1.0,"mean_kl_divergence":0.0,"mean_l2_drift":0.0}}"#
        );
    }
}
