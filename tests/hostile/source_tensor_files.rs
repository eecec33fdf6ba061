//! Tensor files that are broken, and outputs that would replace something.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use distill_convert::error::Error;
use distill_convert::source;
use distill_convert::tensor::{DType, NamedTensors, Tensor};

use super::{folder, sound};

/// The bytes of an archive with these members.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        zip.start_file(*name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The bytes of an array with this header.
fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

fn npz_error(bytes: &[u8]) -> Error {
    let dir = folder(&[("x.npz", bytes)]);
    source::read_tensors(&dir.path().join("x.npz")).unwrap_err()
}

#[test]
fn arrays_are_read_strictly() {
    let sound = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
    for (array, exit, code, message) in [
        (
            npy(&sound.replace("<f4", "|O"), b"\x80\x02"),
            4,
            "unsafe_format",
            "the file is an array of Python objects (a pickle), which can run code when it is loaded",
        ),
        (
            npy(&sound.replace("<f4", "O"), b"\x80\x02"),
            4,
            "unsafe_format",
            "array of Python objects",
        ),
        (
            npy(&sound.replace("<f4", ">f4"), &[0; 4]),
            1,
            "unsupported_dtype",
            "element type `>f4` is not supported in npz files",
        ),
        (
            npy(&sound.replace("<f4", "|V2"), &[0; 2]),
            1,
            "unsupported_dtype",
            "`|V2`",
        ),
        (
            npy(&sound.replace("<f4", "<c8"), &[0; 8]),
            1,
            "unsupported_dtype",
            "`<c8`",
        ),
        (
            npy(&sound.replace("<f4", "|f4"), &[0; 4]),
            1,
            "unsupported_dtype",
            "`|f4`",
        ),
        (
            npy(&sound.replace("'<f4'", "[('a', '<f4')]"), &[0; 4]),
            1,
            "unsupported_dtype",
            "`structured array`",
        ),
        (
            npy(sound, &[0; 3]),
            1,
            "bad_tensor_file",
            "f32 of shape [1] needs 4 bytes, the member has 70 with a header of 67",
        ),
        (npy(sound, &[0; 5]), 1, "bad_tensor_file", "needs 4 bytes"),
        (
            npy(&sound.replace("(1,)", "(1"), &[0; 4]),
            1,
            "bad_tensor_file",
            "expected",
        ),
        (
            npy(&sound.replace("(1,)", "(-1,)"), &[0; 4]),
            1,
            "bad_tensor_file",
            "dimension",
        ),
        (
            npy(&sound.replace("(1,)", "1"), &[0; 4]),
            1,
            "bad_tensor_file",
            "expected `(`",
        ),
        (
            npy(&sound.replace("(1,)", "(4294967296, 4294967296)"), &[0; 4]),
            4,
            "bad_tensor_range",
            "is too large",
        ),
        (
            npy(&sound.replace("False", "false"), &[0; 4]),
            1,
            "bad_tensor_file",
            "`False`",
        ),
        (
            npy(&sound.replace("}", "'shape': (1,)}"), &[0; 4]),
            1,
            "bad_tensor_file",
            "key `shape` stands twice",
        ),
        (
            npy(&sound.replace("}", "'x': 1}"), &[0; 4]),
            1,
            "bad_tensor_file",
            "unknown key `x`",
        ),
        (
            npy("{'descr': '<f4'}", &[0; 4]),
            1,
            "bad_tensor_file",
            "expected the keys",
        ),
        (
            npy(&format!("{sound} x"), &[0; 4]),
            1,
            "bad_tensor_file",
            "text after",
        ),
        (b"\x93NUMPX\x01\x00".to_vec(), 1, "bad_tensor_file", "magic"),
        (
            b"\x93NUMPY\x04\x00".to_vec(),
            1,
            "bad_tensor_file",
            "found 4.0",
        ),
        (
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
            1,
            "bad_tensor_file",
            "4294967295 bytes, expected at most 65536",
        ),
        (
            b"\x93N".to_vec(),
            1,
            "bad_tensor_file",
            "malformed `.npy` header",
        ),
    ] {
        let error = npz_error(&archive(&[("x.npy", &array)]));
        assert_eq!(
            (error.class().exit_code(), error.code()),
            (exit, code),
            "{error}"
        );
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.to_string().contains("tensor `x`"), "{error}");
    }
}

