//! The report: what ran, on what, how far apart it was, and the verdict; as JSON and as text. Prints nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Serialize, Serializer};

use super::claims::{ClaimReport, ClaimStatus};
use super::divergence::Divergence;
use super::inputs::Origin;
use super::metrics::Comparison;
use super::preservation::TaskReport;
use super::tolerance::{Gates, Numerics};
use super::types::InterfaceChange;
use crate::ir::Agreement;

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything that was to be compared was, within every limit.
    Passed,
    /// Something was outside a limit.
    Failed,
    /// Nothing was found wrong, but not everything that was required could run.
    Inconclusive,
}

impl Status {
    /// The word in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Failed => "failed",
            Status::Inconclusive => "inconclusive",
        }
    }
}

/// What became of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineStatus {
    /// It ran every probe.
    Ran,
    /// It is not on this machine.
    Absent,
    /// It gave an error.
    Failed,
}

/// An engine that took part, or should have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineReport {
    /// What went wrong or what is missing; empty when it ran.
    pub detail: String,
    /// Name with version.
    pub name: String,
    /// How it computes, if it is a candidate.
    pub numerics: Option<Numerics>,
    /// Whether the verdict needs it.
    pub required: bool,
    /// `source` or `artifact`.
    pub role: &'static str,
    /// Number of runs.
    pub runs: usize,
    /// What became of it.
    pub status: EngineStatus,
}

/// An output of an engine, held against its reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputReport {
    /// `source` or `reference_file`.
    pub against: &'static str,
    /// The figures, unless it was not compared.
    pub comparison: Option<Comparison>,
    /// Whose output it is.
    pub engine: String,
    /// Why it was not compared on this probe.
    pub not_compared: Option<String>,
    /// The output.
    pub output: String,
}

/// A probe with everything that was compared on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeReport {
    /// Shapes of the inputs.
    pub inputs: BTreeMap<String, Vec<usize>>,
    /// Name.
    pub name: String,
    /// What was filled in or padded.
    pub notes: Vec<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// Outputs.
    pub outputs: Vec<OutputReport>,
    /// Length before padding.
    pub padded_from: Option<usize>,
}

/// The worst figures of an output of an engine over all probes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SummaryRow {
    /// `source` or `reference_file`.
    pub against: &'static str,
    /// Number of comparisons.
    pub comparisons: usize,
    /// Whose output it is.
    pub engine: String,
    /// Largest mean KL(reference ‖ candidate), for logits, in nats.
    #[serde(serialize_with = "optional_float")]
    pub max_mean_kl: Option<f64>,
    /// Largest max|Δ|.
    #[serde(serialize_with = "optional_float")]
    pub max_abs: Option<f64>,
    /// Largest max|Δ| / max|reference|.
    #[serde(serialize_with = "optional_float")]
    pub max_required_tolerance: Option<f64>,
    /// Least cosine.
    #[serde(serialize_with = "optional_float")]
    pub min_cosine: Option<f64>,
    /// Least peak signal-to-noise ratio, in dB.
    #[serde(serialize_with = "optional_float")]
    pub min_psnr_db: Option<f64>,
    /// Least share of logit rows with the same top-1, ties excused.
    #[serde(serialize_with = "optional_float")]
    pub min_top1_tie_aware: Option<f64>,
    /// The output.
    pub output: String,
    /// Whether all comparisons passed.
    pub passed: bool,
}

