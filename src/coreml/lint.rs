//! Checks a finished program before anything is written: every operation and parameter against the table for its opset, and what no loader
//! on Linux tells: identifiers, ranks, constants against their types, the description against the program.

use std::collections::{BTreeMap, BTreeSet};

use super::dtype::mil_name;
use super::error::CoremlError;
use super::names::is_identifier;
use super::proto::array_feature_type::ArrayDataType;
use super::proto::mil_spec::argument::binding;
use super::proto::mil_spec::value::immediate_value;
use super::proto::mil_spec::{
    Argument, Block, DataType, Operation, TensorType, Value, ValueType, dimension, tensor_value,
    value, value_type,
};
use super::proto::{FeatureDescription, Model, feature_type, model};
use super::table::{self, Row};
use super::target::{DeploymentTarget, Opset};
use crate::error::{Context, Result};

/// Most axes of a tensor.
const MAX_RANK: usize = 5;

/// An identifier's meaning.
#[derive(Clone)]
struct Defined<'a> {
    ty: &'a TensorType,
    constant: bool,
}

type Scope<'a> = BTreeMap<&'a str, Defined<'a>>;

/// Checks a model for a target.
///
/// # Errors
/// The first violation, with the operation's name.
pub(super) fn check(model: &Model, target: DeploymentTarget) -> Result<()> {
    let missing = |part| CoremlError::NoPart { part };
    let Some(model::Type::MlProgram(program)) = &model.r#type else {
        return Err(missing("ML program").into());
    };
    let main = program
        .functions
        .get("main")
        .ok_or_else(|| missing("function `main`"))?;
    let opset = Opset::from_name(&main.opset).ok_or_else(|| missing("known opset"))?;
    if opset.spec_version() > model.specification_version {
        return Err(missing("specification version that has its opset").into());
    }
    let block = main
        .block_specializations
        .get(&main.opset)
        .ok_or_else(|| missing("block for its opset"))?;
    let mut scope = Scope::new();
    for input in &main.inputs {
        let ty = tensor_of(input.r#type.as_ref()).at_node(&input.name)?;
        define(&mut scope, &input.name, ty, false).at_node(&input.name)?;
    }
    let mut seen: BTreeSet<&str> = scope.keys().copied().collect();
    check_block(block, opset, target, &mut scope, &mut seen)?;
    let description = model
        .description
        .as_ref()
        .ok_or_else(|| missing("description"))?;
    let given = main.inputs.iter().filter(|i| !is_state(i.r#type.as_ref()));
    let inputs: Vec<&str> = given.map(|i| i.name.as_str()).collect();
    let outputs: Vec<&str> = block.outputs.iter().map(String::as_str).collect();
    check_features(&description.input, &inputs, &scope)?;
    Ok(check_features(&description.output, &outputs, &scope)?)
}

/// Checks the operations of a block, and the blocks inside them. `seen` has every identifier of the function: what ended with its block is not
/// named again.
fn check_block<'a>(
    block: &'a Block,
    opset: Opset,
    target: DeploymentTarget,
    scope: &mut Scope<'a>,
    seen: &mut BTreeSet<&'a str>,
) -> Result<()> {
    for op in &block.operations {
        let name = name_of(op);
        check_operation(op, opset, target, scope).at_node(name)?;
        for inner in &op.blocks {
            let mut inside = scope.clone();
            for input in &inner.inputs {
                let ty = tensor_of(input.r#type.as_ref()).at_node(name)?;
                define(&mut inside, &input.name, ty, false).at_node(name)?;
                unique(seen, &input.name).at_node(name)?;
            }
            check_block(inner, opset, target, &mut inside, seen)?;
            for output in &inner.outputs {
                if !inside.contains_key(output.as_str()) {
                    let name = output.clone();
                    return Err(CoremlError::Undefined { name }.into());
                }
            }
        }
        for output in &op.outputs {
            let ty = tensor_of(output.r#type.as_ref()).at_node(name)?;
            let constant = op.r#type == "const" || op.r#type.starts_with("constexpr_");
            define(scope, &output.name, ty, constant).at_node(name)?;
            unique(seen, &output.name).at_node(name)?;
        }
    }
    Ok(())
}

/// Refuses an identifier that another block of the function has.
fn unique<'a>(seen: &mut BTreeSet<&'a str>, name: &'a str) -> Result<(), CoremlError> {
    if seen.insert(name) {
        Ok(())
    } else {
        Err(CoremlError::Duplicate {
            name: name.to_owned(),
        })
    }
}

/// Whether a type is a state's.
fn is_state(ty: Option<&ValueType>) -> bool {
    ty.is_some_and(|t| matches!(t.r#type, Some(value_type::Type::StateType(_))))
}

/// The `name` attribute, or the identifier of the first result.
fn name_of(op: &Operation) -> &str {
    let text = op.attributes.get("name").and_then(|v| match &v.value {
        Some(value::Value::ImmediateValue(i)) => match &i.value {
            Some(immediate_value::Value::Tensor(t)) => match &t.value {
                Some(tensor_value::Value::Strings(s)) => s.values.first(),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    match (text, op.outputs.first()) {
        (Some(text), _) => text,
        (None, Some(output)) => &output.name,
        (None, None) => &op.r#type,
    }
}

fn tensor_of(ty: Option<&ValueType>) -> Result<&TensorType, CoremlError> {
    match ty.and_then(|t| t.r#type.as_ref()) {
        Some(value_type::Type::TensorType(ty)) => Ok(ty),
        // A state is where its tensor is.
        Some(value_type::Type::StateType(state)) => tensor_of(state.wrapped_type.as_deref()),
        Some(
            value_type::Type::ListType(_)
            | value_type::Type::TupleType(_)
            | value_type::Type::DictionaryType(_),
        )
        | None => Err(CoremlError::NoPart {
            part: "tensor type",
        }),
    }
}

fn define<'a>(
    scope: &mut Scope<'a>,
    name: &'a str,
    ty: &'a TensorType,
    constant: bool,
) -> Result<(), CoremlError> {
    if !is_identifier(name) {
        return Err(CoremlError::Identifier {
            name: name.to_owned(),
        });
    }
    if ty.dimensions.len() > MAX_RANK {
        return Err(CoremlError::Rank {
            found: ty.dimensions.len(),
        });
    }
    if let Some(shape) = shape_of(ty).filter(|s| s.contains(&0)) {
        return Err(CoremlError::Empty {
            shape: format!("{shape:?}"),
        });
    }
    match scope.insert(name, Defined { ty, constant }) {
        None => Ok(()),
        Some(_) => Err(CoremlError::Duplicate {
            name: name.to_owned(),
        }),
    }
}

/// The shape, if every size is known.
fn shape_of(ty: &TensorType) -> Option<Vec<u64>> {
    ty.dimensions
        .iter()
        .map(|d| match &d.dimension {
            Some(dimension::Dimension::Constant(c)) => Some(c.size),
            Some(dimension::Dimension::Unknown(_)) | None => None,
        })
        .collect()
}

fn check_operation(
    op: &Operation,
    opset: Opset,
    target: DeploymentTarget,
    scope: &Scope<'_>,
) -> Result<(), CoremlError> {
    if op.r#type == "const" {
        return check_constant(op);
    }
    let Err(error) = check_for(op, opset, scope) else {
        return Ok(());
    };
    // What a later opset would accept is not wrong, only too new.
    let later = Opset::ALL.into_iter().filter(|&o| o > opset);
    for needs in later {
        if check_for(op, needs, scope).is_ok() {
            let param = if let CoremlError::UnknownParam { param, .. }
            | CoremlError::ParamType { param, .. } = &error
            {
                Some(param.clone())
            } else {
                None
            };
            return Err(CoremlError::Newer {
                op: op.r#type.clone(),
                param,
                opset,
                needs,
                target: target.with_opset(needs),
            });
        }
    }
    Err(error)
}

/// Whether a parameter is there; compressed weights of the first generations have theirs as attributes.
fn given(op: &Operation, param: &str) -> bool {
    let compressed = op.r#type.starts_with("constexpr_");
    op.inputs.contains_key(param) || (compressed && op.attributes.contains_key(param))
}

fn check_for(op: &Operation, opset: Opset, scope: &Scope<'_>) -> Result<(), CoremlError> {
    let kind = || op.r#type.clone();
    if op.r#type == "write_state" && opset >= Opset::CoreML8 {
        // Only programs know it: the table lists what converters do.
        return Ok(());
    }
    let Some(row) = table::find(&op.r#type, opset) else {
        return Err(CoremlError::UnknownOp { op: kind() });
    };
    let mut variables = BTreeMap::new();
    for (name, argument) in &op.inputs {
        check_argument(op, name, argument, opset, row, scope, &mut variables)?;
    }
    if let Some(missing) = row
        .params
        .iter()
        .find(|p| p.required && !p.name.starts_with('_') && !given(op, p.name))
    {
        return Err(CoremlError::MissingParam {
            op: kind(),
            param: missing.name.to_owned(),
            opset,
        });
    }
    if op.r#type == "cast" {
        // The table knows the operand's types; the result can have the same ones.
        let output = op.outputs.first().and_then(|o| o.r#type.as_ref());
        let found = mil_name(tensor_of(output)?.data_type());
        let takes = row.param("x").map(|p| p.dtypes.as_slice()).unwrap_or(&[]);
        if !takes.contains(&found) {
            return Err(CoremlError::ParamType {
                op: kind(),
                param: "dtype".to_owned(),
                expected: takes.join(", "),
                found: found.to_owned(),
                opset,
            });
        }
    }
    Ok(())
}

fn check_argument<'a>(
    op: &Operation,
    name: &str,
    argument: &Argument,
    opset: Opset,
    row: &'a Row,
    scope: &Scope<'_>,
    variables: &mut BTreeMap<&'a str, DataType>,
) -> Result<(), CoremlError> {
    let (kind, param_name) = (op.r#type.clone(), name.to_owned());
    let Some(param) = row.param(name) else {
        return Err(CoremlError::UnknownParam {
            op: kind,
            param: param_name,
            opset,
        });
    };
    let found = argument.arguments.len();
    if found == 0 || (found > 1 && !param.tuple) {
        return Err(CoremlError::ValueCount {
            op: kind,
            param: param_name,
            found,
        });
    }
    for binding in &argument.arguments {
        let id = match &binding.binding {
            Some(binding::Binding::Name(id)) => id,
            Some(binding::Binding::Value(_)) if op.r#type.starts_with("constexpr_") => continue,
            Some(binding::Binding::Value(_)) | None => {
                return Err(CoremlError::NoPart {
                    part: "name for a parameter",
                });
            }
        };
        let Some(defined) = scope.get(id.as_str()) else {
            return Err(CoremlError::Undefined { name: id.clone() });
        };
        if param.constant && !defined.constant {
            return Err(CoremlError::NotConstant {
                op: kind,
                param: param_name,
            });
        }
        let dtype = defined.ty.data_type();
        let mismatch = |expected: String| CoremlError::ParamType {
            op: kind.clone(),
            param: param_name.clone(),
            expected,
            found: mil_name(dtype).to_owned(),
            opset,
        };
        if !param.dtypes.is_empty() && !param.dtypes.contains(&mil_name(dtype)) {
            return Err(mismatch(param.dtypes.join(", ")));
        }
        // The values of a tuple share an element type, as do parameters with one type variable.
        let variable = if op.r#type == "while_loop" {
            ""
        } else if param.tuple {
            param.name
        } else {
            param.type_variable
        };
        if !variable.is_empty() {
            let first = *variables.entry(variable).or_insert(dtype);
            if first != dtype {
                return Err(mismatch(mil_name(first).to_owned()));
            }
        }
    }
    Ok(())
}

fn check_constant(op: &Operation) -> Result<(), CoremlError> {
    let value = op.attributes.get("val").ok_or(CoremlError::NoPart {
        part: "value for a constant",
    })?;
    let output = op.outputs.first().and_then(|o| o.r#type.as_ref());
    let (declared, own) = (tensor_of(output)?, tensor_of(value.r#type.as_ref())?);
    let text = |ty: &TensorType| format!("{}{:?}", mil_name(ty.data_type()), shape_of(ty));
    if declared != own {
        return Err(CoremlError::ConstantValue {
            expected: text(declared),
            found: text(own),
        });
    }
    let elements: u64 = shape_of(declared)
        .ok_or(CoremlError::NoPart {
            part: "known shape for a constant",
        })?
        .iter()
        .product();
    let Some((found, field)) = immediate_count(value) else {
        return Ok(());
    };
    let (expected, right) = expected_count(declared.data_type(), elements);
    if found == expected && field == right {
        Ok(())
    } else {
        Err(CoremlError::ConstantValue {
            expected: format!("{expected} {right}"),
            found: format!("{found} {field}"),
        })
    }
}

/// How many elements or bytes an immediate value has, and in which field; `None` for the weight file.
fn immediate_count(value: &Value) -> Option<(u64, &'static str)> {
    let Some(value::Value::ImmediateValue(immediate)) = &value.value else {
        return None;
    };
    let Some(immediate_value::Value::Tensor(tensor)) = &immediate.value else {
        return Some((0, "values"));
    };
    let (n, field) = match &tensor.value {
        Some(tensor_value::Value::Floats(v)) => (v.values.len(), "floats"),
        Some(tensor_value::Value::Ints(v)) => (v.values.len(), "ints"),
        Some(tensor_value::Value::Bools(v)) => (v.values.len(), "bools"),
        Some(tensor_value::Value::Strings(v)) => (v.values.len(), "strings"),
        Some(tensor_value::Value::LongInts(v)) => (v.values.len(), "longInts"),
        Some(tensor_value::Value::Doubles(v)) => (v.values.len(), "doubles"),
        Some(tensor_value::Value::Bytes(v)) => (v.values.len(), "bytes"),
        None => (0, "values"),
    };
    Some((crate::tensor::num::u64_of(n), field))
}

/// How many elements or bytes a type needs, and in which field.
fn expected_count(dtype: DataType, elements: u64) -> (u64, &'static str) {
    match dtype {
        DataType::Bool => (elements, "bools"),
        DataType::String => (elements, "strings"),
        DataType::Float32 => (elements, "floats"),
        DataType::Int32 | DataType::Int16 | DataType::Uint16 => (elements, "ints"),
        DataType::Int64 | DataType::Uint64 => (elements, "longInts"),
        DataType::Float64 => (elements, "doubles"),
        DataType::UnusedType
        | DataType::Float16
        | DataType::Bfloat16
        | DataType::Int8
        | DataType::Int4
        | DataType::Uint8
        | DataType::Uint32
        | DataType::Uint4
        | DataType::Uint2
        | DataType::Uint1
        | DataType::Uint6
        | DataType::Uint3
        | DataType::Float8e4m3fn
        | DataType::Float8e5m2 => {
            let bits = super::dtype::from_mil(dtype).map_or(8, |d| d.bits());
            ((elements * u64::from(bits)).div_ceil(8), "bytes")
        }
    }
}

fn check_features(
    features: &[FeatureDescription],
    names: &[&str],
    scope: &Scope<'_>,
) -> Result<(), CoremlError> {
    let described: Vec<&str> = features.iter().map(|f| f.name.as_str()).collect();
    if described != names {
        return Err(CoremlError::Description {
            feature: described.join(", "),
            expected: names.join(", "),
            found: described.join(", "),
        });
    }
    for feature in features {
        let name = feature.name.as_str();
        let Some(defined) = scope.get(name) else {
            return Err(CoremlError::Undefined {
                name: name.to_owned(),
            });
        };
        let mismatch = |expected: String, found: String| CoremlError::Description {
            feature: name.to_owned(),
            expected,
            found,
        };
        let ty = feature.r#type.as_ref().and_then(|t| t.r#type.as_ref());
        let Some(feature_type::Type::MultiArrayType(array)) = ty else {
            return Err(CoremlError::NoPart {
                part: "array in a description",
            });
        };
        let described = match array.data_type() {
            ArrayDataType::Float16 => "fp16",
            ArrayDataType::Float32 => "fp32",
            ArrayDataType::Double => "fp64",
            ArrayDataType::Int8 => "int8",
            ArrayDataType::Int32 => "int32",
            ArrayDataType::InvalidArrayDataType => "none",
        };
        let inside = mil_name(defined.ty.data_type());
        if described != inside {
            return Err(mismatch(inside.to_owned(), described.to_owned()));
        }
        if let Some(shape) = shape_of(defined.ty) {
            let found = &array.shape;
            let same = found.len() == shape.len()
                && found
                    .iter()
                    .zip(&shape)
                    .all(|(a, b)| u64::try_from(*a) == Ok(*b));
            if !same || array.shape_flexibility.is_some() {
                return Err(mismatch(format!("{shape:?}"), format!("{found:?}")));
            }
        } else if array.shape_flexibility.is_some()
            && array.shape.len() != defined.ty.dimensions.len()
        {
            let axes = defined.ty.dimensions.len();
            return Err(mismatch(
                format!("{axes} axes"),
                format!("{:?}", array.shape),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::export::{RmsNormForm, export};
    use super::super::proto::mil_spec::Program;
    use super::*;
    use crate::ir::ops::{Gather, Linear};
    use crate::ir::{Builder, Domain, Op, Type};
    use crate::tensor::{DType, Tensor};

    fn model(target: DeploymentTarget) -> Model {
        let mut b = Builder::new("m");
        let x = b
            .param("x", Type::known(DType::F32, &[2, 3]), Domain::Any)
            .unwrap();
        let w = b
            .tensor("w", &Tensor::f32(vec![2, 3], vec![1.0; 6]).unwrap())
            .unwrap();
        let y = b.push("y", Op::Linear(Linear), &[x, w]).unwrap();
        let i = b
            .tensor("i", &Tensor::int(DType::I32, vec![1], vec![0]).unwrap())
            .unwrap();
        let z = b
            .push("z", Op::Gather(Gather { axis: 0 }), &[y, i])
            .unwrap();
        b.output("out", z).unwrap();
        let module = b.finish().unwrap();
        export(&module, target, RmsNormForm::Concat, BTreeMap::new())
            .unwrap()
            .model
    }

    fn program(model: &mut Model) -> &mut Program {
        let Some(model::Type::MlProgram(program)) = &mut model.r#type else {
            panic!("no program");
        };
        program
    }

    fn operation<'a>(model: &'a mut Model, kind: &str) -> &'a mut Operation {
        let main = program(model).functions.get_mut("main").unwrap();
        let block = main.block_specializations.values_mut().next().unwrap();
        let op = block.operations.iter_mut().find(|o| o.r#type == kind);
        op.unwrap()
    }

    fn name(argument: &mut Argument) -> &mut Option<binding::Binding> {
        &mut argument.arguments[0].binding
    }

    #[test]
    fn every_mutation_is_refused() {
        let target = DeploymentTarget::IOS17;
        let good = model(target);
        assert!(check(&good, target).is_ok());
        type Edit = fn(&mut Model);
        let edits: [(&str, Edit); 14] = [
            ("no opset has the operation `linnear`", |m| {
                operation(m, "linear").r#type = "linnear".into();
            }),
            ("has no parameter `wait`", |m| {
                let op = operation(m, "linear");
                let weight = op.inputs.remove("weight").unwrap();
                op.inputs.insert("wait".into(), weight);
            }),
            ("needs the parameter `weight`", |m| {
                operation(m, "linear").inputs.remove("weight");
            }),
            ("must be a constant", |m| {
                let weight = operation(m, "linear").inputs.get_mut("weight").unwrap();
                *name(weight) = Some(binding::Binding::Name("x".into()));
            }),
            ("`nowhere` is not defined", |m| {
                let x = operation(m, "linear").inputs.get_mut("x").unwrap();
                *name(x) = Some(binding::Binding::Name("nowhere".into()));
            }),
            ("takes one value, found 2", |m| {
                let x = operation(m, "linear").inputs.get_mut("x").unwrap();
                x.arguments.push(x.arguments[0].clone());
            }),
            ("is int16, int32, int8", |m| {
                let indices = operation(m, "gather").inputs.get_mut("indices").unwrap();
                *name(indices) = Some(binding::Binding::Name("x".into()));
            }),
            ("is not an identifier", |m| {
                operation(m, "linear").outputs[0].name = "a/b".into();
            }),
            ("is defined twice", |m| {
                operation(m, "linear").outputs[0].name = "x".into();
            }),
            ("contradicts its type", |m| {
                let val = operation(m, "const").attributes.get_mut("val").unwrap();
                let Some(value_type::Type::TensorType(ty)) =
                    &mut val.r#type.as_mut().unwrap().r#type
                else {
                    panic!("no tensor");
                };
                ty.dimensions.pop();
            }),
            ("found 0 ints", |m| {
                use super::super::proto::mil_spec::TensorValue;
                use super::super::proto::mil_spec::tensor_value::RepeatedInts;
                use super::super::proto::mil_spec::value::ImmediateValue;
                let val = operation(m, "const").attributes.get_mut("val").unwrap();
                let ints = tensor_value::Value::Ints(RepeatedInts { values: vec![] });
                let tensor = TensorValue { value: Some(ints) };
                val.value = Some(value::Value::ImmediateValue(ImmediateValue {
                    value: Some(immediate_value::Value::Tensor(tensor)),
                }));
            }),
            ("the description of `x` contradicts", |m| {
                let input = &mut m.description.as_mut().unwrap().input[0];
                let Some(feature_type::Type::MultiArrayType(array)) =
                    &mut input.r#type.as_mut().unwrap().r#type
                else {
                    panic!("no array");
                };
                array.shape[0] = 7;
            }),
            ("the description of `other` contradicts", |m| {
                m.description.as_mut().unwrap().output[0].name = "other".into();
            }),
            ("specification version", |m| m.specification_version = 7),
        ];
        for (message, edit) in edits {
            let mut bad = good.clone();
            edit(&mut bad);
            let error = check(&bad, target).map_err(|e| e.to_string());
            let error = error.expect_err(message);
            assert!(error.contains(message), "{message}: {error}");
        }
    }

    #[test]
    fn what_is_only_too_new_names_the_target_that_has_it() {
        let target = DeploymentTarget::MacOS12;
        let mut old = model(target);
        assert!(check(&old, target).is_ok());
        let op = operation(&mut old, "gather");
        let axis = op.inputs["axis"].clone();
        op.inputs.insert("batch_dims".into(), axis);
        let error = check(&old, target).unwrap_err();
        let text = "node `z`: `gather` with the parameter `batch_dims` needs opset CoreML6, but the program is written for CoreML5";
        assert_eq!(error.to_string(), text);
        assert_eq!(
            error.hint().unwrap(),
            "raise --deployment-target to macOS13"
        );
    }
}
