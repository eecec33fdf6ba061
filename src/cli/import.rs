//! `import`: a PyTorch checkpoint (or any model folder) as verified safetensors.

use std::fmt::Write;

use distill_convert::convert;
use distill_convert::error::Result;

use super::args::ImportArgs;
use super::output::{Answer, Status, bytes};

pub(super) fn run(args: &ImportArgs) -> Result<Answer> {
    let imported = convert::import(
        &args.checkpoint,
        &args.output,
        args.config.as_deref(),
        &|_| {},
    )?;
    let mut text = format!(
        "imported {} tensors, {}, into {}\n",
        imported.tensors,
        bytes(imported.weight_bytes),
        args.output.display()
    );
    for (path, entry) in &imported.lock.files {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{path}: {}, sha256 {}",
            bytes(entry.size),
            entry.sha256
        );
    }
    Ok(Answer {
        status: Status::Ok,
        text: text.trim_end().to_owned(),
        result: serde_json::to_value(&imported).unwrap_or_default(),
        warnings: imported.notes,
    })
}
