//! Intermediate values of the artifact beside those of the source: where they part, overflow or are no numbers.

use super::super::Candidate;
use super::super::divergence::{self, Divergence, SourceTrace};
use super::super::inputs::Probe;
use super::super::tolerance::Gates;
use super::Run;
use crate::eval::Mode;
use crate::ir::Module;

impl Run<'_> {
    pub(super) fn intermediate_values(&mut self, probe: &Probe) {
        // Always where rounding may break something; where it may not, only to find what did.
        let wanted: Vec<(usize, &Candidate<'_>)> = self
            .request
            .candidates
            .iter()
            .enumerate()
            .filter(|(i, c)| {
                let engine = &self.candidates[*i];
                let rounds = c.trace.is_some_and(|t| t.mode() == Mode::F16);
                engine.error.is_none() && (rounds || engine.failed)
            })
            .filter(|(_, c)| c.trace.is_some() && c.module.is_some())
            .collect();
        if wanted.is_empty() {
            return;
        }
        let Some(source) = self.request.source.trace else {
            self.warnings.push(
                "intermediate values were not compared: the source was not run by the interpreter"
                    .into(),
            );
            return;
        };
        let modules: Vec<&Module> = wanted.iter().filter_map(|(_, c)| c.module).collect();
        let source = SourceTrace::run(source, &modules, &probe.inputs);
        let mut found = Vec::new();
        for (index, candidate) in wanted {
            let subject = &self.candidates[index].subject;
            let (Some(interpreter), Some(module)) = (candidate.trace, candidate.module) else {
                continue;
            };
            let traced = source
                .as_ref()
                .map_err(ToString::to_string)
                .and_then(|source| {
                    subject
                        .cast(&probe.inputs)
                        .and_then(|inputs| {
                            divergence::trace(source, module, interpreter, &inputs, &subject.gates)
                        })
                        .map_err(|e| e.to_string())
                });
            let mut divergence = traced.unwrap_or_else(Divergence::failed);
            divergence.engine.clone_from(&subject.name);
            divergence.probe.clone_from(&probe.name);
            found.push((divergence, subject.gates.clone()));
        }
        for (divergence, gates) in found {
            self.judge_divergence(&divergence, &gates);
            self.divergence.push(divergence);
        }
    }

    pub(super) fn judge_divergence(&mut self, divergence: &Divergence, gates: &Gates) {
        let name = &divergence.engine;
        if let Some(error) = &divergence.error {
            self.unproven.push(format!(
                "{name}: intermediate values could not be traced: {error}"
            ));
            return;
        }
        if divergence.compared == 0 {
            self.warnings.push(format!(
                "{name}: no intermediate value has a counterpart of the same name in the source"
            ));
        }
        if let Some(value) = &divergence.first_nan {
            self.failures
                .push(format!("{name}: NaN first appears at `{value}`"));
        }
        if let Some(value) = divergence.overflows.first() {
            self.failures.push(format!(
                "{name}: a 16-bit value overflows at `{value}` ({} in all)",
                divergence.overflows.len()
            ));
        }
        let largest = divergence.largest.as_ref().map_or("", |v| v.name.as_str());
        let line = format!(
            "{name}: the largest intermediate magnitude is {}, at `{largest}`",
            super::super::report::show(divergence.max_magnitude)
        );
        if gates
            .max_magnitude
            .is_some_and(|limit| divergence.max_16bit_magnitude > limit)
        {
            self.failures.push(line);
        } else if divergence.max_16bit_magnitude > gates.warn_magnitude {
            self.warnings.push(line);
        }
    }
}
