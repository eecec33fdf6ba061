//! A program as text: one line per operation, constants of up to a few elements where they are used.
//!
//! ```text
//! main[CoreML7](x: fp32[1, 3]) {
//!   w: fp32[4, 3] = blob(64)
//!   y: fp32[1, 4] = linear(x=x, weight=w, bias=[0.0, 1.0, 0.0, 0.0])
//! } -> (y)
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use super::dtype::mil_name;
use super::import::ImportError;
use super::proto::mil_spec::argument::binding::Binding;
use super::proto::mil_spec::dimension::Dimension as Size;
use super::proto::mil_spec::tensor_value::Value as Field;
use super::proto::mil_spec::value::Value as Source;
use super::proto::mil_spec::value::immediate_value::Value as Immediate;
use super::proto::mil_spec::value_type::Type;
use super::proto::mil_spec::{
    Argument, Block, DataType, Dimension, NamedValueType, Operation, Program, TensorValue, Value,
    ValueType,
};
use super::read::Opened;
use crate::error::{Context, Result};
use crate::limits;

/// Most elements of a constant that is written out where it is used.
const SHORT: usize = 8;

/// The program of the model at `path` as text. Weights are not read.
///
/// # Errors
/// When the package is malformed or unsafe, or is no ML Program.
pub fn listing(path: &std::path::Path) -> Result<String> {
    let opened = Opened::open(path)?;
    let program = opened.program().at_file(&opened.model_path)?;
    text(program).at_file(&opened.model_path)
}

