use std::sync::Arc;

use hvf_sys::file::Piece;
use hvf_sys::ram::Ram;
use proptest::prelude::*;

use super::checksum::Sum;
use super::wire::{Sample, plain_sum};
use super::*;

const RAM: u64 = 0x4_0000;

fn ram() -> Arc<Ram> {
    Ram::new(&[(0, RAM)]).unwrap()
}

/// A frame whose first bytes are its head, and whose others lie in memory in pieces of `piece` bytes, with gaps.
fn finished(
    bytes: &[u8],
    head: usize,
    piece: usize,
    offload: Offload,
    does: Offloads,
) -> Option<Vec<(Offload, Vec<u8>)>> {
    let ram = ram();
    let (head, rest) = bytes.split_at(head.min(bytes.len()));
    let mut body = Vec::new();
    let mut gpa = 1;
    for part in rest.chunks(piece) {
        ram.write(gpa, part).unwrap();
        let len = part.len() as u64;
        body.push(Piece { gpa, len });
        body.push(Piece { gpa: 0, len: 0 });
        gpa += len + 3;
    }
    let frame = Frame {
        offload,
        head,
        body: &body,
        ram: &ram,
    };
    let mut parts = Vec::new();
    let outcome = finish(&frame, does, &mut |part| {
        let mut bytes = Vec::new();
        part.copy_to(&mut bytes).unwrap();
        assert_eq!(bytes.len(), part.len());
        parts.push((part.offload, bytes));
    });
    outcome.ok().map(|()| parts)
}

fn ip() -> impl Strategy<Value = Ip> {
    prop_oneof![Just(Ip::V4), Just(Ip::V6)]
}

prop_compose! {
    fn sample()(
        ip in ip(), tags in 0_usize..3, extras in 0_usize..4, options in 0_usize..11, flags: u8,
        sequence: u32, id: u16, data in prop::collection::vec(any::<u8>(), 0..3000),
    ) -> Sample {
        Sample { ip, udp: false, tags, extras, options, flags, sequence, id, data }
    }
}

proptest! {
    #[test]
    fn sums_are_those_of_the_words(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let mut sum = Sum::default();
        parts.iter().for_each(|part| sum.add(part));
        prop_assert_eq!(!sum.finish(), plain_sum(&parts.concat()));
    }

    #[test]
    fn a_checksum_is_completed(sample in sample(), udp: bool, head in 0_usize..300, piece in 1_usize..2000) {
        let sample = Sample { udp, ..sample };
        let head = sample.data_start() + head;
        let parts = finished(&sample.bytes(), head, piece, sample.partial(), Offloads::empty()).unwrap();
        prop_assert_eq!(parts.len(), 1);
        let (offload, bytes) = &parts[0];
        prop_assert_eq!(*offload, Offload::default());
        prop_assert_eq!(sample.judge(bytes).3, sample.data);
    }

    #[test]
    fn segments_make_up_what_was_cut(
        sample in sample(), size in 8_u16..2000, head in 0_usize..300, piece in 1_usize..2000, checksum: bool,
    ) {
        let head = sample.data_start() + head;
        let does = if checksum { Offloads::CHECKSUM } else { Offloads::empty() };
        let parts = finished(&sample.bytes(), head, piece, sample.cut(size), does).unwrap();
        prop_assert_eq!(parts.len(), sample.data.len().div_ceil(size.into()).max(1));
        let mut data = Vec::new();
        for (index, (offload, bytes)) in parts.iter().enumerate() {
            prop_assert_eq!(*offload, Offload::default());
            let (sequence, flags, id, part) = sample.judge(bytes);
            prop_assert_eq!(sequence as usize, data.len());
            if sample.ip == Ip::V4 {
                prop_assert_eq!(id as usize, index);
            }
            let (first, last) = (index == 0, index + 1 == parts.len());
            let mut expected = sample.flags;
            if !first {
                expected &= 0x7f;
            }
            if !last {
                expected &= !0x09;
                prop_assert_eq!(part.len(), usize::from(size));
            }
            prop_assert_eq!(flags, expected);
            data.extend(part);
        }
        prop_assert_eq!(data, sample.data);
    }

    /// Whatever a frame and its offload say, nothing panics, and what comes out is no longer than what went in and
    /// its headers.
    #[test]
    fn any_frame_at_all(
        bytes in prop::collection::vec(any::<u8>(), 14..400), head in 14_usize..400, start in 0_u16..200,
        offset in 0_u16..40, size in 0_u16..50, segments in prop::option::of(ip()), kind in 0_usize..3, first: u8,
    ) {
        let mut bytes = bytes;
        let kinds = [[8, 0], [0x86, 0xdd], [0x81, 0]];
        bytes[12..14].copy_from_slice(&kinds[kind]);
        if let Some(byte) = bytes.get_mut(14) {
            *byte = first % 48 + 0x40;
        }
        let segments = segments.map(|ip| Segments { ip, size, ecn: false });
        let offload = Offload { checksum: Checksum::Partial { start, offset }, segments };
        if let Some(parts) = finished(&bytes, head, 7, offload, Offloads::empty()) {
            prop_assert!(parts.iter().all(|(_, part)| part.len() <= bytes.len()));
        }
    }
}

