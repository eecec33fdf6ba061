//! Where two models differ, apart from their weight files: by the names of the values that do.

use super::proto::mil_spec::{Block, Operation};
use super::proto::model::Type;
use super::proto::{Model, mil_spec};

/// What differs between the model that was expected and the one that was found. Metadata may have been added to the latter.
pub(super) fn differences(mut expected: Model, mut found: Model) -> Vec<String> {
    let mut out = Vec::new();
    let metadata = |model: &mut Model| {
        let metadata = model.description.as_mut()?.metadata.as_mut()?;
        Some(std::mem::take(&mut metadata.user_defined))
    };
    let (stated, there) = (metadata(&mut expected), metadata(&mut found));
    let there = there.unwrap_or_default();
    for (key, value) in stated.unwrap_or_default() {
        if there.get(&key) != Some(&value) {
            out.push(format!("metadata `{key}`"));
        }
    }
    if expected == found {
        return out;
    }
    if expected.description != found.description {
        out.push("the description of inputs and outputs".to_owned());
    }
    if expected.specification_version != found.specification_version {
        out.push(format!(
            "specification {}, expected {}",
            found.specification_version, expected.specification_version
        ));
    }
    let before = out.len();
    if let (Some(Type::MlProgram(expected)), Some(Type::MlProgram(found))) =
        (&expected.r#type, &found.r#type)
    {
        for (name, function) in &expected.functions {
            match found.functions.get(name) {
                Some(other) => of_function(function, other, &mut out),
                None => out.push(format!("function `{name}` is missing")),
            }
        }
    }
    if out.len() == before {
        out.push("the program".to_owned());
    }
    out
}

fn of_function(expected: &mil_spec::Function, found: &mil_spec::Function, out: &mut Vec<String>) {
    for (opset, block) in &expected.block_specializations {
        match found.block_specializations.get(opset) {
            Some(other) => of_block(block, other, out),
            None => out.push(format!("the block for {opset} is missing")),
        }
    }
}

fn of_block(expected: &Block, found: &Block, out: &mut Vec<String>) {
    let (ours, theirs) = (&expected.operations, &found.operations);
    if ours.len() != theirs.len() {
        out.push(format!(
            "{} operations, expected {}",
            theirs.len(),
            ours.len()
        ));
    }
    let differing = ours.iter().zip(theirs).filter(|(a, b)| a != b);
    for (op, _) in differing {
        out.push(format!("`{}` ({})", name(op), op.r#type));
    }
}

/// What an operation computes.
fn name(op: &Operation) -> &str {
    op.outputs.first().map_or("", |output| output.name.as_str())
}
