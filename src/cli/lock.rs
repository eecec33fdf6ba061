//! `lock`: writes or checks the lock file of a model folder.

use std::fmt::Write;

use distill_convert::error::Result;
use distill_convert::source::lock::{self, Identity, Status as FileStatus, Written};
use serde_json::json;

use super::args::LockArgs;
use super::output::{Answer, Status, bytes};

pub(super) fn run(args: &LockArgs) -> Result<Answer> {
    if args.check { check(args) } else { write(args) }
}

fn write(args: &LockArgs) -> Result<Answer> {
    let identity = Identity {
        repo: args.repo.clone(),
        revision: args.revision.clone(),
    };
    let Written { lock, notes } = lock::write(&args.model, &identity, &|_| {})?;
    let total = lock.files.values().map(|f| f.size).sum();
    let mut text = format!("locked {} files, {}", lock.files.len(), bytes(total));
    if let (Some(repo), Some(revision)) = (&lock.repo, &lock.revision) {
        text += &format!(", of {repo}@{revision}");
    }
    Ok(Answer {
        status: Status::Ok,
        text,
        result: serde_json::to_value(&lock).unwrap_or_default(),
        warnings: notes,
    })
}

fn check(args: &LockArgs) -> Result<Answer> {
    let report = lock::check(&args.model, &|_| {})?;
    let mut text = String::new();
    for (path, status) in report.files.iter().filter(|(_, s)| **s != FileStatus::Ok) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{path}: {status}");
    }
    let ok = report.is_ok();
    let count = report.files.len();
    text.push_str(&if ok {
        format!("all {count} files are as locked")
    } else {
        "the folder differs from its lock".into()
    });
    let status = if ok { Status::Ok } else { Status::Refused };
    Ok(Answer {
        status,
        text,
        result: json!({"files": report.files, "matches": ok}),
        warnings: Vec::new(),
    })
}
