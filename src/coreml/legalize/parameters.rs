//! Parameters of operations, as a program holds them.

use crate::ir::{self, Module};

/// The module with the parameters of its operations as a program has them: all are constants of the element type of what the operation is applied
/// to.
#[must_use]
pub fn with_stored_parameters(module: &Module) -> Module {
    ir::with_rounded_parameters(module, |_| true)
}
