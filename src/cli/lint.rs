//! `lint`: what is wrong with a Core ML model as a file.

use std::collections::BTreeSet;
use std::fmt::Write;

use distill_convert::convert::Compared;
use distill_convert::coreml::{self, Severity};
use distill_convert::error::{Result, escape_name};
use serde_json::json;

use super::args::LintArgs;
use super::output::{Answer, Status};

pub(super) fn run(args: &LintArgs) -> Result<Answer> {
    let compared = Compared::of(&args.model, false)?;
    let findings = coreml::lint(&args.model)?;
    compared.still_holds()?;
    let mut text = String::new();
    let mut helped = BTreeSet::new();
    for finding in &findings.list {
        let place = &finding.place;
        let parts = [&place.function, &place.op, &place.value, &place.field];
        let parts: Vec<String> = parts
            .into_iter()
            .flatten()
            .map(|p| escape_name(p))
            .collect();
        let at = if parts.is_empty() {
            String::new()
        } else {
            format!(" {}", parts.join("/"))
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}[{}]{at}: {}",
            finding.severity.name(),
            finding.code.name(),
            finding.message,
        );
        // The way out is the same for all findings of a code.
        if helped.insert(finding.code.name()) {
            let _ = writeln!(text, "  help: {}", finding.hint);
        }
    }
    for (code, count) in &findings.unlisted {
        let _ = writeln!(text, "{count} more findings [{code}]");
    }
    let count = |severity| findings.count(severity);
    let (errors, warnings, hints) = (
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Hint),
    );
    let _ = writeln!(text, "{errors} errors, {warnings} warnings, {hints} hints");
    let mut answer = Answer::ok(
        text,
        json!({
            "errors": errors,
            "warnings": warnings,
            "hints": hints,
            "findings": findings.list,
            "unlisted": findings.unlisted,
        }),
    );
    if findings.is_unsafe() {
        answer.status = Status::Refused;
    } else if errors > 0 {
        answer.status = Status::Invalid;
    }
    Ok(answer)
}
