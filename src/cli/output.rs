//! Answers: text for people, or exactly one JSON document, and the exit code.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind as UsageKind;
use distill_convert::error::{Class, Error, Result, escape, is_unprintable};
use serde_json::{Value, json};

/// Version of the JSON document's layout.
const SCHEMA_VERSION: u32 = 1;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Done, and within tolerance where something was compared.
    Ok,
    /// Done, but a comparison failed or could not run.
    NotVerified,
    /// Done, but what was looked at is wrong.
    Invalid,
    /// Done, but what was checked does not hold.
    Refused,
}

/// What a command has to say.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    /// For people.
    pub(crate) text: String,
    /// For machines; keys are sorted when printed.
    pub(crate) result: Value,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn ok(text: String, result: Value) -> Self {
        Answer {
            status: Status::Ok,
            text,
            result,
            warnings: Vec::new(),
        }
    }
}

/// Rows of cells as lines, every column but the last as wide as its widest cell.
pub(super) fn columns(rows: &[Vec<String>], indent: &str) -> String {
    let width = |cell: &String| cell.chars().count();
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells.map(|(cell, &n)| format!("{cell:n$}")).collect();
        format!("{indent}{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::NotVerified => "verification_failed",
            Status::Invalid => "invalid",
            Status::Refused => "refused",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Status::Ok => 0,
            Status::NotVerified => Class::Verification.exit_code(),
            Status::Invalid => Class::Invalid.exit_code(),
            Status::Refused => Class::Unsafe.exit_code(),
        }
    }
}

/// Prints the answer or the error and gives the exit code.
pub(crate) fn finish(command: &str, json: bool, answer: Result<Answer>) -> ExitCode {
    let (code, printed) = match answer {
        Ok(answer) => {
            let printed = if json {
                print(&document(
                    command,
                    answer.status.name(),
                    answer.result,
                    &answer.warnings,
                    Value::Null,
                ))
            } else {
                for warning in &answer.warnings {
                    complain("warning", warning, None);
                }
                print(&escape(answer.text.trim_end()))
            };
            (answer.status.exit_code(), printed)
        }
        Err(error) => {
            let printed = if json {
                print(&document(
                    command,
                    "error",
                    Value::Null,
                    &[],
                    describe(&error),
                ))
            } else {
                complain("error", &error.to_string(), error.hint().as_deref());
                Ok(())
            };
            (error.class().exit_code(), printed)
        }
    };
    ExitCode::from(told(code, printed))
}

/// The exit code, unless what there was to say could not be said: then it is no success.
fn told(code: u8, printed: std::io::Result<()>) -> u8 {
    let Err(error) = printed else {
        return code;
    };
    complain(
        "error",
        &format!("cannot write to the standard output: {error}"),
        None,
    );
    if code == 0 {
        Class::Io.exit_code()
    } else {
        code
    }
}

/// Prints a usage error, or the help or version that was asked for.
pub(crate) fn usage(error: &clap::Error, json: bool) -> ExitCode {
    let asked = matches!(
        error.kind(),
        UsageKind::DisplayHelp | UsageKind::DisplayVersion
    );
    if asked || !json {
        // A closed pipe is no reason for another exit code.
        let _ = error.print();
    } else {
        let message = error.render().to_string();
        let hint = "see `distill-convert --help`";
        let details = json!({"code": "usage", "message": message.trim(), "hint": hint});
        let printed = print(&document("", "error", Value::Null, &[], details));
        return ExitCode::from(told(Class::Usage.exit_code(), printed));
    }
    ExitCode::from(if asked { 0 } else { Class::Usage.exit_code() })
}

fn describe(error: &Error) -> Value {
    let place = &error.place;
    json!({
        "code": error.code(),
        "message": error.to_string(),
        "hint": error.hint(),
        "file": place.file.as_ref().map(|f| f.display().to_string()),
        "byte_offset": place.offset,
        "tensor": place.tensor,
        "node": place.node,
        "pass": place.pass,
    })
}

fn document(
    command: &str,
    status: &str,
    result: Value,
    warnings: &[String],
    error: Value,
) -> String {
    // serde_json's map sorts its keys.
    let document = json!({
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "status": status,
        "result": result,
        "warnings": warnings,
        "error": error,
    });
    escape_json(&format!("{document:#}"))
}

/// JSON leaves the control characters above 127 and the marks that turn text around as they are; a terminal acts on them. They can only
/// stand inside strings, where an escape means the same.
fn escape_json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        if c != '\n' && is_unprintable(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // A closed pipe (`| head`) is not an error of ours.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn complain(kind: &str, message: &str, hint: Option<&str>) {
    let mut stderr = std::io::stderr().lock();
    let (on, off) = match (stderr.is_terminal(), kind) {
        (false, _) => ("", ""),
        (true, "error") => ("\u{1b}[1;31m", "\u{1b}[0m"),
        (true, _) => ("\u{1b}[1;33m", "\u{1b}[0m"),
    };
    let _ = writeln!(stderr, "{on}{kind}{off}: {}", indented(message));
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "  help: {}", indented(hint));
    }
}

/// Text that may quote a file: escaped, and no line but the first at the margin, where only lines of ours stand.
fn indented(text: &str) -> String {
    escape(text).replace('\n', "\n    ")
}

/// Bytes in units people read: `1.25 MB`.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = distill_convert::tensor::num::f64_of_u64(n);
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n} B")
    } else {
        format!("{value:.2} {}", units[unit])
    }
}
