//! Compiles the protos of the wire formats we speak, without `protoc`.

// Cargo is spoken to on standard output.
#![allow(clippy::print_stdout)]

use std::error::Error;

/// Every proto, relative to `proto/`; imports among them are written the same way (`import "onnx/onnx.proto";`).
const PROTOS: &[&str] = &["onnx/onnx.proto", "coreml/model.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    prost_build::Config::new()
        // `Bytes` share the buffer they were parsed from; ordered maps give the same bytes every time.
        .bytes(["."])
        .btree_map(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
