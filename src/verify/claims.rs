//! Tests of what a front end claims about a model: causality, indifference to padding, agreement of the enumerated shapes.
//!
//! Every test changes something that must not matter, and makes sure that the change was one.

use serde::Serialize;

use super::Subject;
use super::cases::Case;
use super::error::VerifyError;
use super::inputs::{Origin, Probe, Rng};
use super::interface::{Interface, Padding};
use super::kind::OutputKind;
use super::metrics::{Comparison, Rule, compare};
use super::report::float;
use super::tolerance::Gates;
use crate::error::Result;
use crate::ir::{Bindings, Claim, Domain};
use crate::runtime::NamedTensors;
use crate::tensor::{Storage, Tensor, num};

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimStatus {
    /// The change made no difference where it must not.
    Held,
    /// It made one.
    Violated,
    /// Nothing here can show it, for the reason given.
    Untestable,
}

/// A claim tested on one engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClaimReport {
    /// `causal`, `ignores_padding` or `shapes_agree`.
    pub claim: &'static str,
    /// What was changed, or why nothing could be tested.
    pub detail: String,
    /// Which engine.
    pub engine: String,
    /// Largest change allowed, relative to max|output|.
    #[serde(serialize_with = "float")]
    pub limit: f64,
    /// Largest change found where there must be none, relative to max|output|.
    #[serde(serialize_with = "float")]
    pub max_change: f64,
    /// The verdict.
    pub status: ClaimStatus,
}

/// A probe and what an engine made of it.
pub(super) struct Base<'a> {
    pub(super) probe: &'a Probe,
    pub(super) outputs: &'a NamedTensors,
}

/// Tests every claim of the source on one engine. `full` has no padding, `padded` has, where the model has a mask.
pub(super) fn check(
    subject: &Subject<'_>,
    interface: &Interface<'_>,
    claims: &[Claim],
    full: &Base<'_>,
    padded: Option<&Base<'_>>,
) -> Vec<ClaimReport> {
    let mut reports = Vec::new();
    for claim in claims {
        let (name, verdict) = match claim {
            Claim::Causal { inputs, output } => {
                ("causal", causal(subject, interface, inputs, output, full))
            }
            Claim::IgnoresPadding {
                input,
                mask,
                per_position,
                pooled,
            } => {
                let verdict = match padded {
                    Some(base) => ignores_padding(
                        subject,
                        interface,
                        input,
                        mask,
                        (per_position, pooled),
                        base,
                    ),
                    None => untestable("no probe has padding"),
                };
                ("ignores_padding", verdict)
            }
        };
        reports.push(report(subject, name, subject.gates.claim_change, verdict));
    }
    if let Some((symbol, lengths)) = interface.enumerated_lengths() {
        let verdict = shapes_agree(subject, interface, symbol, lengths);
        reports.push(report(
            subject,
            "shapes_agree",
            subject.gates.shape_change,
            verdict,
        ));
    }
    reports
}

struct Verdict {
    status: ClaimStatus,
    max_change: f64,
    detail: String,
}

fn untestable(why: &str) -> Result<Verdict> {
    Ok(Verdict {
        status: ClaimStatus::Untestable,
        max_change: 0.0,
        detail: why.to_owned(),
    })
}

fn report(
    subject: &Subject<'_>,
    claim: &'static str,
    limit: f64,
    verdict: Result<Verdict>,
) -> ClaimReport {
    // What cannot run has not held.
    let verdict = verdict.unwrap_or_else(|error| Verdict {
        status: ClaimStatus::Violated,
        max_change: f64::NAN,
        detail: format!("could not be tested: {error}"),
    });
    ClaimReport {
        claim,
        detail: verdict.detail,
        engine: subject.name.clone(),
        limit,
        max_change: verdict.max_change,
        status: verdict.status,
    }
}

