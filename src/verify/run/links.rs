//! What rounding to 16 bits would hide: the conversion before it beside the source, and what was read back beside what was written.

use std::collections::BTreeMap;

use super::super::divergence::{self, SourceTrace};
use super::super::inputs::Probe;
use super::super::kind::OutputKind;
use super::super::metrics::{Rule, compare};
use super::super::report::{EngineReport, EngineStatus};
use super::super::tolerance::Gates;
use super::super::tolerance::Numerics;
use super::super::{Candidate, Conversion, ReadBack, Subject};
use super::{Role, Run};
use crate::error::Result;
use crate::eval::{Interpreter, Mode};
use crate::ir::Module;
use crate::runtime::{NamedTensors, Session};
use crate::tensor::Tensor;

/// What both ends of a link gave, and the first operation at which they part, if they do.
struct Link<'l> {
    engine: &'l str,
    against: &'static str,
    /// What the reference differs from by rounding its weights, which no link can be asked to be closer than.
    rounded_from: Option<&'l NamedTensors>,
    reference: NamedTensors,
    outputs: NamedTensors,
    parts: &'l dyn Fn() -> Result<Option<String>>,
}

impl<'a> Run<'a> {
    /// Compares the conversion with the source, and the artifact with the conversion, on the first probe, at the gates of single precision.
    pub(super) fn links(&mut self, probes: &[Probe]) {
        let (Some(conversion), Some(probe)) = (self.request.conversion, probes.first()) else {
            return;
        };
        // Whose outputs would be those of another probe.
        if self.source.error.is_some() {
            return;
        }
        let links = [
            conversion.plain.map(|plain| self.link_source(probe, plain)),
            Some(self.link_artifact(probe, conversion)),
        ];
        for error in links.into_iter().flatten().filter_map(Result::err) {
            let line = format!("the conversion could not be run on its own: {error}");
            self.unproven.push(line);
        }
    }

    fn link_source(&mut self, probe: &Probe, plain: &Module) -> Result<()> {
        let Some(source) = self.request.source.trace else {
            return Ok(());
        };
        let interpreter = Interpreter::new(plain, Mode::F32)?;
        let subject = self.unrounded(plain, &interpreter)?;
        let gates = &self.request.options.f32;
        let parts = || {
            let trace = SourceTrace::run(source, &[plain], &probe.inputs)?;
            let inputs = subject.cast(&probe.inputs)?;
            let found = divergence::trace(&trace, plain, &interpreter, &inputs, gates)?;
            Ok(found.first.map(|first| first.place()))
        };
        let link = Link {
            engine: "the conversion",
            against: "source",
            rounded_from: None,
            reference: Session::run(source, &probe.inputs)?,
            outputs: subject.run(&probe.inputs)?,
            parts: &parts,
        };
        self.link(probe, link);
        Ok(())
    }

