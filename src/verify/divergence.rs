//! Where an artifact leaves its source: every intermediate value of both, matched by name.
//!
//! Owns the rule for "the first operation at which it leaves". Values are compared as the artifact computes them; only the source's are kept.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::metrics::{Worst, unravel};
use super::report::{float, show};
use super::tolerance::Gates;
use crate::error::Result;
use crate::eval::{Interpreter, Observer};
use crate::ir::{ConstantScan, Def, Family, Function, Module, ValueId};
use crate::limits;
use crate::runtime::NamedTensors;
use crate::tensor::{DType, Tensor, num};

/// The largest finite 16-bit float.
pub(super) const F16_MAX: f64 = 65504.0;
/// Everything at or below this, in values made from a fill of that size, is masked: −1e4, −65504, −3.4e38 and −∞ mean the same.
pub(super) const MASKED: f64 = -9_000.0;
/// How much larger than its operands' errors an operation's must be to have caused it.
const GROWTH: f64 = 8.0;
/// Rows of a table in the report.
const ROWS: usize = 20;

/// An intermediate value of the artifact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueReport {
    /// Largest of the artifact.
    #[serde(serialize_with = "float")]
    pub max: f64,
    /// Smallest of the artifact, masked elements left out.
    #[serde(serialize_with = "float")]
    pub min: f64,
    /// Name, in source and artifact.
    pub name: String,
    /// NaN elements of the artifact.
    pub nan: usize,
    /// The artifact's operation.
    pub op: &'static str,
    /// Largest error of the operands.
    #[serde(serialize_with = "float")]
    pub operand_error: f64,
    /// Elements that no 16-bit float can hold, masked ones left out.
    pub overflow: usize,
    /// Root mean square of the difference over that of the source.
    #[serde(serialize_with = "float")]
    pub relative_error: f64,
    /// The element that is furthest off.
    pub worst: Option<Worst>,
}

/// The first operation at which the artifact leaves the source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct First {
    /// `jump` when the error is more than eight times that of the operands, `drift` when it grew step by step beyond the threshold.
    pub kind: &'static str,
    /// The value, with its operation.
    pub value: ValueReport,
}

impl First {
    /// The value and its operation, with the relative errors after and before it.
    pub(super) fn place(&self) -> String {
        format!(
            "`{}` ({}, {}, relative error {}, operands {})",
            self.value.name,
            self.value.op,
            self.kind,
            show(self.value.relative_error),
            show(self.value.operand_error)
        )
    }
}

/// The intermediate values of one run of an artifact against those of its source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// Values compared.
    pub compared: usize,
    /// The engine.
    pub engine: String,
    /// Why there is nothing, if it could not run.
    pub error: Option<String>,
    /// The first value beyond the threshold, in the order of the artifact's program.
    pub first: Option<First>,
    /// The first of them whose error was not there in its operands.
    pub first_jump: Option<First>,
    /// First value with a NaN that the source does not have.
    pub first_nan: Option<String>,
    /// Value with the largest magnitude.
    pub largest: Option<ValueReport>,
    /// Largest magnitude of the values that are held in 16 bits, masked elements left out.
    #[serde(serialize_with = "float")]
    pub max_16bit_magnitude: f64,
    /// Largest magnitude, masked elements left out.
    #[serde(serialize_with = "float")]
    pub max_magnitude: f64,
    /// The values that are furthest off, worst first.
    pub offenders: Vec<ValueReport>,
    /// Values with elements that became infinite or beyond what 16 bits hold, first ones first.
    pub overflows: Vec<String>,
    /// The probe.
    pub probe: String,
    /// Values of the source that were not kept, because together they were too large.
    pub skipped_for_memory: usize,
    /// The threshold of the relative error.
    #[serde(serialize_with = "float")]
    pub threshold: f64,
    /// Values of the artifact without a counterpart of the same name and shape.
    pub unmatched: usize,
}

impl Divergence {
    /// For a trace that could not run.
    pub(super) fn failed(error: String) -> Self {
        Divergence {
            compared: 0,
            engine: String::new(),
            error: Some(error),
            first: None,
            first_jump: None,
            first_nan: None,
            largest: None,
            max_16bit_magnitude: 0.0,
            max_magnitude: 0.0,
            offenders: Vec::new(),
            overflows: Vec::new(),
            probe: String::new(),
            skipped_for_memory: 0,
            threshold: 0.0,
            unmatched: 0,
        }
    }

    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let head = format!("intermediate values of {} on {}", self.engine, self.probe);
        if let Some(error) = &self.error {
            return format!("{head}: could not run: {error}");
        }
        let leaves = match &self.first {
            None => "never leaves the source".to_owned(),
            Some(first) => format!("leaves the source at {}", first.place()),
        };
        format!(
            "{head}: {} compared, {} unmatched, largest magnitude {}; {leaves}",
            self.compared,
            self.unmatched,
            show(self.max_magnitude)
        )
    }
}

