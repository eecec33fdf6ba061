//! The verification itself: every probe through source and candidates, then claims, intermediate values and the task.

mod complete;
mod links;
mod trace;

use std::collections::{BTreeMap, BTreeSet};

use super::aligned::aligned;
use super::cases::{input_cases, reference_cases};
use super::claims::{self, Base, ClaimStatus};
use super::divergence::Divergence;
use super::inputs::{Origin, Probe, REDRAWS};
use super::interface::{Interface, quoted};
use super::kind::OutputKind;
use super::metrics::Rule;
use super::preservation;
use super::report::{
    EngineReport, EngineStatus, GatesReport, OutputReport, ProbeReport, Report, Status,
};
use super::summary::summary;
use super::tolerance::{Gates, Numerics};
use super::{Format, Request, Role, Subject, steps, types};
use crate::error::Result;
use crate::eval::Interpreter;
use crate::ir::Module;
use crate::runtime::{NamedTensors, Session};
use crate::tensor::Tensor;

/// Compares a source with every given way of running an artifact.
///
/// # Errors
/// When the given inputs, reference or task do not fit the source, or source and artifact have no shape in common.
/// What the comparison finds, failing engines included, is in the report.
pub fn run(request: &Request<'_>) -> Result<Report> {
    let modules: Vec<&Module> = request.candidates.iter().filter_map(|c| c.module).collect();
    let interface = Interface::new(request.source.module, &modules)?;
    let mut run = Run::new(request, &interface)?;
    let probes = run.probes()?;
    let last = probes.len().saturating_sub(1);
    let mut taken = Vec::new();
    for (i, mut probe) in probes.into_iter().enumerate() {
        if run.probe(&mut probe)? {
            taken.push(probe);
        }
        if run.source.endless {
            break;
        }
        // A source that takes none of the sizes fails.
        if i == last && run.source.runs == 0 && run.source.error.is_none() {
            run.source.error = run.refused.take();
        }
        if let Some(error) = &run.source.error
            && run.source.runs == 0
            && let Some(trace) = request.source.trace
            && trace.engine() != request.source.session.engine()
        {
            return without(request, trace, run.source.report(), error);
        }
    }
    run.completeness();
    run.trace(&taken);
    run.links(&taken);
    if let Some(task) = request.task {
        let report = preservation::run(
            task,
            &interface,
            &run.source.subject,
            run.candidates.iter().map(|e| &e.subject),
        )?;
        run.judge_task(&report);
        run.task = Some(report);
    }
    run.wrapped();
    Ok(run.finish())
}

/// The same with the interpreter as the reference, because the engine with the original file cannot run it.
fn without(
    request: &Request<'_>,
    trace: &Interpreter,
    failed: EngineReport,
    error: &str,
) -> Result<Report> {
    let mut request = request.clone();
    request.source.session = trace;
    // What is compared with the reference is the reference now.
    request.candidates.retain(|c| c.role == Role::Artifact);
    let mut report = run(&request)?;
    report.warnings.push(format!(
        "{} failed {error}: the reference is the interpreter, which shares its reading of the source with the converter",
        failed.name
    ));
    report.engines.insert(
        1,
        EngineReport {
            required: false,
            ..failed
        },
    );
    Ok(report)
}

/// An engine during a run.
struct Engine<'a> {
    subject: Subject<'a>,
    role: Option<Role>,
    numerics: Option<Numerics>,
    runs: usize,
    error: Option<String>,
    /// Whether that error is a loop that goes on.
    endless: bool,
    compared: BTreeSet<String>,
    failed: bool,
    /// What it is known to compute less exactly, and where that showed.
    inexact: Option<&'static str>,
    doubts: Vec<String>,
    /// Whether an engine that is more exact found nothing wrong, so that what this one finds is said, but does not count.
    overruled: bool,
    /// What it made of the first probes, for the claims.
    bases: Vec<NamedTensors>,
}

/// What an output is held against, if it is the user's file.
const REFERENCE_FILE: &str = "reference_file";

/// Largest end of a range that is probed in a package.
const LONGEST_END: u64 = 1024;

/// How many of the first probes serve as bases of claims: one without padding, one with.
const BASES: usize = 2;

