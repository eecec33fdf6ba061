//! What can be wrong with a program, and what this version does not read.

use crate::error::{Class, Diagnostic};

/// What can be wrong with a Core ML model, or in the way of reading it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Another kind of model.
    #[error("an ML Program expected, found {kind}")]
    NotProgram {
        /// What it is, with its article.
        kind: &'static str,
        /// The way to something that can be read.
        way_out: &'static str,
    },
    /// A specification version outside the known ones.
    #[error("specification version 6 to 10 expected, found {found}")]
    SpecVersion {
        /// The version found.
        found: i32,
    },
    /// An opset that does not exist.
    #[error("unknown opset `{found}`")]
    Opset {
        /// The name found.
        found: String,
    },
    /// An opset newer than the specification version.
    #[error("opset `{opset}` needs specification version {needed}, found {found}")]
    OpsetVersion {
        /// The opset.
        opset: &'static str,
        /// The least version that has it.
        needed: i32,
        /// The version found.
        found: i32,
    },
    /// No function to read.
    #[error("no function `{name}`; the model has {found}")]
    NoFunction {
        /// The function looked for.
        name: String,
        /// What is there.
        found: String,
    },
    /// A part of the format that this version does not read.
    #[error("{what} cannot be read yet{detail}")]
    Unsupported {
        /// The part.
        what: &'static str,
        /// More about it, empty or beginning with a separator.
        detail: String,
    },
    /// Operations that this version does not read, all of them.
    #[error("unsupported operations: {list}")]
    Operations {
        /// Each with its count and first name.
        list: String,
    },
    /// An operation that the program's opset does not have.
    #[error("opset `{opset}` has no operation `{op}`")]
    OpsetOperation {
        /// The operation.
        op: String,
        /// The opset.
        opset: &'static str,
    },
    /// A parameter that the operation does not have in this opset.
    #[error("`{op}` of opset `{opset}` has no parameter `{parameter}`")]
    UnknownParameter {
        /// The operation.
        op: String,
        /// The opset.
        opset: &'static str,
        /// The parameter.
        parameter: String,
    },
    /// A parameter that has to be given.
    #[error("`{op}` needs the parameter `{parameter}`")]
    MissingParameter {
        /// The operation.
        op: String,
        /// The parameter.
        parameter: String,
    },
    /// A parameter that nothing reads: reading on would ignore it.
    #[error("the parameter `{parameter}` of `{op}` is not understood")]
    UnreadParameter {
        /// The operation.
        op: String,
        /// The parameter.
        parameter: String,
    },
    /// A parameter of the wrong kind or type.
    #[error("parameter `{parameter}` of `{op}`: expected {expected}, found {found}")]
    Parameter {
        /// The operation.
        op: String,
        /// The parameter.
        parameter: String,
        /// What it takes.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A legal parameter value that this version does not read.
    #[error("`{op}` with {parameter} = {found} cannot be read yet")]
    ParameterValue {
        /// The operation.
        op: String,
        /// The parameter.
        parameter: String,
        /// Its value.
        found: String,
    },
    /// A name without a definition before its use.
    #[error("`{name}` is not defined before its use")]
    Undefined {
        /// The name.
        name: String,
    },
    /// A name with two definitions.
    #[error("`{name}` is defined twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A message that contradicts the format.
    #[error("{what}: expected {expected}, found {found}")]
    Malformed {
        /// The part.
        what: &'static str,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A description that contradicts the program.
    #[error("the description of `{feature}` says {described}, the program {program}")]
    Interface {
        /// The input or output.
        feature: String,
        /// In the description.
        described: String,
        /// In the program.
        program: String,
    },
    /// A record of this program that does not fit the package.
    #[error("metadata `{key}`: {problem}")]
    Metadata {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A weight file that is not there.
    #[error("the program refers to `{reference}`, but there is no weight file")]
    NoWeights {
        /// The reference.
        reference: String,
    },
    /// More than a limit.
    #[error("{found} {what} are more than the limit of {limit}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: String,
        /// The count.
        found: usize,
    },
}

impl Diagnostic for ImportError {
    fn class(&self) -> Class {
        match self {
            ImportError::NotProgram { .. }
            | ImportError::SpecVersion { .. }
            | ImportError::Opset { .. }
            | ImportError::Unsupported { .. }
            | ImportError::Operations { .. }
            | ImportError::UnreadParameter { .. }
            | ImportError::ParameterValue { .. } => Class::Unsupported,
            ImportError::OpsetVersion { .. }
            | ImportError::NoFunction { .. }
            | ImportError::OpsetOperation { .. }
            | ImportError::UnknownParameter { .. }
            | ImportError::MissingParameter { .. }
            | ImportError::Parameter { .. }
            | ImportError::Undefined { .. }
            | ImportError::Duplicate { .. }
            | ImportError::Malformed { .. }
            | ImportError::Interface { .. }
            | ImportError::Metadata { .. }
            | ImportError::NoWeights { .. }
            | ImportError::TooMany { .. } => Class::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            ImportError::NotProgram { .. } | ImportError::SpecVersion { .. } => "not_an_ml_program",
            ImportError::Operations { .. } => "unsupported_operations",
            ImportError::Unsupported { .. }
            | ImportError::UnreadParameter { .. }
            | ImportError::ParameterValue { .. } => "unsupported_program",
            ImportError::Interface { .. } => "bad_interface",
            ImportError::Metadata { .. } => "bad_metadata",
            ImportError::NoWeights { .. } => "missing_weights",
            ImportError::Opset { .. }
            | ImportError::OpsetVersion { .. }
            | ImportError::NoFunction { .. }
            | ImportError::OpsetOperation { .. }
            | ImportError::UnknownParameter { .. }
            | ImportError::MissingParameter { .. }
            | ImportError::Parameter { .. }
            | ImportError::Undefined { .. }
            | ImportError::Duplicate { .. }
            | ImportError::Malformed { .. }
            | ImportError::TooMany { .. } => "bad_program",
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            ImportError::NotProgram { way_out, .. } => way_out,
            ImportError::SpecVersion { found } if *found < 6 => {
                "older models are neural networks; convert the original model again, for iOS 15 or later"
            }
            ImportError::SpecVersion { .. } | ImportError::Opset { .. } => {
                "the model is newer than this program; look for a newer release"
            }
            ImportError::NoWeights { .. } => {
                "give the whole `.mlpackage`, or put `weights/weight.bin` beside the `.mlmodel`"
            }
            ImportError::Operations { .. }
            | ImportError::Unsupported { .. }
            | ImportError::UnreadParameter { .. }
            | ImportError::ParameterValue { .. }
            | ImportError::OpsetVersion { .. }
            | ImportError::NoFunction { .. }
            | ImportError::OpsetOperation { .. }
            | ImportError::UnknownParameter { .. }
            | ImportError::MissingParameter { .. }
            | ImportError::Parameter { .. }
            | ImportError::Undefined { .. }
            | ImportError::Duplicate { .. }
            | ImportError::Malformed { .. }
            | ImportError::Interface { .. }
            | ImportError::Metadata { .. }
            | ImportError::TooMany { .. } => return None,
        };
        Some(text.to_owned())
    }
}
