//! States: values that a program keeps between runs, which it reads first and writes last.

use super::emit::{Arg, Emitter};
use super::value;
use crate::coreml::proto::mil_spec::{StateType, ValueType, value_type};
use crate::coreml::target::Opset;
use crate::error::Result;
use crate::ir::{Function, State, Type};
use crate::tensor::DType;

/// The states that programs can keep: half precision, of a known shape. Others are inputs and outputs.
pub(in crate::coreml) fn kept(function: &Function, opset: Opset) -> Vec<&State> {
    let fits = |s: &&State| {
        let ty = function.ty(s.param);
        ty.dtype == DType::F16 && ty.known_shape().is_some() && ty.rank() > 0
    };
    if opset < Opset::CoreML8 {
        return Vec::new();
    }
    function.states.iter().filter(fits).collect()
}

/// The type of a state of this tensor type.
pub(super) fn state_type(ty: &Type) -> ValueType {
    let wrapped_type = Some(Box::new(value::value_type(ty)));
    ValueType {
        r#type: Some(value_type::Type::StateType(Box::new(StateType {
            wrapped_type,
        }))),
    }
}

impl Emitter<'_> {
    /// From now on the parameter is what the state holds.
    pub(super) fn read_state(&mut self, state: &State) -> Result<()> {
        let param = self.var(state.param)?;
        let name = format!("{}#read", param.id);
        let ty = param.ty.clone();
        let read = self.named(&name, "read_state", ty, &[("input", Arg::Var(&param))])?;
        self.stand_for(state.param, read);
        Ok(())
    }

    /// The state holds what its output is; one that stays is not written.
    pub(super) fn write_state(&mut self, state: &State) -> Result<()> {
        let function = self.function;
        let output = function.outputs.iter().find(|o| o.name == state.output);
        let Some(output) = output.filter(|o| o.value != state.param) else {
            return Ok(());
        };
        let mut held = self.var(state.param)?;
        held.id.clone_from(&function.value(state.param).name);
        let value = self.var(output.value)?;
        self.write(&held, &value)
    }
}
