//! One change to a protobuf message that leaves it a message: values, names, whole fields. Half of the mutants of such files are made so: most
//! other changes break a length, and get no further than the decoder.

use super::change::{self, Random};

/// Messages in messages, at most.
const DEPTH: usize = 24;

#[derive(Clone)]
enum Value {
    Varint(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

#[derive(Clone)]
struct Field {
    number: u64,
    value: Value,
}

/// Whether the files of this reader are messages.
pub fn of(reader: &str) -> bool {
    [
        "onnx",
        "onnx_file",
        "conversion_of_onnx",
        "external_data",
        "mil_program",
        "mlmodel_file",
        "conversion_of_coreml",
    ]
    .contains(&reader)
}

/// Changes the message once. `other` is another sound file of the format. Says whether the bytes were a message.
pub fn once(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) -> bool {
    let Some(mut fields) = parse(bytes, 0) else {
        return false;
    };
    let total = count(&fields);
    let at = random.below(total);
    let fields_of_other = match random.below(4) {
        0 => parse(other, 0),
        _ => None,
    };
    let stock = fields_of_other.as_ref().unwrap_or(&fields).clone();
    change_at(&mut fields, &mut { at }, &stock, random);
    bytes.clear();
    write(&fields, bytes);
    true
}

/// All fields, those of messages inside counted.
fn count(fields: &[Field]) -> usize {
    let inside = fields.iter().map(|f| match &f.value {
        Value::Message(fields) => count(fields),
        Value::Varint(_) | Value::Fixed(_) | Value::Bytes(_) => 0,
    });
    fields.len() + inside.sum::<usize>()
}

/// The field of this number in the order in which they stand.
fn nth<'a>(fields: &'a [Field], left: &mut usize) -> Option<&'a Field> {
    for field in fields {
        if *left == 0 {
            return Some(field);
        }
        *left -= 1;
        if let Value::Message(inner) = &field.value
            && let Some(found) = nth(inner, left)
        {
            return Some(found);
        }
    }
    None
}

/// Changes the field that is `left` fields ahead; says whether it was here.
fn change_at(
    fields: &mut Vec<Field>,
    left: &mut usize,
    stock: &[Field],
    random: &mut Random,
) -> bool {
    for index in 0..fields.len() {
        if *left == 0 {
            change_here(fields, index, stock, random);
            return true;
        }
        *left -= 1;
        if let Value::Message(inner) = &mut fields[index].value
            && change_at(inner, left, stock, random)
        {
            return true;
        }
    }
    false
}

fn change_here(fields: &mut Vec<Field>, index: usize, stock: &[Field], random: &mut Random) {
    match random.below(8) {
        0 => drop(fields.remove(index)),
        1 => {
            let copy = fields[index].clone();
            for _ in 0..=random.below(3) * random.below(40) {
                fields.insert(index, copy.clone());
            }
        }
        2 => {
            let to = random.below(fields.len());
            fields.swap(index, to);
        }
        // A field of the same number, from anywhere: another value of its kind, mostly. Or just any.
        3..=5 => {
            let number = fields[index].number;
            for _ in 0..20 {
                let mut at = random.below(count(stock));
                if let Some(found) = nth(stock, &mut at)
                    && (found.number == number || random.below(12) == 0)
                {
                    fields[index].value = found.value.clone();
                    return;
                }
            }
            change_value(&mut fields[index].value, random);
        }
        _ => change_value(&mut fields[index].value, random),
    }
}

fn change_value(value: &mut Value, random: &mut Random) {
    match value {
        Value::Varint(number) => {
            *number = match random.below(4) {
                0 => number.wrapping_add(1),
                1 => number.wrapping_sub(1),
                2 => random.below(34) as u64,
                _ => *random.pick(&change::NUMBERS),
            }
        }
        Value::Fixed(bytes) | Value::Bytes(bytes) => {
            let copy = bytes.clone();
            change::once(bytes, if copy.is_empty() { b"x" } else { &copy }, random);
        }
        Value::Message(fields) => match random.below(3) {
            0 => fields.clear(),
            1 => fields.reverse(),
            _ => fields.truncate(random.below(fields.len() + 1)),
        },
    }
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut out = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        out |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(out);
        }
    }
    None
}

/// The fields, if the bytes can be a message. Text that looks like one is taken for one, which does no harm.
fn parse(bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    if bytes.is_empty() || depth > DEPTH {
        return None;
    }
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let key = varint(bytes, &mut at)?;
        let number = key >> 3;
        if number == 0 || number > 20_000 {
            return None;
        }
        let value = match key & 7 {
            0 => Value::Varint(varint(bytes, &mut at)?),
            kind @ (1 | 5) => {
                let end = at + if kind == 1 { 8 } else { 4 };
                let fixed = bytes.get(at..end)?.to_vec();
                at = end;
                Value::Fixed(fixed)
            }
            2 => {
                let length = varint(bytes, &mut at)?;
                let end = at.checked_add(usize::try_from(length).ok()?)?;
                let inner = bytes.get(at..end)?;
                at = end;
                match parse(inner, depth + 1) {
                    Some(fields) => Value::Message(fields),
                    None => Value::Bytes(inner.to_vec()),
                }
            }
            _ => return None,
        };
        out.push(Field { number, value });
    }
    Some(out)
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for Field { number, value } in fields {
        let kind = match value {
            Value::Varint(_) => 0,
            Value::Fixed(bytes) if bytes.len() == 8 => 1,
            Value::Fixed(bytes) if bytes.len() == 4 => 5,
            Value::Fixed(_) | Value::Bytes(_) | Value::Message(_) => 2,
        };
        write_varint(number << 3 | kind, out);
        match value {
            Value::Varint(number) => write_varint(*number, out),
            Value::Fixed(bytes) if kind != 2 => out.extend(bytes),
            Value::Fixed(bytes) | Value::Bytes(bytes) => {
                write_varint(bytes.len() as u64, out);
                out.extend(bytes);
            }
            Value::Message(fields) => {
                let mut inner = Vec::new();
                write(fields, &mut inner);
                write_varint(inner.len() as u64, out);
                out.extend(inner);
            }
        }
    }
}
