//! `doctor`: which engines are here, where, which version, and how to get what is missing.

use std::fmt::Write;

use distill_convert::error::Result;
use distill_convert::limits;
use distill_convert::runtime::{self, Presence};
use serde_json::json;

use super::args::DoctorArgs;
use super::output::Answer;

pub(super) fn run(args: &DoctorArgs) -> Result<Answer> {
    let engines = runtime::engines(args.onnxruntime.as_deref());
    let mut text = format!("distill-convert {}\n", env!("CARGO_PKG_VERSION"));
    for engine in &engines {
        // Writing to a string cannot fail.
        let _ = match &engine.presence {
            Presence::Here { version, path } => {
                let path = path
                    .as_ref()
                    .map(|p| format!("  {}", p.display()))
                    .unwrap_or_default();
                writeln!(text, "  {:13} {version}{path}", engine.name)
            }
            Presence::Absent { reason } => writeln!(text, "  {:13} absent: {reason}", engine.name),
        };
        if let (Presence::Absent { .. }, Some(how)) = (&engine.presence, &engine.how_to_get) {
            let _ = writeln!(text, "                to get it: {how}");
        }
    }
    text.push_str(
        "Core ML itself runs only on Apple systems and is never executed by this program.\n",
    );
    text.push_str("\nCaps on untrusted input, to be changed with `--limit NAME=VALUE`:\n");
    let mut caps = Vec::new();
    for limit in limits::ALL {
        let value = limit.get();
        let _ = writeln!(text, "  {} = {value} {}", limit.name, limit.unit);
        let _ = writeln!(text, "      {}", limit.reason);
        caps.push(json!({
            "name": limit.name, "unit": limit.unit, "value": value, "default": limit.default,
            "most": limit.most, "reason": limit.reason,
        }));
    }
    Ok(Answer::ok(
        text,
        json!({"engines": engines, "limits": caps, "version": env!("CARGO_PKG_VERSION")}),
    ))
}
