//! Makes the outer checks of a format good again, so that a damaged file gets further. The fuzz targets share it.

/// What repairs a damaged file for this reader.
pub fn of(reader: &str) -> fn(&mut [u8]) {
    match reader {
        "safetensors" => header_length,
        "checkpoint" | "npz" => members,
        "image" => chunks,
        _ => |_| {},
    }
}

/// Makes the length of a safetensors header that of the JSON that is there.
fn header_length(bytes: &mut [u8]) {
    if bytes.len() < 10 {
        return;
    }
    let (mut depth, mut in_text, mut escaped) = (0i64, false, false);
    for at in 8..bytes.len() {
        match bytes[at] {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => {
                depth -= 1;
                if depth == 0 {
                    let spaces = bytes[at + 1..].iter().take_while(|&&b| b == b' ').count();
                    let len = (at + 1 - 8 + spaces) as u64;
                    bytes[..8].copy_from_slice(&len.to_le_bytes());
                    return;
                }
            }
            _ => {}
        }
    }
}

/// Makes the checksums and sizes of stored members of an archive those of the bytes that are there.
fn members(bytes: &mut [u8]) {
    let word = |bytes: &[u8], at: usize| -> Option<usize> {
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(word) as usize)
    };
    let half = |bytes: &[u8], at: usize| -> Option<usize> {
        let half = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(u16::from_le_bytes(half)))
    };
    let starts: Vec<usize> = (0..bytes.len().saturating_sub(46))
        .filter(|&at| bytes[at..].starts_with(b"PK\x01\x02"))
        .collect();
    for at in starts {
        let parts = || -> Option<(usize, usize, usize)> {
            let (method, size, local) = (
                half(bytes, at + 10)?,
                word(bytes, at + 20)?,
                word(bytes, at + 42)?,
            );
            let data = local
                .checked_add(30)?
                .checked_add(half(bytes, local.checked_add(26)?)?)?
                .checked_add(half(bytes, local.checked_add(28)?)?)?;
            (method == 0 && data.checked_add(size)? <= bytes.len()).then_some((local, data, size))
        };
        let Some((local, data, size)) = parts() else {
            continue;
        };
        let crc = crc32fast::hash(&bytes[data..data + size]).to_le_bytes();
        // PyTorch and zip write descriptors or not: both headers hold the checksum unless a flag says otherwise.
        let described = bytes[local + 6] & 8 != 0;
        bytes[at + 16..at + 20].copy_from_slice(&crc);
        if !described {
            bytes[local + 14..local + 18].copy_from_slice(&crc);
        }
    }
}

/// Makes the checksums of a PNG file's chunks those of the bytes that are there.
fn chunks(bytes: &mut [u8]) {
    if !bytes.starts_with(b"\x89PNG") {
        return;
    }
    let mut at = 8usize;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = length.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
        let end = at + 8 + length;
        if bytes.len() < end + 4 {
            return;
        }
        let crc = crc32fast::hash(&bytes[at + 4..end]).to_be_bytes();
        bytes[end..end + 4].copy_from_slice(&crc);
        at = end + 4;
    }
}
