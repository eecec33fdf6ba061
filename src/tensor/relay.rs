//! Blocks of a file that two threads read: one every byte in order, which is how a checkpoint is hashed, the others what is converted.
//! Whoever needs a block first reads it for both, so that none is read twice and neither side waits while it could read.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::buffer::Buffer;
use super::num;
use crate::error::Result;

/// Size of a block, but for the last of a file: small enough to stay in the second-level cache of who read it, large enough that the two sides
/// seldom wait for each other.
pub(super) const BLOCK_BYTES: usize = 1 << 18;

/// How many blocks are kept at most: as many as are hashed while a matrix is written. More pages are more misses of the translation buffer.
const KEPT_BLOCKS: usize = 32;

/// How many of them the follower may still want when a reader that waits for room is woken: waking takes as long as reading.
const ENOUGH_BLOCKS: usize = KEPT_BLOCKS / 2;

/// A reader so many blocks before the follower does not go the same way: it has jumped. More than are kept.
const FAR_BLOCKS: u64 = 64;

/// How many buffers are kept to be used again.
const SPARE_BUFFERS: usize = KEPT_BLOCKS;

/// Where a part of a file is for a reader of whom a follower may have the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The follower has passed it, and nobody keeps it: it would be read once more.
    Missed,
    /// It is read for both, or for nobody else.
    Now,
    /// The follower comes to it later: who reads on from here has to wait soon.
    Early,
}

/// A block's bytes.
pub(super) type Block = Arc<Buffer>;

/// Reads the block of an index.
pub(super) type Fill<'a> = &'a dyn Fn(u64, &mut Buffer) -> Result<()>;

/// The blocks of one file between the thread that follows it and those that read parts of it.
#[derive(Debug)]
pub(super) struct Relay {
    /// How many blocks the file has.
    count: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The block where the follower is: it does not come back to those before. `None` when there is no follower.
    follower: Option<u64>,
    blocks: BTreeMap<u64, Kept>,
    spare: Vec<Buffer>,
    /// How many threads sleep.
    waiting: usize,
}

#[derive(Debug)]
enum Kept {
    /// A thread reads it now.
    Awaited,
    Read {
        block: Block,
        /// Whether a reader has had it to its end, so that only the follower still wants it.
        used: bool,
    },
}

impl Relay {
    pub(super) fn new(count: u64) -> Self {
        Relay {
            count,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a thread is on its way through the file.
    pub(super) fn is_followed(&self) -> bool {
        self.state().follower.is_some()
    }

    /// Whether the block `index` is best read now.
    pub(super) fn turn(&self, index: u64) -> Turn {
        let state = self.state();
        match state.follower {
            Some(at) if index >= at + num::u64_of(ENOUGH_BLOCKS) => Turn::Early,
            Some(at) if index < at && !state.blocks.contains_key(&index) => Turn::Missed,
            _ => Turn::Now,
        }
    }

    /// Begins to follow the file.
    pub(super) fn follower(&self) -> Follower<'_> {
        self.state().follower = Some(0);
        Follower { relay: self }
    }

    /// The block `index` for a reader, which is at its end with it if `last` says so; `None` when nobody keeps
    /// it for the other, so that the reader may as well read less. Waits while the follower is behind by all blocks that are kept.
    pub(super) fn block(&self, index: u64, last: bool, fill: Fill<'_>) -> Result<Option<Block>> {
        let mut state = self.state();
        loop {
            let passed = state.has_passed(index);
            if let Some(Kept::Read { block, used }) = state.blocks.get_mut(&index) {
                let block = block.clone();
                *used |= last;
                if *used && passed {
                    state.blocks.remove(&index);
                }
                return Ok(Some(block));
            }
            if passed || state.is_far(index) {
                return Ok(None);
            }
            state = self.advance(state, index, fill)?;
        }
    }

    /// The block `index` for the follower.
    fn next(&self, index: u64, fill: Fill<'_>) -> Result<Block> {
        let mut state = self.state();
        state.follower = Some(index);
        loop {
            if let Some(Kept::Read { block, .. }) = state.blocks.get(&index) {
                return Ok(block.clone());
            }
            state = self.advance(state, index, fill)?;
        }
    }

    /// Reads the block `index`, or, if another thread is reading it, the first after it that nobody has read: sleeping and waking take
    /// longer than reading. Sleeps only when there is no room, until another thread has gone on.
    fn advance<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        index: u64,
        fill: Fill<'_>,
    ) -> Result<MutexGuard<'a, State>> {
        let mut missing = (index..self.count).filter(|i| !state.blocks.contains_key(i));
        let missing = missing.next();
        // The follower's own block always has room: readers may wait for it to go on.
        let urgent = missing.is_some() && missing == state.follower;
        let Some(missing) = missing.filter(|_| state.make_room() || urgent) else {
            state.waiting += 1;
            let mut state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
            return Ok(state);
        };
        state.blocks.insert(missing, Kept::Awaited);
        let mut buffer = state.spare.pop().unwrap_or_default();
        drop(state);
        let claim = Claim {
            relay: self,
            index: missing,
        };
        fill(missing, &mut buffer)?;
        claim.fulfil(buffer);
        Ok(self.state())
    }

    /// The follower is past the block `index`.
    fn passed(&self, index: u64, block: Block) {
        let mut state = self.state();
        state.follower = Some(index + 1);
        if let Some(Kept::Read { used: true, .. }) = state.blocks.get(&index) {
            state.blocks.remove(&index);
        }
        state.reuse(block);
        if state.blocks.range(index..).count() <= ENOUGH_BLOCKS {
            self.wake(&state);
        }
    }

    fn wake(&self, state: &State) {
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// A buffer to read into, which [`Relay::reuse`] takes back.
    pub(super) fn buffer(&self) -> Buffer {
        self.state().spare.pop().unwrap_or_default()
    }

    /// Takes back a block that is not needed any more.
    pub(super) fn reuse(&self, block: Block) {
        self.state().reuse(block);
    }
}

