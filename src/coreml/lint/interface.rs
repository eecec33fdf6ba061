//! What interfaces may have: features of later versions, states, ranges without an end, and the labels of classifiers.

use super::program::{is_state, name_of, shape_of, tensor_type};
use super::{Code, Findings, Spot};
use crate::coreml::dtype::mil_name;
use crate::coreml::interface::{self, FeatureKind, Flexibility};
use crate::coreml::needs;
use crate::coreml::proto::mil_spec::argument::binding;
use crate::coreml::proto::mil_spec::value::Value as Source;
use crate::coreml::proto::mil_spec::value::immediate_value::Value as Immediate;
use crate::coreml::proto::mil_spec::{Block, DataType, Function, Operation, Program};
use crate::coreml::proto::{Model, ModelDescription};
use crate::tensor::num;

/// Looks at the description, and at the states and labels of every function.
pub(super) fn check(model: &Model, program: &Program, findings: &mut Findings) {
    let Some(description) = &model.description else {
        return;
    };
    let found = model.specification_version;
    for (what, (opset, names)) in needs::of_interface(description) {
        let needed = opset.spec_version();
        // An unknown version is a finding of its own.
        if needed > found && (6..=10).contains(&found) {
            for name in names {
                let message =
                    format!("`{name}`: {what} needs specification version {needed}, found {found}");
                findings.add(Code::InterfaceNewer, feature(&name), message);
            }
        }
    }
    unbounded(description, findings);
    for (name, function) in &program.functions {
        states(name, function, findings);
        for block in function.block_specializations.values() {
            labels(name, block, description, findings);
        }
    }
}

fn feature(name: &str) -> Spot {
    Spot {
        value: Some(name.to_owned()),
        ..Spot::default()
    }
}

/// Arrays whose shapes have no upper bound. Of images, outputs have none.
fn unbounded(description: &ModelDescription, findings: &mut Findings) {
    let inner = description.functions.iter().flat_map(|f| &f.input);
    for input in description.input.iter().chain(inner) {
        let Ok(read) = interface::feature(input) else {
            continue;
        };
        if let FeatureKind::MultiArray {
            flexibility: Flexibility::Range { sizes },
            ..
        } = &read.kind
            && let Some(axis) = sizes.iter().position(|r| r.max.is_none())
        {
            let message = format!("axis {axis} of `{}` has no upper bound", read.name);
            findings.add(Code::DescriptionUnbounded, feature(&read.name), message);
        }
    }
}

fn states(name: &str, function: &Function, findings: &mut Findings) {
    let states = function
        .inputs
        .iter()
        .filter(|i| is_state(i.r#type.as_ref()));
    for state in states {
        let Some(ty) = tensor_type(state.r#type.as_ref()) else {
            continue;
        };
        if ty.data_type() != DataType::Float16 || shape_of(ty).is_none() {
            let spot = Spot {
                function: Some(name.to_owned()),
                ..feature(&state.name)
            };
            let shape = shape_of(ty).map_or("an unknown shape".to_owned(), |s| format!("{s:?}"));
            let message = format!(
                "the state `{}` is {} of {shape}",
                state.name,
                mil_name(ty.data_type())
            );
            findings.add(Code::StateType, spot, message);
        }
    }
}

/// The labels of a classifier, and what the description calls its results.
fn labels(name: &str, block: &Block, description: &ModelDescription, findings: &mut Findings) {
    let own = description.functions.iter().find(|f| f.name == name);
    let (label, probabilities) = match own {
        Some(f) => (&f.predicted_feature_name, &f.predicted_probabilities_name),
        None => (
            &description.predicted_feature_name,
            &description.predicted_probabilities_name,
        ),
    };
    let spot = |op: &Operation, field: &str| Spot {
        function: Some(name.to_owned()),
        op: Some(op.r#type.clone()),
        value: Some(name_of(op).to_owned()),
        field: Some(field.to_owned()),
    };
    let classify = block.operations.iter().find(|op| op.r#type == "classify");
    let Some(op) = classify else {
        return;
    };
    let results: Vec<&str> = op.outputs.iter().map(|o| o.name.as_str()).collect();
    for (i, (field, described)) in [
        ("predictedFeatureName", label),
        ("predictedProbabilitiesName", probabilities),
    ]
    .into_iter()
    .enumerate()
    {
        let expected = results.get(i).copied().unwrap_or_default();
        // That of the probabilities may be left out.
        if described != expected && !(i == 1 && described.is_empty()) {
            let message = format!("`{expected}` expected, found `{described}`");
            findings.add(Code::ClassifierNames, spot(op, field), message);
        }
    }
    let given = |param: &str| {
        let argument = op.inputs.get(param)?;
        argument.arguments.first()?.binding.as_ref()
    };
    let count = match given("classes") {
        Some(binding::Binding::Value(value)) => match &value.value {
            Some(Source::ImmediateValue(immediate)) => match &immediate.value {
                Some(Immediate::List(list)) => Some(num::u64_of(list.values.len())),
                Some(Immediate::Tensor(_) | Immediate::Tuple(_) | Immediate::Dictionary(_))
                | None => None,
            },
            Some(Source::BlobFileValue(_)) | None => None,
        },
        Some(binding::Binding::Name(_)) | None => None,
    };
    let mut operations = block.operations.iter().flat_map(|op| &op.outputs);
    let shape = match given("probabilities") {
        Some(binding::Binding::Name(id)) => operations
            .find(|o| o.name == *id)
            .and_then(|o| tensor_type(o.r#type.as_ref()))
            .filter(|ty| ty.rank >= 0)
            .and_then(shape_of),
        Some(binding::Binding::Value(_)) | None => None,
    };
    let elements = shape.map(|s| s.into_iter().fold(1, u64::saturating_mul));
    if let (Some(count), Some(elements)) = (count, elements)
        && count != elements
    {
        let message = format!("{count} labels for {elements} probabilities");
        findings.add(Code::ClassifierLabels, spot(op, "classes"), message);
    }
}
