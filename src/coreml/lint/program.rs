//! Walks the functions of a program: every operation and parameter against the table for its opset, identifiers, ranks, types of constants.

use std::collections::{BTreeMap, BTreeSet};

use super::{Sink, Spot, constant, description};
use crate::coreml::dtype::mil_name;
use crate::coreml::error::CoremlError;
use crate::coreml::names::{is_identifier, is_reserved};
use crate::coreml::proto::mil_spec::argument::binding;
use crate::coreml::proto::mil_spec::tensor_value::Value as Field;
use crate::coreml::proto::mil_spec::value::Value as Source;
use crate::coreml::proto::mil_spec::value::immediate_value::Value as Immediate;
use crate::coreml::proto::mil_spec::{
    Argument, Block, DataType, Function, Operation, TensorType, ValueType, dimension, value_type,
};
use crate::coreml::proto::{Model, model};
use crate::coreml::table::{self, Row};
use crate::coreml::target::{DeploymentTarget, Opset};
use crate::limits;

/// Most axes of a tensor.
const MAX_RANK: usize = 5;

/// An identifier's meaning; lists, tuples and dictionaries have no tensor type.
#[derive(Clone, Copy)]
pub(in crate::coreml) struct Defined<'a> {
    pub(in crate::coreml) ty: Option<&'a TensorType>,
    pub(in crate::coreml) constant: bool,
}

pub(in crate::coreml) type Scope<'a> = BTreeMap<&'a str, Defined<'a>>;

/// Checks the functions of a model and its description. The writer has one function, `main`; other files are checked as a `whole`.
pub(super) fn check(model: &Model, target: DeploymentTarget, whole: bool, sink: &mut Sink) {
    let top = Spot::default();
    let missing = |part| CoremlError::NoPart { part };
    let Some(model::Type::MlProgram(program)) = &model.r#type else {
        return sink.program(&top, missing("ML program"));
    };
    let description = model.description.as_ref();
    let several = description.is_some_and(|d| !d.functions.is_empty());
    if !whole && !several && !program.functions.contains_key("main") {
        return sink.program(&top, missing("function `main`"));
    }
    let described = description::of_functions(model, sink);
    for (name, function) in &program.functions {
        let spot = Spot {
            function: Some(name.clone()),
            ..Spot::default()
        };
        let Some(block) = block(function, model.specification_version, &spot, sink) else {
            continue;
        };
        let mut walk = Walk {
            opset: block.1,
            target,
            scope: Scope::new(),
            seen: BTreeSet::new(),
            strict: !whole,
            spot: spot.clone(),
            sink,
        };
        for input in &function.inputs {
            walk.spot.value = Some(input.name.clone());
            let ty = walk.tensor_of(input.r#type.as_ref());
            walk.define(&input.name, ty, false);
        }
        walk.block(block.0, 0, false);
        let scope = std::mem::take(&mut walk.scope);
        let Some(described) = &described else {
            continue;
        };
        match described.iter().find(|d| d.name == *name) {
            Some(d) => description::check(d, function, block.0, &scope, &spot, sink),
            None => sink.program(
                &spot,
                CoremlError::NoFunction {
                    name: name.clone(),
                    missing_in: "the description",
                },
            ),
        }
    }
    let described = described.iter().flatten();
    for function in described.filter(|d| !program.functions.contains_key(&d.name)) {
        let error = CoremlError::NoFunction {
            name: function.name.clone(),
            missing_in: "the program",
        };
        sink.program(&top, error);
    }
}

