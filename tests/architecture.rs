//! Who may use whom: walks the `crate::` paths of every file. Code under `#[cfg(test)]` may use anything.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module of the library may use, beside itself. `error` and `limits` are open to all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("limits", &[]),
    // The one strict parser of JSON, for everybody.
    ("json", &[]),
    ("files", &[]),
    ("provenance", &["source", "tensor"]),
    // The only code that talks to a network; not in a default build.
    ("fetch", &["source", "files", "tensor"]),
    ("tensor", &[]),
    ("ir", &["tensor"]),
    ("source", &["tensor", "files"]),
    ("arch", &["source", "ir", "tensor"]),
    // Shape arithmetic on constants is evaluated while a graph is read.
    ("onnx", &["ir", "tensor", "eval"]),
    ("coreml", &["ir", "tensor", "files"]),
    ("eval", &["ir", "tensor"]),
    // Folding is evaluation; nothing else of `passes` needs it.
    ("passes", &["ir", "tensor", "eval"]),
    ("runtime", &["eval", "onnx", "coreml", "ir", "tensor"]),
    ("verify", &["runtime", "eval", "ir", "tensor"]),
    (
        "convert",
        &[
            "verify",
            "runtime",
            "passes",
            "onnx",
            "coreml",
            "arch",
            "source",
            "eval",
            "ir",
            "tensor",
            "files",
            "provenance",
        ],
    ),
    // A table over the readers of every room.
    (
        "readers",
        &[
            "verify",
            "onnx",
            "coreml",
            "arch",
            "source",
            "provenance",
            "tensor",
        ],
    ),
    ("lib", &[]),
];

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The file without its tests: from `#[cfg(test)]` on nothing counts.
fn product_code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The modules named after `prefix` (`crate::x`, `crate::{x, y::z}`).
fn used(code: &str, prefix: &str) -> BTreeSet<String> {
    let name = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let (mut depth, mut start) = (0, true);
                for (i, c) in list.char_indices() {
                    if start && depth == 0 && c.is_alphabetic() {
                        found.insert(name(&list[i..]));
                        start = false;
                    }
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ => {}
                    }
                }
            }
            None => {
                found.insert(name(rest));
            }
        }
    }
    found
}

fn source_files() -> (PathBuf, Vec<PathBuf>) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    assert!(all.len() > 50, "the walk found only {} files", all.len());
    (src, all)
}

#[test]
fn modules_use_only_what_they_may() {
    let (src, all) = source_files();
    let mut violations = Vec::new();
    for path in all {
        let relative = path.strip_prefix(&src).unwrap();
        let module = relative
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if module == "main" || module == "cli" {
            continue;
        }
        let allowed = ALLOWED.iter().find(|(name, _)| *name == module);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("`{module}` has no row in ALLOWED"));
        for used in used(&product_code(&path), "crate::") {
            let open = ["error", "json", "limits", module];
            let is_module = ALLOWED.iter().any(|(name, _)| *name == used);
            if is_module && !open.contains(&used.as_str()) && !allowed.contains(&used.as_str()) {
                violations.push(format!("{} uses {used}", relative.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn readers_and_writers_of_a_format_do_not_share_code_and_adapters_do_not_use_each_other() {
    let (src, all) = source_files();
    let mut violations = Vec::new();
    for path in all {
        let relative = path
            .strip_prefix(&src)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        let code = product_code(&path);
        for (inside, never) in [("/import/", "export::"), ("/export/", "import::")] {
            if relative.contains(inside) && code.contains(never) {
                violations.push(format!("{relative} uses {never}"));
            }
        }
        if let Some(adapter) = relative
            .strip_prefix("arch/adapters/")
            .filter(|name| *name != "mod.rs")
        {
            let others = used(&code, "adapters::");
            if others
                .iter()
                .any(|other| *other != adapter.trim_end_matches(".rs"))
            {
                violations.push(format!("{relative} uses {others:?}"));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn only_the_command_line_prints_and_files_stay_readable() {
    let (src, all) = source_files();
    let mut violations = Vec::new();
    for path in all {
        let relative = path
            .strip_prefix(&src)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let code = product_code(&path);
        let prints = ["println!", "eprintln!", "print!(", "eprint!("]
            .iter()
            .any(|p| code.contains(p));
        if prints && !relative.starts_with("cli") && relative != "main.rs" {
            violations.push(format!("{relative} prints"));
        }
        let text = fs::read_to_string(&path).unwrap();
        if code.lines().count() > 800 {
            violations.push(format!("{relative} has more than 800 lines"));
        }
        if !text.starts_with("//!") {
            violations.push(format!("{relative} does not say what it owns"));
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn the_walk_sees_every_form_of_a_path() {
    let code = "use crate::ir::Op; use crate::{eval::{a, b}, tensor}; crate::onnx::write();";
    let expected: BTreeSet<String> = ["ir", "eval", "tensor", "onnx"].map(str::to_owned).into();
    assert_eq!(used(code, "crate::"), expected);
}

/// The rooms that read what somebody else wrote.
const READING: [&str; 8] = [
    "src/source",
    "src/fetch",
    "src/json.rs",
    "src/provenance",
    "src/onnx",
    "src/coreml/import",
    "src/coreml/read.rs",
    "src/coreml/lint/files.rs",
];

/// Numbers in those rooms that begin like a cap and are none: what is written, what is shown.
const NO_CAPS: [&str; 1] = ["src/onnx/export"];

#[test]
fn every_cap_on_what_is_read_stands_on_the_page_of_caps() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = READING.iter().map(|p| root.join(p)).collect();
    let (mut seen, mut found) = (0, Vec::new());
    while let Some(path) = open.pop() {
        if NO_CAPS.iter().any(|p| path == root.join(p)) {
            continue;
        }
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut begin = "";
        for (i, line) in lines.iter().enumerate() {
            seen += 1;
            if line.starts_with("///") {
                if i == 0 || !lines[i - 1].starts_with("///") {
                    begin = line;
                }
                continue;
            }
            let is_constant = line.starts_with("const ") || line.contains(" const ");
            let cap = [
                "Most ", "Largest ", "Longest ", "Deepest ", "Highest ", "Deeper ",
            ];
            let says_cap = cap
                .iter()
                .any(|word| begin[3.min(begin.len())..].trim().starts_with(word));
            if is_constant && says_cap && line.contains(": u") | line.contains(": i") {
                found.push(format!("{}:{}: {line}", path.display(), i + 1));
            }
            begin = "";
        }
    }
    assert!(seen > 10_000);
    assert!(
        found.is_empty(),
        "these belong into src/limits.rs:\n{}",
        found.join("\n")
    );
}