#[test]
fn archives_are_read_strictly() {
    let array = npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
        &[0, 0, 128, 63],
    );
    let good = archive(&[("x.npy", &array)]);
    let dir = folder(&[("x.npz", &good)]);
    let tensors = source::read_tensors(&dir.path().join("x.npz")).unwrap();
    assert_eq!(tensors["x"].floats().unwrap().as_slice(), [1.0]);

    for len in (0..good.len()).step_by(7) {
        assert_eq!(npz_error(&good[..len]).code(), "bad_tensor_file", "{len}");
    }
    // A flipped bit in the data does not match the archive's own sum.
    let at = good.windows(4).position(|w| w == [0, 0, 128, 63]).unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1;
    assert_eq!(npz_error(&bad).code(), "bad_tensor_file");
    assert_eq!(
        npz_error(&archive(&[("x.txt", &array)])).code(),
        "bad_tensor_file"
    );
    assert_eq!(
        npz_error(&archive(&[(".npy", &array)])).code(),
        "bad_header"
    );
    let two = archive(&[("x.npy", &array), ("y.npy", &array)]);
    let twice = replace(&two, b"y.npy", b"x.npy");
    let error = npz_error(&twice);
    assert_eq!(
        (error.class().exit_code(), error.code()),
        (4, "duplicate_key")
    );
}

/// `bytes` with every `from` replaced by `to`.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            out[at..at + to.len()].copy_from_slice(to);
        }
    }
    out
}

#[test]
fn tensor_files_of_other_kinds_and_foreign_outputs_are_refused() {
    let tensors = NamedTensors::from([("x".to_owned(), Tensor::f32(vec![1], vec![1.0]).unwrap())]);
    let dir = folder(&[
        ("a.safetensors", &sound()),
        ("a.npz", &archive(&[])),
        ("b.safetensors", b"text"),
        ("folder.npz/x", b""),
    ]);
    for (name, exit, code) in [
        ("x.npy", 2, "bad_tensor_file"),
        ("x.json", 2, "bad_tensor_file"),
        ("x.pt", 4, "unsafe_format"),
        ("a.safetensors", 2, "output_exists"),
        ("b.safetensors", 2, "output_exists"),
        ("a.npz", 2, "output_exists"),
        ("folder.npz", 2, "output_exists"),
        ("none/x.npz", 1, "io"),
    ] {
        let before = fs::read(dir.path().join(name)).ok();
        let error = source::write_tensors(&dir.path().join(name), &tensors).unwrap_err();
        assert_eq!(
            (error.class().exit_code(), error.code()),
            (exit, code),
            "{error}"
        );
        assert_eq!(fs::read(dir.path().join(name)).ok(), before);
    }
    let count = || fs::read_dir(dir.path()).unwrap().count();
    let before = count();
    for name in ["new.npz", "new.safetensors"] {
        let path = dir.path().join(name);
        // A refused tensor leaves nothing behind, not even a temporary file.
        let bad = tensors["x"].cast(DType::U4);
        let bad = NamedTensors::from([("x".to_owned(), bad)]);
        let error = source::write_tensors(&path, &bad).unwrap_err();
        assert_eq!(
            (error.class().exit_code(), error.code()),
            (1, "unsupported_dtype")
        );
        let unnamed = NamedTensors::from([(String::new(), tensors["x"].clone())]);
        assert_eq!(
            source::write_tensors(&path, &unnamed).unwrap_err().code(),
            "bad_header"
        );
        assert!(!path.exists());
    }
    assert_eq!(count(), before);
    for name in ["new.npz", "new.safetensors"] {
        // Our own file may be replaced.
        let path = dir.path().join(name);
        source::write_tensors(&path, &tensors).unwrap();
        source::write_tensors(&path, &tensors).unwrap();
        assert_eq!(source::read_tensors(&path).unwrap(), tensors);
    }
    assert_eq!(count(), before + 2);
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_the_output_is_not_followed() {
    let dir = folder(&[("victim", b"untouched")]);
    let path = dir.path().join("out.npz");
    std::os::unix::fs::symlink(dir.path().join("victim"), &path).unwrap();
    let error = source::write_tensors(&path, &NamedTensors::new()).unwrap_err();
    assert_eq!(error.code(), "output_exists");
    assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"untouched");
}

#[test]
fn a_file_of_numpy_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/numpy.npz");
    let t = source::read_tensors(&path).unwrap();
    assert_eq!(t.len(), 10);
    assert_eq!(t["f4"].shape(), [2, 3]);
    assert_eq!(t["f4"].floats().unwrap()[0], -1.0);
    assert_eq!(t["f8"].shape(), [0usize; 0]);
    assert_eq!(t["f8"].floats().unwrap().as_slice(), [0.5]);
    assert_eq!(t["f2"].floats().unwrap().as_slice(), [1.5, f32::INFINITY]);
    assert_eq!(t["fortran"].shape(), [2, 3, 4]);
    let counted: Vec<i64> = (0..24).collect();
    assert_eq!(t["fortran"].ints().unwrap().as_slice(), counted);
    assert_eq!(t["b1"].bools().unwrap().as_slice(), [true, false]);
    assert_eq!(t["u8"].ints().unwrap().as_slice(), [-1]);
    assert_eq!(t["i8"].ints().unwrap().as_slice(), [i64::MIN, 7]);
    assert_eq!(t["i1"].ints().unwrap().as_slice(), [-128, 127]);
    assert_eq!(t["u2"].ints().unwrap().as_slice(), [65535]);
    assert_eq!(t["empty"].shape(), [0, 5]);
}