fn causal(
    subject: &Subject<'_>,
    interface: &Interface<'_>,
    inputs: &[String],
    output: &str,
    base: &Base<'_>,
) -> Result<Verdict> {
    let mut changed = base.probe.inputs.clone();
    let (mut cut, mut names) = (None, Vec::new());
    for (i, name) in inputs.iter().enumerate() {
        let Some(param) = interface.function.param(name) else {
            return untestable(&format!("the model has no input `{name}`"));
        };
        // A later 0 in a mask could hide the ids that are changed with it.
        if param.domain == Domain::Mask {
            continue;
        }
        let tensor = &base.probe.inputs[name];
        let Some(&length) = tensor.shape().get(1).filter(|&&n| n > 1) else {
            return untestable("there is only one position");
        };
        let at = *cut.get_or_insert(length / 2);
        let row_of = |flat: usize| super::metrics::unravel(flat, tensor.shape())[1] >= at;
        changed.insert(name.clone(), perturb(tensor, &param.domain, i, row_of)?);
        names.push(format!("`{name}`"));
    }
    let Some(cut) = cut else {
        return untestable("no input to change");
    };
    let outputs = subject.run(&changed)?;
    let (before, after) = (find(base.outputs, output)?, find(&outputs, output)?);
    let [batch, length] = match before.shape() {
        [batch, length, ..] => [*batch, *length],
        _ => return untestable("the output has no sequence axis"),
    };
    let rows = |real: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..batch * length)
            .filter(|i| real(i % length.max(1)))
            .collect()
    };
    let later = change(
        subject.gates.claim_change,
        before,
        after,
        Some(&rows(&|t| t >= cut)),
    );
    if later.max_change == 0.0 {
        return Ok(Verdict {
            status: ClaimStatus::Violated,
            max_change: 0.0,
            detail: format!("`{output}` does not depend on {} at all", names.join(", ")),
        });
    }
    let mut verdict = change(
        subject.gates.claim_change,
        before,
        after,
        Some(&rows(&|t| t < cut)),
    );
    verdict.detail = format!(
        "{} changed from position {cut} of {length} on; `{output}` before it{}",
        names.join(", "),
        verdict.detail
    );
    Ok(verdict)
}

fn ignores_padding(
    subject: &Subject<'_>,
    interface: &Interface<'_>,
    input: &str,
    mask: &str,
    (per_position, pooled): (&[String], &[String]),
    base: &Base<'_>,
) -> Result<Verdict> {
    let (Some(param), Some(tensor), Some(mask_tensor)) = (
        interface.function.param(input),
        base.probe.inputs.get(input),
        base.probe.inputs.get(mask),
    ) else {
        return untestable("the model has no such inputs");
    };
    let kept = mask_rows(mask_tensor);
    let count = mask_tensor.len();
    if kept.len() == count || count == 0 {
        return untestable("no position is padding");
    }
    let width = tensor.len() / count;
    let is_padding = |flat: usize| kept.binary_search(&(flat / width.max(1))).is_err();
    let other = perturb(tensor, &param.domain, 0, is_padding)?;
    let mut changed = base.probe.inputs.clone();
    changed.insert(input.to_owned(), other);
    let outputs = subject.run(&changed)?;
    let mut worst = Verdict {
        status: ClaimStatus::Held,
        max_change: 0.0,
        detail: String::new(),
    };
    let named = per_position
        .iter()
        .map(|o| (o, Some(kept.as_slice())))
        .chain(pooled.iter().map(|o| (o, None)));
    let (mut tested, mut felt) = (0, false);
    for (output, rows) in named {
        let (before, after) = (find(base.outputs, output)?, find(&outputs, output)?);
        felt |= before != after;
        let verdict = change(subject.gates.claim_change, before, after, rows);
        tested += 1;
        if verdict.status == ClaimStatus::Violated || verdict.max_change > worst.max_change {
            worst = Verdict {
                detail: format!(": `{output}`{}", verdict.detail),
                ..verdict
            };
        }
        if worst.status == ClaimStatus::Violated {
            break;
        }
    }
    if tested == 0 {
        return untestable("the claim names no output");
    }
    // Where not even padding positions felt the change, the input must be shown to matter when it is not masked.
    if !felt && worst.status == ClaimStatus::Held {
        let ones =
            Tensor::i64(mask_tensor.shape().to_vec(), vec![1; count])?.cast(mask_tensor.dtype());
        let mut original = base.probe.inputs.clone();
        for inputs in [&mut original, &mut changed] {
            inputs.insert(mask.to_owned(), ones.clone());
        }
        if subject.run(&original)? == subject.run(&changed)? {
            return Ok(Verdict {
                status: ClaimStatus::Violated,
                max_change: 0.0,
                detail: format!("no output depends on `{input}`, masked or not"),
            });
        }
    }
    worst.detail = format!("`{input}` changed where `{mask}` is 0{}", worst.detail);
    Ok(worst)
}