/// The block of a function and its opset.
fn block<'a>(
    function: &'a Function,
    version: i32,
    spot: &Spot,
    sink: &mut Sink,
) -> Option<(&'a Block, Opset)> {
    let Some(opset) = Opset::from_name(&function.opset) else {
        let found = function.opset.clone();
        sink.program(&spot.at("opset"), CoremlError::UnknownOpset { found });
        return None;
    };
    // An unknown version is a finding of its own.
    if opset.spec_version() > version && (6..=10).contains(&version) {
        let error = CoremlError::OpsetVersion {
            opset,
            needed: opset.spec_version(),
            found: version,
        };
        sink.program(&spot.at("opset"), error);
    }
    let blocks = &function.block_specializations;
    let block = blocks.get(&function.opset);
    if blocks.len() != 1 || block.is_none_or(|b| !b.inputs.is_empty()) {
        let found: Vec<String> = blocks
            .iter()
            .map(|(k, b)| format!("`{k}` with {} inputs", b.inputs.len()))
            .collect();
        let error = CoremlError::Blocks {
            expected: function.opset.clone(),
            found: if found.is_empty() {
                "none".to_owned()
            } else {
                found.join(", ")
            },
        };
        sink.program(&spot.at("block_specializations"), error);
    }
    block.map(|b| (b, opset))
}

/// The state of a walk through one function.
struct Walk<'a, 's> {
    opset: Opset,
    target: DeploymentTarget,
    /// What is visible.
    scope: Scope<'a>,
    /// Every identifier of the function: what ended with its block is not named again.
    seen: BTreeSet<&'a str>,
    /// Whether the program is ours: names are unique in the function, weights have no more axes than tensors.
    strict: bool,
    /// Where the walk is.
    spot: Spot,
    sink: &'s mut Sink,
}