    /// What was read back with its values in single precision, what that is called, and what it gave: a candidate, which has run already, or what
    /// is there for this alone.
    fn read_back(
        &mut self,
        probe: &Probe,
        apart: Option<ReadBack<'a>>,
    ) -> Result<Option<(ReadBack<'a>, String, NamedTensors)>> {
        let keeps = |c: &Candidate<'_>| {
            let is_unrounded = c.trace.is_some_and(|t| t.mode() == Mode::F32);
            is_unrounded && c.role == Role::Artifact
        };
        let candidates = &self.request.candidates;
        if let Some(index) = candidates.iter().position(keeps) {
            let (candidate, engine) = (&candidates[index], &self.candidates[index]);
            let read_back = candidate.trace.zip(candidate.module);
            let ran = read_back.zip(engine.bases.first());
            return Ok(ran.map(|((interpreter, module), outputs)| {
                let read_back = ReadBack {
                    module,
                    interpreter,
                };
                (read_back, engine.subject.name.clone(), outputs.clone())
            }));
        }
        let Some(read_back) = apart else {
            return Ok(None);
        };
        let subject = self.unrounded(read_back.module, read_back.interpreter)?;
        let (name, outputs) = (subject.name.clone(), subject.run(&probe.inputs)?);
        self.read_back = Some(EngineReport {
            detail: String::new(),
            name: name.clone(),
            numerics: Some(Numerics::F32),
            required: true,
            role: Role::Artifact.name(),
            runs: 1,
            status: EngineStatus::Ran,
        });
        Ok(Some((read_back, name, outputs)))
    }

    fn link_artifact(&mut self, probe: &Probe, conversion: Conversion<'a>) -> Result<()> {
        let Some((read_back, engine, outputs)) = self.read_back(probe, conversion.read_back)?
        else {
            return Ok(());
        };
        let ReadBack {
            module,
            interpreter: artifact,
        } = read_back;
        let written = conversion.written;
        // What is read apart holds all scalars as they were written.
        let in_programs = conversion.read_back.is_none();
        let source = self.source.bases.first().filter(|_| in_programs).cloned();
        let interpreter = Interpreter::new(written, Mode::F32)?;
        let reference = self.run_written(probe, (written, &interpreter), !in_programs)?;
        let subject = self.unrounded(written, &interpreter)?;
        let gates = &self.request.options.f32;
        let taker = self.unrounded(module, artifact)?;
        let parts = || {
            let inputs = subject.cast(&probe.inputs)?;
            let trace = SourceTrace::run(&interpreter, &[module], &inputs)?;
            let inputs = taker.cast(&probe.inputs)?;
            let found = divergence::trace(&trace, module, artifact, &inputs, gates)?;
            Ok(found.first.map(|first| first.place()))
        };
        let link = Link {
            engine: &engine,
            against: "conversion",
            rounded_from: source.as_ref(),
            reference,
            outputs,
            parts: &parts,
        };
        self.link(probe, link);
        Ok(())
    }

    /// Runs what was written. Where only engines run the artifact, which show nothing but outputs and may compute in single precision what the file
    /// holds in 16 bits, its values are looked at here.
    fn run_written(
        &mut self,
        probe: &Probe,
        (module, interpreter): (&Module, &Interpreter),
        is_unseen: bool,
    ) -> Result<NamedTensors> {
        let subject = self.unrounded(module, interpreter)?;
        let Some(source) = self.request.source.trace.filter(|_| is_unseen) else {
            return subject.run(&probe.inputs);
        };
        let source = SourceTrace::run(source, &[module], &probe.inputs)?;
        let gates = self.request.options.f16.clone();
        let inputs = subject.cast(&probe.inputs)?;
        let (mut divergence, outputs) =
            divergence::traced(&source, module, interpreter, &inputs, &gates)?;
        "the conversion".clone_into(&mut divergence.engine);
        divergence.probe.clone_from(&probe.name);
        self.judge_divergence(&divergence, &gates);
        self.divergence.push(divergence);
        subject.give(outputs)
    }

    /// A module that takes the source's inputs and gives its outputs, all values in single precision.
    fn unrounded<'s>(&self, module: &'s Module, interpreter: &'s Interpreter) -> Result<Subject<'s>>
    where
        Self: 's,
    {
        let bridge = Some((module.main()?, self.interface.function));
        let gates = self.request.options.f32.clone();
        Ok(Subject::new(interpreter, bridge, gates))
    }

    /// The gates of single precision, or, where rounding the weights alone changed the output by more than they allow, those that allow as much:
    /// scalars that a program computes from weights are rounded in another order than the weights.
    fn beside_rounding(&self, source: Option<&Tensor>, rounded: &Tensor) -> Gates {
        let gates = self.request.options.f32.clone();
        let rule = Rule {
            gates: &gates,
            kind: OutputKind::Plain,
            rows: None,
            allow_rounded: false,
        };
        let changed = source.and_then(|source| compare(rule, source, rounded).figures);
        let changed = changed.map_or(0.0, |figures| figures.required_tolerance);
        match gates.max_relative {
            Some(limit) if changed > limit => Gates::with_tolerance(changed),
            Some(_) | None => gates,
        }
    }

    /// Compares the outputs that both have: a label that only the package gives is none of the program.
    fn link(&mut self, probe: &Probe, link: Link<'_>) {
        let Link {
            engine, against, ..
        } = link;
        let (mut failures, mut compared) = (BTreeMap::new(), 0);
        for (output, found) in &link.outputs {
            let Some(expected) = link.reference.get(output) else {
                continue;
            };
            let rounding = link.rounded_from.and_then(|from| from.get(output));
            let gates = self.beside_rounding(rounding, expected);
            let pair = (Some(expected), Some(found));
            let (row, failed) = self.compare(probe, engine, against, output, pair, &gates);
            compared += usize::from(row.comparison.is_some());
            if !failed.is_empty() {
                failures.insert(output, failed.join("; "));
            }
            if let Some(report) = self.probes.first_mut() {
                report.outputs.push(row);
            }
        }
        self.is_linked |= compared > 0;
        if compared == 0 && failures.is_empty() {
            let line = format!("{engine} against the {against}: no output was compared");
            self.unproven.push(line);
        }
        if failures.is_empty() {
            return;
        }
        let place = match (link.parts)() {
            Ok(Some(place)) => format!("; they part at {place}"),
            Ok(None) => String::new(),
            Err(error) => format!("; where they part could not be traced: {error}"),
        };
        for (output, failed) in failures {
            self.failures.push(format!(
                "{engine}: `{output}` on {} against the {against}, before anything is rounded to 16 bits: {failed}{place}",
                probe.name
            ));
        }
    }
}
