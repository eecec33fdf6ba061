//! Other people's test cases: read, run, compared with what their authors expect.

mod contrib;
pub(crate) mod coreml;
mod mil;
mod onnx;
mod ranks;
mod versions;
