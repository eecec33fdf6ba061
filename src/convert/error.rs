//! What can be wrong with a conversion as a whole.

use crate::error::{Class, Diagnostic};

/// Errors of the pipeline itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// NaN or infinity in the weights.
    #[error("the weights hold {nan} NaN and {inf} infinite elements")]
    NonFinite {
        /// NaN elements.
        nan: u64,
        /// Infinite elements.
        inf: u64,
    },
    /// A malformed `--shape`.
    #[error("`{text}` is not NAME=SIZE,SIZE… with sizes or ranges MIN..MAX")]
    Shape {
        /// What was given.
        text: String,
    },
    /// A malformed `--dim`.
    #[error("`{text}` is not NAME=SIZE, NAME=SIZE,SIZE… or NAME=MIN..MAX")]
    Dim {
        /// What was given.
        text: String,
    },
    /// A flag that only ONNX sources have a use for.
    #[error("`{option}` is only for an ONNX source")]
    OnlyOnnx {
        /// The flag.
        option: String,
    },
    /// `--function` for a source that has no functions.
    #[error("`--function` is only for a Core ML source")]
    OnlyCoreml,
    /// A flag that changes nothing here.
    #[error("`{option}` has no effect: {reason}")]
    NoEffect {
        /// The flag.
        option: &'static str,
        /// What it is for.
        reason: &'static str,
    },
    /// An output whose name is that of another format.
    #[error(
        "the output of `--target {target}` is called `{found}`, expected a name that ends in `.{expected}`"
    )]
    OutputName {
        /// The target.
        target: &'static str,
        /// The name's end.
        found: String,
        /// What files of the target end in.
        expected: &'static str,
    },
    /// A malformed `--constant`.
    #[error("`{text}` is not NAME=NUMBER or NAME=NUMBER,NUMBER…")]
    Constant {
        /// What was given.
        text: String,
    },
    /// A `--shape` for an input the model does not have, or whose dimensions contradict it.
    #[error("`{text}` does not fit the model's inputs: {reason}")]
    ShapeMismatch {
        /// What was given.
        text: String,
        /// Why.
        reason: String,
    },
    /// A length of zero, or far beyond any model.
    #[error("sequence length {length} is outside 1..={max}")]
    Length {
        /// What was given.
        length: usize,
        /// Largest accepted.
        max: u64,
    },
    /// No target.
    #[error("no target was given")]
    NoTarget,
    /// One statement for several artifacts.
    #[error("one file cannot hold the statements of several artifacts")]
    OneStatement,
    /// A file of the verification that is another after it.
    #[error("the file was changed while it was used")]
    Changed,
    /// A file that is none of the known kinds.
    #[error("neither a model folder, an `.onnx` file nor a Core ML package")]
    UnknownKind,
    /// An image for an input that takes none.
    #[error("`{name}` takes no image file: it is {found}")]
    NotImage {
        /// The input.
        name: String,
        /// What it is.
        found: String,
    },
    /// An image of another size.
    #[error("`{name}` takes an image of {expected} pixels, found {found}")]
    ImageSize {
        /// The input.
        name: String,
        /// The sizes it takes, width first.
        expected: String,
        /// The file's size.
        found: String,
    },
    /// A coloured image for a grey input.
    #[error("`{name}` takes a grey image, found one in colour")]
    ImageColor {
        /// The input.
        name: String,
    },
    /// An input that is given as a tensor and as an image.
    #[error("the input `{name}` is given twice")]
    InputTwice {
        /// The input.
        name: String,
    },
    /// A state among the inputs.
    #[error("`{name}` is no input but {found}")]
    StateGiven {
        /// The state.
        name: String,
        /// What it is, with its article.
        found: String,
    },
    /// A tensor that belongs to no input.
    #[error("`{name}` is no input; the model takes {known}")]
    NoInput {
        /// The tensor.
        name: String,
        /// The inputs.
        known: String,
    },
    /// An input that is missing, or of another type or shape.
    #[error("the input `{name}` takes {expected}, found {found}")]
    InputMisfit {
        /// The input.
        name: String,
        /// What it takes.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A number that an input's element type does not have.
    #[error("the input `{name}` holds {value}, which is not {expected}")]
    InputValue {
        /// The input.
        name: String,
        /// The element type or range.
        expected: String,
        /// The number.
        value: i64,
    },
    /// Shapes that are allowed each, but not together.
    #[error("these shapes are not allowed together: {found}; allowed are {allowed}")]
    InputShapes {
        /// What was given.
        found: String,
        /// What goes together.
        allowed: String,
    },
    /// Several steps for a model that keeps nothing between them.
    #[error("only core ml models keep states between steps")]
    Stateless,
    /// A model that engines, which count no memory, are not given.
    #[error(
        "`{value}` of shape {shape} takes more than {limit} bytes, so no engine is given the model"
    )]
    EngineMemory {
        /// The value.
        value: String,
        /// Its shape.
        shape: String,
        /// The cap.
        limit: u64,
    },
    /// An engine that cannot run this kind of file.
    #[error("`{engine}` cannot run {kind}")]
    Engine {
        /// The engine.
        engine: &'static str,
        /// The kind of file.
        kind: &'static str,
    },
    /// An engine that was asked for is not part of this build.
    #[error("`{engine}` is not part of this build: the feature `{feature}` is off")]
    EngineAbsent {
        /// The engine.
        engine: &'static str,
        /// The cargo feature.
        feature: &'static str,
    },
    /// A worker thread ended early.
    #[error("a worker thread ended early")]
    Interrupted,
}

