//! What is concluded from all probes together: whose findings count, and what was never compared.

use std::collections::BTreeSet;

use super::super::Format;
use super::{Engine, REFERENCE_FILE, Role, Run, quoted};
use crate::verify::report::OutputReport;

impl Run<'_> {
    /// Whether an engine whose findings count for more than those of the less exact ones ran the artifact.
    fn is_overruled(&self, engine: &Engine<'_>) -> bool {
        let sound = |e: &Engine<'_>| {
            let ran = e.runs > 0 && e.error.is_none() && e.role == Some(Role::Artifact);
            ran && !e.failed && e.inexact.is_none()
        };
        engine.inexact.is_some() && self.candidates.iter().any(sound)
    }

    /// What an engine that is known to be less exact found is the artifact's fault, unless another engine finds nothing.
    fn doubts(&mut self) {
        for index in 0..self.candidates.len() {
            let overruled = self.is_overruled(&self.candidates[index]);
            let engine = &mut self.candidates[index];
            let (Some(why), doubts) = (engine.inexact, std::mem::take(&mut engine.doubts)) else {
                continue;
            };
            engine.overruled = overruled;
            for line in doubts {
                self.charge(index, format!("{line} ({why})"));
            }
        }
    }

    /// A finding about what an engine made of the artifact: a failure, unless the engine is overruled.
    pub(super) fn charge(&mut self, index: usize, line: String) {
        if self.candidates[index].overruled {
            let line = format!("the engines disagree on the artifact: {line}");
            self.warnings.push(line);
        } else {
            self.failures.push(line);
        }
    }

    /// Refuses to conclude anything from what did not happen.
    pub(super) fn completeness(&mut self) {
        self.doubts();
        let outputs = &self.interface.function.outputs;
        for index in 0..self.candidates.len() {
            let engine = &self.candidates[index];
            if let Some(error) = &engine.error {
                let line = format!("{} failed {error}", engine.subject.name);
                self.charge(index, line);
                continue;
            }
            if engine.runs == 0 && self.source.error.is_some() {
                // The source refused everything that it would have been asked.
                continue;
            }
            for output in outputs {
                if !self.candidates[index].compared.contains(&output.name) {
                    self.failures.push(format!(
                        "{}: `{}` was never compared",
                        self.candidates[index].subject.name, output.name
                    ));
                }
            }
        }
        if let Some(error) = &self.source.error {
            let way_out = if self.source.endless {
                "; `--inputs` gives it inputs on which it ends"
            } else {
                ""
            };
            self.unproven.push(format!(
                "the source could not be run by {}: {error}{way_out}",
                self.source.subject.name
            ));
        }
        let ran = |e: &Engine<'_>| e.runs > 0 && e.role == Some(Role::Artifact);
        if !self.candidates.iter().any(ran) {
            self.unproven.push("no engine ran the artifact".to_owned());
        }
        for absent in &self.request.absent {
            let line = format!("{} is absent: {}", absent.name, absent.detail);
            if absent.required {
                self.unproven.push(line);
            } else {
                self.warnings.push(line);
            }
        }
        let compared = self
            .probes
            .iter()
            .flat_map(|p| &p.outputs)
            .filter(|o| o.comparison.is_some())
            .count();
        if compared == 0 && self.source.error.is_none() {
            self.failures
                .push("vacuous: no output was compared".to_owned());
        }
        let shows = |o: &OutputReport| {
            let figures = o.comparison.as_ref().map(|c| c.figures.as_ref());
            figures.is_some_and(|f| f.is_none_or(|f| f.reference_peak > 0.0))
        };
        let mut all = self.probes.iter().flat_map(|p| &p.outputs);
        if compared > 0 && !all.any(shows) {
            self.unproven.push(
                "all outputs are zero in the source, which shows nothing; `--inputs` gives it others"
                    .to_owned(),
            );
        }
        self.unused_references();
    }

    /// What the verdict rests on.
    pub(super) fn evidence(&self) -> String {
        let ran = |e: &&Engine<'_>| e.runs > 0 && e.role == Some(Role::Artifact);
        let engines = self.candidates.iter().filter(ran);
        let names: Vec<&str> = engines.map(|e| e.subject.name.as_str()).collect();
        let ran = if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        };
        match self.request.format {
            Format::Onnx => {
                let read_back = self.read_back.as_ref().map_or_else(String::new, |engine| {
                    format!(
                        ", and read back and run once by {}, to be compared with what was written without rounding to 16 bits",
                        engine.name
                    )
                });
                format!("evidence: the written file was run by {ran}{read_back}")
            }
            Format::CoreMl => format!(
                "evidence: the written package was read back and run by {ran}; Core ML itself was not executed, so that device arithmetic and placement are not shown"
            ),
        }
    }

    /// Names every output of the reference file that was held against nothing.
    fn unused_references(&mut self) {
        let rows = self.probes.iter().flat_map(|p| &p.outputs);
        let rows: Vec<&OutputReport> = rows.filter(|o| o.against == REFERENCE_FILE).collect();
        let names: BTreeSet<&str> = rows.iter().map(|o| o.output.as_str()).collect();
        let known = quoted(self.interface.function.outputs.iter().map(|o| &o.name));
        let mut failures = Vec::new();
        for name in &names {
            let mut of = rows.iter().filter(|o| o.output == *name);
            if of.clone().any(|o| o.comparison.is_some()) {
                continue;
            }
            let why = of
                .find_map(|o| o.not_compared.as_deref())
                .unwrap_or_default();
            failures.push(format!(
                "the reference file's `{name}` was never compared: {why}; it has {}, the model gives {known}",
                quoted(&names)
            ));
        }
        self.failures.extend(failures);
    }
}
