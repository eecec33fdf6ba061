//! Why a module cannot become a Core ML package.

use super::target::{DeploymentTarget, Opset};
use crate::error::{Class, Diagnostic};
use crate::tensor::DType;

/// Why a module cannot be written, or a program is not one that Core ML would accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoremlError {
    /// An operation or parameter that the target's opset does not have.
    #[error("`{op}`{} needs opset {needs}, but the program is written for {opset}", parameter(.param))]
    Newer {
        /// The operation.
        op: String,
        /// The parameter, if the operation itself exists.
        param: Option<String>,
        /// The program's opset.
        opset: Opset,
        /// The first opset that has it.
        needs: Opset,
        /// The target to ask for.
        target: DeploymentTarget,
    },
    /// An operation of the model that is not written as a Core ML program.
    #[error("`{op}` cannot be written to Core ML")]
    NotWritten {
        /// The operation.
        op: &'static str,
    },
    /// An operation of the model that is not written in this form.
    #[error("`{op}` cannot be written to Core ML: {reason}")]
    Refused {
        /// The operation.
        op: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// An operation that no opset has.
    #[error("no opset has the operation `{op}`")]
    UnknownOp {
        /// The operation.
        op: String,
    },
    /// A parameter that the operation does not have.
    #[error("`{op}` has no parameter `{param}` in opset {opset}")]
    UnknownParam {
        /// The operation.
        op: String,
        /// The parameter.
        param: String,
        /// The program's opset.
        opset: Opset,
    },
    /// A parameter that must be given.
    #[error("`{op}` needs the parameter `{param}` in opset {opset}")]
    MissingParam {
        /// The operation.
        op: String,
        /// The parameter.
        param: String,
        /// The program's opset.
        opset: Opset,
    },
    /// A parameter of an element type it does not take.
    #[error("parameter `{param}` of `{op}` is {expected} in opset {opset}, found {found}")]
    ParamType {
        /// The operation.
        op: String,
        /// The parameter.
        param: String,
        /// What it takes.
        expected: String,
        /// What it got.
        found: String,
        /// The program's opset.
        opset: Opset,
    },
    /// A parameter that must be a constant.
    #[error("parameter `{param}` of `{op}` must be a constant")]
    NotConstant {
        /// The operation.
        op: String,
        /// The parameter.
        param: String,
    },
    /// Several values for a parameter that takes one.
    #[error("parameter `{param}` of `{op}` takes one value, found {found}")]
    ValueCount {
        /// The operation.
        op: String,
        /// The parameter.
        param: String,
        /// Values found.
        found: usize,
    },
    /// A rank that Core ML does not have.
    #[error("Core ML tensors have at most 5 axes, found {found}")]
    Rank {
        /// The rank.
        found: usize,
    },
    /// An input without axes.
    #[error("a Core ML input has 1 to 5 axes, found 0")]
    ScalarInput,
    /// A tensor without elements.
    #[error("Core ML has no tensors without elements, found the shape {shape}")]
    Empty {
        /// The shape.
        shape: String,
    },
    /// An element type that programs do not have.
    #[error("Core ML programs have no {dtype} tensors")]
    Type {
        /// The element type.
        dtype: DType,
    },
    /// An integer that does not fit Core ML's only wide integer type.
    #[error("{value} does not fit int32, the widest integer that programs have")]
    IntegerRange {
        /// The value.
        value: i64,
    },
    /// A number that a clamp cannot have.
    #[error("a bound of the clamp is not a number")]
    NanBound,
    /// A module with several functions.
    #[error("one function expected, found {found}")]
    Functions {
        /// How many.
        found: usize,
    },
    /// Several functions before that was possible.
    #[error("there are {found} functions; {target} allows one only")]
    SeveralFunctions {
        /// How many.
        found: usize,
        /// The target.
        target: DeploymentTarget,
    },
    /// A size that cannot be found at run time.
    #[error("the size `{dim}` cannot be computed from the shapes of the inputs")]
    Size {
        /// The expression.
        dim: String,
    },
    /// Several inputs with enumerated shapes before that was possible.
    #[error("inputs {} have enumerated shapes; {target} allows that for one input only", list(.inputs))]
    EnumeratedInputs {
        /// Their names.
        inputs: Vec<String>,
        /// The target.
        target: DeploymentTarget,
    },
    /// Inputs whose enumerated shapes cannot be matched by index.
    #[error(
        "input `{input}` does not vary with `{symbol}`; the shapes of all inputs with enumerated shapes are matched one by one"
    )]
    Unmatched {
        /// The input.
        input: String,
        /// The symbol it lacks.
        symbol: String,
    },
    /// More enumerated shapes than allowed.
    #[error("at most {limit} enumerated shapes, found {found}")]
    TooManyShapes {
        /// The limit.
        limit: usize,
        /// How many.
        found: usize,
    },
    /// A name that is not an identifier.
    #[error("`{name}` is not an identifier of Core ML programs")]
    Identifier {
        /// The name.
        name: String,
    },
    /// A name that is a word of the textual form.
    #[error("`{name}` is a reserved word of Core ML programs")]
    Reserved {
        /// The name.
        name: String,
    },
    /// A name that is given twice.
    #[error("the identifier `{name}` is defined twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A name that is used before it is defined.
    #[error("the identifier `{name}` is not defined before its use")]
    Undefined {
        /// The name.
        name: String,
    },
    /// A constant whose value contradicts its type.
    #[error("the value of the constant contradicts its type: {expected} expected, found {found}")]
    ConstantValue {
        /// What its type says.
        expected: String,
        /// What its value is.
        found: String,
    },
    /// An immediate value in a field of another element type.
    #[error("an immediate value of {dtype} is in the field `{expected}`, found `{found}`")]
    ConstantField {
        /// The element type.
        dtype: &'static str,
        /// The field of that type.
        expected: &'static str,
        /// Where it is.
        found: &'static str,
    },
    /// A value of another number of elements than its shape says.
    #[error(
        "the value of the constant contradicts its shape: {expected} {field} expected, found {found}"
    )]
    ConstantCount {
        /// From shape and element type.
        expected: u64,
        /// Number there is.
        found: u64,
        /// Field of the message.
        field: &'static str,
    },
    /// An opset that does not exist.
    #[error("unknown opset `{found}`")]
    UnknownOpset {
        /// The name found.
        found: String,
    },
    /// An opset that is newer than the specification version.
    #[error("opset {opset} needs specification version {needed}, found {found}")]
    OpsetVersion {
        /// The opset.
        opset: Opset,
        /// The least version that has it.
        needed: i32,
        /// The version found.
        found: i32,
    },
    /// A function that is described and not there, or there and not described.
    #[error("no function `{name}` in {missing_in}")]
    NoFunction {
        /// The function.
        name: String,
        /// Where it is missing.
        missing_in: &'static str,
    },
    /// A function whose blocks are not one, named after the opset.
    #[error("one block named `{expected}` expected, found {found}")]
    Blocks {
        /// The opset.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A description of something that the program does not have, or the other way round.
    #[error(
        "the description of `{feature}` contradicts the program: {expected} expected, found {found}"
    )]
    DescribedNames {
        /// The input, output or state.
        feature: String,
        /// In the program.
        expected: String,
        /// In the description.
        found: String,
    },
    /// A description of another kind: an array for a state, or one that is malformed.
    #[error(
        "the description of `{feature}` contradicts the program: {expected} expected, found {found}"
    )]
    DescribedKind {
        /// The input, output or state.
        feature: String,
        /// In the program.
        expected: String,
        /// In the description.
        found: String,
    },
    /// A description of another element type.
    #[error(
        "the description of `{feature}` contradicts the program: {expected} expected, found {found}"
    )]
    DescribedType {
        /// The input, output or state.
        feature: String,
        /// In the program.
        expected: String,
        /// In the description.
        found: String,
    },
    /// A description of another shape.
    #[error(
        "the description of `{feature}` contradicts the program: {expected} expected, found {found}"
    )]
    DescribedShape {
        /// The input, output or state.
        feature: String,
        /// In the program.
        expected: String,
        /// In the description.
        found: String,
    },
    /// A flexible shape that the program does not have, or that contradicts itself.
    #[error(
        "the shapes of `{feature}` contradict the program or themselves: {expected} expected, found {found}"
    )]
    DescribedFlexibility {
        /// The input, output or state.
        feature: String,
        /// What fits.
        expected: String,
        /// In the description.
        found: String,
    },
    /// A model without a description.
    #[error("the model has no description")]
    NoDescription,
    /// A program that lacks a part.
    #[error("the program has no {part}")]
    NoPart {
        /// What is missing.
        part: &'static str,
    },
}

