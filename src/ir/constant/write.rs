//! Constants → their places in a new file, in the order in which their sources are stored: every source file is read once, from its beginning
//! to its end, and whoever hashes it meanwhile need not read it again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::stream::Scratch;
use super::{Constant, Transform};
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{Region, TargetFile, TensorError, num};

/// Larger constants are written in pieces of about this size, by several threads.
const PIECE_BYTES: u64 = 16 * 1024 * 1024;

/// A constant, and where its first byte goes.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The constant.
    pub constant: Constant,
    /// The place.
    pub offset: u64,
}

/// Writes the constants to their places and tells how many bytes were written. Holds a chunk per thread, and a matrix where one has to be
/// transposed.
///
/// # Errors
/// When a constant cannot be read or gives another number of bytes than its type says, or the file cannot be written.
pub fn write_constants(
    file: &TargetFile,
    constants: &[Placed],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    in_pieces(constants, &|job: &Placed, scratch: &mut Scratch| {
        write(job, file, scratch, progress)
    })
}

/// Does `work` on constants, large ones in pieces, by several threads, in the order in which their sources are stored.
///
/// # Errors
/// When a constant cannot be cut, or the first error of `work`.
pub(super) fn in_pieces(
    constants: &[Placed],
    work: &(dyn Fn(&Placed, &mut Scratch) -> Result<()> + Sync),
) -> Result<()> {
    let mut jobs = Vec::new();
    for placed in constants {
        pieces(placed, &mut jobs)?;
    }
    jobs.sort_by_cached_key(|job| job.constant.source_place());
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let all = || -> Result<()> {
        let mut scratch = Scratch::default();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let done = work(job, &mut scratch);
            if done.is_err() {
                failed.store(true, Ordering::Relaxed);
                return done;
            }
        }
        Ok(())
    };
    let threads = threads(&jobs);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(all)).collect();
        let mine = all();
        others.into_iter().fold(mine, |result, other| {
            let theirs = other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(theirs)
        })
    })
}

/// As many threads as there are cores, but for the one that hashes a source: that cannot be divided, and takes longest.
fn threads(jobs: &[Placed]) -> usize {
    let followed = |job: &Placed| match job.constant.region() {
        Region::File(region) => region.file.is_followed(),
        Region::Inline(_) => false,
    };
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .saturating_sub(usize::from(jobs.iter().any(followed)))
        .min(limits::WRITER_THREADS)
        .min(jobs.len())
        .max(1)
}

/// Writes one piece and checks that its bytes are as many as were promised: next to them are those of a neighbour.
fn write(
    job: &Placed,
    file: &TargetFile,
    scratch: &mut Scratch,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<()> {
    let expected = job.constant.byte_len();
    let mut found = 0;
    job.constant.stream_to(job.offset, scratch, &mut |bytes| {
        let n = num::u64_of(bytes.len());
        if found + n <= expected {
            file.write_at(job.offset + found, bytes)?;
            progress(n);
        }
        found += n;
        Ok(())
    })?;
    if found == expected {
        return Ok(());
    }
    Err(TensorError::ByteCount {
        dtype: job.constant.dtype(),
        shape: job.constant.shape().to_vec(),
        expected,
        found,
    })
    .at_tensor(job.constant.name())
}

/// Splits a large constant along its first axis, where its bytes are consecutive.
fn pieces(placed: &Placed, jobs: &mut Vec<Placed>) -> Result<()> {
    let Placed { constant, offset } = placed;
    let rows = constant.shape().first().copied().unwrap_or(1);
    let row_bytes = constant.byte_len() / num::u64_of(rows.max(1));
    let consecutive = constant.dtype().bits() >= 8
        && constant.stored_dtype().bits() >= 8
        && !constant.is_compressed()
        && !constant.transforms().contains(&Transform::Transpose);
    if !consecutive || rows < 2 || constant.byte_len() <= PIECE_BYTES {
        jobs.push(placed.clone());
        return Ok(());
    }
    let step = num::usize_of((PIECE_BYTES / row_bytes.max(1)).max(1));
    for start in (0..rows).step_by(step) {
        jobs.push(Placed {
            constant: constant.rows(start, step.min(rows - start))?,
            offset: offset + num::u64_of(start) * row_bytes,
        });
    }
    Ok(())
}

impl Constant {
    /// Where the stored bytes are: file, and the first byte in it; those in memory come first.
    fn source_place(&self) -> (std::path::PathBuf, u64) {
        let Region::File(region) = &self.region else {
            return Default::default();
        };
        let first = self.contiguous().map_or(0, |(first, _, _)| first);
        let bytes = self.stored_dtype.bytes_for(first).unwrap_or_default();
        (region.file.path().to_path_buf(), region.offset + bytes)
    }
}