fn shapes_agree(
    subject: &Subject<'_>,
    interface: &Interface<'_>,
    symbol: &str,
    lengths: &[u64],
) -> Result<Verdict> {
    if !interface.can_pad() {
        return untestable("the model does not claim that padding does not matter");
    }
    let Some(&shortest) = lengths.iter().min() else {
        return untestable("no length");
    };
    // Shorter than every shape, so that each of them pads.
    let length = (shortest * 3 / 4).max(1);
    let mut bindings: Bindings = interface.bindings(shortest, shortest).swap_remove(0);
    bindings.insert(symbol.to_owned(), length);
    let prompt = interface.seeded(0x5a, &bindings, false)?;
    let case = Case {
        name: "prompt".into(),
        inputs: prompt.inputs,
        outputs: NamedTensors::new(),
    };
    let mut first: Option<(u64, NamedTensors)> = None;
    let mut worst = Verdict {
        status: ClaimStatus::Held,
        max_change: 0.0,
        detail: String::new(),
    };
    let mut tested = 0;
    for &size in lengths {
        let probe = match interface.with_size(symbol, size).fit(&case, Origin::Seeded) {
            Ok(probe) => probe,
            Err(error) => return untestable(&error.to_string()),
        };
        let outputs = subject.run(&probe.inputs)?;
        let Some((reference_size, reference)) = &first else {
            first = Some((size, outputs));
            continue;
        };
        for (name, before) in reference {
            let after = find(&outputs, name)?;
            let (before, after) = match interface.padding(name) {
                Padding::Matters => continue,
                Padding::Pooled => (before.clone(), after.clone()),
                Padding::PerPosition | Padding::Later => {
                    let n = num::usize_of(length);
                    (cut(before, n)?, cut(after, n)?)
                }
            };
            tested += 1;
            let verdict = change(subject.gates.shape_change, &before, &after, None);
            if verdict.max_change > worst.max_change || verdict.status == ClaimStatus::Violated {
                worst = Verdict {
                    detail: format!(
                        ": `{name}` at {symbol}={size} against {symbol}={reference_size}{}",
                        verdict.detail
                    ),
                    ..verdict
                };
            }
            if worst.status == ClaimStatus::Violated {
                return Ok(worst);
            }
        }
    }
    if tested == 0 {
        return untestable("no output is claimed to be the same");
    }
    worst.detail = format!(
        "a prompt of {length} padded to each of {lengths:?}{}",
        worst.detail
    );
    Ok(worst)
}

/// Other values of the same domain where `chosen` says so.
fn perturb(
    tensor: &Tensor,
    domain: &Domain,
    stream: usize,
    chosen: impl Fn(usize) -> bool,
) -> Result<Tensor> {
    let mut rng = Rng::new(0xc1a1_0000 ^ num::u64_of(stream));
    if let Ok(values) = tensor.ints() {
        let below = match domain {
            Domain::Index { below } => *below,
            Domain::Any | Domain::Mask => 2,
            Domain::Pixel => 256,
        };
        let signed = i64::try_from(below).unwrap_or(i64::MAX);
        let values = values
            .iter()
            .enumerate()
            .map(|(i, &v)| {
                if chosen(i) && below > 1 {
                    // A step of 1 … below − 1: never the same value.
                    let step = 1 + i64::try_from(rng.below(below - 1)).unwrap_or(0);
                    v.saturating_add(step).rem_euclid(signed)
                } else {
                    v
                }
            })
            .collect();
        return Ok(Tensor::int(
            tensor.dtype(),
            tensor.shape().to_vec(),
            values,
        )?);
    }
    let values: Vec<f32> = tensor
        .to_f64()
        .into_iter()
        .enumerate()
        .map(|(i, v)| {
            let step = 1.0 + num::f64_of_u64(rng.below(1000)) / 500.0;
            num::f32_of_f64(if chosen(i) { v + step } else { v })
        })
        .collect();
    Ok(Tensor::f32(tensor.shape().to_vec(), values)?.cast(tensor.dtype()))
}

/// The change between two outputs over some rows.
fn change(limit: f64, before: &Tensor, after: &Tensor, rows: Option<&[usize]>) -> Verdict {
    let gates = Gates {
        max_relative: Some(limit),
        max_relative_rms: None,
        min_cosine: None,
        min_psnr_db: None,
        max_score: None,
        ..Gates::for_numerics(super::Numerics::F32)
    };
    let rule = Rule {
        gates: &gates,
        kind: OutputKind::Plain,
        rows,
        allow_rounded: false,
    };
    let found = compare(rule, before, after);
    Verdict {
        status: if found.passed {
            ClaimStatus::Held
        } else {
            ClaimStatus::Violated
        },
        max_change: magnitude(&found),
        detail: match (found.passed, &found.worst) {
            (false, Some(w)) => format!(
                " changed at {:?} from {} to {}",
                w.index, w.reference, w.candidate
            ),
            (false, None) => format!(": {}", found.failures.join("; ")),
            (true, _) => " is the same".to_owned(),
        },
    }
}

fn magnitude(found: &Comparison) -> f64 {
    match (&found.figures, found.mismatches) {
        (Some(figures), _) if found.nonfinite.mask_differs == 0 => figures.required_tolerance,
        (None, Some(n)) => num::f64_of(n) / num::f64_of(found.elements.max(1)),
        (Some(_) | None, _) => f64::INFINITY,
    }
}

fn find<'t>(outputs: &'t NamedTensors, name: &str) -> Result<&'t Tensor> {
    outputs.get(name).ok_or_else(|| {
        let known: Vec<String> = outputs.keys().map(|k| format!("`{k}`")).collect();
        VerifyError::UnknownOutput {
            case: "a claim".into(),
            found: format!("`{name}`"),
            known: known.join(", "),
        }
        .into()
    })
}

