//! The intermediate representation: typed SSA over named dimensions. Knows no file format.
//!
//! A [`Module`] is built only through [`Builder`], which infers every type and refuses a mismatch; [`verify`] checks a finished module again.

mod bounds;
mod builder;
mod compose;
mod constant;
mod dim;
mod domains;
mod module;
mod op;
pub mod ops;
mod parameters;
mod print;
mod types;
mod verify;

pub(crate) use bounds::Bounds;
pub use builder::{Builder, FoldBudget, Folder};
pub use compose::looks_up;
pub use constant::{
    Affine, Agreement, CompressedWeights, Compression, Constant, ConstantScan, Expanded, Form,
    Palette, Placed, Transform, write_constants,
};
pub use dim::{Bindings, Dim, DimOp, DimTree};
pub use domains::{DOMAINS_KEY, domains_text, settle_domains};
pub use module::{
    BodyId, Claim, ConstId, Def, Domain, Function, Module, Node, NodeId, Output, Param, State,
    Symbol, SymbolRange, Value, ValueId,
};
pub use op::{Arity, Family, Numerics, Op, OpInfo};
pub use parameters::with_rounded_parameters;
pub use print::print;
pub use types::{IrError, Shape, Type, broadcast, concrete, display_shape, normalize_axis};
pub use verify::{verify, verify_apart};
