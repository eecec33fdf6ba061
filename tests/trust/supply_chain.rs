//! What comes with the program: licences, sources, duplicates, and that a default build has no network code. The rules are those of
//! deny.toml, enforced here because cargo-deny is not on every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::common::root;

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Every package that any feature on any system can bring.
fn packages() -> Vec<Value> {
    let text = cargo(&[
        "metadata",
        "--locked",
        "--all-features",
        "--format-version",
        "1",
    ]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 100);
    packages
        .into_iter()
        .filter(|p| p["name"] != "distill-convert")
        .collect()
}

fn rules() -> toml::Table {
    fs::read_to_string(root().join("deny.toml"))
        .unwrap()
        .parse()
        .unwrap()
}

fn names(list: &toml::Value) -> BTreeSet<String> {
    let name = |item: &toml::Value| match item.as_str() {
        Some(text) => text.to_owned(),
        None => item["name"].as_str().unwrap().to_owned(),
    };
    list.as_array().unwrap().iter().map(name).collect()
}

fn text(package: &Value, key: &str) -> String {
    package[key].as_str().unwrap_or_default().to_owned()
}

/// Whether a licence expression can be met with the allowed ones. `/` is the old way to write `OR`.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut depth = 0;
    let mut words = vec![String::new()];
    // Splits at a word outside of parentheses.
    let mut split = |word: &str| -> Option<Vec<String>> {
        words = vec![String::new()];
        for token in expression
            .replace('(', " ( ")
            .replace(')', " ) ")
            .split_whitespace()
        {
            match token {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            if token == word && depth == 0 {
                words.push(String::new());
            } else {
                let last = words.last_mut().unwrap();
                last.push_str(token);
                last.push(' ');
            }
        }
        (words.len() > 1).then(|| words.clone())
    };
    if let Some(all) = split("AND") {
        return all.iter().all(|part| is_met(part, allowed));
    }
    if let Some(any) = split("OR") {
        return any.iter().any(|part| is_met(part, allowed));
    }
    let one = expression.trim();
    match one
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
    {
        Some(inner) => is_met(inner, allowed),
        None => allowed.contains(one),
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed: BTreeSet<String> = ["MIT", "Unicode-3.0"].map(str::to_owned).into();
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "(MIT)",
    ] {
        assert!(is_met(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(GPL-3.0 OR X) AND MIT",
        "MIT WITH X",
    ] {
        assert!(!is_met(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_licence_is_allowed_and_every_source_is_the_registry() {
    let rules = rules();
    let allowed = names(&rules["licenses"]["allow"]);
    let mut wrong = Vec::new();
    for package in packages() {
        let (name, licence) = (text(&package, "name"), text(&package, "license"));
        if !is_met(&licence, &allowed) {
            wrong.push(format!("{name}: licence `{licence}`"));
        }
        let source = text(&package, "source");
        if source != "registry+https://github.com/rust-lang/crates.io-index" {
            wrong.push(format!("{name}: source `{source}`"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_banned_and_no_unlisted_duplicate_comes_along() {
    let rules = rules();
    let banned = names(&rules["bans"]["deny"]);
    let listed = names(&rules["bans"]["skip"]);
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let name = text(&package, "name");
        assert!(!banned.contains(&name), "{name} is banned");
        versions
            .entry(name)
            .or_default()
            .insert(text(&package, "version"));
    }
    let twice: BTreeSet<String> = versions
        .into_iter()
        .filter(|(_, v)| v.len() > 1)
        .map(|(name, _)| name)
        .collect();
    let unlisted: Vec<&String> = twice.difference(&listed).collect();
    assert!(
        unlisted.is_empty(),
        "in several versions, and not in deny.toml: {unlisted:?}"
    );
    let stale: Vec<&String> = listed.difference(&twice).collect();
    assert!(
        stale.is_empty(),
        "listed in deny.toml, but in one version only: {stale:?}"
    );
}

#[test]
fn a_default_build_has_no_network_code() {
    let tree = |features: &[&str]| -> BTreeSet<String> {
        let mut arguments = vec![
            "tree", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}",
        ];
        arguments.extend(features);
        let text = cargo(&arguments);
        text.lines()
            .filter_map(|l| l.split(' ').next())
            .map(str::to_owned)
            .collect()
    };
    let network = [
        "ureq",
        "rustls",
        "ring",
        "webpki-roots",
        "native-tls",
        "http",
        "hyper",
        "reqwest",
        "tokio",
        "curl",
        "socket2",
        "mio",
    ];
    let default = tree(&[]);
    assert!(default.len() > 50);
    let found: Vec<&&str> = network.iter().filter(|n| default.contains(**n)).collect();
    assert!(found.is_empty(), "{found:?}");
    // The same question finds it where it is.
    let with = tree(&["--features", "fetch"]);
    assert!(with.contains("ureq") && with.contains("rustls"));
}

/// This suite may have been built with the feature; then the answer is another test's.
#[cfg(not(feature = "fetch"))]
#[test]
fn fetch_without_its_feature_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let (code, document) = crate::common::run_json(folder.path(), &["fetch", "gpt2@main"]);
    assert_eq!(code, 2, "{document:#}");
    assert_eq!(document["error"]["code"], "feature_absent");
    assert!(
        document["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("--features fetch")
    );
}

#[test]
fn unsafe_code_is_forbidden() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        manifest["lints"]["rust"]["unsafe_code"].as_str(),
        Some("forbid")
    );
    // Nobody switches it off again.
    let mut open = vec![root().join("src")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains("allow(unsafe_code"), "{}", path.display());
        }
    }
}

#[test]
fn a_default_build_has_only_the_features_that_are_named() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let features = manifest["features"].as_table().unwrap();
    assert!(!names(&features["default"]).contains("fetch"));
    let dependencies = manifest["dependencies"].as_table().unwrap();
    // Dependencies with C code, a network or a terminal in their defaults are trimmed.
    for name in [
        "ed25519-dalek",
        "indicatif",
        "ort",
        "sha1",
        "tokenizers",
        "ureq",
        "zip",
    ] {
        assert_eq!(
            dependencies[name]["default-features"].as_bool(),
            Some(false),
            "{name}"
        );
    }
}
