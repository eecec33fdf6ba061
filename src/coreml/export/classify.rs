//! The end of a classifier: its last operation, which gives the label with the highest probability and all probabilities by their labels.

use std::collections::BTreeMap;

use super::emit::{Emitter, Var};
use super::value;
use crate::coreml::error::CoremlError;
use crate::coreml::interface::Classifier;
use crate::coreml::proto::mil_spec::argument::{Binding, binding};
use crate::coreml::proto::mil_spec::value::{ImmediateValue, Value as Source, immediate_value};
use crate::coreml::proto::mil_spec::{
    Argument, DataType, DictionaryType, Dimension, ListType, ListValue, Operation, Value,
    ValueType, dimension, value_type,
};
use crate::error::Result;
use crate::tensor::{DType, num};

impl Emitter<'_> {
    /// Adds the operation after the one that gives the probabilities.
    ///
    /// # Errors
    /// When the labels are not whole numbers that they should be.
    pub(super) fn classify(&mut self, classifier: &Classifier, probabilities: &Var) -> Result<()> {
        let probabilities = if probabilities.ty.dtype == DType::F32 {
            probabilities.clone()
        } else {
            self.in_single(probabilities)
        };
        let element = if classifier.integers {
            DataType::Int64
        } else {
            DataType::String
        };
        let scalar = |dtype| value::scalar_type(dtype);
        let dictionary = ValueType {
            r#type: Some(value_type::Type::DictionaryType(Box::new(DictionaryType {
                key_type: Some(Box::new(scalar(element))),
                value_type: Some(Box::new(scalar(DataType::Float64))),
            }))),
        };
        let inputs = BTreeMap::from([
            (
                "probabilities".to_owned(),
                argument(binding::Binding::Name(probabilities.id)),
            ),
            (
                "classes".to_owned(),
                argument(binding::Binding::Value(labels(classifier)?)),
            ),
        ]);
        let name = format!("{}#classify", classifier.label);
        self.operations.push(Operation {
            r#type: "classify".to_owned(),
            inputs,
            outputs: vec![
                value::named(&classifier.label, scalar(element)),
                value::named(&classifier.probabilities, dictionary),
            ],
            blocks: Vec::new(),
            attributes: BTreeMap::from([("name".to_owned(), value::text(&name))]),
        });
        Ok(())
    }
}

fn argument(binding: binding::Binding) -> Argument {
    let binding = Some(binding);
    Argument {
        arguments: vec![Binding { binding }],
    }
}

/// The labels as a list, which programs have nowhere else.
fn labels(classifier: &Classifier) -> Result<Value> {
    let mut values = Vec::with_capacity(classifier.labels.len());
    for label in &classifier.labels {
        values.push(if classifier.integers {
            let number = label.parse().map_err(|_| CoremlError::NoPart {
                part: "number for a label",
            })?;
            value::long(number)
        } else {
            value::text(label)
        });
    }
    let element = values.first().and_then(|v| v.r#type.clone());
    let length = dimension::ConstantDimension {
        size: num::u64_of(values.len()),
    };
    Ok(Value {
        doc_string: String::new(),
        r#type: Some(ValueType {
            r#type: Some(value_type::Type::ListType(Box::new(ListType {
                r#type: element.map(Box::new),
                length: Some(Dimension {
                    dimension: Some(dimension::Dimension::Constant(length)),
                }),
            }))),
        }),
        value: Some(Source::ImmediateValue(ImmediateValue {
            value: Some(immediate_value::Value::List(ListValue { values })),
        })),
    })
}
