//! Constants: their value against their type, where they lie in the weight file, and numbers that half precision does not have.

use std::collections::{BTreeMap, BTreeSet};

use super::program::{name_of, shape_of, tensor_type};
use super::{Code, Findings, Spot};
use crate::coreml::blob::{BlobError, BlobFile, BlobFiles};
use crate::coreml::dtype::{from_mil, mil_name};
use crate::coreml::error::CoremlError;
use crate::coreml::package::{WEIGHT_FILE, WEIGHT_REFERENCE};
use crate::coreml::proto::mil_spec::argument::binding;
use crate::coreml::proto::mil_spec::tensor_value::Value as Field;
use crate::coreml::proto::mil_spec::value::immediate_value::Value as Immediate;
use crate::coreml::proto::mil_spec::value::{BlobFileValue, Value as Source};
use crate::coreml::proto::mil_spec::{Block, DataType, Operation, Program, TensorType, Value};
use crate::error::Error;
use crate::ir::Constant;
use crate::tensor::{DType, Region, num};

/// Largest finite number of half precision.
const FP16_MAX: f32 = 65504.0;
/// Smallest normal number of half precision.
const FP16_NORMAL: f32 = 6.103_515_6e-5;

/// What is wrong with the values that an operation holds, each with its field.
pub(super) fn operation(op: &Operation) -> Vec<(String, CoremlError)> {
    let mut found = Vec::new();
    if op.r#type == "const" {
        match op.attributes.get("val") {
            Some(value) => {
                let declared = op
                    .outputs
                    .first()
                    .and_then(|o| tensor_type(o.r#type.as_ref()));
                let own = tensor_type(value.r#type.as_ref());
                if let (Some(declared), Some(own)) = (declared, own)
                    && declared != own
                {
                    let error = CoremlError::ConstantValue {
                        expected: text(declared),
                        found: text(own),
                    };
                    found.push(("val".to_owned(), error));
                }
            }
            None => {
                let part = "value for a constant";
                found.push(("val".to_owned(), CoremlError::NoPart { part }));
            }
        }
    }
    for (name, value) in all(op) {
        if let Err(error) = immediate(value) {
            found.push((name.to_owned(), error));
        }
    }
    found
}

/// Every value that an operation holds itself, by name.
fn all(op: &Operation) -> impl Iterator<Item = (&str, &Value)> {
    let attributes = op.attributes.iter().map(|(k, v)| (k.as_str(), v));
    let bound = op.inputs.iter().flat_map(|(name, argument)| {
        argument
            .arguments
            .iter()
            .filter_map(move |b| match &b.binding {
                Some(binding::Binding::Value(value)) => Some((name.as_str(), value)),
                Some(binding::Binding::Name(_)) | None => None,
            })
    });
    attributes.chain(bound)
}

fn text(ty: &TensorType) -> String {
    match shape_of(ty) {
        Some(shape) => format!("{}{shape:?}", mil_name(ty.data_type())),
        None => format!("{} of unknown shape", mil_name(ty.data_type())),
    }
}

/// The number of elements, if it is known and can be counted.
fn elements(ty: &TensorType) -> Option<u64> {
    shape_of(ty)?.into_iter().try_fold(1u64, u64::checked_mul)
}

/// Checks field and count of an immediate tensor.
fn immediate(value: &Value) -> Result<(), CoremlError> {
    let Some(ty) = tensor_type(value.r#type.as_ref()) else {
        return Ok(());
    };
    let elements = elements(ty).ok_or(CoremlError::NoPart {
        part: "known shape for a constant",
    })?;
    let Some((found, field)) = count(value)? else {
        return Ok(());
    };
    let (expected, right) = expected(ty.data_type(), elements);
    // Nothing at all has no field: an empty list is not written.
    if field != right && found != 0 {
        return Err(CoremlError::ConstantField {
            dtype: mil_name(ty.data_type()),
            expected: right,
            found: field,
        });
    }
    if found == expected {
        Ok(())
    } else {
        Err(CoremlError::ConstantCount {
            expected,
            found,
            field: right,
        })
    }
}

/// How many elements or bytes an immediate value has, and in which field; `None` for the weight file.
fn count(value: &Value) -> Result<Option<(u64, &'static str)>, CoremlError> {
    let immediate = match &value.value {
        Some(Source::ImmediateValue(immediate)) => immediate,
        Some(Source::BlobFileValue(_)) => return Ok(None),
        None => {
            return Err(CoremlError::NoPart {
                part: "value for a constant",
            });
        }
    };
    let Some(Immediate::Tensor(tensor)) = &immediate.value else {
        return Ok(Some((0, "values")));
    };
    let (n, field) = match &tensor.value {
        Some(Field::Floats(v)) => (v.values.len(), "floats"),
        Some(Field::Ints(v)) => (v.values.len(), "ints"),
        Some(Field::Bools(v)) => (v.values.len(), "bools"),
        Some(Field::Strings(v)) => (v.values.len(), "strings"),
        Some(Field::LongInts(v)) => (v.values.len(), "longInts"),
        Some(Field::Doubles(v)) => (v.values.len(), "doubles"),
        Some(Field::Bytes(v)) => (v.values.len(), "bytes"),
        None => (0, "values"),
    };
    Ok(Some((num::u64_of(n), field)))
}

/// How many elements or bytes a type needs, and in which field.
fn expected(dtype: DataType, elements: u64) -> (u64, &'static str) {
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
            let bits = from_mil(dtype).map_or(8, DType::bits);
            let bytes = elements.saturating_mul(u64::from(bits)).div_ceil(8);
            (bytes, "bytes")
        }
    }
}

