//! All of ONNX: proto, file and external data, import, export, op versions, names.

/// The generated messages. Their schema, and what it leaves out, is in `proto/`.
#[allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::all,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm
)]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}
