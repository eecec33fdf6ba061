//! PNG and JPEG files as pixels of eight bits. What the file leaves open is refused, not guessed: sixteen bits, transparency, four inks.

use std::io::Cursor;
use std::path::Path;

use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::error::{Class, Context, Diagnostic, Result};
use crate::limits;
use crate::tensor::{SourceFile, num};

/// What can be wrong with an image file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Another format.
    #[error("a PNG or JPEG file expected, found {found} as its first bytes")]
    Format {
        /// The first bytes.
        found: String,
    },
    /// More bytes than an image of the largest size can have.
    #[error("{found} bytes are more than an image of {limit} pixels has")]
    Bytes {
        /// Bytes of the file.
        found: u64,
        /// The cap on pixels.
        limit: u64,
    },
    /// More pixels than allowed.
    #[error("{width}×{height} pixels are more than the limit of {limit}")]
    Pixels {
        /// Pixels across.
        width: u64,
        /// Pixels down.
        height: u64,
        /// The limit.
        limit: u64,
    },
    /// Damaged.
    #[error("not a sound {format} file: {reason}")]
    Damaged {
        /// `PNG` or `JPEG`.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// Something that has no single meaning as red, green and blue.
    #[error("an image with {what} is not read")]
    Unread {
        /// What.
        what: &'static str,
    },
}

impl Diagnostic for ImageError {
    fn class(&self) -> Class {
        match self {
            ImageError::Unread { .. } => Class::Unsupported,
            ImageError::Format { .. }
            | ImageError::Bytes { .. }
            | ImageError::Pixels { .. }
            | ImageError::Damaged { .. } => Class::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        "bad_image"
    }

    fn hint(&self) -> Option<String> {
        match self {
            ImageError::Bytes { .. } | ImageError::Pixels { .. } => {
                Some(limits::IMAGE_PIXELS.hint())
            }
            ImageError::Unread { .. } => {
                Some("save it as RGB or grey with 8 bits per channel and no transparency".into())
            }
            ImageError::Format { .. } => {
                Some("tensors are given with --inputs FILE.npz or FILE.safetensors".into())
            }
            ImageError::Damaged { .. } => None,
        }
    }
}

/// An image, row by row from the top, each pixel red, green, blue or one grey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `height · width · channels` numbers.
    pub pixels: Vec<u8>,
    /// Whether there was an alpha channel, opaque everywhere, that was left out.
    pub dropped_alpha: bool,
}

/// Reads a PNG or JPEG file.
///
/// # Errors
/// When it is neither, damaged, larger than `image-pixels`, or has more than eight bits, transparent pixels or four inks.
pub fn read_image(path: &Path) -> Result<Image> {
    let file = SourceFile::open(path)?;
    let found = file.len();
    let limit = limits::IMAGE_PIXELS.get();
    // Four channels of sixteen bits, which no compression of these formats makes larger than this.
    if found > limit.saturating_mul(16).saturating_add(1 << 20) {
        return Err(ImageError::Bytes { found, limit }).at_file(path);
    }
    let mut bytes = vec![0; num::usize_of(found)];
    file.read_at(0, &mut bytes)?;
    decode(&bytes).at_file(path)
}

/// Reads an image in memory.
///
/// # Errors
/// As [`read_image`].
pub(super) fn decode(bytes: &[u8]) -> Result<Image, ImageError> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => png(bytes),
        [0xff, 0xd8, 0xff, ..] => jpeg(bytes),
        _ => {
            let first: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
            let found = if first.is_empty() {
                "nothing".to_owned()
            } else {
                format!("`{}`", first.join(" "))
            };
            Err(ImageError::Format { found })
        }
    }
}

/// The number of pixels, if it is allowed.
fn pixels(width: u64, height: u64) -> Result<usize, ImageError> {
    let limit = limits::IMAGE_PIXELS.get();
    match width.checked_mul(height).filter(|&n| n <= limit && n > 0) {
        Some(n) => Ok(num::usize_of(n)),
        None => Err(ImageError::Pixels {
            width,
            height,
            limit,
        }),
    }
}

fn png(bytes: &[u8]) -> Result<Image, ImageError> {
    let damaged = |reason: String| ImageError::Damaged {
        format: "PNG",
        reason,
    };
    let cap = num::usize_of(limits::IMAGE_PIXELS.get().saturating_mul(16));
    let limits = png::Limits { bytes: cap };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    // Palettes and fewer than eight bits become whole bytes; text is not of interest.
    decoder.set_transformations(png::Transformations::EXPAND);
    decoder.set_ignore_text_chunk(true);
    let header = decoder
        .read_header_info()
        .map_err(|e| damaged(e.to_string()))?;
    let (width, height) = (u64::from(header.width), u64::from(header.height));
    let count = pixels(width, height)?;
    if header.bit_depth == png::BitDepth::Sixteen {
        return Err(ImageError::Unread {
            what: "sixteen bits per channel",
        });
    }
    let mut reader = decoder.read_info().map_err(|e| damaged(e.to_string()))?;
    if reader.info().is_animated() {
        return Err(ImageError::Unread {
            what: "several frames",
        });
    }
    let (color, _) = reader.output_color_type();
    let channels = color.samples();
    let size = count.checked_mul(channels);
    let size = size.filter(|&n| reader.output_buffer_size() == Some(n));
    let size = size.ok_or_else(|| damaged("its header contradicts itself".into()))?;
    let mut raw = vec![0; size];
    reader
        .next_frame(&mut raw)
        .map_err(|e| damaged(e.to_string()))?;
    reader.finish().map_err(|e| damaged(e.to_string()))?;
    let has_alpha = matches!(color, png::ColorType::GrayscaleAlpha | png::ColorType::Rgba);
    if has_alpha {
        if raw.chunks_exact(channels).any(|p| p.last() != Some(&255)) {
            return Err(ImageError::Unread {
                what: "transparent pixels",
            });
        }
        let opaque = raw.chunks_exact(channels).flat_map(|p| &p[..channels - 1]);
        raw = opaque.copied().collect();
    }
    Ok(Image {
        width: num::usize_of(width),
        height: num::usize_of(height),
        channels: channels - usize::from(has_alpha),
        pixels: raw,
        dropped_alpha: has_alpha,
    })
}

fn jpeg(bytes: &[u8]) -> Result<Image, ImageError> {
    let damaged = |reason: String| ImageError::Damaged {
        format: "JPEG",
        reason,
    };
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder
        .decode_headers()
        .map_err(|e| damaged(e.to_string()))?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| damaged("it has no header".into()))?;
    let count = pixels(num::u64_of(width), num::u64_of(height))?;
    let (color, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        Some(ColorSpace::YCbCr | ColorSpace::RGB) => (ColorSpace::RGB, 3),
        Some(_) | None => return Err(ImageError::Unread { what: "four inks" }),
    };
    let options = decoder.options().jpeg_set_out_colorspace(color);
    decoder.set_options(options);
    let pixels = decoder.decode().map_err(|e| damaged(e.to_string()))?;
    if count.checked_mul(channels) != Some(pixels.len()) {
        return Err(damaged(
            "it has another number of pixels than it says".into(),
        ));
    }
    Ok(Image {
        width,
        height,
        channels,
        pixels,
        dropped_alpha: false,
    })
}
