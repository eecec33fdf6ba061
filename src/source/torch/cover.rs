//! Every byte of an archive, accounted for: members one after another from the first byte on, then the directory, then its end. What zip's
//! reader understood is compared with what stands in the file, so that no other reader can find anything else in it.
//!
//! # Source
//! APPNOTE.TXT 6.3.10 of PKWARE, sections 4.3 to 4.5; `miniz.c` as PyTorch 2.9 ships it for what is written.

use super::archive::malformed;
use super::error::TorchError;
use crate::error::{Result, shown};
use crate::tensor::{SourceFile, num};

/// A data descriptor follows the member.
const DESCRIPTOR: u16 = 1 << 3;
/// The name is UTF-8.
const UTF8: u16 = 1 << 11;
/// Extra fields that say nothing about names or content: long sizes, PyTorch's padding, times and owners.
const EXTRA: [u16; 6] = [0x0001, 0x4246, 0x5455, 0x7875, 0x5855, 0x000a];

/// What zip's reader says about a member.
pub(super) struct Place {
    pub(super) name: String,
    /// Where its header begins, and that in the directory.
    pub(super) header: u64,
    pub(super) listed: u64,
    /// Where its bytes begin, how many there are, and how many they stand for.
    pub(super) data: u64,
    pub(super) len: u64,
    pub(super) size: u64,
    pub(super) crc: u32,
}

/// Checks the places of all members against the file; its directory begins at `directory`.
///
/// # Errors
/// When bytes belong to nothing or to two things, or a header says something that PyTorch's own writer does not.
pub(super) fn check(file: &SourceFile, mut places: Vec<Place>, directory: u64) -> Result<()> {
    let count = places.len();
    places.sort_by_key(|p| p.header);
    let nexts: Vec<u64> = places.iter().skip(1).map(|p| p.header).collect();
    let mut at = 0;
    for (place, next) in places.iter().zip(nexts.into_iter().chain([directory])) {
        if place.header != at {
            return Err(gap(at, place.header).into());
        }
        member(file, place, next)?;
        at = next;
    }
    if count == 0 && directory != 0 {
        return Err(gap(0, directory).into());
    }
    places.sort_by_key(|p| p.listed);
    let mut at = directory;
    for place in &places {
        if place.listed != at {
            return Err(gap(at, place.listed).into());
        }
        at = listed(file, place)?;
    }
    end(file, num::u64_of(count), directory, at)
}

fn gap(from: u64, to: u64) -> TorchError {
    malformed(format!("bytes {from} to {to} belong to no member"))
}

/// A few bytes of the file, of which numbers are read.
struct Block<const N: usize>([u8; N]);

impl<const N: usize> Block<N> {
    fn read(file: &SourceFile, at: u64) -> Result<Self> {
        let mut bytes = [0; N];
        let fits = at
            .checked_add(num::u64_of(N))
            .is_some_and(|end| end <= file.len());
        if !fits {
            return Err(malformed("it ends within a header").into());
        }
        file.read_at(at, &mut bytes)?;
        Ok(Block(bytes))
    }

    /// The number of `width` bytes at `at`.
    fn number(&self, at: usize, width: usize) -> u64 {
        let bytes = self.0.iter().skip(at).take(width).rev();
        bytes.fold(0, |n, &b| (n << 8) | u64::from(b))
    }

    fn starts_with(&self, magic: &[u8]) -> bool {
        self.0.starts_with(magic)
    }
}

/// The member's own header, its extra fields, and the descriptor after its bytes; what follows begins at `next`.
fn member(file: &SourceFile, place: &Place, next: u64) -> Result<()> {
    let wrong = |what: &str| malformed(format!("member `{}` {what}", shown(&place.name)));
    let header = Block::<30>::read(file, place.header)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(wrong("has no header").into());
    }
    let flags = flags(header.number(6, 2), place)?;
    let extra_len = header.number(28, 2);
    let extra = place.header + 30 + header.number(26, 2);
    if extra + extra_len != place.data {
        return Err(wrong("does not begin where its header ends").into());
    }
    extra_fields(file, place, extra, extra_len)?;
    let after = place.data.checked_add(place.len).filter(|&end| end <= next);
    let Some(after) = after else {
        return Err(wrong("reaches into the next").into());
    };
    match (flags & DESCRIPTOR != 0, next - after) {
        (false, 0) => Ok(()),
        (true, 16) => descriptor::<16>(file, place, after, 4),
        (true, 24) => descriptor::<24>(file, place, after, 8),
        _ => Err(gap(after, next).into()),
    }
}

