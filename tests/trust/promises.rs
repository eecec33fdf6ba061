//! SECURITY.md names a test for every promise; here it is seen that they exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::root;

/// `module::name` of every function that is a test, with its file's name as the module, or the folder's for `mod.rs` and `tests.rs`.
fn tests(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, into);
            continue;
        }
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let module = if ["mod", "tests"].contains(&stem) {
            path.parent()
                .unwrap()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
        } else {
            stem
        };
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ")
                && std::mem::take(&mut is_test)
            {
                let name = rest.split('(').next().unwrap();
                into.insert(format!("{module}::{name}"));
            }
        }
    }
}

#[test]
fn every_test_that_security_md_names_exists() {
    let mut known = BTreeSet::new();
    tests(&root().join("src"), &mut known);
    tests(&root().join("tests"), &mut known);
    assert!(known.len() > 200, "{}", known.len());
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let rows: Vec<&str> = text
        .lines()
        .skip_while(|l| !l.starts_with("| An attacker"))
        .skip(2)
        .take_while(|l| l.starts_with('|'))
        .collect();
    assert!(rows.len() >= 20, "only {} rows", rows.len());
    for row in rows {
        let column = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let named: Vec<&str> = column.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test in: {row}");
        for name in named {
            assert!(known.contains(name), "`{name}` is not a test: {row}");
        }
    }
}
