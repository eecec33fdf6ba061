//! The meaning of every operation, by family: the interpreter, in `f32` and with `f16` rounding per operation.
