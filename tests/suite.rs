//! All integration tests, in one binary so that the engines are linked once.

// Clippy's switch for tests knows `#[test]` functions, not the helpers that they share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::type_complexity,
    clippy::wildcard_enum_match_arm,
    unreachable_pub
)]

mod architecture;
mod cli;
mod common;
mod compressed;
mod configs;
mod conformance;
mod coreml;
mod coreml_ops;
mod damaged;
mod dynamic;
mod end_to_end;
mod hostile;
mod look;
#[cfg(feature = "ort")]
mod models;
mod mutation;
#[cfg(feature = "tract")]
mod names;
#[cfg(all(feature = "tract", feature = "ort"))]
mod onnx;
#[cfg(all(feature = "tract", feature = "ort"))]
mod onnx_ops;
mod published;
#[cfg(feature = "tract")]
mod reading;
mod reference;
mod shaped;
mod torch;
mod trust;
#[cfg(feature = "tract")]
mod types;
mod verify;
