//! What lies behind the readers: the module of a damaged model that is still sound is cleaned up, run on its probes, rounded to half precision,
//! written as ONNX and as Core ML, and what was written is read back. The fuzz targets share it.

use std::fs;
use std::path::Path;

use distill_convert::coreml::{self, DeploymentTarget, RmsNormForm};
use distill_convert::error::Result;
use distill_convert::ir::Module;
use distill_convert::passes::{self, Islands};
use distill_convert::readers::Reader;
use distill_convert::{limits, onnx, verify};

/// As rows of [`distill_convert::readers`].
pub const ALL: &[Reader] = &[
    Reader {
        name: "conversion_of_onnx",
        read: |folder, bytes| {
            let read = onnx::read_bytes(bytes, folder, &onnx::ReadOptions::default())?;
            all(&read.module, folder)
        },
    },
    Reader {
        name: "conversion_of_coreml",
        read: |folder, bytes| {
            let path = folder.join("source.mlmodel");
            let _ = fs::remove_file(&path);
            fs::write(&path, bytes).unwrap();
            all(&coreml::read(&path)?.module, folder)
        },
    },
];

/// Each on its own: that one refuses does not keep the others from being tried.
fn all(module: &Module, folder: &Path) -> Result<()> {
    // The interpreter takes what it is allowed; the bound of the test is 1 GB.
    limits::set_memory(256 << 20).unwrap();
    let (clean, _) = passes::clean(module)?;
    // Its indices and divisors are random then: that it refuses them says nothing about the file. A loop takes the time that it asks for.
    if module.bodies.is_empty() {
        drop(verify::beyond_f16(&clean, 4).map_err(|e| e.to_string()));
    }
    let half = passes::precision(&clean, &Islands::default()).map(|(half, _)| half);
    let onnx = onnx_and_back(&clean, folder);
    let coreml = match half {
        Ok(half) => coreml_and_back(&half, folder),
        Err(error) => Err(error),
    };
    onnx?;
    coreml
}

fn onnx_and_back(module: &Module, folder: &Path) -> Result<()> {
    let path = folder.join("behind.onnx");
    let _ = fs::remove_file(&path);
    onnx::write(module, &path, &onnx::WriteOptions::default())?;
    onnx::read(&path, &onnx::ReadOptions::default()).map(|_| ())
}

fn coreml_and_back(module: &Module, folder: &Path) -> Result<()> {
    let path = folder.join("behind.mlpackage");
    let _ = fs::remove_dir_all(&path);
    let options = coreml::WriteOptions {
        deployment_target: DeploymentTarget::default(),
        explicit_target: false,
        rms_norm: RmsNormForm::default(),
        expand_weights: false,
        progress: None,
    };
    coreml::write(module, &path, &options)?;
    coreml::read(&path).map(|_| ())
}