/// The limits that were used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatesReport {
    /// Most change of what a claim says does not change, relative to max|output|.
    #[serde(serialize_with = "float")]
    pub claim_change: f64,
    /// Relative root-mean-square error at which an intermediate value has left the source.
    #[serde(serialize_with = "float")]
    pub divergence: f64,
    /// Which comparisons they are for: an engine's way of computing, or `reference_file`.
    pub for_what: String,
    /// Most KL of 99.9 % of the rows of logits, in nats.
    #[serde(serialize_with = "optional_float")]
    pub max_kl_999: Option<f64>,
    /// Largest magnitude of an intermediate value.
    #[serde(serialize_with = "optional_float")]
    pub max_magnitude: Option<f64>,
    /// Most mean KL of logits, in nats.
    #[serde(serialize_with = "optional_float")]
    pub max_mean_kl: Option<f64>,
    /// Most max|Δ| / max|reference|.
    #[serde(serialize_with = "optional_float")]
    pub max_relative: Option<f64>,
    /// Most root mean square of Δ / root mean square of the reference.
    #[serde(serialize_with = "optional_float")]
    pub max_relative_rms: Option<f64>,
    /// Most |Δ| / max(|reference|, 1) of single scores.
    #[serde(serialize_with = "optional_float")]
    pub max_score: Option<f64>,
    /// Most elements, as a share, that may be a step apart in outputs that are rounded to steps.
    #[serde(serialize_with = "float")]
    pub max_step_share: f64,
    /// Least cosine.
    #[serde(serialize_with = "optional_float")]
    pub min_cosine: Option<f64>,
    /// Least cosine of embeddings.
    #[serde(serialize_with = "optional_float")]
    pub min_embedding_cosine: Option<f64>,
    /// Least peak signal-to-noise ratio, in dB.
    #[serde(serialize_with = "optional_float")]
    pub min_psnr_db: Option<f64>,
    /// Least share of logit rows with the same top-1, ties excused.
    #[serde(serialize_with = "optional_float")]
    pub min_top1: Option<f64>,
    /// Most difference between the enumerated shapes, relative to max|output|.
    #[serde(serialize_with = "float")]
    pub shape_change: f64,
    /// The limits of outputs as a line.
    #[serde(skip)]
    pub text: String,
    /// Reference margin, relative to the row's top |logit|, up to which a flip is a tie.
    #[serde(serialize_with = "float")]
    pub tie_margin: f64,
    /// Magnitude of an intermediate value that is warned about.
    #[serde(serialize_with = "float")]
    pub warn_magnitude: f64,
}

impl GatesReport {
    pub(super) fn new(for_what: &str, gates: &Gates) -> Self {
        GatesReport {
            claim_change: gates.claim_change,
            divergence: gates.divergence,
            for_what: for_what.to_owned(),
            max_kl_999: gates.max_kl_999,
            max_magnitude: gates.max_magnitude,
            max_mean_kl: gates.max_mean_kl,
            max_relative: gates.max_relative,
            max_relative_rms: gates.max_relative_rms,
            max_score: gates.max_score,
            max_step_share: gates.max_step_share,
            min_cosine: gates.min_cosine,
            min_embedding_cosine: gates.min_embedding_cosine,
            min_psnr_db: gates.min_psnr_db,
            min_top1: gates.min_top1,
            shape_change: gates.shape_change,
            text: gates.text(),
            tie_margin: gates.tie_margin,
            warn_magnitude: gates.warn_magnitude,
        }
    }
}

/// The artifact's bytes against those of a fresh conversion of its source.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// What was compared, and what differs.
    Compared(Agreement),
    /// Nothing.
    NotCompared {
        /// The reason.
        why: String,
    },
}

/// What verification found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The artifact.
    pub artifact: String,
    /// Claims, tested on the source and on every candidate.
    pub claims: Vec<ClaimReport>,
    /// Intermediate values of the artifact against those of the source.
    pub divergence: Vec<Divergence>,
    /// Engines, the source's first.
    pub engines: Vec<EngineReport>,
    /// What the verdict rests on, and what it does not show.
    pub evidence: String,
    /// Everything that is wrong.
    pub failures: Vec<String>,
    /// The reports on the functions besides the default one, if there are several. Verdict, failures and warnings of this report cover them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<String, Report>,
    /// The limits.
    pub gates: Vec<GatesReport>,
    /// Probes.
    pub probes: Vec<ProbeReport>,
    /// The verdict.
    pub status: Status,
    /// Worst figures by engine and output.
    pub summary: Vec<SummaryRow>,
    /// Task preservation, if there was a task.
    pub task: Option<TaskReport>,
    /// Inputs and outputs that are of another type or rank in the artifact than in the source, as they were read back.
    pub type_changes: Vec<InterfaceChange>,
    /// What could not run although it was required.
    pub unproven: Vec<String>,
    /// What is noteworthy.
    pub warnings: Vec<String>,
    /// The bytes of weights and program, if anybody looked at them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
}