#[test]
fn a_receiver_that_does_it_all_gets_the_frame_as_it_is() {
    let sample = Sample {
        flags: 0x98,
        ..Sample::tcp(Ip::V4, vec![7; 5000])
    };
    let cut = sample.cut(1000);
    assert_eq!(
        cut.needs(),
        Offloads::CHECKSUM | Offloads::TCP4 | Offloads::ECN
    );
    let parts = finished(&sample.bytes(), 200, 100, cut, Offloads::all()).unwrap();
    assert_eq!(parts, [(cut, sample.bytes())]);
    for lacking in [Offloads::CHECKSUM, Offloads::TCP4, Offloads::ECN] {
        let parts = finished(&sample.bytes(), 200, 100, cut, Offloads::all() - lacking).unwrap();
        assert_eq!(parts.len(), 5, "{lacking:?}");
    }
}

#[test]
fn a_udp_checksum_of_zero_is_written_as_its_other_form() {
    let mut sample = Sample::udp(Ip::V4, vec![0; 2]);
    // The word that makes the sum 0xffff, so that its complement is zero.
    let bytes = sample.bytes();
    let sum = plain_sum(&bytes[sample.start()..]);
    sample.data = (!sum).to_be_bytes().to_vec();
    let parts = finished(&sample.bytes(), 60, 9, sample.partial(), Offloads::empty()).unwrap();
    let at = sample.start() + 6;
    assert_eq!(parts[0].1[at..at + 2], [0xff, 0xff]);
    sample.judge(&parts[0].1);
}

#[test]
fn offloads_that_do_not_fit_their_frame_are_refused() {
    let sample = Sample::tcp(Ip::V4, vec![1; 3000]);
    let good = sample.cut(1000);
    let (start, bytes) = (sample.start(), sample.bytes());
    let partial = |start: usize, offset: u16| Checksum::Partial {
        start: start as u16,
        offset,
    };
    let segments = |ip, size| {
        Some(Segments {
            ip,
            size,
            ecn: false,
        })
    };
    assert_eq!(good.check(&bytes[..100], bytes.len()), Ok(()));
    for (checksum, segments) in [
        // Where the checksum is.
        (partial(13, 16), None),
        (partial(99, 0), None),
        (partial(start, 66), None),
        (partial(0xffff, 0xffff), None),
        // Nobody's segments, without a checksum, elsewhere, of another version, too short.
        (Checksum::Complete, segments(Ip::V4, 1000)),
        (Checksum::Valid, segments(Ip::V4, 1000)),
        (partial(start + 4, 16), segments(Ip::V4, 1000)),
        (partial(start, 6), segments(Ip::V4, 1000)),
        (partial(start, 16), segments(Ip::V6, 1000)),
        (partial(start, 16), segments(Ip::V4, 0)),
        (partial(start, 16), segments(Ip::V4, 7)),
    ] {
        let offload = Offload { checksum, segments };
        assert_eq!(
            offload.check(&bytes[..100], bytes.len()),
            Err(Malformed),
            "{offload:?}"
        );
    }
    // Headers that do not say TCP, or more than there is: version and length, fragment, protocol, data offset, type.
    for (at, value) in [
        (14, 0x44),
        (14, 0x65),
        (14, 0x4f),
        (20, 0x20),
        (21, 1),
        (23, 17),
        (46, 0x40),
        (46, 0xf0),
        (12, 9),
    ] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        assert_eq!(
            good.check(&bytes[..80], bytes.len()),
            Err(Malformed),
            "{at} {value:#x}"
        );
    }
    // A segment that IP has no length for.
    let most = Sample::tcp(Ip::V4, vec![1; 65_540]);
    let most_bytes = most.bytes();
    assert_eq!(
        most.cut(65_535).check(&most_bytes[..100], most_bytes.len()),
        Err(Malformed)
    );
    assert_eq!(
        most.cut(65_483).check(&most_bytes[..100], most_bytes.len()),
        Ok(())
    );
}

#[test]
fn extension_headers_without_end_are_refused() {
    let sample = Sample {
        extras: 8,
        ..Sample::tcp(Ip::V6, vec![1; 100])
    };
    let bytes = sample.bytes();
    assert_eq!(sample.cut(50).check(&bytes, bytes.len()), Err(Malformed));
}
