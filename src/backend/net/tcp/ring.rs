//! A bounded queue of bytes that has only as much memory as has been needed at once, and none while it is empty for good.

use std::fmt;

/// The least memory that is asked for.
const LEAST: usize = 4096;

/// The queue.
pub(super) struct Ring {
    /// As many bytes as a power of two, or none.
    memory: Vec<u8>,
    start: usize,
    len: usize,
    limit: usize,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.len, self.limit)
    }
}

impl Ring {
    /// An empty queue for up to `limit` bytes, of which the next power of two that is not less counts.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            memory: Vec::new(),
            start: 0,
            len: 0,
            limit: limit.clamp(LEAST, 1 << 30).next_power_of_two(),
        }
    }

    /// How many bytes it holds at most.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How many bytes it holds.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many more it can hold.
    pub(super) fn room(&self) -> usize {
        self.limit - self.len
    }

    /// Bytes of memory that it has.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.memory.len()
    }

    /// `len` bytes from the one at `offset` on, or as many as there are.
    pub(super) fn slices(&self, offset: usize, len: usize) -> [&[u8]; 2] {
        let offset = offset.min(self.len);
        let len = len.min(self.len - offset);
        if len == 0 {
            return [&[], &[]];
        }
        let from = (self.start + offset) & (self.memory.len() - 1);
        let first = len.min(self.memory.len() - from);
        [
            &self.memory[from..from + first],
            &self.memory[..len - first],
        ]
    }

    /// Room for `want` bytes behind those that are there, or for as many as fit.
    pub(super) fn vacant(&mut self, want: usize) -> [&mut [u8]; 2] {
        let want = want.min(self.room());
        if want == 0 {
            return [&mut [], &mut []];
        }
        self.grow(self.len + want);
        let size = self.memory.len();
        let from = (self.start + self.len) & (size - 1);
        let first = want.min(size - from);
        let (low, high) = self.memory.split_at_mut(from);
        [&mut high[..first], &mut low[..want - first]]
    }

    /// `len` bytes of what `vacant` gave last are filled.
    pub(super) fn filled(&mut self, len: usize) {
        self.len += len.min(self.memory.len() - self.len);
    }

    /// Takes the first `len` bytes away.
    pub(super) fn consume(&mut self, len: usize) {
        let len = len.min(self.len);
        self.len -= len;
        // An empty queue begins anew, where the processor's caches are warm.
        self.start = if self.len == 0 {
            0
        } else {
            (self.start + len) & (self.memory.len() - 1)
        };
    }

    /// Takes everything away, and gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Makes memory for `len` bytes, which the limit allows.
    fn grow(&mut self, len: usize) {
        if len <= self.memory.len() {
            return;
        }
        let size = len.next_power_of_two().max(LEAST);
        let mut memory = Vec::with_capacity(size);
        self.slices(0, self.len)
            .iter()
            .for_each(|part| memory.extend_from_slice(part));
        memory.resize(size, 0);
        (self.memory, self.start) = (memory, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn push(ring: &mut Ring, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        for part in ring.vacant(bytes.len()) {
            let here;
            (here, rest) = rest.split_at(part.len());
            part.copy_from_slice(here);
        }
        let done = bytes.len() - rest.len();
        ring.filled(done);
        done
    }

    proptest! {
        #[test]
        fn it_is_a_bounded_queue(turns in prop::collection::vec((0_usize..9000, 0_usize..9000), 1..60)) {
            let mut ring = Ring::new(10_000);
            let (mut model, mut next) = (VecDeque::new(), 0_u32);
            prop_assert_eq!(ring.limit(), 16_384);
            for (put, take) in turns {
                let bytes: Vec<u8> = (0..put).map(|_| { next = next.wrapping_mul(5).wrapping_add(1); (next >> 9) as u8 }).collect();
                let done = push(&mut ring, &bytes);
                prop_assert_eq!(done, put.min(16_384 - model.len()));
                model.extend(&bytes[..done]);
                prop_assert_eq!(ring.len(), model.len());
                let whole: Vec<u8> = model.iter().copied().collect();
                prop_assert_eq!(ring.slices(0, usize::MAX).concat(), whole.clone());
                let from = take.min(whole.len());
                let most = 100.min(whole.len() - from);
                prop_assert_eq!(ring.slices(take, 100).concat(), &whole[from..from + most]);
                ring.consume(take);
                model.drain(..from);
                prop_assert!(ring.memory() <= ring.limit());
            }
            ring.clear();
            prop_assert_eq!((ring.len(), ring.memory()), (0, 0));
        }
    }

    #[test]
    fn limits_are_kept_within_reason() {
        assert_eq!(Ring::new(0).limit(), LEAST);
        assert_eq!(Ring::new(usize::MAX).limit(), 1 << 30);
        assert!(Ring::new(1).vacant(0).iter().all(|part| part.is_empty()));
    }
}