/// The source's intermediate values.
#[derive(Debug, Default)]
pub(super) struct SourceTrace {
    values: BTreeMap<String, Tensor>,
    wanted: BTreeSet<String>,
    bytes: u64,
    skipped: usize,
}

impl SourceTrace {
    /// Runs the source and keeps the values whose names an artifact has too.
    pub(super) fn run(
        source: &Interpreter,
        artifacts: &[&Module],
        inputs: &NamedTensors,
    ) -> Result<Self> {
        let mut trace = SourceTrace::default();
        for artifact in artifacts {
            let function = artifact.main()?;
            let results = function
                .nodes
                .iter()
                .flat_map(|n| n.results.iter().copied());
            trace
                .wanted
                .extend(results.map(|v| function.value(v).name.clone()));
        }
        source.run(inputs, Some(&mut trace))?;
        Ok(trace)
    }
}

impl Observer for SourceTrace {
    fn observe(&mut self, function: &Function, value: ValueId, tensor: &Tensor) {
        let name = &function.value(value).name;
        if !self.wanted.contains(name) {
            return;
        }
        // Floats are held in four bytes, integers in eight.
        let width = if tensor.dtype().is_float() { 4 } else { 8 };
        let bytes = num::u64_of(tensor.len()).saturating_mul(width);
        if self.bytes.saturating_add(bytes) > limits::TRACE_BYTES.get() {
            self.skipped += 1;
            return;
        }
        self.bytes += bytes;
        self.values.insert(name.clone(), tensor.clone());
    }
}

/// Runs the artifact and compares each value with the source's.
pub(super) fn trace(
    source: &SourceTrace,
    module: &Module,
    artifact: &Interpreter,
    inputs: &NamedTensors,
    gates: &Gates,
) -> Result<Divergence> {
    traced(source, module, artifact, inputs, gates).map(|(divergence, _)| divergence)
}

/// The same, with the outputs.
pub(super) fn traced(
    source: &SourceTrace,
    module: &Module,
    artifact: &Interpreter,
    inputs: &NamedTensors,
    gates: &Gates,
) -> Result<(Divergence, NamedTensors)> {
    let mut comparer = Comparer {
        source,
        threshold: gates.divergence,
        masked: masked_values(module, module.main()?)?,
        errors: BTreeMap::new(),
        all: Vec::new(),
        unmatched: 0,
        first_nan: None,
        overflows: Vec::new(),
        max_16bit_magnitude: 0.0,
    };
    let outputs = artifact.run(inputs, Some(&mut comparer))?;
    Ok((comparer.finish(), outputs))
}

struct Comparer<'a> {
    source: &'a SourceTrace,
    threshold: f64,
    masked: BTreeSet<ValueId>,
    errors: BTreeMap<ValueId, f64>,
    all: Vec<(ValueReport, bool)>,
    unmatched: usize,
    first_nan: Option<String>,
    overflows: Vec<String>,
    max_16bit_magnitude: f64,
}

impl Observer for Comparer<'_> {
    fn observe(&mut self, function: &Function, value: ValueId, tensor: &Tensor) {
        let Some(node) = function.producer(value) else {
            return;
        };
        let name = &function.value(value).name;
        let operand_error = node
            .operands
            .iter()
            .map(|v| self.errors.get(v).copied().unwrap_or(0.0))
            .fold(0.0, f64::max);
        let reference = self.source.values.get(name).filter(|r| {
            r.shape() == tensor.shape() && r.dtype().is_float() == tensor.dtype().is_float()
        });
        let mut report = examine(reference, tensor, self.masked.contains(&value));
        report.name.clone_from(name);
        report.op = node.op.info().name;
        report.operand_error = operand_error;
        let source_nan = reference.is_some_and(|r| r.to_f64().iter().any(|x| x.is_nan()));
        if report.nan > 0 && !source_nan {
            self.first_nan.get_or_insert_with(|| name.clone());
        }
        if function.ty(value).dtype == DType::F16 {
            self.max_16bit_magnitude = self.max_16bit_magnitude.max(magnitude(&report));
            if report.overflow > 0 {
                self.overflows.push(name.clone());
            }
        }
        if reference.is_none() {
            self.unmatched += 1;
            // What has no counterpart is as wrong as what it is made of.
            report.relative_error = operand_error;
        }
        self.errors.insert(value, report.relative_error);
        self.all.push((report, reference.is_some()));
    }
}

