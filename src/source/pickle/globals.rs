//! The allow-list: the only names that a pickle may ask for. None of them is ever called as Python would; each stands for data.

use crate::tensor::DType;

/// Type of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Element {
    /// One that is read.
    Known(DType),
    /// One that PyTorch has and this program does not: an error only when such a tensor is used.
    Foreign {
        /// PyTorch's name.
        name: &'static str,
        /// Bytes of one element.
        bytes: u64,
    },
    /// Bytes without a type.
    Untyped,
}

impl Element {
    /// Bytes of one element.
    pub(in crate::source) fn bytes(self) -> u64 {
        match self {
            Element::Known(dtype) => u64::from(dtype.bits() / 8),
            Element::Foreign { bytes, .. } => bytes,
            Element::Untyped => 1,
        }
    }
}

/// What an allowed name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Global {
    /// A dictionary.
    OrderedDict,
    /// A dictionary of numbers.
    Counter,
    /// A dictionary with a default, which nobody asks for.
    DefaultDict,
    /// A type of this name that gives the default of such a dictionary.
    Factory(&'static str),
    /// Named values, as `argparse` gives them.
    Namespace,
    /// The type of a NumPy scalar.
    NumpyType,
    /// A NumPy scalar: its type and its bytes.
    NumpyScalar,
    /// A set.
    Set,
    /// Bytes that can change.
    ByteArray,
    /// A complex number.
    Complex,
    /// Bytes, as protocol 2 writes them: text and the name of its encoding.
    Encode,
    /// A shape.
    Size,
    /// A device.
    Device,
    /// A layout, by its name.
    Layout,
    /// A constant of this name that says how something was stored: a memory format, a quantization scheme.
    Constant(&'static str),
    /// The type of a tensor.
    TensorType,
    /// A tensor: storage, offset, shape, strides.
    RebuildTensor,
    /// The same with two flags.
    RebuildTensorV2,
    /// The same with its own element type, over an untyped storage.
    RebuildTensorV3,
    /// A parameter: a tensor with two flags.
    RebuildParameter,
    /// The same with attributes.
    RebuildParameterWithState,
    /// A tensor with attributes.
    RebuildFromType,
    /// A storage of this element type.
    Storage(Element),
    /// An element type.
    Dtype(Element),
}

const BOOL: Element = Element::Known(DType::Bool);
const U8: Element = Element::Known(DType::U8);
const I8: Element = Element::Known(DType::I8);
const U16: Element = Element::Known(DType::U16);
const I16: Element = Element::Known(DType::I16);
const U32: Element = Element::Known(DType::U32);
const I32: Element = Element::Known(DType::I32);
const U64: Element = Element::Known(DType::U64);
const I64: Element = Element::Known(DType::I64);
const F16: Element = Element::Known(DType::F16);
const BF16: Element = Element::Known(DType::BF16);
const F32: Element = Element::Known(DType::F32);
const F64: Element = Element::Known(DType::F64);

const fn foreign(name: &'static str, bytes: u64) -> Element {
    Element::Foreign { name, bytes }
}

/// The list. Python 2's `__builtin__` is what protocol 2 writes for `builtins`, and its `long` and `unicode` for `int` and `str`.
pub(super) const ALLOWED: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::OrderedDict),
    ("collections", "Counter", Global::Counter),
    ("collections", "defaultdict", Global::DefaultDict),
    ("__builtin__", "bool", Global::Factory("__builtin__.bool")),
    ("builtins", "bool", Global::Factory("builtins.bool")),
    ("__builtin__", "dict", Global::Factory("__builtin__.dict")),
    ("builtins", "dict", Global::Factory("builtins.dict")),
    ("__builtin__", "float", Global::Factory("__builtin__.float")),
    ("builtins", "float", Global::Factory("builtins.float")),
    ("__builtin__", "long", Global::Factory("__builtin__.long")),
    ("builtins", "int", Global::Factory("builtins.int")),
    ("__builtin__", "list", Global::Factory("__builtin__.list")),
    ("builtins", "list", Global::Factory("builtins.list")),
    ("__builtin__", "tuple", Global::Factory("__builtin__.tuple")),
    ("builtins", "tuple", Global::Factory("builtins.tuple")),
    (
        "__builtin__",
        "unicode",
        Global::Factory("__builtin__.unicode"),
    ),
    ("builtins", "str", Global::Factory("builtins.str")),
    ("argparse", "Namespace", Global::Namespace),
    ("numpy", "dtype", Global::NumpyType),
    ("numpy.core.multiarray", "scalar", Global::NumpyScalar),
    ("numpy._core.multiarray", "scalar", Global::NumpyScalar),
    ("__builtin__", "set", Global::Set),
    ("builtins", "set", Global::Set),
    ("__builtin__", "bytearray", Global::ByteArray),
    ("builtins", "bytearray", Global::ByteArray),
    ("__builtin__", "complex", Global::Complex),
    ("builtins", "complex", Global::Complex),
    ("_codecs", "encode", Global::Encode),
    ("torch", "Size", Global::Size),
    ("torch", "device", Global::Device),
    ("torch.serialization", "_get_layout", Global::Layout),
    // PyTorch names these so, module and all.
    (
        "torch",
        "torch.contiguous_format",
        Global::Constant("torch.contiguous_format"),
    ),
    (
        "torch",
        "torch.preserve_format",
        Global::Constant("torch.preserve_format"),
    ),
    (
        "torch",
        "torch.channels_last",
        Global::Constant("torch.channels_last"),
    ),
    (
        "torch",
        "torch.channels_last_3d",
        Global::Constant("torch.channels_last_3d"),
    ),
    (
        "torch",
        "per_tensor_affine",
        Global::Constant("per_tensor_affine"),
    ),
    (
        "torch",
        "per_tensor_symmetric",
        Global::Constant("per_tensor_symmetric"),
    ),
    (
        "torch",
        "per_channel_affine",
        Global::Constant("per_channel_affine"),
    ),
    (
        "torch",
        "per_channel_symmetric",
        Global::Constant("per_channel_symmetric"),
    ),
    (
        "torch",
        "per_channel_affine_float_qparams",
        Global::Constant("per_channel_affine_float_qparams"),
    ),
    ("torch", "Tensor", Global::TensorType),
    ("torch.nn.parameter", "Parameter", Global::TensorType),
    ("torch.nn.parameter", "Buffer", Global::TensorType),
    ("torch._utils", "_rebuild_tensor", Global::RebuildTensor),
    (
        "torch._utils",
        "_rebuild_tensor_v2",
        Global::RebuildTensorV2,
    ),
    (
        "torch._utils",
        "_rebuild_tensor_v3",
        Global::RebuildTensorV3,
    ),
    (
        "torch._utils",
        "_rebuild_parameter",
        Global::RebuildParameter,
    ),
    (
        "torch._utils",
        "_rebuild_parameter_with_state",
        Global::RebuildParameterWithState,
    ),
    (
        "torch._tensor",
        "_rebuild_from_type_v2",
        Global::RebuildFromType,
    ),
    (
        "torch.storage",
        "UntypedStorage",
        Global::Storage(Element::Untyped),
    ),
    (
        "torch.storage",
        "_UntypedStorage",
        Global::Storage(Element::Untyped),
    ),
    ("torch", "BoolStorage", Global::Storage(BOOL)),
    ("torch", "ByteStorage", Global::Storage(U8)),
    ("torch", "CharStorage", Global::Storage(I8)),
    ("torch", "ShortStorage", Global::Storage(I16)),
    ("torch", "IntStorage", Global::Storage(I32)),
    ("torch", "LongStorage", Global::Storage(I64)),
    ("torch", "HalfStorage", Global::Storage(F16)),
    ("torch", "BFloat16Storage", Global::Storage(BF16)),
    ("torch", "FloatStorage", Global::Storage(F32)),
    ("torch", "DoubleStorage", Global::Storage(F64)),
    (
        "torch",
        "ComplexFloatStorage",
        Global::Storage(foreign("complex64", 8)),
    ),
    (
        "torch",
        "ComplexDoubleStorage",
        Global::Storage(foreign("complex128", 16)),
    ),
    ("torch", "bool", Global::Dtype(BOOL)),
    ("torch", "uint8", Global::Dtype(U8)),
    ("torch", "int8", Global::Dtype(I8)),
    ("torch", "uint16", Global::Dtype(U16)),
    ("torch", "int16", Global::Dtype(I16)),
    ("torch", "uint32", Global::Dtype(U32)),
    ("torch", "int32", Global::Dtype(I32)),
    ("torch", "uint64", Global::Dtype(U64)),
    ("torch", "int64", Global::Dtype(I64)),
    (
        "torch",
        "float8_e4m3fn",
        Global::Dtype(Element::Known(DType::F8E4M3)),
    ),
    (
        "torch",
        "float8_e5m2",
        Global::Dtype(Element::Known(DType::F8E5M2)),
    ),
    (
        "torch",
        "float8_e4m3fnuz",
        Global::Dtype(foreign("float8_e4m3fnuz", 1)),
    ),
    (
        "torch",
        "float8_e5m2fnuz",
        Global::Dtype(foreign("float8_e5m2fnuz", 1)),
    ),
    (
        "torch",
        "float8_e8m0fnu",
        Global::Dtype(foreign("float8_e8m0fnu", 1)),
    ),
    ("torch", "float16", Global::Dtype(F16)),
    ("torch", "bfloat16", Global::Dtype(BF16)),
    ("torch", "float32", Global::Dtype(F32)),
    ("torch", "float64", Global::Dtype(F64)),
    ("torch", "complex32", Global::Dtype(foreign("complex32", 4))),
    ("torch", "complex64", Global::Dtype(foreign("complex64", 8))),
    (
        "torch",
        "complex128",
        Global::Dtype(foreign("complex128", 16)),
    ),
];

/// What a name stands for, if it is on the list.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    ALLOWED
        .iter()
        .find(|(m, n, _)| *m == module && *n == name)
        .map(|&(_, _, global)| global)
}

/// The name of what is on the list, for messages.
pub(super) fn name(global: Global) -> String {
    ALLOWED
        .iter()
        .find(|(_, _, g)| *g == global)
        .map(|(m, n, _)| format!("{m}.{n}"))
        .unwrap_or_default()
}