impl<'a> Engine<'a> {
    fn new(subject: Subject<'a>, role: Option<Role>, numerics: Option<Numerics>) -> Self {
        Engine {
            subject,
            role,
            numerics,
            runs: 0,
            error: None,
            endless: false,
            compared: BTreeSet::new(),
            failed: false,
            inexact: None,
            doubts: Vec::new(),
            overruled: false,
            bases: Vec::new(),
        }
    }

    /// Runs it, unless it has failed before.
    fn run(&mut self, probe: &Probe) -> Option<NamedTensors> {
        if self.error.is_some() {
            return None;
        }
        match self.subject.run(&probe.inputs) {
            Ok(outputs) => {
                self.runs += 1;
                if self.bases.len() < BASES {
                    self.bases.push(outputs.clone());
                }
                Some(outputs)
            }
            Err(error) => {
                self.endless = error.code() == "endless_loop";
                self.error = Some(format!("on {}: {error}", probe.name));
                None
            }
        }
    }

    fn report(&self) -> EngineReport {
        EngineReport {
            detail: self.error.clone().unwrap_or_default(),
            name: self.subject.name.clone(),
            numerics: self.numerics,
            required: !self.overruled,
            role: self.role.map_or("source", Role::name),
            runs: self.runs,
            status: if self.error.is_none() {
                EngineStatus::Ran
            } else {
                EngineStatus::Failed
            },
        }
    }
}

