//! Passes on what one thread has read from a file to another that needs every byte in order: a checkpoint is hashed from what is converted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::num;

/// How many bytes wait at most. What does not fit is read a second time.
const WAITING_BYTES: usize = 64 << 20;

/// Parts that were read and that the follower has not come to yet.
#[derive(Debug, Default)]
pub(super) struct Relay(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Where the follower is: what lies before is not needed any more.
    at: u64,
    parts: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

impl Relay {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a copy of `bytes`, which were read from `offset`, if the follower still has to come there and there is room.
    pub(super) fn offer(&self, offset: u64, bytes: &[u8]) {
        let buffer = {
            let mut state = self.state();
            let wanted = offset + num::u64_of(bytes.len()) > state.at
                && state.bytes + bytes.len() <= WAITING_BYTES
                && !state.parts.contains_key(&offset);
            if !wanted {
                return;
            }
            state.bytes += bytes.len();
            state.spare.pop()
        };
        // Not while the follower waits for the lock.
        let mut buffer = buffer.unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let mut state = self.state();
        if let Some(previous) = state.parts.insert(offset, buffer) {
            state.drop_part(previous);
        }
    }

    /// What is kept from `at` on: a part and where in it `at` is. The follower does not come back to what lies before.
    pub(super) fn take(&self, at: u64) -> Option<(Vec<u8>, usize)> {
        let mut state = self.state();
        state.at = at;
        loop {
            let (&offset, part) = state.parts.first_key_value()?;
            if offset > at {
                return None;
            }
            let (inside, len) = (num::usize_of(at - offset), part.len());
            let part = state.parts.remove(&offset)?;
            if inside < len {
                state.bytes -= len;
                return Some((part, inside));
            }
            state.drop_part(part);
        }
    }

    /// Where the follower is.
    pub(super) fn place(&self) -> u64 {
        self.state().at
    }

    /// Takes back a buffer.
    pub(super) fn reuse(&self, buffer: Vec<u8>) {
        let mut state = self.state();
        if state.spare.len() < 8 {
            state.spare.push(buffer);
        }
    }
}

impl State {
    fn drop_part(&mut self, part: Vec<u8>) {
        self.bytes -= part.len();
        if self.spare.len() < 8 {
            self.spare.push(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_in_order_and_once() {
        let relay = Relay::default();
        relay.offer(4, b"efgh");
        relay.offer(0, b"abcd");
        relay.offer(0, b"abcd");
        assert_eq!(relay.take(0), Some((b"abcd".to_vec(), 0)));
        // From the middle of a part on, and never again what lies behind.
        assert_eq!(relay.take(6), Some((b"efgh".to_vec(), 2)));
        relay.offer(2, b"cdef");
        assert_eq!(relay.take(8), None);
        assert_eq!(relay.state().bytes, 0);
        // A gap: the follower reads for itself.
        relay.offer(12, b"mnop");
        assert_eq!(relay.take(10), None);
        assert_eq!(relay.take(12), Some((b"mnop".to_vec(), 0)));
        assert_eq!(relay.take(16), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let relay = Relay::default();
        let part = vec![0; WAITING_BYTES / 2];
        for i in 0..3 {
            relay.offer(i * num::u64_of(part.len()), &part);
        }
        assert_eq!(relay.state().parts.len(), 2);
        relay.take(0);
        relay.offer(2 * num::u64_of(part.len()), &part);
        assert_eq!(relay.state().parts.len(), 2);
    }
}
