//! Decompositions that several readers share: what one format has as a unit and the IR does not. Each says which operations define it.
//!
//! [`basic`] are the builder's short forms: a node named after its operation, in the builder's current scope.

mod basic;
mod domains;

pub use domains::looks_up;
pub(in crate::ir) use domains::{derive_domains, derive_masks};
