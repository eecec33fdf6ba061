//! Constants → their places in a new file, in the order in which their sources are stored: every source file is read once, from its beginning
//! to its end, and whoever hashes it meanwhile need not read it again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use super::stream::Scratch;
use super::{Constant, Transform};
use crate::error::{Context, Result};
use crate::limits;
use crate::tensor::{Region, SourceFile, TargetFile, TensorError, Turn, num};

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
    let mut files: Vec<_> = jobs.iter().filter_map(|job| job.constant.file()).collect();
    files.dedup_by_key(|file| Arc::as_ptr(file));
    let crew = Crew {
        files: files.into_iter().cloned().collect(),
        most: jobs.len(),
        jobs: Mutex::new(Jobs {
            waiting: jobs.into(),
            missed: VecDeque::new(),
            threads: 1,
        }),
        failed: AtomicBool::new(false),
        work,
    };
    std::thread::scope(|scope| crew.work(scope))
}

/// Threads that do jobs.
struct Crew<'a> {
    jobs: Mutex<Jobs>,
    /// The files that sources are in.
    files: Vec<Arc<SourceFile>>,
    /// How many jobs there are.
    most: usize,
    failed: AtomicBool,
    work: &'a (dyn Fn(&Placed, &mut Scratch) -> Result<()> + Sync),
}

#[derive(Debug)]
struct Jobs {
    /// In the order in which their sources are stored.
    waiting: VecDeque<Placed>,
    /// Those that a thread that hashes their source has passed.
    missed: VecDeque<Placed>,
    /// How many threads do them.
    threads: usize,
}

impl Crew<'_> {
    /// Does jobs until there are none, and has other threads do so, too: as many as there are cores, but for the one that hashes a source, which
    /// cannot be divided and takes longest; when it is through, its core does what is left.
    fn work<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) -> Result<()> {
        let mut scratch = Scratch::default();
        let mut others = Vec::new();
        let mut result = Ok(());
        while let Some(job) = self.next() {
            while self.has_core() {
                others.push(scope.spawn(|| self.work(scope)));
            }
            result = (self.work)(&job, &mut scratch);
            if result.is_err() {
                self.failed.store(true, Ordering::Relaxed);
                break;
            }
        }
        others.into_iter().fold(result, |result, other| {
            let theirs = other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(theirs)
        })
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Placed> {
        let failed = self.failed.load(Ordering::Relaxed);
        self.jobs().next().filter(|_| !failed)
    }

    /// Whether there is a core for another thread, which is counted then.
    fn has_core(&self) -> bool {
        let followed = self.files.iter().any(|file| file.is_followed());
        let most = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .saturating_sub(usize::from(followed))
            .min(limits::WRITER_THREADS)
            .min(self.most);
        let mut jobs = self.jobs();
        let room = jobs.threads < most && !jobs.is_empty();
        jobs.threads += usize::from(room);
        room
    }
}

impl Jobs {
    /// The next of those whose source need not be read twice. The others are done when there is nothing else to do, or it would have to wait.
    fn next(&mut self) -> Option<Placed> {
        while let Some(job) = self.waiting.pop_front() {
            match job.constant.turn() {
                Turn::Missed => self.missed.push_back(job),
                Turn::Early if !self.missed.is_empty() => {
                    self.waiting.push_front(job);
                    break;
                }
                Turn::Early | Turn::Now => return Some(job),
            }
        }
        self.missed.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.missed.is_empty()
    }
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
    /// The file that the stored bytes are in, if they are not in memory.
    fn file(&self) -> Option<&Arc<SourceFile>> {
        match &self.region {
            Region::Inline(_) => None,
            Region::File(region) => Some(&region.file),
        }
    }

