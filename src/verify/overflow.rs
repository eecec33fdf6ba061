//! Which operations compute what 16 bits cannot hold, on the probes that verification draws.

use std::collections::BTreeSet;

use super::divergence::{F16_MAX, MASKED, masked_values};
use super::interface::Interface;
use crate::error::Result;
use crate::eval::{Interpreter, Mode, Observer};
use crate::ir::{Function, Module, ValueId};
use crate::tensor::Tensor;

/// Half of what 16 bits hold: other inputs than the probes reach further.
const NEAR: f64 = F16_MAX / 2.0;

/// The nodes of the default function that give or take a value near or beyond what 16 bits hold, on any probe. Fills of masks do not count: what
/// lies beyond is masked all the same.
///
/// # Errors
/// When the module cannot be run on its probes.
pub fn beyond_f16(module: &Module, longest_probe: u64) -> Result<BTreeSet<String>> {
    let function = module.main()?;
    let interface = Interface::new(module, &[])?;
    let interpreter = Interpreter::new(module, Mode::F32)?;
    let masked = masked_values(module, function)?;
    let mut found = Found {
        masked: masked
            .into_iter()
            .map(|v| function.value(v).name.as_str())
            .collect(),
        beyond: BTreeSet::new(),
    };
    for (stream, bindings) in (0..).zip(&interface.bindings(longest_probe, longest_probe)) {
        let probe = interface.seeded(stream, bindings, false)?;
        interpreter.run(&probe.inputs, Some(&mut found))?;
    }
    let beyond = |v: &ValueId| found.beyond.contains(&function.value(*v).name);
    let nodes = function.nodes.iter().filter(|node| {
        let mut values = node.operands.iter().chain(&node.results);
        values.any(beyond)
    });
    Ok(nodes
        .map(|node| function.value(node.result()).name.clone())
        .collect())
}

struct Found<'a> {
    masked: BTreeSet<&'a str>,
    beyond: BTreeSet<String>,
}

impl Observer for Found<'_> {
    fn observe(&mut self, function: &Function, value: ValueId, tensor: &Tensor) {
        let name = &function.value(value).name;
        if !tensor.dtype().is_float() || self.beyond.contains(name) {
            return;
        }
        let masked = self.masked.contains(name.as_str());
        let counts = |x: f64| x.abs() > NEAR && !(masked && x <= MASKED);
        if tensor.to_f64().into_iter().any(counts) {
            self.beyond.insert(name.clone());
        }
    }
}
