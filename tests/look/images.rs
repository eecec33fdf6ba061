//! JPEG files against what another decoder makes of them: Pillow's libjpeg-turbo (`scripts/fixtures/jpeg_images.py`).

use std::collections::BTreeMap;

use distill_convert::source::{read_image, read_tensors};

use crate::common::root;

/// Largest and mean difference in steps of 256 that were measured. The standard leaves the rounding of the transform and of the colours open,
/// and says nothing of how colours of half the size are enlarged.
const MEASURED: [(&str, f64, f64); 9] = [
    ("gray", 1.0, 0.009),
    ("rgb", 1.0, 0.012),
    ("444", 2.0, 0.019),
    ("progressive444", 2.0, 0.022),
    ("422", 3.0, 0.207),
    ("420", 3.0, 0.413),
    ("coarse", 3.0, 0.359),
    ("progressive", 3.0, 0.384),
    ("restart", 3.0, 0.358),
];

#[test]
fn jpeg_files_have_the_pixels_that_pillow_finds() {
    let folder = root().join("tests/fixtures/images/jpeg");
    let expected = read_tensors(&folder.join("pillow.npz")).unwrap();
    let measured: BTreeMap<&str, (f64, f64)> = MEASURED.map(|(n, l, m)| (n, (l, m))).into();
    assert_eq!(expected.len(), measured.len());
    for (name, expected) in &expected {
        let image = read_image(&folder.join(format!("{name}.jpg"))).unwrap();
        let shape = [image.height, image.width, image.channels];
        assert_eq!(expected.shape(), shape, "{name}");
        let pairs = image.pixels.iter().zip(expected.to_f64());
        let off: Vec<f64> = pairs.map(|(&a, b)| (f64::from(a) - b).abs()).collect();
        let largest = off.iter().copied().fold(0.0, f64::max);
        let mean = off.iter().sum::<f64>() / off.len() as f64;
        let (most, average) = measured[name.as_str()];
        println!("{name}: largest difference {largest}, mean {mean:.4}");
        assert!(
            largest <= most && mean <= average,
            "{name}: {largest} {mean}"
        );
        // The picture is not flat: a decoder that loses its details or colours is far away.
        let channels: Vec<Vec<u8>> = (0..image.channels)
            .map(|c| {
                image
                    .pixels
                    .iter()
                    .skip(c)
                    .step_by(image.channels)
                    .copied()
                    .collect()
            })
            .collect();
        for channel in channels {
            let range = channel.iter().max().unwrap() - channel.iter().min().unwrap();
            assert!(range > 100, "{name}: {range}");
        }
    }
}