impl Comparer<'_> {
    fn finish(self) -> Divergence {
        let beyond =
            |r: &ValueReport| r.relative_error > self.threshold || r.relative_error.is_nan();
        let jumped = |r: &ValueReport| {
            r.relative_error > GROWTH * r.operand_error || r.relative_error.is_nan()
        };
        let matched: Vec<&ValueReport> = self
            .all
            .iter()
            .filter(|(_, matched)| *matched)
            .map(|(r, _)| r)
            .collect();
        let first = |wanted: &dyn Fn(&ValueReport) -> bool| {
            matched
                .iter()
                .find(|r| beyond(r) && wanted(r))
                .map(|r| First {
                    kind: if jumped(r) { "jump" } else { "drift" },
                    value: (*r).clone(),
                })
        };
        let (first, first_jump) = (first(&|_| true), first(&jumped));
        let mut offenders: Vec<ValueReport> = matched
            .iter()
            .filter(|r| r.relative_error != 0.0)
            .map(|r| (*r).clone())
            .collect();
        // NaN first; the order of the program decides between equals.
        offenders.sort_by(|a, b| b.relative_error.total_cmp(&a.relative_error));
        offenders.truncate(ROWS);
        let largest = self
            .all
            .iter()
            .map(|(r, _)| r)
            .max_by(|a, b| magnitude(a).total_cmp(&magnitude(b)))
            .cloned();
        let mut overflows = self.overflows;
        overflows.truncate(ROWS);
        Divergence {
            compared: matched.len(),
            engine: String::new(),
            error: None,
            first,
            first_jump,
            first_nan: self.first_nan,
            max_16bit_magnitude: self.max_16bit_magnitude,
            max_magnitude: largest.as_ref().map_or(0.0, magnitude),
            largest,
            offenders,
            overflows,
            probe: String::new(),
            skipped_for_memory: self.source.skipped,
            threshold: self.threshold,
            unmatched: self.unmatched,
        }
    }
}

fn magnitude(report: &ValueReport) -> f64 {
    report.max.abs().max(report.min.abs())
}

/// Range and error of one value; integers and truth values count as numbers, but have no range.
fn examine(reference: Option<&Tensor>, tensor: &Tensor, masked: bool) -> ValueReport {
    let values = tensor.to_f64();
    let reference = reference.map(Tensor::to_f64);
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut nan, mut overflow) = (0, 0);
    let (mut squares, mut norm, mut furthest, mut worst) = (0.0f64, 0.0f64, -1.0f64, None);
    let hidden = |x: f64| masked && x <= MASKED;
    for (i, &y) in values.iter().enumerate() {
        nan += usize::from(y.is_nan());
        if !hidden(y) && !y.is_nan() {
            min = min.min(y);
            max = max.max(y);
            overflow += usize::from(y.abs() > F16_MAX);
        }
        let Some(x) = reference.as_ref().map(|r| r[i]) else {
            continue;
        };
        let same = x == y || (x.is_nan() && y.is_nan()) || (hidden(x) && hidden(y));
        if same {
            if x.is_finite() && !hidden(x) {
                norm += x * x;
            }
            continue;
        }
        // NaN − x and ∞ − x are not numbers that a sum should hide.
        let delta = if x.is_finite() && y.is_finite() {
            (x - y).abs()
        } else {
            f64::INFINITY
        };
        squares += delta * delta;
        norm += if x.is_finite() { x * x } else { 0.0 };
        if delta > furthest {
            furthest = delta;
            worst = Some(Worst {
                candidate: y,
                index: unravel(i, tensor.shape()),
                reference: x,
            });
        }
    }
    let is_float = tensor.dtype().is_float();
    let ranged = is_float && min <= max;
    ValueReport {
        max: if ranged { max } else { 0.0 },
        min: if ranged { min } else { 0.0 },
        name: String::new(),
        nan,
        op: "",
        operand_error: 0.0,
        overflow: if is_float { overflow } else { 0 },
        relative_error: if squares == 0.0 {
            0.0
        } else {
            (squares / norm).sqrt()
        },
        worst,
    }
}

/// The values that hold a mask's fill, or scores to which one was added.
pub(super) fn masked_values(module: &Module, function: &Function) -> Result<BTreeSet<ValueId>> {
    // Only what is added, selected or brought into shape for that: weights need not be read.
    let used: BTreeSet<ValueId> = function
        .nodes
        .iter()
        .filter(|n| matches!(n.op.info().family, Family::Elementwise | Family::Shape))
        .flat_map(|n| n.operands.iter().copied())
        .collect();
    let mut masked = BTreeSet::new();
    for id in used {
        let Def::Const(constant) = function.value(id).def else {
            continue;
        };
        let constant = module.constant(constant);
        if constant.dtype().is_float()
            && num::u64_of(constant.len()) <= limits::FOLDED_ELEMENTS.get()
            && reaches_fill(&constant.scan()?)
        {
            masked.insert(id);
        }
    }
    for node in &function.nodes {
        let carries = matches!(
            node.op.info().family,
            Family::Elementwise | Family::Shape | Family::Index
        );
        if carries && node.operands.iter().any(|v| masked.contains(v)) {
            masked.extend(&node.results);
        }
    }
    Ok(masked)
}

fn reaches_fill(scan: &ConstantScan) -> bool {
    f64::from(scan.max_abs) >= -MASKED || scan.inf > 0
}
