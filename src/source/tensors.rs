//! Tensor files: the inputs, outputs and references of a run, as `.safetensors` or `.npz`.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::SourceError;
use super::{atomic, npz, safetensors, sniff};
use crate::error::{Context, Diagnostic, Result, io_error};
use crate::files::{FilesError, Place};
use crate::tensor::{NamedTensors, Region, SourceFile, Tensor};

/// The metadata key, and the comment of an archive, by which this program knows its own files again.
const PRODUCER_KEY: &str = "producer";
/// The value of [`PRODUCER_KEY`].
pub(super) const PRODUCER: &str = "distill-convert";

/// The metadata entry by which this program knows its own safetensors files again.
pub(super) fn mark() -> (String, String) {
    (PRODUCER_KEY.to_owned(), PRODUCER.to_owned())
}

/// Whether the metadata has [`mark`].
pub(super) fn has_mark(metadata: &BTreeMap<String, String>) -> bool {
    metadata.get(PRODUCER_KEY).is_some_and(|p| p == PRODUCER)
}

/// The kinds of tensor files.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Safetensors,
    Npz,
}

fn kind(path: &Path) -> Result<Kind> {
    let extension = path.extension().and_then(|e| e.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("safetensors") => Ok(Kind::Safetensors),
        Some("npz") => Ok(Kind::Npz),
        Some(_) | None => {
            if sniff::has_pickle_name(path) {
                return Err(sniff::pickle_name_error()).at_file(path);
            }
            Err(SourceError::TensorFileKind).at_file(path)
        }
    }
}

/// Reads every tensor of a `.safetensors` or `.npz` file.
///
/// # Numerics
/// `f64` elements are rounded to `f32`, as in every [`Tensor`].
///
/// # Errors
/// When the file is malformed, unsafe (an object array is a pickle), too large, or has an element type that is not supported.
pub fn read_tensors(path: &Path) -> Result<NamedTensors> {
    let kind = kind(path)?;
    let metadata = path.metadata().map_err(io_error("open", path))?;
    if !metadata.is_file() {
        return Err(SourceError::NotAFile).at_file(path);
    }
    match kind {
        Kind::Safetensors => {
            let file = SourceFile::open(path)?;
            let mut out = BTreeMap::new();
            for (name, t) in safetensors::read_header(&file)?.tensors {
                let bytes = Region::File(t.region).read()?;
                let tensor = Tensor::from_le_bytes(t.dtype, t.shape, &bytes)
                    .at_tensor(&name)
                    .at_file(path)?;
                out.insert(name, tensor);
            }
            Ok(out)
        }
        Kind::Npz => npz::read(path).at_file(path),
    }
}

/// The place of a `.safetensors` or `.npz` file, taken before its tensors are computed.
#[derive(Debug)]
pub struct TensorPlace {
    place: Place,
    kind: Kind,
}

impl TensorPlace {
    /// Takes the place. An existing file is replaced only if this program wrote it.
    ///
    /// # Errors
    /// When the name says no kind of file, another program's file is in the way, or the folder cannot be written to.
    pub fn at(path: &Path) -> Result<Self> {
        let kind = kind(path)?;
        match Place::at(path, |p| is_ours(p, kind)) {
            Ok(place) => Ok(TensorPlace { place, kind }),
            Err(e) if e.code() == FilesError::Exists.code() => {
                Err(SourceError::Foreign).at_file(path)
            }
            Err(e) => Err(e),
        }
    }

    /// Writes the tensors, whole or not at all. Equal tensors give equal bytes.
    ///
    /// # Errors
    /// When the kind of file cannot hold an element type or name, when another program's file is in the way, or when the system refuses.
    pub fn write(self, tensors: &NamedTensors) -> Result<()> {
        let kind = self.kind;
        atomic::fill(
            self.place,
            |p| is_ours(p, kind),
            |out| match kind {
                Kind::Safetensors => safetensors::write(tensors, &BTreeMap::from([mark()]), out),
                Kind::Npz => npz::write(tensors, out),
            },
        )
    }
}

/// Writes `tensors` as a `.safetensors` or `.npz` file.
///
/// # Errors
/// As [`TensorPlace::at`] and [`TensorPlace::write`].
pub fn write_tensors(path: &Path, tensors: &NamedTensors) -> Result<()> {
    TensorPlace::at(path)?.write(tensors)
}