    /// The first of the stored bytes that are used, and how many they are.
    fn source_bytes(&self) -> (u64, u64) {
        let start = match &self.region {
            Region::Inline(_) => 0,
            Region::File(region) => region.offset,
        };
        let bytes = |elements| self.stored_dtype.bytes_for(elements).unwrap_or_default();
        match self.contiguous() {
            Some((first, count, _)) => (start + bytes(first), bytes(count)),
            None => (start, self.region.len()),
        }
    }

    /// File, and the first byte in it; what is in memory comes first.
    fn source_place(&self) -> (PathBuf, u64) {
        let path = self.file().map(|file| file.path().to_path_buf());
        (path.unwrap_or_default(), self.source_bytes().0)
    }

    /// Whether the stored bytes are best read now. If they are many, they are: what follows them is far away.
    fn turn(&self) -> Turn {
        match (self.file(), self.source_bytes()) {
            (Some(file), (start, len)) if len <= PIECE_BYTES => file.turn(start),
            _ => Turn::Now,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::tensor::{DType, FileRegion};

    const LEN: u64 = 1 << 18;
    const COUNT: u64 = 130;

    fn jobs(file: &Arc<SourceFile>) -> VecDeque<Placed> {
        let job = |i: u64| {
            let region = Region::File(FileRegion {
                file: Arc::clone(file),
                offset: i * LEN,
                len: LEN,
            });
            let shape = vec![num::usize_of(LEN)];
            Placed {
                constant: Constant::from_region("w", DType::U8, shape, region).unwrap(),
                offset: i * LEN,
            }
        };
        (0..COUNT).map(job).collect()
    }

    #[test]
    fn what_a_hashing_thread_has_passed_is_done_when_the_rest_is_early() {
        let bytes = vec![0; num::usize_of(COUNT * LEN)];
        let file = SourceFile::in_memory(std::path::Path::new("w"), bytes);
        let mut jobs = Jobs {
            waiting: jobs(&file),
            missed: VecDeque::new(),
            threads: 1,
        };
        let (reached, is_reached) = channel();
        let (go, may_go) = channel();
        std::thread::scope(|scope| {
            let followed = Arc::clone(&file);
            scope.spawn(move || {
                let mut blocks = 0;
                let mut stop = |_: &[u8]| {
                    blocks += 1;
                    if blocks == 81 {
                        reached.send(()).unwrap();
                        may_go.recv().unwrap();
                    }
                };
                followed.follow(&mut stop).unwrap();
            });
            is_reached.recv().unwrap();
            let mut order = Vec::new();
            let mut take = |n: usize| {
                let next = std::iter::from_fn(|| jobs.next()).take(n);
                order.extend(next.map(|job| job.offset / LEN));
            };
            // The follower is at block 80, 32 blocks up to it are kept, those from 80 + 16 on are early.
            take(96);
            go.send(()).unwrap();
            while file.is_followed() {
                std::thread::yield_now();
            }
            take(100);
            let expected = (49..96).chain(0..49).chain(96..COUNT);
            assert_eq!(order, expected.collect::<Vec<_>>());
        });
    }

    #[test]
    fn every_job_is_done_once_and_an_error_is_told() {
        let bytes = vec![0; num::usize_of(COUNT * LEN)];
        let file = SourceFile::in_memory(std::path::Path::new("w"), bytes);
        let placed: Vec<Placed> = jobs(&file).into();
        std::thread::scope(|scope| {
            scope.spawn(|| file.follow(&mut |_| {}).unwrap());
            let done = Mutex::new(Vec::new());
            in_pieces(&placed, &|job, _| {
                job.constant.read()?;
                done.lock().unwrap().push(job.offset / LEN);
                Ok(())
            })
            .unwrap();
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, (0..COUNT).collect::<Vec<_>>());
        });
        let failing = in_pieces(&placed, &|job, _| match job.offset == 50 * LEN {
            true => Err(crate::error::io_error("read", std::path::Path::new("w"))(
                std::io::ErrorKind::UnexpectedEof.into(),
            )),
            false => Ok(()),
        });
        assert!(failing.is_err());
    }
}
