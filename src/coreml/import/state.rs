//! States: what a model keeps between runs. A state is a parameter and, once it was written, an output that becomes its next value.

use super::call::Call;
use super::entry::Entry;
use super::{Handler, Importer, Input};
use crate::error::Result;
use crate::ir::{Domain, ValueId};

/// Where a state stands while the program is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    param: ValueId,
    value: ValueId,
}

pub(super) fn handler(op: &str) -> Option<Handler> {
    let handler: Handler = match op {
        "read_state" => read_state,
        "write_state" => write_state,
        _ => return None,
    };
    Some(handler)
}

impl Importer<'_> {
    /// Declares a state.
    pub(super) fn state(&mut self, state: &Input) -> Result<()> {
        let param = self
            .builder
            .param(&state.name, state.ty.clone(), Domain::Any)?;
        let value = param;
        self.states
            .insert(state.name.clone(), Current { param, value });
        let name = state.name.clone();
        Ok(self.define(&state.name, Entry::State { name })?)
    }

    /// Makes what every state was last written an output. One that was only read keeps its value.
    pub(super) fn keep_states(&mut self) -> Result<()> {
        for (name, current) in std::mem::take(&mut self.states) {
            let output = format!("{name}.next");
            self.builder.output(&output, current.value)?;
            self.builder.state(&name, current.param, &output);
        }
        Ok(())
    }
}

fn name(call: &mut Call) -> Result<String> {
    let entry = call.required("input")?;
    if let Entry::State { name } = entry {
        return Ok(name);
    }
    Err(call.wrong("input", "a state", &entry.describe()).into())
}

fn read_state(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let name = name(call)?;
    let Some(current) = importer.states.get(&name).copied() else {
        return Err(call.unsupported("input", "a state inside a block").into());
    };
    Ok(vec![importer.entry(current.value)])
}

fn write_state(importer: &mut Importer<'_>, call: &mut Call) -> Result<Vec<Entry>> {
    let name = name(call)?;
    let value = importer.operand(call, "data")?;
    let found = importer.ty(value);
    let Some(current) = importer.states.get(&name).copied() else {
        return Err(call.unsupported("input", "a state inside a block").into());
    };
    let expected = importer.ty(current.param);
    if found != expected {
        return Err(call
            .wrong("data", &expected.to_string(), &found.to_string())
            .into());
    }
    if let Some(current) = importer.states.get_mut(&name) {
        current.value = value;
    }
    Ok(Vec::new())
}
