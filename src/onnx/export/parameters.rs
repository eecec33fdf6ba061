//! Parameters of operations, as a graph holds them.

use crate::ir::{self, Module, Op};

/// The module with the parameters of its operations as a graph has them: attributes are single precision whatever the operation is applied to; what
/// is handed to an operator as an input is of the type of its other inputs.
#[must_use]
pub fn with_stored_parameters(module: &Module) -> Module {
    ir::with_rounded_parameters(module, |op| matches!(op, Op::Attention(_) | Op::Clip(_)))
}
