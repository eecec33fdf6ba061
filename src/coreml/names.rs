//! Identifiers of programs. Identifiers only have to be legal and unique; what a value is called in the IR is the `name` attribute of the operation
//! that gives it. Where several operations make up one value, the last one has its name; the others are called `value#step`.

use std::collections::{BTreeMap, BTreeSet};

/// Words that the textual form of programs reserves.
const RESERVED: [&str; 24] = [
    "any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string",
    "bf16", "fp16", "fp32", "fp64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "state",
];

/// Whether `name` is an identifier of programs.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@')
        && !is_reserved(name)
}

/// Whether the textual form of programs reserves the word.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Gives out unique identifiers.
#[derive(Debug, Default)]
pub(crate) struct Names {
    used: BTreeSet<String>,
    // How often a base was taken, so that finding a free one stays cheap.
    taken: BTreeMap<String, usize>,
}

impl Names {
    /// A free identifier that resembles `name`.
    pub(crate) fn identifier(&mut self, name: &str) -> String {
        let mut base: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        if !is_identifier(&base) {
            base.insert(0, '_');
        }
        let mut free = base.clone();
        let mut next = self.taken.get(&base).copied().unwrap_or(0);
        while !self.used.insert(free.clone()) {
            free = format!("{base}_{next}");
            next += 1;
        }
        self.taken.insert(base, next);
        free
    }

    /// Takes this very identifier; `false` when it is gone.
    pub(crate) fn reserve(&mut self, identifier: &str) -> bool {
        self.used.insert(identifier.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_legal_and_unique() {
        let mut names = Names::default();
        assert!(names.reserve("logits"));
        let given = [
            "model/l.0:q",
            "model_l_0_q",
            "0",
            "",
            "state",
            "é",
            "logits",
        ];
        let mut seen = BTreeSet::from(["logits".to_owned()]);
        for name in given {
            let id = names.identifier(name);
            assert!(is_identifier(&id), "{id}");
            assert!(seen.insert(id));
        }
    }
}