/// The text of a program.
pub(super) fn text(program: &Program) -> Result<String> {
    let mut out = String::new();
    for (name, function) in &program.functions {
        for block in function.block_specializations.values() {
            let inputs = parameters(&function.inputs);
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name}[{}]({inputs}) {{", function.opset);
            let mut short = BTreeMap::new();
            body(&mut out, block, 1, &mut short).at_node(name)?;
            let _ = writeln!(out, "}} -> ({})", block.outputs.join(", "));
        }
    }
    Ok(out)
}

fn parameters(inputs: &[NamedValueType]) -> String {
    let list: Vec<String> = inputs
        .iter()
        .map(|i| format!("{}: {}", i.name, ty(i.r#type.as_ref(), 0)))
        .collect();
    list.join(", ")
}

fn body<'a>(
    out: &mut String,
    block: &'a Block,
    depth: usize,
    short: &mut BTreeMap<&'a str, String>,
) -> Result<(), ImportError> {
    if depth > limits::NESTING.count() {
        return Err(ImportError::TooMany {
            what: "nested blocks",
            limit: limits::NESTING.to_string(),
            found: depth,
        });
    }
    let pad = "  ".repeat(depth);
    for operation in &block.operations {
        if operation.r#type == "const"
            && let (Some(value), Some(result)) =
                (operation.attributes.get("val"), operation.outputs.first())
        {
            if let Some(text) = inline(value) {
                short.insert(&result.name, text);
            } else {
                let ty = ty(result.r#type.as_ref(), 0);
                // Writing to a string cannot fail.
                let _ = writeln!(out, "{pad}{}: {ty} = {}", result.name, long(value));
            }
            continue;
        }
        let results = parameters(&operation.outputs);
        let arguments = arguments(operation, short);
        let equals = if results.is_empty() { "" } else { " = " };
        let _ = write!(
            out,
            "{pad}{results}{equals}{}({arguments})",
            operation.r#type
        );
        for (i, nested) in operation.blocks.iter().enumerate() {
            let inputs = parameters(&nested.inputs);
            let _ = writeln!(out, " {{ block{i}({inputs})");
            body(out, nested, depth + 1, short)?;
            let outputs: Vec<&str> = nested
                .outputs
                .iter()
                .map(|o| short.get(o.as_str()).map_or(o.as_str(), String::as_str))
                .collect();
            let _ = write!(out, "{pad}}} -> ({})", outputs.join(", "));
        }
        out.push('\n');
    }
    Ok(())
}

/// The parameters, in the order of their names, those of the first generation of compressed weights too.
fn arguments(operation: &Operation, short: &BTreeMap<&str, String>) -> String {
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    for (key, value) in operation.attributes.iter().filter(|(k, _)| *k != "name") {
        all.insert(key, inline(value).unwrap_or_else(|| long(value)));
    }
    for (key, argument) in &operation.inputs {
        all.insert(key, bound(argument, short));
    }
    let list: Vec<String> = all.iter().map(|(k, v)| format!("{k}={v}")).collect();
    list.join(", ")
}

fn bound(argument: &Argument, short: &BTreeMap<&str, String>) -> String {
    let list: Vec<String> = argument
        .arguments
        .iter()
        .map(|binding| match &binding.binding {
            Some(Binding::Name(name)) => short.get(name.as_str()).unwrap_or(name).clone(),
            Some(Binding::Value(value)) => inline(value).unwrap_or_else(|| long(value)),
            None => "nothing".to_owned(),
        })
        .collect();
    match list.as_slice() {
        [one] => one.clone(),
        many => format!("({})", many.join(", ")),
    }
}

/// A type: `fp16[1, ?]`, `list<fp32[2], ?>`.
fn ty(ty: Option<&ValueType>, depth: usize) -> String {
    if depth > limits::NESTING.count() {
        return "…".to_owned();
    }
    let inner = |t: Option<&ValueType>| self::ty(t, depth + 1);
    match ty.and_then(|t| t.r#type.as_ref()) {
        None => "nothing".to_owned(),
        Some(Type::TensorType(tensor)) => {
            let name = DataType::try_from(tensor.data_type).map_or("?", mil_name);
            if tensor.rank < 0 {
                return format!("{name}[…]");
            }
            let sizes: Vec<String> = tensor.dimensions.iter().map(size).collect();
            format!("{name}[{}]", sizes.join(", "))
        }
        Some(Type::ListType(list)) => {
            let length = list.length.as_ref().map_or("?".to_owned(), size);
            format!("list<{}, {length}>", inner(list.r#type.as_deref()))
        }
        Some(Type::TupleType(tuple)) => {
            let parts: Vec<String> = tuple.types.iter().map(|t| inner(Some(t))).collect();
            format!("({})", parts.join(", "))
        }
        Some(Type::DictionaryType(map)) => format!(
            "map<{}, {}>",
            inner(map.key_type.as_deref()),
            inner(map.value_type.as_deref())
        ),
        Some(Type::StateType(state)) => format!("state<{}>", inner(state.wrapped_type.as_deref())),
    }
}

fn size(dimension: &Dimension) -> String {
    match &dimension.dimension {
        Some(Size::Constant(c)) => c.size.to_string(),
        Some(Size::Unknown(u)) if u.variadic => "…".to_owned(),
        Some(Size::Unknown(_)) | None => "?".to_owned(),
    }
}

/// The elements, if there are few: a scalar without brackets.
fn inline(value: &Value) -> Option<String> {
    let Some(Source::ImmediateValue(immediate)) = &value.value else {
        return None;
    };
    match &immediate.value {
        Some(Immediate::Tensor(tensor)) => {
            let rank = match value.r#type.as_ref().and_then(|t| t.r#type.as_ref()) {
                Some(Type::TensorType(ty)) => ty.dimensions.len(),
                _ => return None,
            };
            let dtype = match value.r#type.as_ref().and_then(|t| t.r#type.as_ref()) {
                Some(Type::TensorType(ty)) => ty.data_type(),
                _ => return None,
            };
            let list = elements(tensor, dtype)?;
            match (rank, list.as_slice()) {
                (0, [one]) => Some(one.clone()),
                (_, list) if list.len() <= SHORT && rank <= 1 => {
                    Some(format!("[{}]", list.join(", ")))
                }
                _ => None,
            }
        }
        Some(Immediate::List(list)) if list.values.len() <= SHORT => {
            let parts: Option<Vec<String>> = list.values.iter().map(inline).collect();
            parts.map(|p| format!("[{}]", p.join(", ")))
        }
        Some(Immediate::Tuple(_) | Immediate::List(_) | Immediate::Dictionary(_)) | None => None,
    }
}

fn elements(tensor: &TensorValue, dtype: DataType) -> Option<Vec<String>> {
    Some(match tensor.value.as_ref()? {
        Field::Floats(v) => v.values.iter().map(|x| format!("{x:?}")).collect(),
        Field::Doubles(v) => v.values.iter().map(|x| format!("{x:?}")).collect(),
        Field::Ints(v) => v.values.iter().map(ToString::to_string).collect(),
        Field::LongInts(v) => v.values.iter().map(ToString::to_string).collect(),
        Field::Bools(v) => v.values.iter().map(ToString::to_string).collect(),
        Field::Strings(v) => v.values.iter().map(|s| format!("{s:?}")).collect(),
        Field::Bytes(v) if dtype == DataType::Float16 => v
            .values
            .chunks_exact(2)
            .map(|b| format!("{:?}", half::f16::from_le_bytes([b[0], b[1]])))
            .collect(),
        Field::Bytes(v) if dtype == DataType::Int8 => v
            .values
            .iter()
            .map(|b| i8::from_le_bytes([*b]).to_string())
            .collect(),
        Field::Bytes(v) if dtype == DataType::Uint8 => {
            v.values.iter().map(ToString::to_string).collect()
        }
        Field::Bytes(_) => return None,
    })
}

/// What stands for a constant that is not written out.
fn long(value: &Value) -> String {
    match &value.value {
        Some(Source::BlobFileValue(blob)) => {
            let file = blob.file_name.rsplit('/').next().unwrap_or_default();
            format!("blob({file}, {})", blob.offset)
        }
        Some(Source::ImmediateValue(_)) => format!("const({})", ty(value.r#type.as_ref(), 0)),
        None => "nothing".to_owned(),
    }
}