fn descriptor<const N: usize>(
    file: &SourceFile,
    place: &Place,
    at: u64,
    width: usize,
) -> Result<()> {
    let block = Block::<N>::read(file, at)?;
    let same = block.starts_with(b"PK\x07\x08")
        && block.number(4, 4) == u64::from(place.crc)
        && block.number(8, width) == place.len
        && block.number(8 + width, width) == place.size;
    if same {
        return Ok(());
    }
    Err(malformed(format!(
        "member `{}` is described otherwise after its bytes",
        shown(&place.name)
    ))
    .into())
}

fn flags(flags: u64, place: &Place) -> Result<u16, TorchError> {
    let wrong = |what: String| malformed(format!("member `{}` {what}", shown(&place.name)));
    let flags = u16::try_from(flags).unwrap_or(u16::MAX);
    let others = flags & !(DESCRIPTOR | UTF8);
    if others != 0 {
        return Err(wrong(format!(
            "has flags {others:#06x}, which no checkpoint has"
        )));
    }
    if flags & UTF8 == 0 && !place.name.is_ascii() {
        return Err(wrong(
            "has a name that readers decode differently".to_owned(),
        ));
    }
    Ok(flags)
}

fn extra_fields(file: &SourceFile, place: &Place, at: u64, len: u64) -> Result<()> {
    let wrong = |what: String| malformed(format!("member `{}` {what}", shown(&place.name)));
    let mut done = 0;
    while done < len {
        if len - done < 4 {
            return Err(wrong("has a broken extra field".to_owned()).into());
        }
        let field = Block::<4>::read(file, at + done)?;
        let kind = field.number(0, 2);
        if !EXTRA.iter().any(|&known| u64::from(known) == kind) {
            let what = format!("has an extra field {kind:#06x}, which no checkpoint has");
            return Err(wrong(what).into());
        }
        done += 4 + field.number(2, 2);
    }
    if done != len {
        return Err(wrong("has a broken extra field".to_owned()).into());
    }
    Ok(())
}

/// The member's entry in the directory; gives where it ends.
fn listed(file: &SourceFile, place: &Place) -> Result<u64> {
    let wrong = |what: &str| malformed(format!("member `{}` {what}", shown(&place.name)));
    let entry = Block::<46>::read(file, place.listed)?;
    if !entry.starts_with(b"PK\x01\x02") {
        return Err(wrong("has no entry in the directory").into());
    }
    flags(entry.number(8, 2), place)?;
    if entry.number(32, 2) != 0 || entry.number(34, 2) != 0 {
        return Err(wrong("has a comment, or lies on another disk").into());
    }
    let extra = place.listed + 46 + entry.number(28, 2);
    let len = entry.number(30, 2);
    extra_fields(file, place, extra, len)?;
    Ok(extra + len)
}

/// The end of the directory, with or without long numbers, and nothing after it.
fn end(file: &SourceFile, count: u64, directory: u64, at: u64) -> Result<()> {
    let wrong = || malformed("the end of its directory says something else than the directory");
    let size = at - directory;
    let long = match file.len().checked_sub(at) {
        Some(22) => false,
        Some(98) => true,
        _ => return Err(malformed("bytes stand around the end of its directory").into()),
    };
    if long {
        let block = Block::<56>::read(file, at)?;
        let same = block.starts_with(b"PK\x06\x06")
            && block.number(4, 8) == 44
            && block.number(16, 8) == 0
            && block.number(24, 8) == count
            && block.number(32, 8) == count
            && block.number(40, 8) == size
            && block.number(48, 8) == directory;
        let block = Block::<20>::read(file, at + 56)?;
        let found = block.starts_with(b"PK\x06\x07")
            && block.number(4, 4) == 0
            && block.number(8, 8) == at
            && block.number(16, 4) == 1;
        if !same || !found {
            return Err(wrong().into());
        }
    }
    let block = Block::<22>::read(file, file.len() - 22)?;
    // All ones stand for a number that is among the long ones.
    let is = |at, width, expected| {
        let found = block.number(at, width);
        found == expected || (long && found == u64::MAX >> (64 - 8 * width))
    };
    let same = block.starts_with(b"PK\x05\x06")
        && block.number(4, 4) == 0
        && is(8, 2, count)
        && is(10, 2, count)
        && is(12, 4, size)
        && is(16, 4, directory)
        && block.number(20, 2) == 0;
    match same {
        true => Ok(()),
        false => Err(wrong().into()),
    }
}
