//! The generated messages. Their schema, and what it leaves out, is in `proto/`.

// Generated code follows no lint of ours.
#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::all,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm
)]

include!(concat!(env!("OUT_DIR"), "/core_ml.specification.rs"));

/// The messages of the program.
pub(crate) mod mil_spec {
    include!(concat!(
        env!("OUT_DIR"),
        "/core_ml.specification.mil_spec.rs"
    ));
}
