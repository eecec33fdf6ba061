//! JSON that means one thing only: an object with the same key twice is refused, and so is a file with more values than a real one has.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::limits;

/// Why text is not JSON that means one thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// No JSON.
    #[error("{detail}")]
    Syntax {
        /// What the parser said.
        detail: String,
    },
    /// A key that stands twice in one object: readers differ in which of the values they take.
    #[error("the key `{key}` stands twice in one object")]
    Duplicate {
        /// The key.
        key: String,
    },
    /// More values than a side file has.
    #[error("more than {} values", limits::JSON_VALUES)]
    Values,
}

/// Parses `bytes` as one JSON value.
///
/// # Errors
/// When it is none, an object has a key twice, or there are more values than `json-values` allows.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let state = State::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Strict(&state)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|e| {
        state.error.take().unwrap_or_else(|| JsonError::Syntax {
            detail: e.to_string(),
        })
    })
}

/// What the visitor saw: serde's errors are text, ours are typed, so ours wait here.
#[derive(Default)]
struct State {
    values: Cell<usize>,
    error: RefCell<Option<JsonError>>,
}

#[derive(Clone, Copy)]
struct Strict<'a>(&'a State);

impl Strict<'_> {
    fn refuse<E: serde::de::Error>(self, error: JsonError) -> E {
        let e = E::custom(&error);
        self.0.error.replace(Some(error));
        e
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let values = self.0.values.get() + 1;
        self.0.values.set(values);
        if values > limits::JSON_VALUES.count() {
            return Err(self.refuse(JsonError::Values));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, x: bool) -> Result<Value, E> {
        Ok(Value::Bool(x))
    }

    fn visit_u64<E>(self, x: u64) -> Result<Value, E> {
        Ok(Value::Number(x.into()))
    }

    fn visit_i64<E>(self, x: i64) -> Result<Value, E> {
        Ok(Value::Number(x.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(x)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, x: &str) -> Result<Value, E> {
        Ok(Value::String(x.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            if out.contains_key(&key) {
                return Err(self.refuse(JsonError::Duplicate { key }));
            }
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_serde_json() {
        let text = r#" {"a": [1, -2, 3.5, 1e-05, 18446744073709551615, true, null, "x\u0041"], "b": {"c": {}}} "#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_at_any_depth() {
        for text in [r#"{"k":1,"k":1}"#, r#"{"a":[{"k":1,"x":2,"\u006b":3}]}"#] {
            let expected = JsonError::Duplicate { key: "k".into() };
            assert_eq!(parse(text.as_bytes()), Err(expected));
        }
    }

    #[test]
    fn garbage_is_refused() {
        let deep = "[".repeat(100_000);
        for text in ["", "{", "{} {}", "NaN", "[1,]", deep.as_str()] {
            assert!(matches!(
                parse(text.as_bytes()),
                Err(JsonError::Syntax { .. })
            ));
        }
    }

    #[test]
    fn the_number_of_values_is_limited() {
        let text = format!("[{}0]", "0,".repeat(limits::JSON_VALUES.count()));
        assert_eq!(parse(text.as_bytes()), Err(JsonError::Values));
    }
}