impl State {
    /// Whether the follower does not come to a block any more.
    fn has_passed(&self, index: u64) -> bool {
        self.follower.is_none_or(|at| index < at)
    }

    /// Whether the follower comes to a block only after many others.
    fn is_far(&self, index: u64) -> bool {
        self.follower.is_some_and(|at| index >= at + FAR_BLOCKS)
    }

    /// Whether there is room for another block, when the first that the follower has passed goes.
    fn make_room(&mut self) -> bool {
        if self.blocks.len() < KEPT_BLOCKS {
            return true;
        }
        let first = self.blocks.first_key_value().map(|(&first, _)| first);
        let Some(first) = first.filter(|&first| self.has_passed(first)) else {
            return false;
        };
        if let Some(Kept::Read { block, .. }) = self.blocks.remove(&first) {
            self.reuse(block);
        }
        true
    }

    fn reuse(&mut self, block: Block) {
        if self.spare.len() < SPARE_BUFFERS
            && let Ok(buffer) = Arc::try_unwrap(block)
        {
            self.spare.push(buffer);
        }
    }
}

/// A block that is being read: if that fails, others may try.
struct Claim<'a> {
    relay: &'a Relay,
    index: u64,
}

impl Claim<'_> {
    fn fulfil(self, buffer: Buffer) {
        let kept = Kept::Read {
            block: Arc::new(buffer),
            used: false,
        };
        self.relay.state().blocks.insert(self.index, kept);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.relay.state();
        if let Some(Kept::Awaited) = state.blocks.get(&self.index) {
            state.blocks.remove(&self.index);
        }
        self.relay.wake(&state);
    }
}

/// Who goes through a file. When it is dropped, readers read for themselves.
pub(super) struct Follower<'a> {
    relay: &'a Relay,
}