/// How many differences are named in the text and among the failures; the report has them all.
const NAMED_DIFFERENCES: usize = 20;

impl Report {
    /// Adds what became of the bytes. A difference is a failure: the artifact is not what its source becomes, however little that changes.
    pub fn add_weights(&mut self, weights: Weights) {
        match &weights {
            Weights::Compared(agreement) => {
                let all = &agreement.differences;
                let named = all.iter().take(NAMED_DIFFERENCES);
                let failures = named.map(|d| format!("not what converting the source gives: {d}"));
                self.failures.extend(failures);
                if let Some(more) = all.len().checked_sub(NAMED_DIFFERENCES).filter(|n| *n > 0) {
                    self.failures.push(format!("and {more} other differences"));
                }
                if !all.is_empty() {
                    self.status = Status::Failed;
                }
            }
            Weights::NotCompared { why } => {
                let line = format!("weights were not compared bit for bit: {why}");
                self.warnings.push(line);
            }
        }
        self.weights = Some(weights);
    }

    /// Whether the artifact may be used on this evidence.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.status == Status::Passed
    }

    /// One report on several functions, the default one first.
    #[must_use]
    pub fn of_functions(reports: Vec<(String, Report)>) -> Option<Report> {
        let mut reports = reports.into_iter();
        let (_, mut all) = reports.next()?;
        for (name, report) in reports {
            let named = |text: &String| format!("function `{name}`: {text}");
            all.failures.extend(report.failures.iter().map(named));
            all.unproven.extend(report.unproven.iter().map(named));
            all.warnings.extend(report.warnings.iter().map(named));
            all.status = match (all.status, report.status) {
                (Status::Failed, _) | (_, Status::Failed) => Status::Failed,
                (Status::Inconclusive, _) | (_, Status::Inconclusive) => Status::Inconclusive,
                (Status::Passed, Status::Passed) => Status::Passed,
            };
            all.functions.insert(name, report);
        }
        Some(all)
    }

    /// The report as JSON: keys sorted, non-finite figures as the strings `NaN`, `inf` and `-inf`.
    ///
    /// # Errors
    /// Never for a report made by [`super::run`].
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self)
    }

    /// The report as text, for people.
    #[must_use]
    pub fn human(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "verification {}: {}",
            self.status.name(),
            self.artifact
        )?;
        for engine in &self.engines {
            let detail = if engine.detail.is_empty() {
                String::new()
            } else {
                format!(": {}", engine.detail)
            };
            let status = match engine.status {
                EngineStatus::Ran => format!("ran {} times", engine.runs),
                EngineStatus::Absent => "absent".to_owned(),
                EngineStatus::Failed => "failed".to_owned(),
            };
            writeln!(
                out,
                "  {:<8}  {}  {status}{detail}",
                engine.role, engine.name
            )?;
        }
        let mut table = vec![
            [
                "engine", "output", "against", "n", "max|Δ|", "of max", "cosine", "PSNR dB",
                "KL nats", "top-1", "",
            ]
            .map(str::to_owned),
        ];
        for row in &self.summary {
            // A single score has no direction, what is no distribution no top-1.
            let figure = |x: Option<f64>| x.map_or_else(|| "n/a".to_owned(), show);
            table.push([
                row.engine.clone(),
                row.output.clone(),
                row.against.replace('_', " "),
                row.comparisons.to_string(),
                figure(row.max_abs),
                figure(row.max_required_tolerance),
                row.min_cosine
                    .map_or_else(|| "n/a".to_owned(), |c| format!("{c:.7}")),
                figure(row.min_psnr_db),
                figure(row.max_mean_kl),
                figure(row.min_top1_tie_aware),
                if row.passed { "ok" } else { "FAILED" }.to_owned(),
            ]);
        }
        write_table(out, &table)?;
        if let Some(Weights::Compared(Agreement {
            bytes,
            constants,
            differences,
        })) = &self.weights
        {
            let found = match differences.len() {
                0 => "bit for bit what converting the source again gives".to_owned(),
                1 => "1 difference from what converting the source again gives".to_owned(),
                n => format!("{n} differences from what converting the source again gives"),
            };
            writeln!(
                out,
                "  weights: {constants} constants, {bytes} bytes, and the program: {found}"
            )?;
        }
        for gates in &self.gates {
            writeln!(
                out,
                "  gates {}: {}",
                gates.for_what.replace('_', " "),
                gates.text
            )?;
        }
        for change in &self.type_changes {
            let InterfaceChange {
                from,
                place,
                to,
                value,
            } = change;
            writeln!(
                out,
                "  {place} `{value}` is {to} in the artifact, {from} in the source"
            )?;
        }
        for divergence in &self.divergence {
            writeln!(out, "  {}", divergence.text())?;
        }
        let count = |status| self.claims.iter().filter(|c| c.status == status).count();
        if !self.claims.is_empty() {
            writeln!(
                out,
                "  claims: {} held, {} violated, {} untestable",
                count(ClaimStatus::Held),
                count(ClaimStatus::Violated),
                count(ClaimStatus::Untestable)
            )?;
        }
        if let Some(task) = &self.task {
            write!(out, "{}", task.text())?;
        }
        for (label, lines) in [
            ("failed", &self.failures),
            ("unproven", &self.unproven),
            ("warning", &self.warnings),
        ] {
            for line in lines {
                writeln!(out, "  {label}: {line}")?;
            }
        }
        writeln!(out, "  {}", self.evidence)?;
        for (name, report) in &self.functions {
            writeln!(out, "function `{name}`")?;
            report.write(out)?;
        }
        Ok(())
    }
}

