//! `distill-convert` turns trained models into ONNX and Core ML files and proves that they still compute the same thing.
//!
//! The way of the data: [`source`] reads verified checkpoint bytes, [`arch`] turns them and their config into an [`ir::Module`],
//! [`passes`] rewrite it, [`onnx`] and [`coreml`] write and read files, [`runtime`] runs modules and files, [`verify`] compares.
//! `convert` is all of that as one function.
//!
//! *Verified* means: the file that was written was read back, run on probes by engines named in the report, and compared with the
//! source model within stated tolerances. It does not mean that Apple's own runtime was executed.

pub mod arch;
pub mod convert;
pub mod coreml;
pub mod error;
pub mod eval;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod files;
pub mod ir;
pub mod json;
pub mod limits;
pub mod onnx;
pub mod passes;
pub mod provenance;
pub mod readers;
pub mod runtime;
pub mod source;
pub mod tensor;
pub mod verify;
