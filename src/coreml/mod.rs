//! All of Core ML: proto, package, weight blob, op table, interface, import, export.
//!
//! `export` and `import` share nothing but what is here: the messages (`proto`), the table of operations (`table`), element types (`dtype`),
//! the weight file (`blob`), the folder (`package`) and the convention about names (`names`).

mod blob;
mod dtype;
mod import;
mod names;
mod package;
mod proto;
mod table;
mod target;

pub use blob::BlobError;
pub use package::PackageError;
pub use target::{DeploymentTarget, Opset, UnknownTarget};
