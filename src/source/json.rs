//! JSON files of a model folder: as [`crate::json`] reads them, with the errors of this module.

use serde_json::{Map, Value};

use super::error::SourceError;
use crate::json::{self, JsonError};

/// Parses `bytes` as one JSON value.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, SourceError> {
    json::parse(bytes).map_err(|e| match e {
        JsonError::Syntax { detail } => SourceError::Json { detail },
        JsonError::Duplicate { key } => SourceError::DuplicateKey { key },
        JsonError::Values => SourceError::JsonValues,
    })
}

/// Parses `bytes` as one JSON object.
pub(super) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, SourceError> {
    match parse(bytes)? {
        Value::Object(map) => Ok(map),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)) => Err(SourceError::JsonShape {
            expected: "an object at the top".to_owned(),
            found: kind(&other).to_owned(),
        }),
    }
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_are_objects() {
        assert_eq!(
            parse_object(b"[]").unwrap_err().to_string(),
            "expected an object at the top, found an array"
        );
    }
}