struct Run<'a> {
    request: &'a Request<'a>,
    interface: &'a Interface<'a>,
    source: Engine<'a>,
    /// Why the source did not take the first of the sizes that it need not take.
    refused: Option<String>,
    candidates: Vec<Engine<'a>>,
    reference_gates: Gates,
    /// Outputs that are rounded to steps, with the size of one.
    steps: BTreeMap<String, f64>,
    probes: Vec<ProbeReport>,
    claims: Vec<claims::ClaimReport>,
    divergence: Vec<Divergence>,
    task: Option<preservation::TaskReport>,
    /// Whether a link compared anything.
    is_linked: bool,
    /// What read the artifact back for its link alone, if that ran.
    read_back: Option<EngineReport>,
    failures: Vec<String>,
    unproven: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(request: &'a Request<'a>, interface: &'a Interface<'a>) -> Result<Self> {
        let options = &request.options;
        let mut source = Subject::new(request.source.session, None, options.f32.clone());
        // The same engine may run both; the report must tell them apart.
        source.name.push_str(" on the source");
        let mut candidates: Vec<Engine<'a>> = Vec::new();
        for candidate in &request.candidates {
            let gates = match candidate.numerics {
                Numerics::F32 => options.f32.clone(),
                Numerics::F16 => options.f16.clone(),
            };
            let function = candidate.module.map(Module::main).transpose()?;
            let bridge = function.map(|f| (f, interface.function));
            let mut subject = Subject::new(candidate.session, bridge, gates);
            let same = |e: &&Engine<'_>| e.subject.session.engine() == subject.name;
            match candidates.iter().filter(same).count() {
                0 => {}
                before => subject.name = format!("{} ({})", subject.name, before + 1),
            }
            let role = Some(candidate.role);
            let mut engine = Engine::new(subject, role, Some(candidate.numerics));
            engine.inexact = candidate.inexact;
            candidates.push(engine);
        }
        Ok(Run {
            request,
            interface,
            steps: steps::steps(request.source.module, interface.function)?,
            source: Engine::new(source, None, None),
            refused: None,
            candidates,
            reference_gates: options.reference.clone().unwrap_or(options.f32.clone()),
            probes: Vec::new(),
            claims: Vec::new(),
            divergence: Vec::new(),
            task: None,
            is_linked: false,
            read_back: None,
            failures: Vec::new(),
            unproven: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Seeded probes for every size with padded ones beside them, unless the user has given inputs, and the cases of the files. The first is the
    /// one for claims and traces.
    fn probes(&mut self) -> Result<Vec<Probe>> {
        let mut probes = Vec::new();
        if self.request.inputs.is_none() {
            let longest = self.request.options.longest_probe;
            // The sizes of a package were asked for, its largest among them; those of an ONNX file are mostly just not bounded.
            let longest_end = match self.request.format {
                Format::CoreMl => longest.max(LONGEST_END),
                Format::Onnx => longest,
            };
            probes = self.interface.all_seeded(longest, longest_end)?;
        }
        let files = [
            (self.request.reference, Origin::ReferenceFile),
            (self.request.inputs, Origin::InputsFile),
        ];
        for (file, origin) in files {
            let Some(tensors) = file else { continue };
            let cases = match origin {
                Origin::ReferenceFile => reference_cases(tensors)?,
                Origin::InputsFile | Origin::Seeded => input_cases(tensors)?,
            };
            if !cases.ignored.is_empty() {
                self.warnings.push(format!(
                    "entries of the file under {} were left aside: they are not cases",
                    cases.ignored.join(", ")
                ));
            }
            for case in cases.cases {
                for case in self.interface.batches(case)? {
                    probes.push(self.interface.fit(&case, origin)?);
                }
            }
        }
        Ok(probes)
    }

    /// Runs the source. Random values need not be what it takes, such as indices: a seeded probe that it refuses is drawn again.
    fn run_source(&mut self, probe: &mut Probe) -> Result<Option<NamedTensors>> {
        let refused_before = self.source.error.is_some();
        let found = self.source.run(probe);
        let is_seeded = probe.origin == Origin::Seeded;
        if found.is_some() || refused_before || self.source.endless || !is_seeded {
            return Ok(found);
        }
        for attempt in 0..REDRAWS {
            let mut other = self.interface.redrawn(probe, attempt)?;
            let first = self.source.error.take();
            if let Some(found) = self.source.run(&other) {
                let first = first.unwrap_or_default();
                other
                    .notes
                    .push(format!("drawn again, since the source fails {first}"));
                *probe = other;
                return Ok(Some(found));
            }
            if self.source.endless {
                break;
            }
            // What is reported is what it said to the first.
            self.source.error = first;
        }
        Ok(None)
    }

    /// Runs one probe everywhere and compares every output, unless the source does not take its sizes and need not. Says whether it did.
    fn probe(&mut self, probe: &mut Probe) -> Result<bool> {
        let mut reports = Vec::new();
        let source = self.run_source(probe)?;
        if self.source.endless {
            // Only the interpreter would stop.
            return Ok(true);
        }
        if let Some(instead) = probe.instead
            && let Some(error) = self.source.error.take()
        {
            self.warnings
                .push(format!("the source fails {error}: {instead}"));
            self.refused.get_or_insert(error);
            return Ok(false);
        }
        // What an artifact makes of inputs that its source refuses shows nothing.
        if source.is_none() && probe.expected.is_none() {
            return Ok(true);
        }
        let probe = &*probe;
        if let (Some(outputs), Some(expected)) = (&source, &probe.expected) {
            let gates = self.reference_gates.clone();
            self.against(
                probe,
                None,
                (REFERENCE_FILE, expected),
                outputs,
                &gates,
                &mut reports,
            );
        }
        for index in 0..self.candidates.len() {
            let Some(outputs) = self.candidates[index].run(probe) else {
                continue;
            };
            let engine = &self.candidates[index];
            let gates = engine.subject.gates.clone();
            let reference_gates = match engine.numerics {
                Some(Numerics::F32) => self.reference_gates.clone(),
                Some(Numerics::F16) | None => gates.clone(),
            };
            if let Some(source) = &source {
                self.against(
                    probe,
                    Some(index),
                    ("source", source),
                    &outputs,
                    &gates,
                    &mut reports,
                );
            }
            if let Some(expected) = &probe.expected {
                self.against(
                    probe,
                    Some(index),
                    (REFERENCE_FILE, expected),
                    &outputs,
                    &reference_gates,
                    &mut reports,
                );
            }
        }
        self.probes.push(ProbeReport {
            inputs: probe
                .inputs
                .iter()
                .map(|(k, v)| (k.clone(), v.shape().to_vec()))
                .collect(),
            name: probe.name.clone(),
            notes: probe.notes.clone(),
            origin: probe.origin,
            outputs: reports,
            padded_from: probe.padded_from,
        });
        Ok(true)
    }

    /// Compares the outputs of one engine (the source, if there is no index) with a reference.
    fn against(
        &mut self,
        probe: &Probe,
        index: Option<usize>,
        (against, reference): (&'static str, &NamedTensors),
        outputs: &NamedTensors,
        gates: &Gates,
        reports: &mut Vec<OutputReport>,
    ) {
        let name = match index {
            Some(index) => self.candidates[index].subject.name.clone(),
            None => self.source.subject.name.clone(),
        };
        // A reference file need not know every output; a source and an artifact must have the same ones.
        let names: BTreeSet<&String> = if against == "source" {
            reference.keys().chain(outputs.keys()).collect()
        } else {
            reference.keys().collect()
        };
        for output in names {
            let pair = (reference.get(output), outputs.get(output));
            let (mut row, failures) = self.compare(probe, &name, against, output, pair, gates);
            let engine = match index {
                Some(index) => &mut self.candidates[index],
                None => &mut self.source,
            };
            if row.comparison.is_some() {
                engine.compared.insert(output.clone());
            }
            if !failures.is_empty() {
                engine.failed = true;
                let disagree = if against == "source" && engine.role == Some(Role::Reference) {
                    "the references disagree: "
                } else {
                    ""
                };
                let line = format!(
                    "{disagree}{name}: `{output}` on {} against the {}: {}",
                    probe.name,
                    against.replace('_', " "),
                    failures.join("; ")
                );
                // An overflow is no matter of exactness.
                let compared = row.comparison.as_ref();
                let is_finite = compared.is_some_and(|c| c.nonfinite.mask_differs == 0);
                if engine.inexact.is_some() && is_finite {
                    engine.doubts.push(line);
                } else {
                    self.failures.push(line);
                }
                if row.comparison.is_none() {
                    row.not_compared = Some(failures.join("; "));
                }
            }
            reports.push(row);
        }
    }

    /// Compares one output with a reference. What is wrong with it is not yet anybody's failure.
    fn compare(
        &mut self,
        probe: &Probe,
        engine: &str,
        against: &'static str,
        output: &str,
        (reference, found): (Option<&Tensor>, Option<&Tensor>),
        gates: &Gates,
    ) -> (OutputReport, Vec<String>) {
        let mut failures = Vec::new();
        let mut row = OutputReport {
            against,
            comparison: None,
            engine: engine.to_owned(),
            not_compared: None,
            output: output.to_owned(),
        };
        match (reference, found) {
            (Some(r), Some(c)) => {
                let rule = Rule {
                    gates,
                    kind: OutputKind::of(output, r),
                    rows: None,
                    allow_rounded: against == REFERENCE_FILE,
                };
                match aligned(self.interface, probe, output, rule, r, c) {
                    Ok(Some(mut comparison)) => {
                        let step = self.steps.get(output);
                        if let Some(&step) = step.filter(|_| probe.padded_from.is_none()) {
                            steps::judge(&mut comparison, step, r, c, gates);
                        }
                        failures.extend(comparison.failures.iter().cloned());
                        let broken = comparison.checks.iter().filter(|c| !c.passed);
                        failures.extend(broken.map(super::Check::text));
                        for warning in &comparison.warnings {
                            let line = format!("{engine}: `{output}`: {warning}");
                            // The same on every probe is said once; the probes' own entries have it all.
                            if !self.warnings.contains(&line) {
                                self.warnings.push(line);
                            }
                        }
                        row.comparison = Some(comparison);
                    }
                    Ok(None) => row.not_compared = Some("padding has a part in it".into()),
                    Err(error) => failures.push(error.to_string()),
                }
            }
            (None, _) => failures.push(format!(
                "it is missing in the {}",
                against.replace('_', " ")
            )),
            (Some(_), None) => failures.push("it is missing".to_owned()),
        }
        (row, failures)
    }

    /// Tests the claims and looks at intermediate values, on the first probe.
    fn trace(&mut self, probes: &[Probe]) {
        let Some(full) = probes.first() else { return };
        let padded = probes
            .get(1)
            .filter(|p| p.origin == Origin::Seeded && self.interface.mask().is_some());
        let indices = std::iter::once(None).chain((0..self.candidates.len()).map(Some));
        let mut reports = Vec::new();
        let mut violated = Vec::new();
        for index in indices {
            let engine = index.map_or(&self.source, |i| &self.candidates[i]);
            if engine.error.is_some() {
                continue;
            }
            let mut bases = engine.bases.iter();
            let Some(outputs) = bases.next() else {
                continue;
            };
            let padded = padded
                .zip(bases.next())
                .map(|(probe, outputs)| Base { probe, outputs });
            let found = claims::check(
                &engine.subject,
                self.interface,
                &self.request.source.module.claims,
                &Base {
                    probe: full,
                    outputs,
                },
                padded.as_ref(),
            );
            for claim in found.iter().filter(|c| c.status == ClaimStatus::Violated) {
                let line = format!("{}: {}: {}", claim.engine, claim.claim, claim.detail);
                violated.push((index, line));
            }
            reports.extend(found);
        }
        for (index, line) in violated {
            match index {
                Some(index) => self.charge(index, line),
                None => self.failures.push(line),
            }
        }
        self.claims = reports;
        self.intermediate_values(full);
    }

    /// Integers that wrap in the artifact, in any run, and not in the source.
    fn wrapped(&mut self) {
        let source = self.request.source.trace;
        let source = source.map(Interpreter::wrapped).unwrap_or_default();
        for (candidate, engine) in self.request.candidates.iter().zip(&self.candidates) {
            let Some(trace) = candidate.trace.filter(|_| candidate.role == Role::Artifact) else {
                continue;
            };
            for (value, furthest) in trace.wrapped() {
                let line = format!(
                    "{}: `{value}` reaches {furthest}, which int32 does not hold",
                    engine.subject.name
                );
                if source.is_empty() {
                    self.failures
                        .push(format!("{line}; the source computes it in a wider type"));
                } else {
                    self.warnings
                        .push(format!("{line}; integers of the source wrap as well"));
                }
            }
        }
    }

    fn judge_task(&mut self, task: &preservation::TaskReport) {
        for failure in &task.failures {
            self.failures
                .push(format!("task `{}`: {failure}", task.name));
        }
        for pair in task.engines.iter().filter(|p| !p.passed) {
            let checks = pair
                .checks
                .iter()
                .filter(|c| !c.passed)
                .map(super::Check::text);
            let all: Vec<String> = pair.failures.iter().cloned().chain(checks).collect();
            let line = format!("task `{}`: {}: {}", task.name, pair.engine, all.join("; "));
            let named = |e: &Engine<'_>| e.subject.name == pair.engine;
            match self.candidates.iter().position(named) {
                Some(index) => self.charge(index, line),
                None => self.failures.push(line),
            }
        }
    }

    fn finish(self) -> Report {
        let mut engines = vec![self.source.report()];
        engines.extend(self.candidates.iter().map(Engine::report));
        let evidence = self.evidence();
        engines.extend(self.read_back);
        engines.extend(self.request.absent.iter().map(|a| EngineReport {
            detail: a.detail.clone(),
            name: a.name.clone(),
            numerics: None,
            required: a.required,
            role: Role::Artifact.name(),
            runs: 0,
            status: EngineStatus::Absent,
        }));
        let options = &self.request.options;
        let all = [
            (Numerics::F32, "f32", &options.f32),
            (Numerics::F16, "f16", &options.f16),
        ];
        let used = |n| {
            let computes = self.candidates.iter().any(|c| c.numerics == Some(n));
            computes || self.is_linked && n == Numerics::F32
        };
        let mut gates: Vec<GatesReport> = all
            .into_iter()
            .filter(|(numerics, ..)| used(*numerics))
            .map(|(_, name, gates)| GatesReport::new(name, gates))
            .collect();
        if self.request.reference.is_some() {
            gates.push(GatesReport::new(REFERENCE_FILE, &self.reference_gates));
        }
        let status = if !self.failures.is_empty() {
            Status::Failed
        } else if !self.unproven.is_empty() {
            Status::Inconclusive
        } else {
            Status::Passed
        };
        let modules = self.request.candidates.iter();
        let mut artifacts = modules
            .filter(|c| c.role == Role::Artifact)
            .filter_map(|c| c.module?.main().ok());
        let type_changes = artifacts
            .next()
            .map(|artifact| types::changes(self.interface.function, artifact))
            .unwrap_or_default();
        Report {
            functions: std::collections::BTreeMap::new(),
            artifact: self.request.artifact.to_owned(),
            claims: self.claims,
            divergence: self.divergence,
            evidence,
            engines,
            failures: self.failures,
            gates,
            summary: summary(&self.probes),
            probes: self.probes,
            status,
            task: self.task,
            type_changes,
            unproven: self.unproven,
            warnings: self.warnings,
            weights: None,
        }
    }
}
