//! What a lint can say: every code with its severity and its way out, in one table; and the list that findings go to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::coreml::blob::BlobError;
use crate::coreml::error::CoremlError;
use crate::coreml::package::PackageError;

/// Most findings with one code that are listed one by one; the rest is counted.
const LISTED: usize = 100;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file contradicts itself or the format.
    Error,
    /// The file is legal, but hardly what was meant.
    Warning,
    /// Something to know; nothing is wrong.
    Hint,
}

impl Severity {
    /// The name in text and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Hint => "hint",
        }
    }
}

macro_rules! codes {
    ($($id:ident = $name:literal, $severity:ident, $hint:literal;)*) => {
        /// What was found. The names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $hint] $id,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$id),*];

            /// The stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$id => $name,)* }
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Code::$id => Severity::$severity,)* }
            }

            /// The way out.
            #[must_use]
            pub fn way_out(self) -> &'static str {
                match self { $(Code::$id => $hint,)* }
            }
        }
    };
}

codes! {
    ManifestUnreadable = "manifest_unreadable", Error, "write the manifest again: JSON with `fileFormatVersion`, `itemInfoEntries` and `rootModelIdentifier`";
    ManifestVersion = "manifest_version", Error, "`fileFormatVersion` is `1.0.0`";
    ManifestRoot = "manifest_root", Error, "`rootModelIdentifier` is the key of the model's entry in `itemInfoEntries`";
    ManifestEntry = "manifest_entry", Error, "an item has the texts `path`, `name`, `author` and `description`";
    ManifestPath = "manifest_path", Error, "item paths stay inside the folder `Data` of the package; do not open this package elsewhere";
    ManifestMissing = "manifest_missing", Error, "copy the package again with all its files, or remove the entry";
    ManifestDuplicate = "manifest_duplicate", Error, "one entry for each item";
    ManifestId = "manifest_id", Warning, "Apple's library names items by UUIDs";
    ManifestUnlisted = "manifest_unlisted", Warning, "add an entry for the file to the manifest, or delete it: tools that copy a package by its manifest lose it";
    ModelUnreadable = "model_unreadable", Error, "the file is damaged or no Core ML model; convert again";
    NotProgram = "not_an_ml_program", Error, "only ML Programs are checked; convert the original model again, for iOS 15 or later";
    SpecVersion = "spec_version", Error, "ML Programs have specification versions 6 (iOS 15) to 10 (iOS 26)";
    OpsetUnknown = "opset_unknown", Error, "the opsets are CoreML5 to CoreML9";
    OpsetVersion = "opset_version", Error, "raise the specification version, or convert for an older deployment target";
    Function = "function", Error, "describe every function of the program, with its name";
    FunctionBlock = "function_block", Error, "a function has one block, named after its opset, without inputs of its own";
    Identifier = "identifier", Error, "identifiers are made of ASCII letters, digits, `_` and `@`, and do not begin with a digit";
    IdentifierReserved = "identifier_reserved", Error, "rename it: the textual form of programs reserves the word";
    IdentifierDuplicate = "identifier_duplicate", Error, "rename one of them: an identifier is defined once in a function";
    IdentifierUndefined = "identifier_undefined", Error, "define it before its use, in the same block or around it";
    OpUnknown = "op_unknown", Error, "the operation is misspelt, or newer than this program";
    OpNewer = "op_newer", Error, "convert for a newer deployment target";
    ParamUnknown = "param_unknown", Error, "remove the parameter or correct its name";
    ParamMissing = "param_missing", Error, "give the parameter";
    ParamType = "param_type", Error, "cast the value to a type that the operation takes";
    ParamNotConstant = "param_not_constant", Error, "the value has to be known when the model is compiled: make it a `const`";
    ParamCount = "param_count", Error, "bind one value to the parameter";
    Rank = "rank", Error, "reshape: Core ML tensors have at most 5 axes";
    Empty = "empty_tensor", Error, "leave the value out: Core ML has no tensors without elements";
    Incomplete = "incomplete", Error, "the message lacks a part that the format demands; convert again";
    ConstType = "const_type", Error, "the type of the result and the type of the value have to be the same";
    ConstField = "const_field", Error, "each element type has one field for immediate values: fp16, int8 and uint8 are `bytes`, int16 and int32 `ints`, fp32 `floats`";
    ConstCount = "const_count", Error, "the number of elements follows from the shape";
    ConstNan = "const_nan", Warning, "every result that it touches is no number either; look at the source's weights";
    ConstInfinite = "const_infinite", Warning, "a mask, or a number above 65504 that half precision does not have; keep that operation in fp32, or use a finite mask";
    WeightsMissing = "weights_missing", Error, "put `weights/weight.bin` into the package and its folder into the manifest";
    WeightsPath = "weights_path", Error, "put the file into the package, or let constants refer to `@model_path/weights/weight.bin`";
    WeightsName = "weights_name", Warning, "it is read here; Apple's tools write `@model_path/weights/weight.bin` and no other";
    BlobHeader = "blob_header", Error, "the weight file is truncated or of another version; convert again";
    BlobCount = "blob_count", Error, "the header announces more blobs than the file can hold; convert again";
    BlobRecord = "blob_record", Error, "a record begins with 0xdeadbeef and has a known element type; the file is damaged";
    BlobAlignment = "blob_alignment", Error, "records and data stand on boundaries of 64 bytes, data right after its record";
    BlobBounds = "blob_bounds", Error, "the weight file is truncated; copy the package again";
    BlobPadding = "blob_padding", Error, "the unused bits of the last byte follow from element type and count";
    BlobTrailing = "blob_trailing", Error, "bytes after the last blob that the header announces: blobs that the count leaves out, or rubbish";
    BlobReference = "blob_reference", Error, "offsets are those of records, not of data";
    BlobType = "blob_type", Error, "the record's element type is that of the constant";
    BlobSize = "blob_size", Error, "the record's size follows from the constant's shape";
    BlobUnused = "blob_unused", Warning, "no constant refers to the blob: the package is larger than it has to be";
    DescriptionMissing = "description_missing", Error, "a model has a description of its inputs and outputs";
    DescriptionNames = "description_names", Error, "the description names exactly the inputs, outputs and states of the function";
    DescriptionKind = "description_kind", Error, "describe tensors as arrays or images, states as states, and the results of `classify` as label and dictionary";
    DescriptionType = "description_type", Error, "describe the element type that the program has";
    DescriptionShape = "description_shape", Error, "describe the shape that the program has";
    DescriptionFlexibility = "description_flexibility", Error, "each allowed shape fits the program's, the default shape is one of them, and an axis that varies is unknown in the program";
    DescriptionUnbounded = "description_unbounded", Warning, "give the range an upper bound: ML Programs are compiled for the largest shape";
    InterfaceNewer = "interface_newer", Error, "raise the specification version, or convert for an older deployment target";
    StateType = "state_type", Error, "states hold half precision, in a shape that is known";
    ClassifierNames = "classifier_names", Error, "`predictedFeatureName` and `predictedProbabilitiesName` are the results of `classify`";
    ClassifierLabels = "classifier_labels", Error, "a classifier has as many labels as probabilities";
    ProgramInvalid = "program_invalid", Error, "the operation contradicts what it is given or what its result is declared to be; convert again";
    NotRead = "not_read", Warning, "the model may be right, but this program cannot run, compare or convert it";
    Fp16Overflow = "fp16_overflow", Hint, "fp32 constants beyond 65504 become infinite when the model is computed in half precision";
    Fp16Denormal = "fp16_denormal", Hint, "constants below 6.1e-5 lose digits in half precision, and the Neural Engine may take them for 0";
    AneFp32 = "ane_fp32", Hint, "static hint: the Neural Engine computes in half precision; fp32 operations run on CPU or GPU. Convert with fp16 precision";
    AneOp = "ane_op", Hint, "static hint: control flow, lists, recurrences, scatters and results of unknown size have no form on the Neural Engine";
    AneRange = "ane_range", Hint, "static hint: with ranges of shapes, models run on the Neural Engine at their default shape only; enumerated shapes can stay";
    AneLastAxis = "ane_last_axis", Hint, "static hint: the last axis is padded to 64 bytes on the Neural Engine; a last axis of size 1 takes 32 times the memory in half precision";
    AneAxis = "ane_axis", Hint, "static hint: the Neural Engine of many chips takes 16384 elements along the last two axes and 65536 along others; split the axis";
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Code {
    /// The code of what a program can do wrong.
    pub(super) fn of_program(error: &CoremlError) -> Code {
        match error {
            CoremlError::Newer { .. } => Code::OpNewer,
            CoremlError::UnknownOp { .. } => Code::OpUnknown,
            CoremlError::UnknownParam { .. } => Code::ParamUnknown,
            CoremlError::MissingParam { .. } => Code::ParamMissing,
            CoremlError::ParamType { .. } => Code::ParamType,
            CoremlError::NotConstant { .. } => Code::ParamNotConstant,
            CoremlError::ValueCount { .. } => Code::ParamCount,
            CoremlError::Rank { .. } => Code::Rank,
            CoremlError::Empty { .. } => Code::Empty,
            CoremlError::Identifier { .. } => Code::Identifier,
            CoremlError::Reserved { .. } => Code::IdentifierReserved,
            CoremlError::Duplicate { .. } => Code::IdentifierDuplicate,
            CoremlError::Undefined { .. } => Code::IdentifierUndefined,
            CoremlError::ConstantValue { .. } => Code::ConstType,
            CoremlError::ConstantField { .. } => Code::ConstField,
            CoremlError::ConstantCount { .. } => Code::ConstCount,
            CoremlError::UnknownOpset { .. } => Code::OpsetUnknown,
            CoremlError::OpsetVersion { .. } => Code::OpsetVersion,
            CoremlError::NoFunction { .. } => Code::Function,
            CoremlError::Blocks { .. } => Code::FunctionBlock,
            CoremlError::NoDescription => Code::DescriptionMissing,
            CoremlError::DescribedNames { .. } => Code::DescriptionNames,
            CoremlError::DescribedKind { .. } => Code::DescriptionKind,
            CoremlError::DescribedType { .. } => Code::DescriptionType,
            CoremlError::DescribedShape { .. } => Code::DescriptionShape,
            CoremlError::DescribedFlexibility { .. } => Code::DescriptionFlexibility,
            CoremlError::NoPart { .. }
            | CoremlError::NotWritten { .. }
            | CoremlError::Refused { .. }
            | CoremlError::ScalarInput
            | CoremlError::Type { .. }
            | CoremlError::IntegerRange { .. }
            | CoremlError::NanBound
            | CoremlError::Functions { .. }
            | CoremlError::SeveralFunctions { .. }
            | CoremlError::Size { .. }
            | CoremlError::EnumeratedInputs { .. }
            | CoremlError::Unmatched { .. }
            | CoremlError::TooManyShapes { .. } => Code::Incomplete,
        }
    }

    /// The code of what a weight file can do wrong.
    pub(super) fn of_blob(error: &BlobError) -> Code {
        match error {
            BlobError::NoHeader { .. } | BlobError::Version { .. } => Code::BlobHeader,
            BlobError::Count { .. } => Code::BlobCount,
            BlobError::Sentinel { .. } | BlobError::Type { .. } => Code::BlobRecord,
            BlobError::Bounds { .. } => Code::BlobBounds,
            BlobError::Place { .. } => Code::BlobAlignment,
            BlobError::Padding { .. } => Code::BlobPadding,
            BlobError::Trailing { .. } => Code::BlobTrailing,
            BlobError::NoBlob { .. } => Code::BlobReference,
            BlobError::TypeMismatch { .. } | BlobError::NoBlobType { .. } => Code::BlobType,
            BlobError::SizeMismatch { .. } => Code::BlobSize,
        }
    }

    /// The code of what a package can do wrong.
    pub(super) fn of_package(error: &PackageError) -> Code {
        match error {
            PackageError::Json { .. } | PackageError::TooLarge { .. } | PackageError::Compiled => {
                Code::ManifestUnreadable
            }
            PackageError::Key { key, .. } if key.starts_with("itemInfoEntries/") => {
                Code::ManifestEntry
            }
            PackageError::Key { .. } => Code::ManifestUnreadable,
            PackageError::NoRoot { .. } => Code::ManifestRoot,
            PackageError::Version { .. } => Code::ManifestVersion,
            PackageError::Escape { .. } => Code::ManifestPath,
            PackageError::Missing { .. } => Code::ManifestMissing,
            PackageError::Duplicate { .. } => Code::ManifestDuplicate,
            PackageError::Proto { .. } | PackageError::UnknownFields { .. } => {
                Code::ModelUnreadable
            }
        }
    }
}

/// Where something was found; every part is there if it has a meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spot {
    /// The function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Kind of the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// The value, input, output or item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The parameter, or the field of the message or file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Spot {
    /// In a field of a file.
    pub(super) fn field(field: &str) -> Spot {
        Spot {
            field: Some(field.to_owned()),
            ..Spot::default()
        }
    }

    /// The same, at a field.
    pub(super) fn at(&self, field: impl Into<String>) -> Spot {
        Spot {
            field: Some(field.into()),
            ..self.clone()
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub place: Spot,
    /// What exactly.
    pub message: String,
    /// The way out.
    pub hint: String,
}

/// What a lint found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// The findings, errors first, in the order of the file.
    pub list: Vec<Finding>,
    /// How many more there are of a code that has too many to be listed.
    pub unlisted: BTreeMap<&'static str, usize>,
    #[serde(skip)]
    counts: BTreeMap<Code, usize>,
}

impl Findings {
    /// Adds one.
    pub(super) fn add(&mut self, code: Code, place: Spot, message: String) {
        let count = self.counts.entry(code).or_insert(0);
        *count += 1;
        if *count > LISTED {
            *self.unlisted.entry(code.name()).or_insert(0) += 1;
            return;
        }
        self.list.push(Finding {
            code,
            severity: code.severity(),
            place,
            message,
            hint: code.way_out().to_owned(),
        });
    }

    /// How many there are of a severity, those included that are not listed.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let of = self.counts.iter().filter(|(c, _)| c.severity() == severity);
        of.map(|(_, n)| n).sum()
    }

    /// Whether the package leads out of its folder.
    #[must_use]
    pub fn is_unsafe(&self) -> bool {
        self.counts.contains_key(&Code::ManifestPath)
    }

    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|f| f.severity);
    }
}