/// The rows over the first two axes at which a mask is not 0, ascending.
pub(super) fn mask_rows(mask: &Tensor) -> Vec<usize> {
    mask.to_f64()
        .into_iter()
        .enumerate()
        .filter(|(_, v)| *v != 0.0)
        .map(|(i, _)| i)
        .collect()
}

/// The first `length` positions along axis 1.
pub(super) fn cut(tensor: &Tensor, length: usize) -> Result<Tensor> {
    let (&[batch, from], rest) = match tensor.shape() {
        [batch, from, rest @ ..] => (&[*batch, *from], rest),
        _ => return Ok(tensor.clone()),
    };
    if from <= length {
        return Ok(tensor.clone());
    }
    let width: usize = rest.iter().product();
    let mut shape = tensor.shape().to_vec();
    shape[1] = length;
    let rows = (0..batch).map(|b| b * from * width..(b * from + length) * width);
    select(tensor, shape, rows)
}

/// The elements of these ranges, as a tensor of `shape`.
pub(super) fn select(
    tensor: &Tensor,
    shape: Vec<usize>,
    ranges: impl Iterator<Item = std::ops::Range<usize>>,
) -> Result<Tensor> {
    fn pick<T: Copy>(from: &[T], ranges: impl Iterator<Item = std::ops::Range<usize>>) -> Vec<T> {
        ranges.flat_map(|r| &from[r]).copied().collect()
    }
    let dtype = tensor.dtype();
    let picked = match tensor.storage() {
        Storage::Float(v) => Tensor::float(dtype, shape, pick(v, ranges)),
        Storage::Int(v) => Tensor::int(dtype, shape, pick(v, ranges)),
        Storage::Bool(v) => Tensor::bool(shape, pick(v, ranges)),
    };
    Ok(picked?)
}

#[cfg(test)]
mod tests {
    use super::super::{Numerics, fixture};
    use super::*;
    use crate::ir::SymbolRange;

    fn verdicts(
        module: &crate::ir::Module,
        session: &fixture::Fake,
    ) -> Vec<(&'static str, ClaimStatus)> {
        let interface = Interface::new(module, &[]).unwrap();
        let subject = Subject::new(session, None, Gates::for_numerics(Numerics::F32));
        let bindings = interface.bindings(64, 64).swap_remove(0);
        let full = interface.seeded(0, &bindings, false).unwrap();
        let padded = interface.seeded(1, &bindings, true).unwrap();
        let (a, b) = (
            subject.run(&full.inputs).unwrap(),
            subject.run(&padded.inputs).unwrap(),
        );
        check(
            &subject,
            &interface,
            &module.claims,
            &Base {
                probe: &full,
                outputs: &a,
            },
            Some(&Base {
                probe: &padded,
                outputs: &b,
            }),
        )
        .into_iter()
        .map(|r| (r.claim, r.status))
        .collect()
    }

    #[test]
    fn honest_models_hold_their_claims() {
        let module = fixture::model(&[SymbolRange::OneOf(vec![4, 8, 16])], true);
        assert_eq!(
            verdicts(&module, &fixture::Fake::honest()),
            [
                ("ignores_padding", ClaimStatus::Held),
                ("causal", ClaimStatus::Held),
                ("shapes_agree", ClaimStatus::Held)
            ]
        );
    }

    #[test]
    fn a_model_that_sees_later_tokens_is_caught() {
        let module = fixture::model(&[SymbolRange::OneOf(vec![4, 8, 16])], true);
        let found = verdicts(&module, &fixture::Fake::sees_everything());
        assert!(
            found.iter().all(|(_, s)| *s == ClaimStatus::Violated),
            "{found:?}"
        );
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_model_that_depends_on_the_length_is_caught() {
        let module = fixture::model(&[SymbolRange::OneOf(vec![4, 8, 16])], true);
        let found = verdicts(&module, &fixture::Fake::depends_on_length());
        assert_eq!(found[0].1, ClaimStatus::Held);
        assert_eq!(found[2].1, ClaimStatus::Violated);
    }

    #[test]
    fn a_model_that_sees_nothing_is_caught() {
        let module = fixture::fixed(8, true);
        let found = verdicts(&module, &fixture::Fake::constant(1.0));
        assert!(
            found.iter().all(|(_, s)| *s == ClaimStatus::Violated),
            "{found:?}"
        );
    }

    #[test]
    fn one_position_shows_nothing() {
        let module = fixture::fixed(1, true);
        let found = verdicts(&module, &fixture::Fake::honest());
        assert!(
            found.iter().all(|(_, s)| *s == ClaimStatus::Untestable),
            "{found:?}"
        );
    }
}
