//! What can be wrong with what verification is given. What it *finds* is not an error: it is in the report.

use crate::error::{Class, Diagnostic};

/// Why verification could not be set up.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// An index outside its declared range.
    #[error("input `{input}` holds {value} at {position:?}, expected 0..{below}")]
    IdOutOfRange {
        /// The input.
        input: String,
        /// The value.
        value: i64,
        /// Where it stands.
        position: Vec<usize>,
        /// The bound.
        below: u64,
    },
    /// A mask with something else than 0 and 1, or a row without any 1.
    #[error("mask `{input}`: row {row} {problem}")]
    BadMask {
        /// The input.
        input: String,
        /// Row.
        row: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An input of a type that cannot be turned into the declared one.
    #[error("input `{input}` is {found}, expected {expected}")]
    InputType {
        /// The input.
        input: String,
        /// Declared type.
        expected: String,
        /// Type found.
        found: String,
    },
    /// A number that the declared element type cannot hold.
    #[error("input `{input}` holds {value}, which {expected} cannot hold")]
    InputValue {
        /// The input.
        input: String,
        /// The value.
        value: i64,
        /// Declared element type.
        expected: String,
    },
    /// An input whose shape the model does not take.
    #[error("input `{input}` has shape {found:?}, expected {expected}{note}")]
    InputShape {
        /// The input.
        input: String,
        /// Declared shape.
        expected: String,
        /// Shape found.
        found: Vec<usize>,
        /// Why it could not be padded, or empty.
        note: &'static str,
    },
    /// An input that the model does not have.
    #[error("the model has no input `{input}`, expected one of {known}")]
    UnknownInput {
        /// The input.
        input: String,
        /// The model's inputs.
        known: String,
    },
    /// An input that nobody gave.
    #[error("input `{input}` is missing in {case}")]
    MissingInput {
        /// The input.
        input: String,
        /// The case.
        case: String,
    },
    /// A reference output that the model does not have.
    #[error("{case} has references for {found}; the model gives {known}")]
    UnknownOutput {
        /// The case.
        case: String,
        /// The outputs of the case.
        found: String,
        /// The model's outputs.
        known: String,
    },
    /// A file of cases without a case.
    #[error("{what} holds no case: no `caseN.input.<name>`{alternative}")]
    NoCases {
        /// Which file.
        what: &'static str,
        /// What else would have been taken, or empty.
        alternative: &'static str,
    },
    /// A reference case without inputs or without outputs.
    #[error("`{case}` has no {missing}")]
    IncompleteCase {
        /// The case.
        case: String,
        /// `inputs` or `outputs`.
        missing: &'static str,
    },
    /// A key that starts like a case and goes on otherwise.
    #[error("`{key}` is not `caseN.input.<name>` or `caseN.output.<name>`")]
    BadKey {
        /// The key.
        key: String,
    },
    /// Source and artifact accept no common size.
    #[error(
        "input `{input}`: source {source_shape} and artifact {artifact_shape} have no size in common"
    )]
    NoCommonShape {
        /// The input.
        input: String,
        /// Declared by the source.
        source_shape: String,
        /// Declared by the artifact.
        artifact_shape: String,
    },
    /// An artifact without a parameter that the source has, or the reverse.
    #[error("the artifact's inputs are {found}, expected {expected}")]
    Interface {
        /// The source's inputs.
        expected: String,
        /// The artifact's.
        found: String,
    },
    /// A shape that needs a symbol's value before it can be probed.
    #[error("dimension `{dim}` of input `{input}` cannot be sized")]
    Unsized {
        /// The input.
        input: String,
        /// The dimension.
        dim: String,
    },
    /// Seeded inputs that take more memory than is allowed.
    #[error(
        "seeded inputs take more than the {limit} bytes that are allowed: `{input}` has shape {shape:?}"
    )]
    InputMemory {
        /// The input that goes beyond.
        input: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The limit.
        limit: u64,
    },
    /// A task file that does not parse.
    #[error("{message}")]
    TaskSyntax {
        /// What the parser says.
        message: String,
    },
    /// A task that contradicts itself or the model.
    #[error("{message}")]
    TaskContent {
        /// What is wrong.
        message: String,
    },
    /// A gate that nothing would evaluate.
    #[error("gate `{gate}` cannot be evaluated: {reason}")]
    UnevaluatedGate {
        /// The gate.
        gate: String,
        /// Why.
        reason: &'static str,
    },
    /// A text case without a tokenizer, or a build without tokenizers.
    #[error("case `{case}` is text, and {reason}")]
    NoTokenizer {
        /// The case.
        case: String,
        /// Why there is none.
        reason: &'static str,
    },
    /// The tokenizer refused.
    #[error("tokenizer: {message}")]
    Tokenizer {
        /// What it says.
        message: String,
    },
    /// A case whose token id the model does not have.
    #[error("case `{case}`: token id {id} at position {position}, expected 0..{vocab}")]
    CaseToken {
        /// The case.
        case: String,
        /// The id.
        id: i64,
        /// Where it stands.
        position: usize,
        /// Number of ids.
        vocab: u64,
    },
    /// A class that the model cannot name.
    #[error("class `{class}`: {kind} {id}, expected 0..{bound} (last axis of `{output}`)")]
    ClassRange {
        /// The class.
        class: String,
        /// `token_id` or `label_index`.
        kind: &'static str,
        /// The index.
        id: u64,
        /// Number of them.
        bound: usize,
        /// The output.
        output: String,
    },
    /// A predictions file that cannot be read as one.
    #[error("predictions: {message}")]
    Predictions {
        /// What is wrong.
        message: String,
    },
}

