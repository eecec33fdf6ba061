//! Makes a graph that somebody exported as plain as it can be: what was taken apart for the export is put together again.

use std::collections::BTreeMap;

use serde::Serialize;

use super::graph::{Counts, replace};
use super::{activation, affine, attention, casts, fold, norm, softmax, through, tidy};
use crate::error::{Context, Result};
use crate::ir::Module;

/// What was rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CleanReport {
    /// Nodes of all functions and bodies before.
    pub nodes_before: usize,
    /// Nodes of all functions and bodies after.
    pub nodes_after: usize,
    /// How often, by what it became or what was removed.
    pub rewrites: BTreeMap<&'static str, usize>,
}

impl CleanReport {
    /// Adds what was done to another function.
    pub fn add(&mut self, other: CleanReport) {
        self.nodes_before += other.nodes_before;
        self.nodes_after += other.nodes_after;
        for (name, count) in other.rewrites {
            *self.rewrites.entry(name).or_insert(0) += count;
        }
    }
}

/// How a rewrite reads in a sentence: its name, what was done, and to what, one and many.
const WORDS: &[(&str, &str, &str, &str)] = &[
    ("layer_norm", "fused", "layer norm", "layer norms"),
    ("rms_norm", "fused", "RMS norm", "RMS norms"),
    ("softmax", "fused", "softmax", "softmaxes"),
    ("attention", "fused", "attention", "attentions"),
    ("sigmoid", "fused", "sigmoid", "sigmoids"),
    ("gelu", "fused", "GELU", "GELUs"),
    ("silu", "fused", "SiLU", "SiLUs"),
    ("hard_sigmoid", "fused", "hard sigmoid", "hard sigmoids"),
    ("hard_swish", "fused", "hard swish", "hard swishes"),
    ("batch_norm", "folded", "batch norm", "batch norms"),
    ("scale", "folded", "scale", "scales"),
    ("bias", "folded", "bias", "biases"),
    ("cast", "removed", "cast", "casts"),
    ("transpose", "removed", "transpose", "transposes"),
    ("reshape", "removed", "reshape", "reshapes"),
    ("broadcast", "removed", "broadcast", "broadcasts"),
    (
        "no_op",
        "removed",
        "operation without effect",
        "operations without effect",
    ),
    (
        "repeated",
        "removed",
        "repeated operation",
        "repeated operations",
    ),
];

impl CleanReport {
    /// One line for people: `fused 12 layer norms, 6 GELUs; folded 14 batch norms`. Empty when nothing was rewritten.
    #[must_use]
    pub fn text(&self) -> String {
        let mut parts: Vec<(&str, Vec<String>)> = Vec::new();
        for (name, done, one, many) in WORDS {
            let Some(&n) = self.rewrites.get(name) else {
                continue;
            };
            let item = format!("{n} {}", if n == 1 { one } else { many });
            match parts.last_mut() {
                Some((last, items)) if last == done => items.push(item),
                Some(_) | None => parts.push((done, vec![item])),
            }
        }
        let parts: Vec<String> = parts
            .into_iter()
            .map(|(done, items)| format!("{done} {}", items.join(", ")))
            .collect();
        parts.join("; ")
    }
}

fn nodes(module: &Module) -> usize {
    let all = module.functions.iter().chain(&module.bodies);
    all.map(|f| f.nodes.len()).sum()
}

/// The module folded and cleaned up, with what was done.
///
/// # Numerics
/// Computes what the module computed, but for rounding: a unit rounds once where its parts rounded several times. Values that one of the parts
/// would have overflowed to infinity stay finite.
///
/// # Errors
/// When a constant cannot be read, or evaluation of constants fails.
pub fn clean(module: &Module) -> Result<(Module, CleanReport)> {
    let mut counts = Counts::new();
    let nodes_before = nodes(module);
    let module = tidy(fold(module)?, &mut counts)?;
    let module = replace(&module, &mut counts, norm::find).at_pass("norms")?;
    let module = replace(&module, &mut counts, softmax::find).at_pass("softmax")?;
    let module = replace(&module, &mut counts, activation::find_sigmoid).at_pass("sigmoid")?;
    // After the softmax that it holds, and before what folds into the products around it.
    let module = replace(&module, &mut counts, attention::find).at_pass("attention")?;
    let module = replace(&module, &mut counts, activation::find).at_pass("activations")?;
    // What is one operation now may have been computed in single precision for its parts' sake, and parameters stand behind the casts.
    let module = replace(&module, &mut counts, casts::find).at_pass("casts")?;
    let module = replace(&module, &mut counts, norm::find_parameters).at_pass("parameters")?;
    // What folds into products may lie behind a transpose.
    let module = replace(&module, &mut counts, through::find).at_pass("transposes")?;
    let module = replace(&module, &mut counts, affine::find).at_pass("affine")?;
    // Around a norm over other axes than the last, and before attention, there are new transposes.
    // Masks by constants are constants.
    let module = tidy(fold(&module)?, &mut counts)?;
    let report = CleanReport {
        nodes_before,
        nodes_after: nodes(&module),
        rewrites: counts,
    };
    Ok((module, report))
}
