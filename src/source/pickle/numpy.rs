//! NumPy's scalars, which training scripts keep beside a model: an element type by its code, and the bytes of one element.
//!
//! Types of numbers and truth values only. Text, dates, records and objects, whose bytes would be a pickle of their own, are not on the list.
//!
//! # Source
//! `numpy/_core/src/multiarray/descriptor.c` (`arraydescr_reduce`) and `scalartypes.c.src` (`gentype_reduce`) of NumPy 2.4.

use half::f16;

use super::value::Value;

/// The type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) struct Numpy {
    form: Form,
    width: usize,
    /// Whether the first byte is the highest; `None` until the pickle says it.
    big: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bool,
    Signed,
    Unsigned,
    Float,
    Complex,
}

const CODES: [(&str, Form, usize); 14] = [
    ("b1", Form::Bool, 1),
    ("i1", Form::Signed, 1),
    ("i2", Form::Signed, 2),
    ("i4", Form::Signed, 4),
    ("i8", Form::Signed, 8),
    ("u1", Form::Unsigned, 1),
    ("u2", Form::Unsigned, 2),
    ("u4", Form::Unsigned, 4),
    ("u8", Form::Unsigned, 8),
    ("f2", Form::Float, 2),
    ("f4", Form::Float, 4),
    ("f8", Form::Float, 8),
    ("c8", Form::Complex, 8),
    ("c16", Form::Complex, 16),
];

/// What a scalar is here.
pub(super) enum Scalar {
    /// A value as Python has it.
    Value(Value),
    /// An integer of more than 63 bits.
    Long(Vec<u8>),
    /// A complex number. Nobody asks which.
    Complex,
}

impl Numpy {
    /// The type of this code, whose byte order is yet to be said.
    pub(super) fn of(code: &str) -> Option<Self> {
        let &(_, form, width) = CODES.iter().find(|(c, _, _)| *c == code)?;
        Some(Numpy {
            form,
            width,
            big: None,
        })
    }

    /// The type with the state that `BUILD` gives it: version 3, byte order, and nothing of what records, arrays and padding have.
    pub(super) fn built(self, state: &[Value]) -> Option<Self> {
        let [
            Value::Int(3),
            Value::Text(order),
            Value::None,
            Value::None,
            Value::None,
            Value::Int(-1),
            Value::Int(-1),
            Value::Int(0),
        ] = state
        else {
            return None;
        };
        let big = match (order.as_ref(), self.width) {
            ("<", 2..) | ("|", 1) => false,
            (">", 2..) => true,
            _ => return None,
        };
        // No pickler says it twice.
        (self.big.is_none()).then_some(Numpy {
            big: Some(big),
            ..self
        })
    }

    /// The scalar of these bytes; `None` when they are not what one element has.
    pub(super) fn scalar(self, bytes: &[u8]) -> Option<Scalar> {
        if bytes.len() != self.width {
            return None;
        }
        // Lowest byte first.
        let mut bytes = bytes.to_vec();
        if self.big? {
            bytes.reverse();
        }
        let wide = |sign: bool| {
            let mut wide = [if sign { 0xff } else { 0 }; 8];
            wide[..bytes.len()].copy_from_slice(&bytes);
            i64::from_le_bytes(wide)
        };
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        Some(Scalar::Value(match self.form {
            Form::Bool => Value::Bool(match *bytes {
                [0] => false,
                [1] => true,
                _ => return None,
            }),
            Form::Signed => Value::Int(wide(negative)),
            Form::Unsigned if negative && self.width == 8 => {
                bytes.push(0);
                return Some(Scalar::Long(bytes));
            }
            Form::Unsigned => Value::Int(wide(false)),
            Form::Float => Value::Float(match *bytes {
                [a, b] => f16::from_le_bytes([a, b]).into(),
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]).into(),
                _ => f64::from_le_bytes(bytes.try_into().ok()?),
            }),
            Form::Complex => return Some(Scalar::Complex),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(code: &str, order: &str, bytes: &[u8]) -> Option<String> {
        let state = [
            Value::Int(3),
            Value::Text(order.into()),
            Value::None,
            Value::None,
            Value::None,
            Value::Int(-1),
            Value::Int(-1),
            Value::Int(0),
        ];
        match Numpy::of(code)?.built(&state)?.scalar(bytes)? {
            Scalar::Value(value) => Some(format!("{value:?}")),
            Scalar::Long(bytes) => Some(format!("{bytes:?}")),
            Scalar::Complex => Some("complex".to_owned()),
        }
    }

    #[test]
    fn bytes_of_one_element_are_one_number() {
        let table: [(&str, &str, &[u8], Option<&str>); 26] = [
            ("b1", "|", &[1], Some("Bool(true)")),
            ("b1", "|", &[2], None),
            ("i1", "|", &[0xff], Some("Int(-1)")),
            ("u1", "|", &[0xff], Some("Int(255)")),
            ("i2", "<", &[0xfe, 0xff], Some("Int(-2)")),
            ("i2", ">", &[0xfe, 0xff], Some("Int(-257)")),
            ("u4", ">", &[0, 0, 1, 0], Some("Int(256)")),
            ("i8", "<", &[0xff; 8], Some("Int(-1)")),
            ("u8", "<", &[1, 0, 0, 0, 0, 0, 0, 0], Some("Int(1)")),
            (
                "u8",
                "<",
                &[0xff; 8],
                Some("[255, 255, 255, 255, 255, 255, 255, 255, 0]"),
            ),
            ("f2", "<", &[0, 0x3e], Some("Float(1.5)")),
            ("f4", ">", &[0x3f, 0xc0, 0, 0], Some("Float(1.5)")),
            (
                "f8",
                "<",
                &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f],
                Some("Float(1.5)"),
            ),
            ("c8", "<", &[0; 8], Some("complex")),
            ("c16", ">", &[0; 16], Some("complex")),
            // Too few bytes, too many, none.
            ("f8", "<", &[0; 4], None),
            ("f4", "<", &[0; 8], None),
            ("i1", "|", &[], None),
            // One byte has no order, several have one.
            ("i1", "<", &[0], None),
            ("i2", "|", &[0, 0], None),
            ("f4", "=", &[0; 4], None),
            // Objects, text, dates, records, and what NumPy does not have.
            ("O8", "|", &[0; 8], None),
            ("U1", "<", &[0; 4], None),
            ("M8", "<", &[0; 8], None),
            ("V8", "|", &[0; 8], None),
            ("f16", "<", &[0; 16], None),
        ];
        for (code, order, bytes, expected) in table {
            assert_eq!(
                scalar(code, order, bytes).as_deref(),
                expected,
                "{code} {order} {bytes:?}"
            );
        }
        // Without a byte order there is no number; a second one is refused, and so is a state of anything else.
        let plain = Numpy::of("f4").unwrap();
        assert!(plain.scalar(&[0; 4]).is_none());
        assert!(plain.built(&[Value::Int(3)]).is_none());
    }
}
