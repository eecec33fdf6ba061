//! What is looked at before an engine gets a file: engines count no memory, and trust what is inside.

use std::path::Path;

use super::error::ConvertError;
use crate::error::{Class, Result};
use crate::ir::Module;
use crate::limits;
use crate::onnx::{self, ReadOptions};
use crate::tensor::{NamedTensors, num};

/// Refuses a module with a value that by its shape alone takes more memory than the interpreter would be allowed.
///
/// # Errors
/// When there is one.
pub(super) fn fits_memory(module: &Module) -> Result<(), ConvertError> {
    let limit = limits::MEMORY_BYTES.get();
    let functions = module.functions.iter().chain(&module.bodies);
    for value in functions.flat_map(|f| &f.values) {
        let mut sizes = value.ty.shape.iter().filter_map(crate::ir::Dim::known);
        let elements = sizes.try_fold(1u64, |n, size| n.checked_mul(num::u64_of(size)));
        let bits = elements.and_then(|n| n.checked_mul(u64::from(value.ty.dtype.bits())));
        if bits.is_none_or(|bits| bits / 8 > limit) {
            return Err(ConvertError::EngineMemory {
                value: value.name.clone(),
                shape: crate::ir::display_shape(&value.ty.shape),
                limit,
            });
        }
    }
    Ok(())
}

/// Refuses an ONNX file that is not valid, or asks for more memory than the interpreter would be allowed with these inputs. What our reader only
/// does not support may still be run.
///
/// # Errors
/// When it is refused.
pub(super) fn file(path: &Path, inputs: &NamedTensors) -> Result<()> {
    let unsound = |class| match class {
        Class::Invalid | Class::Io | Class::Unsafe => true,
        Class::Unsupported | Class::Usage | Class::Verification => false,
    };
    match onnx::read(path, &ReadOptions::default()) {
        Ok(read) => fits_memory(&read.module)?,
        Err(error) if unsound(error.class()) => return Err(error),
        Err(_) => {}
    }
    let shapes = inputs
        .iter()
        .map(|(name, t)| (name.clone(), t.shape().to_vec()));
    let given = ReadOptions {
        shapes: shapes.collect(),
        ..ReadOptions::default()
    };
    // Inputs that do not fit are the engine's to name.
    match onnx::read(path, &given) {
        Ok(read) => Ok(fits_memory(&read.module)?),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Builder, Domain, Type};
    use crate::tensor::DType;

    #[test]
    fn a_value_beyond_memory_is_named() {
        let module = |n: usize| {
            let mut b = Builder::new("m");
            let ty = Type::known(DType::F32, &[n, 1 << 20]);
            let x = b.param("wide", ty, Domain::Any).unwrap();
            b.output("y", x).unwrap();
            b.finish().unwrap()
        };
        fits_memory(&module(1 << 10)).unwrap();
        let error = fits_memory(&module(1 << 20)).unwrap_err();
        let limit = limits::MEMORY_BYTES.get();
        assert_eq!(
            error.to_string(),
            format!(
                "`wide` of shape [1048576, 1048576] takes more than {limit} bytes, so no engine is given the model"
            )
        );
    }
}
