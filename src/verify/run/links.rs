//! What rounding to 16 bits would hide: the conversion before it beside the source, and what was read back beside what was written.

use super::super::Subject;
use super::super::inputs::Probe;
use super::super::tolerance::Gates;
use super::{Role, Run};
use crate::error::Result;
use crate::eval::{Interpreter, Mode};
use crate::ir::Module;
use crate::runtime::NamedTensors;

/// Why a difference counts at the gates of single precision.
const UNROUNDED: &str = "before anything is rounded to 16 bits: the conversion itself is at fault";

impl Run<'_> {
    /// Compares the conversion with the source, and the artifact with the conversion, on the first probe, at the gates of single precision.
    pub(super) fn links(&mut self, probes: &[Probe]) {
        let (Some(conversion), Some(probe)) = (self.request.conversion, probes.first()) else {
            return;
        };
        if self.source.error.is_some() {
            return;
        }
        let gates = self.request.options.f32.clone();
        if let (Some(source), Some(plain)) = (self.request.source.trace, conversion.plain) {
            let subject = self.subject_of(plain, &gates);
            let found = subject.and_then(|s| {
                let source = crate::runtime::Session::run(source, &probe.inputs)?;
                Ok((source, s.run(&probe.inputs)?))
            });
            self.link(probe, "the conversion", "source", found, &gates);
        }
        let kept = |c: &&super::super::Candidate<'_>| {
            let keeps = c.trace.is_some_and(|t| t.mode() == Mode::F32);
            keeps && c.role == Role::Artifact && c.module.is_some()
        };
        let index = self.request.candidates.iter().position(|c| kept(&c));
        let Some(artifact) = index.map(|i| &self.candidates[i]) else {
            return;
        };
        let (name, outputs) = (artifact.subject.name.clone(), artifact.bases.first());
        if let Some(outputs) = outputs.cloned() {
            let found = self
                .subject_of(conversion.written, &gates)
                .and_then(|written| Ok((written.run(&probe.inputs)?, outputs)));
            self.link(probe, &name, "conversion", found, &gates);
        }
    }

    fn subject_of<'s>(
        &'s self,
        (module, interpreter): (&'s Module, &'s Interpreter),
        gates: &Gates,
    ) -> Result<Subject<'s>> {
        let bridge = Some((module.main()?, self.interface.function));
        Ok(Subject::new(interpreter, bridge, gates.clone()))
    }

    /// Compares the outputs that both have: a label that only the package gives is none of the program.
    fn link(
        &mut self,
        probe: &Probe,
        engine: &str,
        against: &'static str,
        found: Result<(NamedTensors, NamedTensors)>,
        gates: &Gates,
    ) {
        let (reference, outputs) = match found {
            Ok(found) => found,
            Err(error) => {
                let line = format!("{engine} against the {against}: {error}");
                self.unproven.push(line);
                return;
            }
        };
        for (output, found) in outputs {
            let Some(expected) = reference.get(&output) else {
                continue;
            };
            let pair = (Some(expected), Some(&found));
            let (row, failures) = self.compare(probe, engine, against, &output, pair, gates);
            if !failures.is_empty() {
                self.failures.push(format!(
                    "{engine}: `{output}` on {} against the {against}, {UNROUNDED}: {}",
                    probe.name,
                    failures.join("; ")
                ));
            }
            if let Some(report) = self.probes.first_mut() {
                report.outputs.push(row);
            }
        }
    }
}
