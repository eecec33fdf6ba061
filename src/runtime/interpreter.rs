//! The interpreter as a runtime.

use super::{NamedTensors, Session};
use crate::error::Result;
use crate::eval::Interpreter;

impl Session for Interpreter {
    fn engine(&self) -> String {
        format!("interpreter {}", self.mode().name())
    }

    fn run(&self, inputs: &NamedTensors) -> Result<NamedTensors> {
        Interpreter::run(self, inputs, None)
    }
}
