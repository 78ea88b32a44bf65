//! The map against devices that write down what reaches them, and against a model that works byte by byte.

use proptest::prelude::*;

use super::*;
use crate::bus::Timers;

/// Memory that checks and notes every access.
struct Notebook {
    bytes: [u8; 64],
    seen: Vec<(bool, u64, u64)>,
}

impl Notebook {
    fn slot() -> Arc<Slot<Self>> {
        let device = Self {
            bytes: std::array::from_fn(|i| i as u8),
            seen: Vec::new(),
        };
        Slot::new(device, &Timers::new())
    }
}

impl Device for Notebook {
    fn read(&mut self, access: Access) -> u64 {
        let (offset, len) = (access.offset as usize, access.width.bytes() as usize);
        self.seen.push((false, access.offset, access.width.bytes()));
        let mut value = [0xff; 8];
        value[..len].copy_from_slice(&self.bytes[offset..offset + len]);
        u64::from_le_bytes(value)
    }

    fn write(&mut self, access: Access, value: u64) {
        assert_eq!(value & !access.width.ones(), 0);
        let (offset, len) = (access.offset as usize, access.width.bytes() as usize);
        self.seen.push((true, access.offset, access.width.bytes()));
        self.bytes[offset..offset + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }

    fn reset(&mut self) {}
}

fn one(widths: Widths) -> (Map, Arc<Slot<Notebook>>) {
    let slot = Notebook::slot();
    let mut builder = Builder::new();
    builder.claim(Space::Port, 0x100..0x140, 0, widths, slot.clone());
    (builder.build().unwrap(), slot)
}

fn seen(slot: &Slot<Notebook>) -> Vec<(bool, u64, u64)> {
    std::mem::take(&mut slot.lock().seen)
}

#[test]
fn an_accepted_access_arrives_as_it_is() {
    let (map, slot) = one(Widths::ALL);
    for width in [Width::Byte, Width::Word, Width::Dword, Width::Qword] {
        let value = map.read(Space::Port, 0x108, width, Nanos(0));
        assert_eq!(value, 0x0f0e_0d0c_0b0a_0908 & width.ones());
        assert_eq!(seen(&slot), [(false, 8, width.bytes())]);
    }
}

#[test]
fn a_wide_access_is_split_from_the_lowest_byte_on() {
    let (map, slot) = one(Widths::BYTE);
    assert_eq!(
        map.read(Space::Port, 0x101, Width::Dword, Nanos(0)),
        0x0403_0201
    );
    assert_eq!(
        seen(&slot),
        [(false, 1, 1), (false, 2, 1), (false, 3, 1), (false, 4, 1)]
    );
    map.write(Space::Port, 0x102, Width::Word, 0xbbaa, Nanos(0));
    assert_eq!(slot.lock().bytes[2..4], [0xaa, 0xbb]);
}

#[test]
fn a_misaligned_access_uses_the_greatest_aligned_pieces() {
    let (map, slot) = one(Widths::TO_DWORD);
    assert_eq!(
        map.read(Space::Port, 0x103, Width::Qword, Nanos(0)),
        0x0a09_0807_0605_0403
    );
    assert_eq!(
        seen(&slot),
        [(false, 3, 1), (false, 4, 4), (false, 8, 2), (false, 10, 1)]
    );
}

#[test]
fn a_narrow_read_is_cut_out_and_a_narrow_write_dropped() {
    let (map, slot) = one(Widths::DWORD);
    assert_eq!(map.read(Space::Port, 0x106, Width::Byte, Nanos(0)), 6);
    assert_eq!(seen(&slot), [(false, 4, 4)]);
    map.write(Space::Port, 0x106, Width::Byte, 0xaa, Nanos(0));
    assert_eq!(seen(&slot), []);
}

#[test]
fn a_narrow_write_is_merged_where_the_region_says_so() {
    let (map, slot) = one(Widths::DWORD | Widths::MERGE);
    map.write(Space::Port, 0x106, Width::Dword, 0xddcc_bbaa, Nanos(0));
    assert_eq!(
        seen(&slot),
        [(false, 4, 4), (true, 4, 4), (false, 8, 4), (true, 8, 4)]
    );
    assert_eq!(
        slot.lock().bytes[4..12],
        [4, 5, 0xaa, 0xbb, 0xcc, 0xdd, 10, 11]
    );
}

#[test]
fn what_lies_outside_reads_as_ones_and_is_counted() {
    let (map, slot) = one(Widths::BYTE);
    assert_eq!(
        map.read(Space::Port, 0x13e, Width::Dword, Nanos(0)),
        0xffff_3f3e
    );
    assert_eq!(
        map.read(Space::Memory, 0x100, Width::Qword, Nanos(0)),
        u64::MAX
    );
    map.write(Space::Port, 0xffff, Width::Word, 0, Nanos(0));
    map.read(Space::Memory, u64::MAX, Width::Qword, Nanos(0));
    assert_eq!(map.strays(), (2 + 8 + 8, 2));
    assert_eq!(seen(&slot).len(), 2);
}

#[test]
fn only_so_many_strays_are_remembered() {
    let (map, _) = one(Widths::BYTE);
    for address in 0..1000 {
        map.read(Space::Memory, address, Width::Byte, Nanos(0));
    }
    assert_eq!(map.strays.logged.lock().unwrap().len(), LOGGED_MAX);
}

#[test]
fn an_exact_region_lets_other_accesses_through() {
    let (address, reset) = (Notebook::slot(), Notebook::slot());
    let mut builder = Builder::new();
    let exact = Widths::DWORD | Widths::EXACT;
    builder.claim(Space::Port, 0xcf8..0xcfc, 0, exact, address.clone());
    builder.claim(Space::Port, 0xcf9..0xcfa, 0, Widths::BYTE, reset.clone());
    let map = builder.build().unwrap();
    map.write(Space::Port, 0xcf8, Width::Dword, 0x8000_0000, Nanos(0));
    assert_eq!((seen(&address).len(), seen(&reset).len()), (1, 0));
    map.write(Space::Port, 0xcf9, Width::Byte, 6, Nanos(0));
    assert_eq!((seen(&address).len(), seen(&reset).len()), (0, 1));
    assert_eq!(map.read(Space::Port, 0xcf8, Width::Byte, Nanos(0)), 0xff);
    assert_eq!(
        map.read(Space::Port, 0xcf8, Width::Word, Nanos(0)),
        0x00ff | 6 << 8
    );
}

#[test]
fn a_movable_region_answers_only_where_it_is() {
    let slot = Notebook::slot();
    let mut builder = Builder::new();
    let bar = builder.claim_movable(Space::Memory, 64, 3, Widths::ALL, slot.clone());
    let map = builder.build().unwrap();
    let read = |address| map.read(Space::Memory, address, Width::Byte, Nanos(0));
    assert_eq!((read(0x1005), bar.base()), (0xff, None));
    bar.put(Some(0x1000));
    assert_eq!((read(0x1005), read(0x1040)), (5, 0xff));
    bar.put(Some(0x2000));
    assert_eq!((read(0x1005), read(0x2005)), (0xff, 5));
    bar.put(Some(u64::MAX - 1));
    assert_eq!((read(u64::MAX), read(0)), (1, 0xff));
    bar.put(None);
    assert_eq!(read(0x2005), 0xff);
}

#[test]
fn overlapping_claims_are_refused() {
    let slot = Notebook::slot();
    let mut builder = Builder::new();
    builder.claim(Space::Port, 0x10..0x20, 0, Widths::BYTE, slot.clone());
    builder.claim(Space::Port, 0x1f..0x21, 0, Widths::BYTE, slot);
    let error = builder.build().err().unwrap();
    assert_eq!((error.first, error.second), (0x10..0x20, 0x1f..0x21));
}

fn widths() -> impl Strategy<Value = Widths> {
    (1u8..32).prop_filter_map("accepts nothing", |bits| {
        let widths = Widths::from_bits_retain(bits);
        widths.intersects(Widths::ALL).then_some(widths)
    })
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![
        Just(Width::Byte),
        Just(Width::Word),
        Just(Width::Dword),
        Just(Width::Qword)
    ]
}

proptest! {
    /// Whatever the widths, a read gives the bytes that are there, and a write changes no byte beside its own.
    #[test]
    fn the_map_equals_memory_byte_by_byte(
        widths in widths(),
        accesses in prop::collection::vec((any::<bool>(), 0xf8u64..0x148, width(), any::<u64>()), 1..20),
    ) {
        let (map, slot) = one(widths);
        let mut model: [u8; 64] = std::array::from_fn(|i| i as u8);
        for (write, address, width, value) in accesses {
            let inside = |i: u64| (address + i).checked_sub(0x100).filter(|&o| o < 64).map(|o| o as usize);
            if write {
                map.write(Space::Port, address, width, value, Nanos(0));
                let now = slot.lock().bytes;
                for i in 0..width.bytes() {
                    let byte = value.to_le_bytes()[i as usize];
                    if let Some(offset) = inside(i) {
                        let dropped = !widths.contains(Widths::MERGE) && !widths.contains(Widths::BYTE);
                        prop_assert!(now[offset] == byte || dropped && now[offset] == model[offset]);
                        model[offset] = now[offset];
                    }
                }
                prop_assert_eq!(now, model);
            } else {
                let read = map.read(Space::Port, address, width, Nanos(0));
                for i in 0..width.bytes() {
                    let expected = inside(i).map_or(0xff, |offset| model[offset]);
                    prop_assert_eq!(read.to_le_bytes()[i as usize], expected);
                }
                prop_assert_eq!(read & !width.ones(), 0);
            }
        }
    }
}
