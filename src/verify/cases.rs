//! Cases from files: what belongs to a case, and what is left aside.

use std::collections::{BTreeMap, BTreeSet};

use super::error::VerifyError;
use crate::error::Result;
use crate::runtime::NamedTensors;

/// A case of a file.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// `case0`, or `inputs` for a file of plain names.
    pub name: String,
    /// Inputs.
    pub inputs: NamedTensors,
    /// Outputs; empty for a file of inputs.
    pub outputs: NamedTensors,
}

/// The cases of a file.
#[derive(Clone, Debug, Default)]
pub struct Cases {
    /// The cases, in the order of their numbers.
    pub cases: Vec<Case>,
    /// Prefixes of other entries, such as `decode`, that were left aside.
    pub ignored: Vec<String>,
}

/// The number and the rest of `case<number>.<rest>`.
fn case_key(key: &str) -> Option<(u64, &str)> {
    let (head, rest) = key.split_once('.')?;
    Some((head.strip_prefix("case")?.parse().ok()?, rest))
}

fn split(tensors: &NamedTensors) -> Result<Cases, VerifyError> {
    let mut cases: BTreeMap<u64, Case> = BTreeMap::new();
    let mut ignored = BTreeSet::new();
    for (key, tensor) in tensors {
        let Some((number, rest)) = case_key(key) else {
            let prefix = key.split_once('.').map_or(key.as_str(), |(head, _)| head);
            ignored.insert(prefix.to_owned());
            continue;
        };
        let case = cases.entry(number).or_default();
        case.name = format!("case{number}");
        let (map, name) = match rest.split_once('.') {
            Some(("input", name)) if !name.is_empty() => (&mut case.inputs, name),
            Some(("output", name)) if !name.is_empty() => (&mut case.outputs, name),
            Some(_) | None => return Err(VerifyError::BadKey { key: key.clone() }),
        };
        map.insert(name.to_owned(), tensor.clone());
    }
    Ok(Cases {
        cases: cases.into_values().collect(),
        ignored: ignored.into_iter().collect(),
    })
}

/// The cases of a reference file: `caseN.input.<name>` and `caseN.output.<name>`.
///
/// # Errors
/// When there is no case, or one without inputs or outputs.
pub fn reference_cases(tensors: &NamedTensors) -> Result<Cases> {
    let cases = split(tensors)?;
    if cases.cases.is_empty() {
        return Err(VerifyError::NoCases {
            what: "the reference file",
            alternative: "",
        }
        .into());
    }
    for case in &cases.cases {
        for (map, missing) in [(&case.inputs, "inputs"), (&case.outputs, "outputs")] {
            if map.is_empty() {
                return Err(VerifyError::IncompleteCase {
                    case: case.name.clone(),
                    missing,
                }
                .into());
            }
        }
    }
    Ok(cases)
}

/// The cases of a file of inputs: `caseN.input.<name>`, or the plain names of one case. Outputs in it are not used.
///
/// # Errors
/// When there is no case, or one without inputs.
pub fn input_cases(tensors: &NamedTensors) -> Result<Cases> {
    if tensors.is_empty() {
        return Err(VerifyError::NoCases {
            what: "the file of inputs",
            alternative: " and no plain name",
        }
        .into());
    }
    if !tensors.keys().any(|key| case_key(key).is_some()) {
        return Ok(Cases {
            cases: vec![Case {
                name: "inputs".into(),
                inputs: tensors.clone(),
                outputs: NamedTensors::new(),
            }],
            ignored: Vec::new(),
        });
    }
    let mut cases = split(tensors)?;
    for case in &mut cases.cases {
        case.outputs.clear();
        if case.inputs.is_empty() {
            return Err(VerifyError::IncompleteCase {
                case: case.name.clone(),
                missing: "inputs",
            }
            .into());
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    #[test]
    fn files_are_split_into_cases() {
        let x = Tensor::i64(vec![1], vec![1]).unwrap();
        let file = |keys: &[&str]| -> NamedTensors {
            keys.iter().map(|k| ((*k).to_owned(), x.clone())).collect()
        };
        let cases = reference_cases(&file(&[
            "case10.input.a",
            "case10.output.y.z",
            "case2.input.a",
            "case2.output.y",
            "decode.input.a",
        ]))
        .unwrap();
        let names: Vec<&str> = cases.cases.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["case2", "case10"]);
        assert!(cases.cases[1].outputs.contains_key("y.z"));
        assert_eq!(cases.ignored, ["decode"]);
        for bad in [
            file(&["decode.input.a"]),
            file(&["case0.input.a"]),
            file(&["case0.output.a"]),
            file(&["case0.inputs.a"]),
            file(&[]),
        ] {
            assert!(reference_cases(&bad).is_err());
        }
        assert_eq!(input_cases(&file(&["a"])).unwrap().cases[0].name, "inputs");
        assert_eq!(
            input_cases(&file(&["case0.input.a"])).unwrap().cases[0].name,
            "case0"
        );
        assert!(input_cases(&file(&[])).is_err());
        assert!(input_cases(&file(&["case0.output.a"])).is_err());
    }
}