fn parameter(param: &Option<String>) -> String {
    param
        .as_ref()
        .map_or_else(String::new, |p| format!(" with the parameter `{p}`"))
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    quoted.join(", ")
}

impl Diagnostic for CoremlError {
    fn class(&self) -> Class {
        match self {
            CoremlError::Newer { .. }
            | CoremlError::Rank { .. }
            | CoremlError::ScalarInput
            | CoremlError::Empty { .. }
            | CoremlError::Type { .. }
            | CoremlError::IntegerRange { .. }
            | CoremlError::Functions { .. }
            | CoremlError::SeveralFunctions { .. }
            | CoremlError::Refused { .. }
            | CoremlError::Size { .. }
            | CoremlError::EnumeratedInputs { .. }
            | CoremlError::Unmatched { .. }
            | CoremlError::TooManyShapes { .. } => Class::Unsupported,
            CoremlError::UnknownOp { .. }
            | CoremlError::NotWritten { .. }
            | CoremlError::UnknownParam { .. }
            | CoremlError::MissingParam { .. }
            | CoremlError::ParamType { .. }
            | CoremlError::NotConstant { .. }
            | CoremlError::ValueCount { .. }
            | CoremlError::NanBound
            | CoremlError::Identifier { .. }
            | CoremlError::Duplicate { .. }
            | CoremlError::Undefined { .. }
            | CoremlError::ConstantValue { .. }
            | CoremlError::NoDescription
            | CoremlError::Reserved { .. }
            | CoremlError::ConstantField { .. }
            | CoremlError::ConstantCount { .. }
            | CoremlError::UnknownOpset { .. }
            | CoremlError::OpsetVersion { .. }
            | CoremlError::NoFunction { .. }
            | CoremlError::Blocks { .. }
            | CoremlError::DescribedNames { .. }
            | CoremlError::DescribedKind { .. }
            | CoremlError::DescribedType { .. }
            | CoremlError::DescribedShape { .. }
            | CoremlError::DescribedFlexibility { .. }
            | CoremlError::NoPart { .. } => Class::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            CoremlError::Newer { .. } => "op_newer_than_target",
            CoremlError::Rank { .. }
            | CoremlError::ScalarInput
            | CoremlError::Empty { .. }
            | CoremlError::Type { .. }
            | CoremlError::IntegerRange { .. }
            | CoremlError::Functions { .. }
            | CoremlError::SeveralFunctions { .. }
            | CoremlError::Refused { .. }
            | CoremlError::Size { .. }
            | CoremlError::NanBound => "coreml_unsupported",
            CoremlError::EnumeratedInputs { .. }
            | CoremlError::Unmatched { .. }
            | CoremlError::TooManyShapes { .. } => "coreml_shapes",
            CoremlError::UnknownOp { .. }
            | CoremlError::NotWritten { .. }
            | CoremlError::UnknownParam { .. }
            | CoremlError::MissingParam { .. }
            | CoremlError::ParamType { .. }
            | CoremlError::NotConstant { .. }
            | CoremlError::ValueCount { .. }
            | CoremlError::Identifier { .. }
            | CoremlError::Duplicate { .. }
            | CoremlError::Undefined { .. }
            | CoremlError::ConstantValue { .. }
            | CoremlError::NoDescription
            | CoremlError::Reserved { .. }
            | CoremlError::ConstantField { .. }
            | CoremlError::ConstantCount { .. }
            | CoremlError::UnknownOpset { .. }
            | CoremlError::OpsetVersion { .. }
            | CoremlError::NoFunction { .. }
            | CoremlError::Blocks { .. }
            | CoremlError::DescribedNames { .. }
            | CoremlError::DescribedKind { .. }
            | CoremlError::DescribedType { .. }
            | CoremlError::DescribedShape { .. }
            | CoremlError::DescribedFlexibility { .. }
            | CoremlError::NoPart { .. } => "bad_program",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            CoremlError::Newer { target, .. } => {
                Some(format!("raise --deployment-target to {target}"))
            }
            CoremlError::EnumeratedInputs { target, .. } => Some(format!(
                "raise --deployment-target to {}, or give one --seq value",
                target.with_opset(Opset::CoreML8)
            )),
            CoremlError::SeveralFunctions { target, .. } => Some(format!(
                "raise --deployment-target to {}, or choose one with --function",
                target.with_opset(Opset::CoreML8)
            )),
            CoremlError::TooManyShapes { .. } | CoremlError::Unmatched { .. } => {
                Some("give fewer --seq values or fix a dimension with --shape".to_owned())
            }
            CoremlError::Type { .. } => Some("convert with --precision fp16 or fp32".to_owned()),
            CoremlError::Size { .. } => Some("give fixed sizes with --shape".to_owned()),
            CoremlError::UnknownOp { .. }
            | CoremlError::NotWritten { .. }
            | CoremlError::Refused { .. }
            | CoremlError::UnknownParam { .. }
            | CoremlError::MissingParam { .. }
            | CoremlError::ParamType { .. }
            | CoremlError::NotConstant { .. }
            | CoremlError::ValueCount { .. }
            | CoremlError::Rank { .. }
            | CoremlError::ScalarInput
            | CoremlError::Empty { .. }
            | CoremlError::IntegerRange { .. }
            | CoremlError::NanBound
            | CoremlError::Functions { .. }
            | CoremlError::Identifier { .. }
            | CoremlError::Duplicate { .. }
            | CoremlError::Undefined { .. }
            | CoremlError::ConstantValue { .. }
            | CoremlError::NoDescription
            | CoremlError::Reserved { .. }
            | CoremlError::ConstantField { .. }
            | CoremlError::ConstantCount { .. }
            | CoremlError::UnknownOpset { .. }
            | CoremlError::OpsetVersion { .. }
            | CoremlError::NoFunction { .. }
            | CoremlError::Blocks { .. }
            | CoremlError::DescribedNames { .. }
            | CoremlError::DescribedKind { .. }
            | CoremlError::DescribedType { .. }
            | CoremlError::DescribedShape { .. }
            | CoremlError::DescribedFlexibility { .. }
            | CoremlError::NoPart { .. } => None,
        }
    }
}
