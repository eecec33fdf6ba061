//! All of Core ML: proto, package, weight blob, op table, interface, import, export.
//!
//! `export` and `import` share nothing but what is here: the messages (`proto`), the table of operations (`table`), element types (`dtype`),
//! the weight file (`blob`), the folder (`package`) and the convention about names (`names`).

mod blob;
pub mod bytes;
mod dtype;
mod error;
mod export;
mod import;
mod inspect;
mod interface;
mod kind;
mod legalize;
mod lint;
mod listing;
mod names;
mod needs;
mod package;
mod program;
mod proto;
mod read;
mod source_names;
mod table;
mod target;
mod weights;
mod write;

pub use blob::BlobError;
pub use error::CoremlError;
pub use export::RmsNormForm;
pub use import::ImportError;
pub use inspect::{Classes, FunctionSummary, Summary, inspect};
pub use interface::{
    Classifier, Color, DefaultValue, Description, Feature, FeatureKind, Flexibility, SizeRange,
};
pub use legalize::{Basis, Place, TypeChange, type_changes, with_stored_parameters};
pub use lint::{Code, Finding, Findings, Severity, Spot, lint};
pub use listing::listing;
pub use needs::{Least, Need};
pub use package::{MANIFEST, PackageError, holds_nothing_else, is_compiled};
pub use read::{Package, files, functions, inputs, read, read_for_shapes, read_function};
pub use target::{DeploymentTarget, Opset, UnknownTarget};
pub use weights::{Compressed, LargeCompressed, LargeConstant};
pub use write::{
    WriteOptions, Written, WrittenFunction, compare_functions, set_metadata, write, write_functions,
};