/// Columns padded to their widest cell.
pub(super) fn write_table<const N: usize>(
    out: &mut String,
    rows: &[[String; N]],
) -> std::fmt::Result {
    if rows.len() < 2 {
        return Ok(());
    }
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "  {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// A figure for people: up to four significant digits.
pub(super) fn show(x: f64) -> String {
    if !x.is_finite() || x == 0.0 {
        return format!("{x}");
    }
    let magnitude = x.abs();
    if (1e-3..1e6).contains(&magnitude) {
        let digits = if magnitude >= 1000.0 {
            0
        } else if magnitude >= 100.0 {
            1
        } else if magnitude >= 10.0 {
            2
        } else if magnitude >= 1.0 {
            3
        } else {
            6
        };
        let text = format!("{x:.digits$}");
        return if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
    }
    format!("{x:.2e}")
}

/// Serialises a float; JSON has no NaN and no infinity, so they become strings instead of `null`.
pub(super) fn float<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if x.is_finite() {
        serializer.serialize_f64(*x)
    } else {
        serializer.collect_str(x)
    }
}

/// As [`float`], with `null` for what does not apply.
pub(super) fn optional_float<S: Serializer>(
    x: &Option<f64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match x {
        Some(x) => float(x, serializer),
        None => serializer.serialize_none(),
    }
}

/// As [`float`], for a list.
pub(super) fn floats<S: Serializer>(list: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    struct Figure(f64);
    impl Serialize for Figure {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            float(&self.0, serializer)
        }
    }
    serializer.collect_seq(list.iter().map(|&x| Figure(x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        for (x, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.25, "0.25"),
            (1.25e-7, "1.25e-7"),
            (123.456, "123.5"),
            (65504.0, "65504"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(show(x), text);
        }
    }

    #[test]
    fn non_finite_figures_are_strings() {
        #[derive(Serialize)]
        struct All {
            #[serde(serialize_with = "float")]
            a: f64,
            #[serde(serialize_with = "optional_float")]
            b: Option<f64>,
            #[serde(serialize_with = "floats")]
            c: Vec<f64>,
        }
        let all = All {
            a: f64::NAN,
            b: Some(f64::NEG_INFINITY),
            c: vec![1.5, f64::INFINITY],
        };
        assert_eq!(
            serde_json::to_string(&all).unwrap(),
            r#"{"a":"NaN","b":"-inf","c":[1.5,"inf"]}"#
        );
    }
}