/// Checks every constant of a program against the weight files, and looks at its numbers.
pub(super) fn values(
    program: &Program,
    blobs: &BlobFiles,
    has_weights: bool,
    findings: &mut Findings,
) {
    let mut used: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (name, function) in &program.functions {
        let mut open: Vec<&Block> = function.block_specializations.values().collect();
        while let Some(block) = open.pop() {
            for op in &block.operations {
                open.extend(&op.blocks);
                for (field, value) in all(op) {
                    let spot = Spot {
                        function: Some(name.clone()),
                        op: Some(op.r#type.clone()),
                        value: Some(name_of(op).to_owned()),
                        field: Some(field.to_owned()),
                    };
                    let constant = match &value.value {
                        Some(Source::BlobFileValue(blob)) => {
                            let offsets = used.entry(&blob.file_name).or_default();
                            offsets.insert(blob.offset);
                            in_file(blob, value, blobs, &spot, findings)
                        }
                        Some(Source::ImmediateValue(_)) => in_program(value),
                        None => None,
                    };
                    // The scale of compressed weights is data as any other; names and flags have no numbers.
                    if let Some(constant) = constant {
                        numbers(&constant, &spot, findings);
                    }
                }
            }
        }
    }
    if used.contains_key(WEIGHT_REFERENCE) && !has_weights {
        let message = format!(
            "the program refers to `{WEIGHT_REFERENCE}`, but the package has no `{WEIGHT_FILE}`"
        );
        findings.add(Code::WeightsMissing, Spot::field(WEIGHT_REFERENCE), message);
    }
    let known = |file: &BlobFile| -> BTreeSet<u64> { file.at_offsets().map(|(o, _)| o).collect() };
    let lost = |(reference, offsets): (&&str, &BTreeSet<u64>)| {
        let file = blobs.get(reference);
        file.is_none_or(|file| !offsets.is_subset(&known(file)))
    };
    // A reference that leads nowhere was meant for one of those that nothing refers to.
    let astray = used.iter().any(lost);
    for (reference, file) in blobs.iter() {
        let field = if reference == WEIGHT_REFERENCE {
            WEIGHT_FILE
        } else {
            let message = format!("the program calls a weight file `{reference}`");
            findings.add(Code::WeightsName, Spot::field(reference), message);
            reference
        };
        let unused = |offset: &u64| !used.get(reference).is_some_and(|u| u.contains(offset));
        let unused = file
            .at_offsets()
            .filter(|(offset, _)| !astray && unused(offset));
        for (offset, record) in unused {
            let message = format!(
                "no constant refers to the blob of {} bytes at byte {offset}",
                record.bytes
            );
            findings.add(Code::BlobUnused, Spot::field(field), message);
        }
    }
}

/// The constant in the weight file.
fn in_file(
    blob: &BlobFileValue,
    value: &Value,
    blobs: &BlobFiles,
    spot: &Spot,
    findings: &mut Findings,
) -> Option<Constant> {
    let file = blobs.get(&blob.file_name);
    if file.is_none() && blob.file_name != WEIGHT_REFERENCE {
        let message = format!(
            "the constant refers to `{}`, which is not there or cannot be read",
            blob.file_name
        );
        findings.add(Code::WeightsPath, spot.clone(), message);
    }
    let ty = tensor_type(value.r#type.as_ref())?;
    let Some(dtype) = from_mil(ty.data_type()) else {
        let message = format!("weight files cannot hold {}", mil_name(ty.data_type()));
        findings.add(Code::BlobType, spot.clone(), message);
        return None;
    };
    let elements = elements(ty)?;
    match file?.region(blob.offset, dtype, elements) {
        Ok(region) => constant(dtype, elements, region),
        Err(error) => {
            findings.add(blob_code(&error), spot.clone(), error.to_string());
            None
        }
    }
}

/// The code of an error of the weight file.
pub(super) fn blob_code(error: &Error) -> Code {
    let cause: &(dyn std::error::Error + 'static) = &*error.error;
    cause
        .downcast_ref::<BlobError>()
        .map_or(Code::BlobHeader, Code::of_blob)
}

fn constant(dtype: DType, elements: u64, region: Region) -> Option<Constant> {
    Constant::from_region("", dtype, vec![num::usize_of(elements)], region).ok()
}

/// The constant in the program, if it has floats.
fn in_program(value: &Value) -> Option<Constant> {
    let Some(Source::ImmediateValue(immediate)) = &value.value else {
        return None;
    };
    let Some(Immediate::Tensor(tensor)) = &immediate.value else {
        return None;
    };
    let dtype = from_mil(tensor_type(value.r#type.as_ref())?.data_type())?;
    let (bytes, width): (Vec<u8>, usize) = match (&tensor.value, dtype) {
        (Some(Field::Floats(v)), DType::F32) => {
            (v.values.iter().flat_map(|x| x.to_le_bytes()).collect(), 4)
        }
        (Some(Field::Bytes(v)), DType::F16) => (v.values.to_vec(), 2),
        (_, _) => return None,
    };
    let elements = num::u64_of(bytes.len() / width);
    constant(dtype, elements, Region::Inline(bytes.into()))
}

/// Numbers that half precision does not have, and what is no number.
fn numbers(constant: &Constant, spot: &Spot, findings: &mut Findings) {
    if !constant.dtype().is_float() {
        return;
    }
    let Ok(scan) = constant.scan() else {
        return;
    };
    let dtype = constant.dtype();
    let mut add = |code, message| findings.add(code, spot.clone(), message);
    if scan.nan > 0 {
        add(
            Code::ConstNan,
            format!("{} of {} elements are NaN", scan.nan, constant.len()),
        );
    }
    if scan.inf > 0 {
        add(
            Code::ConstInfinite,
            format!(
                "{} of {} {dtype} elements are infinite",
                scan.inf,
                constant.len()
            ),
        );
    }
    if scan.max_abs > FP16_MAX {
        add(
            Code::Fp16Overflow,
            format!("the largest magnitude is {:e}, beyond 65504", scan.max_abs),
        );
    }
    // Single elements near 0 are in every matrix and change nothing. An epsilon, or a table of small numbers, is something else.
    if scan.max_abs > 0.0 && scan.max_abs < FP16_NORMAL {
        add(
            Code::Fp16Denormal,
            format!("the largest magnitude is {:e}, below 6.1e-5", scan.max_abs),
        );
    }
}
