//! Whether an artifact still answers as its source does: every case of a task, on both.

use std::fmt::Write;

use serde::Serialize;

use super::Subject;
use super::cases::Case;
use super::drift::{PairReport, Prediction, compare_predictions, first_largest};
use super::error::VerifyError;
use super::inputs::Origin;
use super::interface::{Interface, Padding};
use super::metrics::log_softmax;
use super::report::{float, show, write_table};
use super::task::{ClassKind, Task, TaskCase};
use crate::error::{Context, Result};
use crate::ir::Domain;
use crate::runtime::NamedTensors;
use crate::tensor::{DType, Tensor, num};

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
pub(super) fn run<'s>(
    task: &Task,
    interface: &Interface<'_>,
    source: &Subject<'_>,
    candidates: impl IntoIterator<Item = &'s Subject<'s>>,
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
                Domain::Any | Domain::Mask | Domain::Pixel => None,
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

#[cfg(test)]
mod tests {
    use super::super::fixture::task;
    use super::super::{Numerics, fixture, tolerance::Gates};
    use super::*;

    #[test]
    fn cases_are_asked_at_their_last_real_token() {
        let module = fixture::fixed(8, true);
        let interface = Interface::new(&module, &[]).unwrap();
        let honest = fixture::Fake::honest();
        let gates = Gates::for_numerics(Numerics::F32);
        let subject = Subject::new(&honest, None, gates);
        let short = task(&[("a", &[9, 3], None), ("b", &[3], None)]);
        let report = run(&short, &interface, &subject, [&subject]).unwrap();
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
            [&subject],
        )
        .unwrap();
        assert_ne!(
            pad.source_predictions[0].probabilities,
            report.source_predictions[0].probabilities
        );
        let empty = run(&task(&[]), &interface, &subject, [&subject]).unwrap();
        assert!(!empty.passed && empty.failures[0].starts_with("vacuous"));
        assert!(!run(&short, &interface, &subject, []).unwrap().passed);
        let broken = fixture::Fake::broken();
        let broken = Subject::new(&broken, None, Gates::for_numerics(Numerics::F32));
        let report = run(&short, &interface, &subject, [&broken]).unwrap();
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
}