/// Whether this program wrote the file.
fn is_ours(path: &Path, kind: Kind) -> bool {
    match kind {
        Kind::Safetensors => {
            let header = SourceFile::open(path).and_then(|file| safetensors::read_header(&file));
            header.is_ok_and(|h| has_mark(&h.metadata))
        }
        Kind::Npz => npz::is_ours(path),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::DType;

    /// A tensor of any element type that a file can hold, with any bits in it. Infinities and NaN of `f64` and `f32` do occur.
    fn tensor(dtypes: &'static [DType]) -> impl Strategy<Value = Tensor> {
        let shape = prop::collection::vec(0usize..4, 0..4);
        (prop::sample::select(dtypes), shape, any::<u64>()).prop_map(|(dtype, shape, seed)| {
            let count: usize = shape.iter().product();
            let mut state = seed | 1;
            let mut byte = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            };
            let bytes = count * dtype.width();
            let mut bytes: Vec<u8> = (0..bytes).map(|_| byte()).collect();
            if dtype == DType::Bool {
                bytes.iter_mut().for_each(|b| *b &= 1);
            }
            Tensor::from_le_bytes(dtype, shape, &bytes).unwrap()
        })
    }

    fn named(dtypes: &'static [DType]) -> impl Strategy<Value = NamedTensors> {
        prop::collection::btree_map("[a-zA-Z0-9_./ -]{1,12}|[é-ü]{1,3}", tensor(dtypes), 0..6)
    }

    const SAFETENSORS: [DType; 13] = [
        DType::Bool,
        DType::U8,
        DType::I8,
        DType::U16,
        DType::I16,
        DType::F16,
        DType::BF16,
        DType::U32,
        DType::I32,
        DType::F32,
        DType::U64,
        DType::I64,
        DType::F64,
    ];
    const NPZ: [DType; 12] = [
        DType::Bool,
        DType::U8,
        DType::I8,
        DType::U16,
        DType::I16,
        DType::F16,
        DType::U32,
        DType::I32,
        DType::F32,
        DType::U64,
        DType::I64,
        DType::F64,
    ];

    /// NaN is not equal to itself: tensors are compared as the bytes that they are written as.
    fn bits(tensors: &NamedTensors) -> Vec<(&String, DType, &[usize], Vec<u8>)> {
        tensors
            .iter()
            .map(|(n, t)| (n, t.dtype(), t.shape(), t.to_le_bytes()))
            .collect()
    }

    /// Writes twice, reads once; the bytes of both files are equal. Returns the bytes.
    fn round_trip(name: &str, tensors: &NamedTensors) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let (path, again) = (
            dir.path().join(name),
            dir.path().join(format!("again-{name}")),
        );
        write_tensors(&path, tensors).unwrap();
        write_tensors(&again, tensors).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes, std::fs::read(&again).unwrap());
        assert_eq!(bits(&read_tensors(&path).unwrap()), bits(tensors));
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn safetensors_files_round_trip(tensors in named(&SAFETENSORS)) {
            let bytes = round_trip("x.safetensors", &tensors);
            // The format's own reader sees the same.
            let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
            prop_assert_eq!(theirs.len(), tensors.len());
            for (name, t) in &tensors {
                let view = theirs.tensor(name).unwrap();
                prop_assert_eq!(view.shape(), t.shape());
                prop_assert_eq!(view.data(), t.to_le_bytes());
            }
        }

        #[test]
        fn npz_files_round_trip(tensors in named(&NPZ)) {
            round_trip("x.npz", &tensors);
        }

        #[test]
        fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), tensors in named(&NPZ)) {
            let dir = tempfile::tempdir().unwrap();
            for name in ["x.npz", "x.safetensors"] {
                let path = dir.path().join(name);
                std::fs::write(&path, &bytes).unwrap();
                prop_assert!(read_tensors(&path).is_err());
                // A sound file with random bytes over a part of it is read or refused.
                std::fs::remove_file(&path).unwrap();
                write_tensors(&path, &tensors).unwrap();
                let mut sound = std::fs::read(&path).unwrap();
                let at = usize::from(bytes.first().copied().unwrap_or(0)) % sound.len();
                for (s, b) in sound[at..].iter_mut().zip(&bytes) {
                    *s = *b;
                }
                std::fs::write(&path, &sound).unwrap();
                let _ = read_tensors(&path);
            }
        }
    }

    #[test]
    fn their_writer_is_read() {
        let data: Vec<u8> = (0..24).collect();
        let view = |dtype, len: usize| {
            ::safetensors::tensor::TensorView::new(dtype, vec![len], &data[..len * 2]).unwrap()
        };
        let bytes = ::safetensors::serialize(
            [
                ("h", view(::safetensors::Dtype::F16, 3)),
                ("b", view(::safetensors::Dtype::BF16, 12)),
            ],
            None,
        )
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let tensors = read_tensors(&path).unwrap();
        assert_eq!(tensors["h"].dtype(), DType::F16);
        assert_eq!(tensors["h"].to_le_bytes(), data[..6]);
        assert_eq!(tensors["b"].to_le_bytes(), data);
    }
}