impl Follower<'_> {
    /// Hands the block `index` to `sink`, and is past it then.
    pub(super) fn take(
        &self,
        index: u64,
        fill: Fill<'_>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let block = self.relay.next(index, fill)?;
        sink(&block);
        self.relay.passed(index, block);
        Ok(())
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        let mut state = self.relay.state();
        state.follower = None;
        state.spare.clear();
        self.relay.wake(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const COUNT: u64 = 200;

    fn bytes(index: u64) -> Vec<u8> {
        index.to_le_bytes().to_vec()
    }

    /// Reads blocks and counts how often.
    fn counted(reads: &AtomicU64) -> impl Fn(u64, &mut Buffer) -> Result<()> {
        move |index, buffer| {
            assert!(index < COUNT);
            reads.fetch_add(1, Ordering::Relaxed);
            buffer.resize(8).copy_from_slice(&bytes(index));
            Ok(())
        }
    }

    #[test]
    fn nothing_is_read_twice_when_both_go_the_same_way() {
        let (relay, reads) = (Relay::new(COUNT), AtomicU64::new(0));
        let follower = relay.follower();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for index in 0..COUNT {
                    let block = relay.block(index, true, &counted(&reads)).unwrap();
                    assert_eq!(block.unwrap()[..], bytes(index));
                }
            });
            for index in 0..COUNT {
                // Not so far ahead that a block would have to go before the reader has had it.
                while index > 4 && relay.state().blocks.range(..index).next().is_some() {
                    std::thread::yield_now();
                }
                let fill = counted(&reads);
                let mut sink = |part: &[u8]| assert_eq!(part, bytes(index));
                follower.take(index, &fill, &mut sink).unwrap();
            }
        });
        assert_eq!(reads.load(Ordering::Relaxed), COUNT);
        assert!(relay.state().blocks.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_reader_that_waits_is_woken() {
        let (relay, reads) = (Relay::new(COUNT), AtomicU64::new(0));
        let follower = relay.follower();
        let all = num::u64_of(KEPT_BLOCKS) + 3;
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for index in 0..all {
                    relay.block(index, true, &counted(&reads)).unwrap().unwrap();
                }
            });
            while relay.state().waiting == 0 {
                std::thread::yield_now();
            }
            assert_eq!(relay.state().blocks.len(), KEPT_BLOCKS);
            // Who has jumped reads for itself.
            assert!(
                relay
                    .block(COUNT - 1, true, &counted(&reads))
                    .unwrap()
                    .is_none()
            );
            for index in 0..all {
                follower.take(index, &counted(&reads), &mut |_| {}).unwrap();
            }
            reader.join().unwrap();
        });
        assert_eq!(reads.load(Ordering::Relaxed), all);
    }

    #[test]
    fn a_reader_is_told_what_it_has_missed_and_what_is_early() {
        let (relay, reads) = (Relay::new(COUNT), AtomicU64::new(0));
        assert_eq!(relay.turn(0), Turn::Now);
        let follower = relay.follower();
        let ahead = num::u64_of(ENOUGH_BLOCKS);
        assert_eq!([0, ahead - 1].map(|i| relay.turn(i)), [Turn::Now; 2]);
        assert_eq!([ahead, COUNT].map(|i| relay.turn(i)), [Turn::Early; 2]);
        for index in 0..num::u64_of(KEPT_BLOCKS) + 5 {
            follower.take(index, &counted(&reads), &mut |_| {}).unwrap();
        }
        // What is kept is not missed.
        assert_eq!([4, 5].map(|i| relay.turn(i)), [Turn::Missed, Turn::Now]);
        drop(follower);
        assert_eq!([4, COUNT].map(|i| relay.turn(i)), [Turn::Now; 2]);
    }

    #[test]
    fn without_a_follower_readers_read_for_themselves() {
        let (relay, reads) = (Relay::new(COUNT), AtomicU64::new(0));
        let follower = relay.follower();
        follower.take(0, &counted(&reads), &mut |_| {}).unwrap();
        assert!(relay.is_followed());
        drop(follower);
        assert!(!relay.is_followed());
        // What was left for others can be had once.
        assert!(relay.block(0, true, &counted(&reads)).unwrap().is_some());
        assert!(relay.block(0, true, &counted(&reads)).unwrap().is_none());
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_block_that_could_not_be_read_is_tried_again() {
        let (relay, reads) = (Relay::new(COUNT), AtomicU64::new(0));
        let follower = relay.follower();
        let failing = |_: u64, _: &mut Buffer| {
            Err(crate::error::io_error("read", std::path::Path::new("x"))(
                std::io::ErrorKind::UnexpectedEof.into(),
            ))
        };
        assert!(relay.block(0, true, &failing).is_err());
        assert!(follower.take(0, &failing, &mut |_| {}).is_err());
        follower.take(0, &counted(&reads), &mut |_| {}).unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }
}
