//! What the inputs and outputs of a package were called in its source, where Core ML could not take their names: chosen, written, read back, checked.

use std::collections::{BTreeMap, BTreeSet};

use super::import::ImportError;
use super::names::{Names, is_identifier};
use super::read::Package;
use crate::error::Result;
use crate::ir::{self, Function, Module};

/// The metadata key: a list of pairs, identifier and name in the source.
pub(super) const KEY: &str = "com.distill-convert.names";

/// Name → identifier, for every input and output whose name is no identifier. No two share one, and none takes a name that is kept.
pub(super) fn identifiers(function: &Function) -> BTreeMap<String, String> {
    let params = function
        .params
        .iter()
        .map(|p| &function.value(p.value).name);
    let all: Vec<&String> = params
        .chain(function.outputs.iter().map(|o| &o.name))
        .collect();
    let mut names = Names::default();
    for name in all.iter().filter(|n| is_identifier(n)) {
        names.reserve(name);
    }
    let mut given = BTreeMap::new();
    for name in all.into_iter().filter(|n| !is_identifier(n)) {
        given
            .entry(name.clone())
            .or_insert_with(|| names.identifier(name));
    }
    given
}

/// The value of the key.
pub(super) fn text(identifiers: &BTreeMap<String, String>) -> String {
    let mut pairs: Vec<(&String, &String)> = identifiers.iter().map(|(n, i)| (i, n)).collect();
    pairs.sort_unstable();
    serde_json::json!(pairs).to_string()
}

/// Identifier → name in the source, of a package with these inputs, outputs and states.
pub(super) fn parse(
    metadata: &BTreeMap<String, String>,
    features: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, ImportError> {
    let refuse = |problem: String| ImportError::Metadata { key: KEY, problem };
    let Some(text) = metadata.get(KEY) else {
        return Ok(BTreeMap::new());
    };
    let pairs: Vec<(String, String)> = serde_json::from_str(text)
        .map_err(|e| refuse(format!("expected a list of pairs of names, found {e}")))?;
    let mut names = BTreeMap::new();
    let mut sources = BTreeSet::new();
    for (identifier, source) in pairs {
        if !features.contains(identifier.as_str()) {
            return Err(refuse(format!(
                "`{identifier}` is no input, output or state of the package"
            )));
        }
        if !sources.insert(source.clone()) {
            return Err(refuse(format!("two names stand for `{source}`")));
        }
        if names.insert(identifier.clone(), source).is_some() {
            return Err(refuse(format!("`{identifier}` stands for two names")));
        }
    }
    let kept = features.iter().find(|f| {
        let mapped = names.contains_key(**f);
        !mapped && sources.contains(**f)
    });
    match kept {
        Some(name) => Err(refuse(format!("two names stand for `{name}`"))),
        None => Ok(names),
    }
}

impl Package {
    /// Identifier → name in the source, for every input, output and state that had to be called otherwise.
    ///
    /// # Errors
    /// When the record does not fit the package: an unknown name, or two names for one.
    pub fn source_names(&self) -> Result<BTreeMap<String, String>> {
        let features = self.inputs.iter().chain(&self.outputs).chain(&self.states);
        let features: BTreeSet<&str> = features.map(|f| f.name.as_str()).collect();
        Ok(parse(&self.metadata, &features)?)
    }

    /// The program, its inputs and outputs called as in the source it was made from.
    ///
    /// # Errors
    /// As [`Package::source_names`]; also when a value inside the program has such a name.
    pub fn into_source_module(self) -> Result<Module> {
        let names = self.source_names()?;
        let mut module = self.module;
        if names.is_empty() {
            return Ok(module);
        }
        let rename = |name: &mut String| {
            if let Some(source) = names.get(name) {
                name.clone_from(source);
            }
        };
        if let Some(function) = module.functions.first_mut() {
            for param in &function.params {
                if let Some(value) = function.values.get_mut(param.value.index()) {
                    rename(&mut value.name);
                }
            }
            for output in &mut function.outputs {
                rename(&mut output.name);
            }
            for state in &mut function.states {
                rename(&mut state.output);
            }
        }
        ir::verify(&module)?;
        Ok(module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(KEY.to_owned(), text.to_owned())])
    }

    #[test]
    fn a_record_that_does_not_fit_is_refused() {
        let features = BTreeSet::from(["_463", "x_y", "x"]);
        let parse = |text: &str| super::parse(&record(text), &features);
        let good = parse(r#"[["_463","463"],["x_y","x/y"]]"#).unwrap();
        assert_eq!(good["_463"], "463");
        for (bad, why) in [
            (r#"[["y","463"]]"#, "`y` is no input"),
            (r#"[["_463","a"],["x_y","a"]]"#, "two names stand for `a`"),
            (r#"[["_463","a"],["_463","b"]]"#, "stands for two names"),
            (r#"[["_463","x"]]"#, "two names stand for `x`"),
            (r#"{"_463":"463"}"#, "list of pairs"),
            ("[[1,2]]", "list of pairs"),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(
            super::parse(&BTreeMap::new(), &features)
                .unwrap()
                .is_empty()
        );
    }
}
