//! Datagrams that come in fragments, put together again (RFC 791, 3.2; RFC 8200, 4.5), within bounds.
//!
//! Fragments that overlap end their datagram, as RFC 5722 has it for IPv6: no sender makes them but to deceive.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::backend::net::ip::{Fragment, Header};

/// The most datagrams in the making.
const DATAGRAMS_MAX: usize = 16;
/// The most fragments of one: 65,535 bytes in the least that IPv6 lets a link carry, and some.
const FRAGMENTS_MAX: usize = 128;
/// The most bytes of one.
const DATA_MAX: usize = 65_535;
/// How long one is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
}

/// A datagram in the making.
struct Datagram {
    since: Instant,
    /// The fragments that are there: where each begins, and its bytes.
    parts: Vec<(usize, Vec<u8>)>,
    /// How long the data is, once its last fragment is there.
    len: Option<usize>,
}

/// What waits for its other fragments.
#[derive(Default)]
pub(super) struct Fragments {
    datagrams: HashMap<Key, Datagram>,
}

impl Fragments {
    /// Adds a fragment. Gives the whole data when it was the last that was missing.
    pub(super) fn add(
        &mut self,
        header: &Header,
        fragment: Fragment,
        data: &[u8],
        now: Instant,
    ) -> Option<Vec<u8>> {
        let key = Key {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            id: fragment.id,
        };
        self.datagrams
            .retain(|_, it| now.saturating_duration_since(it.since) < PATIENCE);
        if self.datagrams.len() >= DATAGRAMS_MAX && !self.datagrams.contains_key(&key) {
            self.forget_oldest();
        }
        let datagram = self.datagrams.entry(key).or_insert_with(|| Datagram {
            since: now,
            parts: Vec::new(),
            len: None,
        });
        if !datagram.add(fragment, data) {
            self.datagrams.remove(&key);
            return None;
        }
        if datagram.is_whole() {
            return self.datagrams.remove(&key).map(Datagram::join);
        }
        None
    }

    fn forget_oldest(&mut self) {
        let oldest = self.datagrams.iter().min_by_key(|(_, it)| it.since);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.datagrams.remove(&key);
        }
    }
}

impl Datagram {
    /// False where this is not a part of a datagram that makes sense.
    fn add(&mut self, fragment: Fragment, data: &[u8]) -> bool {
        let (start, end) = (fragment.offset, fragment.offset + data.len());
        let cut = fragment.more && !data.len().is_multiple_of(8);
        if data.is_empty() || cut || end > DATA_MAX {
            return false;
        }
        // The same once more is no harm.
        let same = |(at, part): &(usize, Vec<u8>)| *at == start && part.len() == data.len();
        if self.parts.iter().any(same) {
            return true;
        }
        let overlaps = |(at, part): &(usize, Vec<u8>)| *at < end && start < *at + part.len();
        if self.parts.len() >= FRAGMENTS_MAX || self.parts.iter().any(overlaps) {
            return false;
        }
        if !fragment.more && self.len.replace(end).is_some() {
            return false;
        }
        self.parts.push((start, data.to_vec()));
        let within =
            |(at, part): &(usize, Vec<u8>)| self.len.is_none_or(|len| at + part.len() <= len);
        self.parts.iter().all(within)
    }

    /// Without overlaps, as many bytes as the whole has are the whole.
    fn is_whole(&self) -> bool {
        let there: usize = self.parts.iter().map(|(_, part)| part.len()).sum();
        self.len == Some(there)
    }