impl Diagnostic for VerifyError {
    fn class(&self) -> Class {
        Class::Invalid
    }

    fn code(&self) -> &'static str {
        match self {
            VerifyError::IdOutOfRange { .. } => "id_out_of_range",
            VerifyError::BadMask { .. } => "bad_mask",
            VerifyError::InputType { .. } | VerifyError::InputValue { .. } => "input_type",
            VerifyError::InputShape { .. } => "input_shape",
            VerifyError::UnknownInput { .. } | VerifyError::MissingInput { .. } => "input_names",
            VerifyError::UnknownOutput { .. } => "output_names",
            VerifyError::NoCases { .. }
            | VerifyError::IncompleteCase { .. }
            | VerifyError::BadKey { .. } => "bad_cases",
            VerifyError::NoCommonShape { .. } | VerifyError::Interface { .. } => {
                "interface_mismatch"
            }
            VerifyError::Unsized { .. } => "unsized_input",
            VerifyError::InputMemory { .. } => "value_too_large",
            VerifyError::TaskSyntax { .. } | VerifyError::TaskContent { .. } => "bad_task",
            VerifyError::UnevaluatedGate { .. } => "unevaluated_gate",
            VerifyError::NoTokenizer { .. } | VerifyError::Tokenizer { .. } => "tokenizer",
            VerifyError::CaseToken { .. } => "id_out_of_range",
            VerifyError::ClassRange { .. } => "class_out_of_range",
            VerifyError::Predictions { .. } => "bad_predictions",
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            VerifyError::IdOutOfRange { .. } | VerifyError::CaseToken { .. } => {
                "use the tokenizer that the model was trained with"
            }
            VerifyError::BadMask { .. } => {
                "1 marks what counts, 0 padding; a row needs at least one 1"
            }
            VerifyError::InputShape { .. } => {
                "convert for this shape with `--seq` or `--shape`, or give inputs of the declared one"
            }
            VerifyError::NoCommonShape { .. } => {
                "build the source for the artifact's shapes with `--seq` or `--shape`"
            }
            VerifyError::NoTokenizer { .. } => {
                "name one with `tokenizer = \"tokenizer.json\"`, or give `input_ids`"
            }
            VerifyError::UnevaluatedGate { .. } => "remove the gate, or give what it needs",
            VerifyError::InputMemory { .. } => {
                "choose smaller sizes with `--dim` or `--shape`, or allow more with `--max-memory`"
            }
            VerifyError::InputType { .. }
            | VerifyError::InputValue { .. }
            | VerifyError::UnknownInput { .. }
            | VerifyError::MissingInput { .. }
            | VerifyError::UnknownOutput { .. }
            | VerifyError::NoCases { .. }
            | VerifyError::IncompleteCase { .. }
            | VerifyError::BadKey { .. }
            | VerifyError::Interface { .. }
            | VerifyError::Unsized { .. }
            | VerifyError::TaskSyntax { .. }
            | VerifyError::TaskContent { .. }
            | VerifyError::Tokenizer { .. }
            | VerifyError::ClassRange { .. }
            | VerifyError::Predictions { .. } => return None,
        };
        Some(text.to_owned())
    }
}
