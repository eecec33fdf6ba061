//! Forms decoded element by element, streamed, and after transforms.

use super::*;

fn int(dtype: DType, shape: Vec<usize>, values: Vec<i64>) -> Constant {
    Constant::from_tensor("q", &Tensor::int(dtype, shape, values).unwrap()).unwrap()
}

fn float(shape: Vec<usize>, values: Vec<f32>) -> Constant {
    Constant::from_tensor("f", &Tensor::f32(shape, values).unwrap()).unwrap()
}

fn made(form: Compression) -> Constant {
    Constant::compressed("w", form).unwrap()
}

fn values(constant: &Constant) -> Vec<f32> {
    constant.read().unwrap().floats().unwrap().to_vec()
}

fn streamed(constant: &Constant) -> Tensor {
    let mut bytes = Vec::new();
    constant
        .stream(&mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
    Tensor::from_le_bytes(constant.dtype(), constant.shape().to_vec(), &bytes).unwrap()
}

/// Two blocks along each axis; the fourth bit is a sign.
fn affine() -> Compression {
    let data = int(DType::I4, vec![2, 4], vec![-8, 7, 1, 2, 3, -1, 0, 5]);
    Compression {
        affine: Some(Affine {
            scale: float(vec![2, 2], vec![1.0, 10.0, 100.0, 1000.0]),
            offset: Some(int(DType::I4, vec![2, 2], vec![0, 1, -1, 2])),
        }),
        ..Compression::of(data)
    }
}

/// Tables of entries of two, one table for each half of the columns.
fn palette(vector_axis: usize) -> Compression {
    let data = int(DType::U1, vec![2, 2], vec![0, 1, 1, 0]);
    let table = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    Compression {
        palette: Some(Palette {
            lut: float(vec![1, 2, 2, 2], table),
            vector_axis,
        }),
        ..Compression::of(data)
    }
}

fn sparse() -> Compression {
    Compression {
        mask: Some(int(DType::U1, vec![2, 3], vec![1, 0, 0, 1, 1, 0])),
        ..Compression::of(float(vec![3], vec![5.0, 6.0, 7.0]))
    }
}

#[test]
fn affine_maps_of_blocks() {
    let expected = vec![-8.0, 7.0, 0.0, 10.0, 400.0, 0.0, -2000.0, 3000.0];
    assert_eq!(values(&made(affine())), expected);
}

#[test]
fn entries_of_tables_lie_along_an_axis() {
    let down = [1.0, 7.0, 2.0, 8.0, 3.0, 5.0, 4.0, 6.0];
    let constant = made(palette(0));
    assert_eq!(constant.shape(), [4, 2]);
    assert_eq!(values(&constant), down);
    let across = [1.0, 2.0, 7.0, 8.0, 3.0, 4.0, 5.0, 6.0];
    let constant = made(palette(1));
    assert_eq!(constant.shape(), [2, 4]);
    assert_eq!(values(&constant), across);
}

#[test]
fn what_no_mask_sets_is_zero() {
    let constant = made(sparse());
    assert_eq!(values(&constant), [5.0, 0.0, 0.0, 6.0, 7.0, 0.0]);
    let vector = made(Compression {
        dense: false,
        ..sparse()
    });
    assert_eq!(values(&vector), [5.0, 6.0, 7.0]);
    let mut joint = sparse();
    joint.data = int(DType::U1, vec![3], vec![1, 0, 1]);
    joint.palette = Some(Palette {
        lut: float(vec![1, 1, 2, 1], vec![2.0, 3.0]),
        vector_axis: 0,
    });
    joint.affine = Some(Affine {
        scale: float(vec![2, 1], vec![10.0, 100.0]),
        offset: Some(float(vec![2, 1], vec![1.0, 0.0])),
    });
    assert_eq!(values(&made(joint)), [20.0, 0.0, 0.0, 200.0, 300.0, 0.0]);
}

#[test]
fn streaming_equals_reading_and_transforms_keep_the_form() {
    let halves = |c: &Constant| c.cast(DType::F16);
    for form in [affine(), palette(0), palette(1), sparse()] {
        let constant = made(form);
        let rows = constant.shape()[0];
        let wide: Vec<usize> = [&[1], constant.shape(), &[1]].concat();
        let cases = [
            constant.clone(),
            halves(&constant),
            constant.transpose().unwrap(),
            constant.rows(rows / 2, rows / 2).unwrap(),
            halves(&constant.reshape(wide).unwrap()),
        ];
        for case in cases {
            let read = case.read().unwrap();
            assert_eq!(streamed(&case), read, "{:?}", case.transforms());
            if let Some(form) = case.compression().unwrap() {
                let again = made(form).read().unwrap();
                assert_eq!(again, read, "{:?}", case.transforms());
            } else {
                // A mask is in the order of its elements, and vectors across rows are not cut.
                let form = constant.stored_form().unwrap();
                assert!(form.mask.is_some() || form.palette.is_some());
            }
        }
    }
}

#[test]
fn a_scalar_is_decoded_at_once() {
    let form = |shape: &[usize]| Compression {
        affine: Some(Affine {
            scale: float(shape.to_vec(), vec![0.5]),
            offset: Some(int(DType::I8, shape.to_vec(), vec![-3])),
        }),
        ..Compression::of(int(DType::I8, shape.to_vec(), vec![50]))
    };
    let scalar = made(form(&[]));
    assert!(!scalar.is_compressed());
    assert_eq!((scalar.shape(), values(&scalar)), (&[][..], vec![26.5]));
    assert_eq!(streamed(&scalar), scalar.read().unwrap());
    // What becomes one is none of the forms any more.
    let vector = made(form(&[1])).reshape(vec![]).unwrap();
    assert!(vector.compression().unwrap().is_none());
    assert_eq!(values(&vector), [26.5]);
}

#[test]
fn scales_too_small_for_half_precision_keep_no_form() {
    let mut form = affine();
    let small = float(vec![2, 2], vec![1.0, 1e-6, 1.0, 1.0]);
    form.affine = Some(Affine {
        scale: small,
        offset: None,
    });
    let constant = made(form).cast(DType::F16);
    assert!(constant.compression().unwrap().is_none());
    assert_eq!(streamed(&constant), constant.read().unwrap());
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let mut scale = affine();
    scale.affine = Some(Affine {
        scale: float(vec![2, 3], vec![1.0; 6]),
        offset: None,
    });
    let mut table = palette(0);
    table.palette = Some(Palette {
        lut: float(vec![1, 2, 4, 1], vec![1.0; 8]),
        vector_axis: 0,
    });
    let mut axis = palette(0);
    if let Some(palette) = &mut axis.palette {
        palette.vector_axis = 2;
    }
    let mut long = palette(0);
    long.data = int(DType::U1, vec![1 << 20, 1], vec![0; 1 << 20]);
    long.palette = Some(Palette {
        lut: float(vec![1, 1, 2, 1 << 10], vec![0.0; 1 << 11]),
        vector_axis: 1,
    });
    for form in [scale, table, axis, long] {
        assert!(Constant::compressed("w", form).is_err());
    }
    let mut few = sparse();
    few.data = float(vec![2], vec![5.0, 6.0]);
    assert!(made(few).read().is_err());
}

#[test]
fn packed_bytes_have_nothing_behind_the_last_element() {
    use crate::tensor::Region;
    let region = Region::Inline(vec![0xff, 0xff].into());
    let bits = Constant::from_region("m", DType::U1, vec![9], region).unwrap();
    let bytes = bits.packed_bytes().unwrap().read().unwrap();
    assert_eq!(bytes.ints().unwrap().to_vec(), [255, 1]);
    let mut out = Vec::new();
    bits.stream(&mut |part| {
        out.extend_from_slice(part);
        Ok(())
    })
    .unwrap();
    assert_eq!(out, [255, 1]);
}