    fn join(mut self) -> Vec<u8> {
        self.parts.sort_by_key(|(at, _)| *at);
        self.parts.into_iter().flat_map(|(_, part)| part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(id: u32) -> (Header, Fragment) {
        let fragment = Fragment {
            id,
            offset: 0,
            more: true,
        };
        let header = Header {
            source: "10.0.2.15".parse().unwrap(),
            destination: "192.0.2.1".parse().unwrap(),
            protocol: 17,
            hops: 64,
            data: 34,
            end: 34,
            fragment: Some(fragment),
        };
        (header, fragment)
    }

    fn add(all: &mut Fragments, id: u32, at: usize, data: &[u8], more: bool) -> Option<Vec<u8>> {
        let (header, fragment) = header(id);
        let fragment = Fragment {
            offset: at,
            more,
            ..fragment
        };
        all.add(&header, fragment, data, Instant::now())
    }

    #[test]
    fn what_overlaps_ends_its_datagram() {
        let a = [1; 16];
        for (at, len, more) in [(8, 16, true), (0, 8, true), (8, 1, false), (0, 24, false)] {
            let mut all = Fragments::default();
            assert_eq!(add(&mut all, 1, 0, &a, true), None);
            assert_eq!(add(&mut all, 1, at, &vec![2; len], more), None);
            assert!(all.datagrams.is_empty(), "{at} {len}");
        }
    }

    #[test]
    fn what_cannot_be_is_dropped() {
        for (at, len, more) in [
            (0, 7, true),
            (0, 0, true),
            (65_528, 8, true),
            (65_528, 8, false),
        ] {
            let mut all = Fragments::default();
            assert_eq!(add(&mut all, 1, at, &vec![2; len], more), None);
            assert!(all.datagrams.is_empty(), "{at} {len}");
        }
        // A second end, and data behind the end.
        let mut all = Fragments::default();
        assert_eq!(add(&mut all, 1, 16, &[1; 4], false), None);
        assert_eq!(add(&mut all, 1, 32, &[1; 4], false), None);
        assert!(all.datagrams.is_empty());
        assert_eq!(add(&mut all, 1, 16, &[1; 4], false), None);
        assert_eq!(add(&mut all, 1, 24, &[1; 8], true), None);
        assert!(all.datagrams.is_empty());
    }

    #[test]
    fn datagrams_and_their_fragments_are_bounded() {
        let mut all = Fragments::default();
        for id in 0..1000 {
            assert_eq!(add(&mut all, id, 0, &[0; 8], true), None);
            assert!(all.datagrams.len() <= DATAGRAMS_MAX);
        }
        let mut all = Fragments::default();
        for at in 0..FRAGMENTS_MAX + 1 {
            assert_eq!(add(&mut all, 1, 16 * at, &[0; 8], true), None);
        }
        assert!(all.datagrams.is_empty());
    }

    #[test]
    fn what_never_comes_is_not_waited_for() {
        let (header, fragment) = header(1);
        let mut all = Fragments::default();
        let start = Instant::now();
        assert_eq!(all.add(&header, fragment, &[0; 8], start), None);
        let last = Fragment {
            offset: 8,
            more: false,
            ..fragment
        };
        assert_eq!(all.add(&header, last, &[1; 8], start + PATIENCE), None);
        assert_eq!(all.datagrams.len(), 1);
    }

    proptest! {
        #[test]
        fn any_order_gives_the_whole(
            len in 1_usize..60_000, part in 64_usize..200, order: prop::sample::Index, double: bool,
        ) {
            let part = 8 * part;
            let data: Vec<u8> = (0..len).map(|i| (i * 7 >> 3) as u8).collect();
            let count = len.div_ceil(part);
            let mut places: Vec<usize> = (0..count).collect();
            places.rotate_left(order.index(count));
            if order.index(2) == 1 {
                places.reverse();
            }
            let mut all = Fragments::default();
            let mut whole = None;
            for index in places {
                prop_assert_eq!(&whole, &None);
                let here = &data[index * part..len.min((index + 1) * part)];
                whole = add(&mut all, 1, index * part, here, index + 1 < count);
                if double && whole.is_none() {
                    prop_assert_eq!(add(&mut all, 1, index * part, here, index + 1 < count), None);
                }
            }
            prop_assert_eq!(whole, Some(data));
            prop_assert!(all.datagrams.is_empty());
        }
    }
}
