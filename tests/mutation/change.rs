//! One change to a file: bits, bytes, numbers of every width, text, lengths, parts cut out, doubled, moved and taken from elsewhere.

/// A generator of numbers that are the same on every machine (SplitMix64).
pub struct Random(u64);

impl Random {
    /// The generator for a mutant of a reader.
    pub fn new(reader: &str, number: u64) -> Self {
        let name = reader.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        Random(name ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 {
            return 0;
        }
        (self.next() % n as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Numbers that readers stumble over.
pub const NUMBERS: [u64; 22] = [
    0,
    1,
    2,
    7,
    8,
    63,
    64,
    127,
    128,
    255,
    256,
    65535,
    65536,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 49,
    1 << 53,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Text that readers stumble over.
const TEXTS: [&str; 24] = [
    "-1",
    "0",
    "18446744073709551615",
    "9223372036854775808",
    "1e999",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "../..",
    "/etc/passwd",
    "\\u0000",
    "\u{1b}[31m",
    "\u{202e}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    ",",
    ":",
    "\n",
    "99999999",
    "-9223372036854775808",
    "0.0000001",
];

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    for (byte, new) in bytes[at..].iter_mut().zip(number) {
        *byte = *new;
    }
}

/// A place in the file: anywhere, or near its start, where lengths and headers are.
fn place(bytes: &[u8], random: &mut Random) -> usize {
    let reach = match random.below(3) {
        0 => bytes.len().min(64),
        1 => bytes.len().min(1024),
        _ => bytes.len(),
    };
    random.below(reach)
}

/// Changes the file once. `other` is another sound file.
pub fn once(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
        return;
    }
    let at = place(bytes, random);
    match random.below(15) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => {
            let number = random.pick(&NUMBERS).to_le_bytes();
            let width = 1 << random.below(4);
            put(bytes, at, &number[..width]);
        }
        3 => {
            // A number that is there, a little more or less.
            let width = 1 << random.below(4);
            let mut wide = [0; 8];
            let end = bytes.len().min(at + width);
            wide[..end - at].copy_from_slice(&bytes[at..end]);
            let step = random.pick(&[1, 2, 8, 64, u64::MAX, u64::MAX - 7]);
            let number = u64::from_le_bytes(wide).wrapping_add(*step);
            put(bytes, at, &number.to_le_bytes()[..width]);
        }
        4 => {
            // The length of the file, or what is left of it.
            let len = bytes.len() as u64;
            let number = *random.pick(&[len, len - at as u64, len.wrapping_sub(8), len + 1]);
            put(bytes, at, &number.to_le_bytes()[..1 << random.below(4)]);
        }
        5 => bytes.truncate(at),
        6 => {
            let end = (at + random.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
        7 => {
            let end = (at + 1 + random.below(256)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            let times = 1 + random.below(4) * random.below(50);
            let to = random.below(bytes.len());
            bytes.splice(to..to, part.repeat(times));
        }
        8 => {
            // A part of another file.
            let from = random.below(other.len());
            let len = random.below(other.len() - from + 1).min(4096);
            let end = (at + random.below(len + 1)).min(bytes.len());
            bytes.splice(at..end, other[from..from + len].to_vec());
        }
        9 => {
            // The start of this file with the end of another.
            let cut = random.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[cut..]);
        }
        10 => {
            // A variable-length number: never ending, longest, or ending too soon.
            let varint: &[u8] = match random.below(4) {
                0 => &[0xff; 10],
                1 => &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                2 => &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
                _ => &[0xff, 0xff, 0xff, 0xff, 0x0f],
            };
            let end = (at + random.below(3)).min(bytes.len());
            bytes.splice(at..end, varint.iter().copied());
        }
        11 | 12 => text(bytes, random),
        13 => {
            let end = (at + random.below(32)).min(bytes.len());
            let fill = random.pick(&[0, 0xff, b' ', b'(', b'[', b'{', 0x80]);
            bytes[at..end].fill(*fill);
        }
        _ => {
            let n = random.below(2000);
            let fill = *random.pick(&[0, b'(', b'[', b'{', b')', 0x85, b'h', b'"', 0x0a, 0x12]);
            bytes.splice(at..at, std::iter::repeat_n(fill, n));
        }
    }
}

/// Replaces a number or a word of text, if there is one.
fn text(bytes: &mut Vec<u8>, random: &mut Random) {
    let is = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.' || b == b'-';
    let from = random.below(bytes.len());
    let Some(start) = (from..bytes.len()).find(|&i| is(bytes[i])) else {
        return;
    };
    let end = (start..bytes.len()).find(|&i| !is(bytes[i]));
    let end = end.unwrap_or(bytes.len()).min(start + 64);
    let word = random.pick(&TEXTS);
    bytes.splice(start..end, word.bytes());
}
