//! `audit`: what of an artifact's statement still holds.

use std::fmt::Write;

use distill_convert::convert::{self, AuditOptions, Held};
use distill_convert::error::{Result, escape_name};
use serde_json::json;

use super::args::AuditArgs;
use super::output::{Answer, Status};

pub(super) fn run(args: &AuditArgs) -> Result<Answer> {
    let options = AuditOptions {
        statement: args.statement.clone(),
        source: args.source.clone(),
        task: args.task.clone(),
        inputs: args.inputs.clone(),
        reference: args.reference.clone(),
        verify_key: args.verify_key.clone(),
    };
    let audit = convert::audit(&args.artifact, &options)?;
    let mut text = String::new();
    for finding in &audit.findings {
        let word = match finding.held {
            Held::Holds => "holds",
            Held::Broken => "BROKEN",
            Held::NotChecked => "not checked",
        };
        let (subject, detail) = (escape_name(&finding.subject), escape_name(&finding.detail));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {word:11}  {:12}  {subject}", finding.check);
        if !detail.is_empty() {
            let _ = writeln!(text, "               {detail}");
        }
    }
    let passed = audit.passed();
    let broken = audit.findings.iter().filter(|f| f.held == Held::Broken);
    text.push_str(&if passed {
        "everything that was checked holds".to_owned()
    } else {
        format!(
            "{} of {} checks do not hold",
            broken.count(),
            audit.findings.len()
        )
    });
    let result = json!({"findings": audit.findings, "holds": passed});
    Ok(Answer {
        status: if passed { Status::Ok } else { Status::Refused },
        text,
        result,
        warnings: Vec::new(),
    })
}
