//! `inspect`: what a source or an artifact holds.

use std::fmt::Write;

use distill_convert::convert;
use distill_convert::error::{Result, escape_name};
use serde_json::{Map, Value};

use super::args::InspectArgs;
use super::convert::{source_options, source_path};
use super::output::{Answer, columns};

pub(super) fn run(args: &InspectArgs) -> Result<Answer> {
    if args.mil {
        let compared = convert::Compared::of(&args.model, args.source.require_lock)?;
        let text = distill_convert::coreml::listing(&args.model)?;
        compared.still_holds()?;
        let result = serde_json::json!({"mil": text});
        return Ok(Answer::ok(text, result));
    }
    let result = convert::inspect(
        &source_path(&args.model, &args.source)?,
        &source_options(&args.source)?,
    )?;
    Ok(Answer::ok(human(&result), result))
}

/// What is looked for first comes first; whatever is not named follows.
const ORDER: &[&str] = &[
    "name",
    "architecture",
    "short_description",
    "format",
    "producer",
    "spec_version",
    "ir_version",
    "opset",
    "opsets",
    "least",
    "parameters",
    "revision",
    "inputs",
    "outputs",
    "states",
    "classifier",
    "interfaces",
    "interface_needs",
    "type_needs",
    "needs",
    "functions",
    "ops",
    "op_counts",
    "unsupported_ops",
    "weight_bytes",
    "compressed",
    "largest",
    "largest_compressed",
    "tensors",
    "initializers",
    "blobs",
    "files",
    "external_files",
    "metadata",
];

/// The columns that lead a table; the rest follow by name.
const LEADING: &[&str] = &["name", "path", "dtype", "shape", "kind", "count", "bytes"];

/// What people call some of them.
const TITLES: &[(&str, &str)] = &[
    ("interface_needs", "parts of the interface"),
    ("largest", "largest constants"),
    ("largest_compressed", "largest compressed constants"),
    ("least", "runs from"),
    ("needs", "operations"),
    ("op_counts", "operations"),
    ("ops", "operations"),
    ("type_needs", "element types"),
    ("unsupported_ops", "unsupported operations"),
];

/// Characters of what is said on one line.
const LINE: usize = 100;

/// Everything that is there, in the order in which people look for it: facts first, tables below.
fn human(result: &Value) -> String {
    let Value::Object(all) = result else {
        return inline(result);
    };
    // One function's operations are those of the model, and what they need says how many there are.
    let one = all.get("functions").and_then(Value::as_object);
    let is_counted = all.contains_key("needs") && one.is_some_and(|f| f.len() == 1);
    let said_elsewhere = |key: &str| is_counted && ["functions", "ops"].contains(&key);
    let mut entries: Vec<(&String, &Value)> = all
        .iter()
        .filter(|(key, value)| !is_empty(value) && !said_elsewhere(key))
        .collect();
    let place = |key: &str| ORDER.iter().position(|k| *k == key);
    entries.sort_by_key(|(key, _)| place(key).unwrap_or(ORDER.len()));
    let (facts, tables): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(_, v)| is_fact(v));
    let title = |key: &str| match TITLES.iter().find(|(k, _)| *k == key) {
        Some((_, title)) => (*title).to_owned(),
        None => spoken(key),
    };
    let fact = |(key, value): &(&String, &Value)| vec![title(key), inline(value)];
    let mut out = columns(&facts.iter().map(fact).collect::<Vec<_>>(), "");
    for (key, value) in tables {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "\n{}", title(key));
        out.push_str(&section(value));
    }
    out
}

/// Lists and maps of objects as tables, other maps and lists as a line for each entry.
fn section(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let rows: Vec<&Map<String, Value>> =
                items.iter().filter_map(Value::as_object).collect();
            if rows.len() == items.len() {
                return table(
                    None,
                    &rows.into_iter().map(|row| (None, row)).collect::<Vec<_>>(),
                );
            }
            columns(
                &items.iter().map(|i| vec![inline(i)]).collect::<Vec<_>>(),
                "  ",
            )
        }
        Value::Object(map) => {
            let rows: Vec<(Option<&str>, &Map<String, Value>)> = map
                .iter()
                .filter_map(|(name, row)| Some((Some(name.as_str()), row.as_object()?)))
                .collect();
            // Maps of the same few keys are rows; others, such as the operations of each function, are not.
            let is_table =
                rows.len() == map.len() && rows.iter().any(|(_, r)| r.contains_key("count"));
            if is_table {
                return table(Some(""), &rows);
            }
            let line = |(name, value): (&String, &Value)| {
                let text = inline(value);
                let lines = text.trim_end().split('\n').enumerate();
                lines
                    .map(|(i, line)| {
                        let label = if i == 0 {
                            escape_name(name)
                        } else {
                            String::new()
                        };
                        vec![label, line.to_owned()]
                    })
                    .collect::<Vec<_>>()
            };
            columns(&map.iter().flat_map(line).collect::<Vec<_>>(), "  ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            columns(&[vec![inline(value)]], "  ")
        }
    }
}

/// Objects as rows. Columns in which nothing stands are left out.
fn table(label: Option<&str>, rows: &[(Option<&str>, &Map<String, Value>)]) -> String {
    let mut keys: Vec<&String> = rows
        .iter()
        .flat_map(|(_, row)| row.iter())
        .filter(|(_, value)| !is_empty(value))
        .map(|(key, _)| key)
        .collect();
    let place = |key: &str| LEADING.iter().position(|k| *k == key);
    keys.sort_by_key(|key| (place(key).unwrap_or(LEADING.len()), *key));
    keys.dedup();
    let header = keys.iter().map(|key| spoken(key));
    let mut lines = vec![label.map(str::to_owned).into_iter().chain(header).collect()];
    for (name, row) in rows {
        let cells = keys.iter().map(|key| match row.get(*key) {
            // The shape of a scalar is an empty list, and says something.
            Some(value) if !is_empty(value) || value.is_array() => inline(value).replace('\n', " "),
            Some(_) | None => String::new(),
        });
        let line: Vec<String> = name.map(escape_name).into_iter().chain(cells).collect();
        lines.push(line);
    }
    columns(&lines, "  ")
}

/// Whether it is said in a word, not in a table.
fn is_fact(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('\n'),
        Value::Array(_) => false,
        // A count for each name is a line as long as it is short.
        Value::Object(map) => {
            !map.values().any(Value::is_object) && inline(value).chars().count() <= LINE
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// What says nothing: absent, empty, or a switch that is off.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn spoken(key: &str) -> String {
    escape_name(&key.replace('_', " "))
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
            .filter(|(_, v)| !is_empty(v))
            .map(|(key, v)| match key.as_str() {
                "type" => inline(v),
                _ => format!("{} {}", spoken(key), inline(v)),
            })
            .collect::<Vec<_>>()
            .join(", "),
        Value::Null => "none".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