impl<'a> Walk<'a, '_> {
    fn complain(&mut self, field: &str, error: CoremlError) {
        let spot = if field.is_empty() {
            self.spot.clone()
        } else {
            self.spot.at(field)
        };
        self.sink.program(&spot, error);
    }

    /// Checks the operations of a block, and the blocks inside them. What a nested block defines ends with it.
    fn block(&mut self, block: &'a Block, depth: usize, nested: bool) {
        if depth > limits::NESTING.count() {
            return self.complain(
                "blocks",
                CoremlError::NoPart {
                    part: "end to its nested blocks",
                },
            );
        }
        let mut local: Vec<&'a str> = Vec::new();
        for input in &block.inputs {
            let ty = self.tensor_of(input.r#type.as_ref());
            if nested && self.define(&input.name, ty, false) {
                local.push(&input.name);
            }
        }
        for op in &block.operations {
            self.spot.op = Some(op.r#type.clone());
            self.spot.value = Some(name_of(op).to_owned());
            for (param, error) in operation(op, self.opset, self.target, &self.scope, self.strict) {
                self.complain(&param, error);
            }
            for (field, error) in constant::operation(op) {
                self.complain(&field, error);
            }
            for inner in &op.blocks {
                self.block(inner, depth + 1, true);
            }
            self.spot.op = Some(op.r#type.clone());
            self.spot.value = Some(name_of(op).to_owned());
            let constant = op.r#type == "const" || op.r#type.starts_with("constexpr_");
            for output in &op.outputs {
                let ty = self.tensor_of(output.r#type.as_ref());
                if self.define(&output.name, ty, constant) {
                    local.push(&output.name);
                }
            }
        }
        self.spot.op = None;
        for output in &block.outputs {
            if !self.scope.contains_key(output.as_str()) {
                self.spot.value = Some(output.clone());
                let name = output.clone();
                self.complain("outputs", CoremlError::Undefined { name });
            }
        }
        if nested {
            for name in local {
                self.scope.remove(name);
            }
        }
    }

    /// The tensor type, if it is one; what has no type at all is a finding.
    fn tensor_of(&mut self, ty: Option<&'a ValueType>) -> Option<&'a TensorType> {
        if ty.and_then(|t| t.r#type.as_ref()).is_none() {
            self.complain("type", CoremlError::NoPart { part: "type" });
        }
        tensor_type(ty)
    }

    /// Makes a name known; tells whether it was free.
    fn define(&mut self, name: &'a str, ty: Option<&'a TensorType>, constant: bool) -> bool {
        if !is_identifier(name) {
            let name = name.to_owned();
            let error = if is_reserved(&name) {
                CoremlError::Reserved { name }
            } else {
                CoremlError::Identifier { name }
            };
            self.complain("name", error);
        }
        if let Some(ty) = ty {
            // Weights are not run: the tables of compressed ones have more axes than tensors, compressed tables too.
            let found = ty.dimensions.len();
            let plain = self.spot.op.as_deref() == Some("const");
            if found > MAX_RANK && (!constant || self.strict && plain) {
                self.complain("type", CoremlError::Rank { found });
            }
            if let Some(shape) = shape_of(ty).filter(|s| s.contains(&0)) {
                let shape = format!("{shape:?}");
                self.complain("type", CoremlError::Empty { shape });
            }
        }
        // Apple's tools give the blocks of one operation the same names; ours are unique in the function.
        let named_before = !self.seen.insert(name) && self.strict;
        let free = !named_before && !self.scope.contains_key(name);
        if free {
            self.scope.insert(name, Defined { ty, constant });
        } else {
            let name = name.to_owned();
            self.complain("name", CoremlError::Duplicate { name });
        }
        free
    }
}

/// The tensor type of a tensor, or of what a state holds.
pub(in crate::coreml) fn tensor_type(ty: Option<&ValueType>) -> Option<&TensorType> {
    match ty.and_then(|t| t.r#type.as_ref())? {
        value_type::Type::TensorType(ty) => Some(ty),
        // A state is where its tensor is.
        value_type::Type::StateType(state) => {
            match state.wrapped_type.as_deref()?.r#type.as_ref()? {
                value_type::Type::TensorType(ty) => Some(ty),
                value_type::Type::ListType(_)
                | value_type::Type::TupleType(_)
                | value_type::Type::DictionaryType(_)
                | value_type::Type::StateType(_) => None,
            }
        }
        value_type::Type::ListType(_)
        | value_type::Type::TupleType(_)
        | value_type::Type::DictionaryType(_) => None,
    }
}

/// Whether a type is a state's.
pub(super) fn is_state(ty: Option<&ValueType>) -> bool {
    ty.is_some_and(|t| matches!(t.r#type, Some(value_type::Type::StateType(_))))
}

/// The `name` attribute, or the identifier of the first result.
pub(in crate::coreml) fn name_of(op: &Operation) -> &str {
    let text = op.attributes.get("name").and_then(|v| match &v.value {
        Some(Source::ImmediateValue(i)) => match &i.value {
            Some(Immediate::Tensor(t)) => match &t.value {
                Some(Field::Strings(s)) => s.values.first(),
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

/// The shape, if every size is known.
pub(super) fn shape_of(ty: &TensorType) -> Option<Vec<u64>> {
    ty.dimensions
        .iter()
        .map(|d| match &d.dimension {
            Some(dimension::Dimension::Constant(c)) => Some(c.size),
            Some(dimension::Dimension::Unknown(_)) | None => None,
        })
        .collect()
}

/// What is wrong with the parameters of an operation, each with its name.
fn operation(
    op: &Operation,
    opset: Opset,
    target: DeploymentTarget,
    scope: &Scope<'_>,
    strict: bool,
) -> Vec<(String, CoremlError)> {
    if op.r#type == "const" {
        return Vec::new();
    }
    let found = for_opset(op, opset, scope, strict);
    if found.is_empty() {
        return found;
    }
    // What a later opset would accept is not wrong, only too new.
    for needs in Opset::ALL.into_iter().filter(|&o| o > opset) {
        if !for_opset(op, needs, scope, strict).is_empty() {
            continue;
        }
        let param = found.iter().find_map(|(_, error)| {
            if let CoremlError::UnknownParam { param, .. } | CoremlError::ParamType { param, .. } =
                error
            {
                Some(param.clone())
            } else {
                None
            }
        });
        let error = CoremlError::Newer {
            op: op.r#type.clone(),
            param: param.clone(),
            opset,
            needs,
            target: target.with_opset(needs),
        };
        return vec![(param.unwrap_or_default(), error)];
    }
    found
}

/// Whether a parameter is there; compressed weights of the first generations have theirs as attributes.
fn given(op: &Operation, param: &str) -> bool {
    let compressed = op.r#type.starts_with("constexpr_");
    op.inputs.contains_key(param) || (compressed && op.attributes.contains_key(param))
}

/// The first opset in which nothing is wrong with the parameters of an operation and their element types.
pub(in crate::coreml) fn first_opset(op: &Operation, scope: &Scope<'_>) -> Option<Opset> {
    let fits = |opset: &Opset| for_opset(op, *opset, scope, false).is_empty();
    Opset::ALL.into_iter().find(fits)
}

fn for_opset(
    op: &Operation,
    opset: Opset,
    scope: &Scope<'_>,
    strict: bool,
) -> Vec<(String, CoremlError)> {
    let kind = || op.r#type.clone();
    let Some(row) = table::find(&op.r#type, opset) else {
        return vec![(String::new(), CoremlError::UnknownOp { op: kind() })];
    };
    let mut found = Vec::new();
    let checked = Checked {
        op,
        opset,
        row,
        scope,
        strict,
    };
    let mut variables = BTreeMap::new();
    for (name, bound) in &op.inputs {
        if let Err(error) = argument(&checked, name, bound, &mut variables) {
            found.push((name.clone(), error));
        }
    }
    let absent = row
        .params
        .iter()
        .filter(|p| p.required && !p.name.starts_with('_') && !given(op, p.name));
    for param in absent {
        let error = CoremlError::MissingParam {
            op: kind(),
            param: param.name.to_owned(),
            opset,
        };
        found.push((param.name.to_owned(), error));
    }
    if op.r#type == "cast" {
        // The table knows the operand's types; the result can have the same ones.
        let output = op
            .outputs
            .first()
            .and_then(|o| tensor_type(o.r#type.as_ref()));
        let takes = row.param("x").map(|p| p.dtypes.as_slice()).unwrap_or(&[]);
        if let Some(dtype) = output
            .map(|o| mil_name(o.data_type()))
            .filter(|d| !takes.contains(d))
        {
            let error = CoremlError::ParamType {
                op: kind(),
                param: "dtype".to_owned(),
                expected: takes.join(", "),
                found: dtype.to_owned(),
                opset,
            };
            found.push(("dtype".to_owned(), error));
        }
    }
    found
}

/// What the parameters of one operation are checked against.
struct Checked<'a, 's> {
    op: &'a Operation,
    opset: Opset,
    row: &'static Row,
    scope: &'a Scope<'s>,
    strict: bool,
}

fn argument(
    checked: &Checked<'_, '_>,
    name: &str,
    argument: &Argument,
    variables: &mut BTreeMap<&'static str, DataType>,
) -> Result<(), CoremlError> {
    let Checked {
        op,
        opset,
        row,
        scope,
        strict,
    } = *checked;
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
        let defined = match &binding.binding {
            Some(binding::Binding::Name(id)) => match scope.get(id.as_str()) {
                Some(defined) => *defined,
                None => return Err(CoremlError::Undefined { name: id.clone() }),
            },
            Some(binding::Binding::Value(value)) => Defined {
                ty: tensor_type(value.r#type.as_ref()),
                constant: true,
            },
            None => {
                return Err(CoremlError::NoPart {
                    part: "value for a parameter",
                });
            }
        };
        if param.constant && !defined.constant {
            return Err(CoremlError::NotConstant {
                op: kind,
                param: param_name,
            });
        }
        let Some(dtype) = defined.ty.map(TensorType::data_type) else {
            continue;
        };
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
        // Apple's tools fill in optional ones without looking at the others, and Core ML takes that.
        let variable = if op.r#type == "while_loop" || !(strict || param.required) {
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