impl Diagnostic for ConvertError {
    fn class(&self) -> Class {
        match self {
            ConvertError::NonFinite { .. }
            | ConvertError::ShapeMismatch { .. }
            | ConvertError::UnknownKind
            | ConvertError::NotImage { .. }
            | ConvertError::ImageSize { .. }
            | ConvertError::ImageColor { .. }
            | ConvertError::Changed
            | ConvertError::StateGiven { .. }
            | ConvertError::NoInput { .. }
            | ConvertError::InputMisfit { .. }
            | ConvertError::InputValue { .. }
            | ConvertError::InputShapes { .. }
            | ConvertError::Interrupted => Class::Invalid,
            ConvertError::Engine { .. }
            | ConvertError::EngineAbsent { .. }
            | ConvertError::EngineMemory { .. } => Class::Unsupported,
            ConvertError::Shape { .. }
            | ConvertError::Dim { .. }
            | ConvertError::OnlyOnnx { .. }
            | ConvertError::OnlyCoreml
            | ConvertError::NoEffect { .. }
            | ConvertError::OutputName { .. }
            | ConvertError::Constant { .. }
            | ConvertError::Length { .. }
            | ConvertError::OneStatement
            | ConvertError::NoTarget
            | ConvertError::InputTwice { .. }
            | ConvertError::Stateless => Class::Usage,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            ConvertError::NonFinite { .. } => "nonfinite_weights",
            ConvertError::Shape { .. }
            | ConvertError::ShapeMismatch { .. }
            | ConvertError::Dim { .. }
            | ConvertError::Length { .. } => "bad_shape",
            ConvertError::Constant { .. } | ConvertError::OnlyOnnx { .. } => "bad_constant",
            ConvertError::OnlyCoreml => "no_functions",
            ConvertError::NoTarget => "no_target",
            ConvertError::NoEffect { .. } => "no_effect",
            ConvertError::OneStatement | ConvertError::OutputName { .. } => "bad_output",
            ConvertError::NotImage { .. }
            | ConvertError::ImageSize { .. }
            | ConvertError::ImageColor { .. }
            | ConvertError::InputTwice { .. } => "bad_image_input",
            ConvertError::StateGiven { .. }
            | ConvertError::NoInput { .. }
            | ConvertError::InputMisfit { .. }
            | ConvertError::InputValue { .. }
            | ConvertError::InputShapes { .. } => "bad_input",
            ConvertError::Stateless => "no_states",
            ConvertError::UnknownKind => "unknown_kind",
            ConvertError::Engine { .. } => "engine_unsuitable",
            ConvertError::EngineAbsent { .. } => "engine_absent",
            ConvertError::Changed => "input_changed",
            ConvertError::EngineMemory { .. } => "too_large",
            ConvertError::Interrupted => "interrupted",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                ConvertError::NonFinite { .. } => {
                    "such a model cannot be verified; `--allow-nonfinite` converts it all the same"
                }
                ConvertError::Shape { .. } => {
                    "for example `--shape input_ids=1,128` or `--shape x=1,3,320..640,320`"
                }
                ConvertError::OnlyOnnx { .. }
                | ConvertError::OnlyCoreml
                | ConvertError::NoEffect { .. } => "leave it out",
                ConvertError::OutputName { .. } => "name the output after its format",
                ConvertError::Dim { .. } => "for example `--dim batch=1 --dim seq=1..512`",
                ConvertError::Constant { .. } => "for example `--constant sr=16000`",
                ConvertError::ShapeMismatch { .. } => {
                    "`distill-convert inspect MODEL` lists the inputs"
                }
                ConvertError::Length { .. } => "for example `--seq 64,128,256`",
                ConvertError::NoTarget => "for example `--target coreml`",
                ConvertError::OneStatement => "use `--provenance auto`",
                ConvertError::UnknownKind => "see `distill-convert --help` for what can be read",
                ConvertError::Engine { .. } => "leave `--runtime` away to use the engine that fits",
                ConvertError::EngineAbsent { .. } => "build with the default features",
                ConvertError::EngineMemory { .. } => {
                    "run with a smaller batch or sequence, or allow more with `--max-memory`"
                }
                ConvertError::NotImage { .. } => {
                    "`distill-convert inspect MODEL` lists the inputs; tensors are given with --inputs FILE.npz"
                }
                ConvertError::ImageSize { .. } => {
                    "scale or crop the image yourself: how changes the answer"
                }
                ConvertError::ImageColor { .. } => {
                    "make it grey yourself: there are several ways to weigh the colours"
                }
                ConvertError::InputTwice { .. } => "give it once, with --input or in --inputs",
                ConvertError::StateGiven { .. } => {
                    "leave it out: states begin with zeros, and `--steps` keeps them from one run to the next"
                }
                ConvertError::NoInput { .. }
                | ConvertError::InputMisfit { .. }
                | ConvertError::InputShapes { .. } => {
                    "`distill-convert inspect MODEL` lists the inputs; --inputs FILE.npz gives tensors, --input NAME=FILE images"
                }
                ConvertError::InputValue { .. } => {
                    "look at where the numbers come from: nothing is cut off or wrapped"
                }
                ConvertError::Stateless => "leave `--steps` away",
                ConvertError::Changed => "run it again when nobody writes to the file",
                ConvertError::Interrupted => return None,
            }
            .into(),
        )
    }
}
