//! ONNX files, byte by byte: what a library would not write, tests can.

/// A protobuf message under construction.
#[derive(Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n as u8) | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    pub fn int(mut self, field: u64, n: i64) -> Self {
        self.varint(field << 3);
        self.varint(n as u64);
        self
    }

    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }
}

pub const FLOAT: i64 = 1;
pub const INT64: i64 = 7;

/// `name: dtype[dims]`; negative dims have no size.
pub fn value_info(name: &str, dtype: i64, dims: &[i64]) -> Message {
    let mut shape = Message::default();
    for &d in dims {
        let dim = if d < 0 {
            Message::default()
        } else {
            Message::default().int(1, d)
        };
        shape = shape.message(1, &dim);
    }
    let tensor = Message::default().int(1, dtype).message(2, &shape);
    Message::default()
        .text(1, name)
        .message(2, &Message::default().message(1, &tensor))
}

/// A node that is called after its operator.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Message]) -> Message {
    named(&format!("the_{op}"), op, inputs, outputs, attributes)
}

pub fn named(
    name: &str,
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[Message],
) -> Message {
    let mut node = Message::default();
    for input in inputs {
        node = node.text(1, input);
    }
    for output in outputs {
        node = node.text(2, output);
    }
    node = node.text(3, name).text(4, op);
    for attribute in attributes {
        node = node.message(5, attribute);
    }
    node
}

pub fn attribute_int(name: &str, n: i64) -> Message {
    Message::default().text(1, name).int(3, n).int(20, 2)
}

pub fn attribute_graph(name: &str, graph: &Message) -> Message {
    Message::default()
        .text(1, name)
        .message(6, graph)
        .int(20, 5)
}

/// A tensor of `int64` in its typed field.
pub fn longs(name: &str, dims: &[i64], values: &[i64]) -> Message {
    let mut tensor = Message::default();
    for &d in dims {
        tensor = tensor.int(1, d);
    }
    tensor = tensor.int(2, INT64);
    let mut packed = Message::default();
    for &v in values {
        packed.varint(v as u64);
    }
    tensor.bytes(7, &packed.0).text(8, name)
}

pub fn graph(
    nodes: &[Message],
    initializers: &[Message],
    inputs: &[Message],
    outputs: &[Message],
) -> Message {
    let mut graph = Message::default().text(2, "g");
    for n in nodes {
        graph = graph.message(1, n);
    }
    for i in initializers {
        graph = graph.message(5, i);
    }
    for i in inputs {
        graph = graph.message(11, i);
    }
    for o in outputs {
        graph = graph.message(12, o);
    }
    graph
}

pub fn model(graph: &Message) -> Message {
    let opset = Message::default().text(1, "").int(2, 18);
    Message::default()
        .int(1, 8)
        .message(7, graph)
        .message(8, &opset)
}

/// A tensor with its elements as little-endian bytes.
pub fn tensor(name: &str, dtype: i64, dims: &[i64], raw: &[u8]) -> Message {
    let mut tensor = Message::default();
    for &d in dims {
        tensor = tensor.int(1, d);
    }
    tensor.int(2, dtype).bytes(9, raw).text(8, name)
}
