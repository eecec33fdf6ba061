//! Image files as inputs of a Core ML model: colour order, layout and size as its interface has them. Scale and bias are in the program.

use std::path::{Path, PathBuf};

use super::error::ConvertError;
use super::request::ArtifactKind;
use crate::coreml::{self, Color, FeatureKind, Flexibility};
use crate::error::{Context, Result};
use crate::runtime::NamedTensors;
use crate::source::{Image, read_image};
use crate::tensor::{Tensor, num};

/// Reads image files as tensors `[1, channels, height, width]` of numbers 0 to 255, and says what had to be assumed.
///
/// # Errors
/// When an input is not an image, a file cannot be read, or its size or colours are not those of the input. Nothing is resized.
pub(super) fn read(
    model: &Path,
    function: Option<&str>,
    files: &[(String, PathBuf)],
    inputs: &mut NamedTensors,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if files.is_empty() {
        return Ok(notes);
    }
    let described = match ArtifactKind::of(model)? {
        ArtifactKind::Coreml => coreml::inputs(model, function)?,
        ArtifactKind::Onnx | ArtifactKind::Checkpoint => Vec::new(),
    };
    for (name, file) in files {
        let kind = described.iter().find(|f| f.name == *name).map(|f| &f.kind);
        let Some(FeatureKind::Image {
            width,
            height,
            color,
            flexibility,
        }) = kind
        else {
            let found = kind.map_or_else(
                || "no image input of the model".to_owned(),
                ToString::to_string,
            );
            let name = name.clone();
            return Err(ConvertError::NotImage { name, found }.into());
        };
        let image = read_image(file)?;
        let shape = [
            1,
            color.channels(),
            num::u64_of(image.height),
            num::u64_of(image.width),
        ];
        let (fits, expected) = match flexibility {
            Flexibility::Fixed => (shape[2..] == [*height, *width], format!("{width}×{height}")),
            Flexibility::Enumerated { shapes } => {
                let sizes: Vec<String> = shapes
                    .iter()
                    .filter_map(|s| Some(format!("{}×{}", s.get(3)?, s.get(2)?)))
                    .collect();
                (
                    shapes.iter().any(|s| *s == shape),
                    format!("one of {}", sizes.join(", ")),
                )
            }
            Flexibility::Range { sizes } => {
                let inside = |(r, n): (&coreml::SizeRange, u64)| r.holds(n);
                let text = |at: usize| sizes.get(at).map_or_else(String::new, ToString::to_string);
                (
                    sizes.iter().zip(shape).all(inside),
                    format!("{} × {}", text(3), text(2)),
                )
            }
        };
        if !fits {
            return Err(ConvertError::ImageSize {
                name: name.clone(),
                expected,
                found: format!("{}×{}", image.width, image.height),
            })
            .at_file(file);
        }
        if image.dropped_alpha {
            notes.push(format!(
                "the alpha channel of `{name}` is opaque and was left out"
            ));
        }
        let tensor = planes(&image, *color, name, &mut notes).at_file(file)?;
        if inputs.insert(name.clone(), tensor).is_some() {
            let name = name.clone();
            return Err(ConvertError::InputTwice { name }.into());
        }
    }
    Ok(notes)
}

/// The pixels as planes, in the order of the input's colours.
fn planes(image: &Image, color: Color, name: &str, notes: &mut Vec<String>) -> Result<Tensor> {
    let order: &[usize] = match (color, image.channels) {
        (Color::Rgb, 3) => &[0, 1, 2],
        (Color::Bgr, 3) => &[2, 1, 0],
        (Color::Rgb | Color::Bgr, _) => {
            notes.push(format!(
                "`{name}` is grey: red, green and blue are the same"
            ));
            &[0, 0, 0]
        }
        (Color::Gray | Color::GrayF16, 1) => &[0],
        (Color::Gray | Color::GrayF16, _) => {
            let name = name.to_owned();
            return Err(ConvertError::ImageColor { name }.into());
        }
    };
    let plane = |&channel: &usize| {
        let pixels = image.pixels.iter().skip(channel);
        pixels.step_by(image.channels).map(|&x| f32::from(x))
    };
    let values: Vec<f32> = order.iter().flat_map(plane).collect();
    Ok(Tensor::f32(
        vec![1, order.len(), image.height, image.width],
        values,
    )?)
}
