//! `inspect`: what a source or an artifact holds.

use std::fmt::Write;

use distill_convert::convert;
use distill_convert::error::{Result, escape_name};
use serde_json::Value;

use super::args::InspectArgs;
use super::convert::{source_options, source_path};
use super::output::Answer;

pub(super) fn run(args: &InspectArgs) -> Result<Answer> {
    if args.mil {
        let text = distill_convert::coreml::listing(&args.model)?;
        let result = serde_json::json!({"mil": text});
        return Ok(Answer::ok(text, result));
    }
    let result = convert::inspect(
        &source_path(&args.model, &args.source)?,
        &source_options(&args.source)?,
    )?;
    let mut text = String::new();
    render(&mut text, &result, 0);
    Ok(Answer::ok(text, result))
}

/// A JSON value as indented lines: one per entry, small lists and objects on one line.
fn render(out: &mut String, value: &Value, depth: usize) {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                entry(
                    out,
                    &pad,
                    &escape_name(&key.replace('_', " ")),
                    value,
                    depth,
                );
            }
        }
        Value::Array(items) => {
            for item in items {
                entry(out, &pad, "-", item, depth);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            // Writing to a string cannot fail.
            let text = inline(value).replace('\n', &format!("\n{pad}"));
            let _ = writeln!(out, "{pad}{text}");
        }
    }
}

fn entry(out: &mut String, pad: &str, label: &str, value: &Value, depth: usize) {
    let line = inline(value);
    // Writing to a string cannot fail.
    if line.chars().count() <= 100 && !line.contains('\n') {
        let _ = writeln!(out, "{pad}{label}: {line}");
    } else {
        let _ = writeln!(out, "{pad}{label}:");
        render(out, value, depth + 1);
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(inline).collect::<Vec<_>>().join(", ")
        ),
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| format!("{} {}", escape_name(&k.replace('_', " ")), inline(v)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Null => "none".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
