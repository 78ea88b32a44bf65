//! An ELF kernel that is right, and many that are not.

use proptest::prelude::*;

use super::super::multiboot;
use super::*;

/// A kernel of one segment at 16 MiB: 4 KiB of bytes and 8 KiB of zeros, entered at its 0x100th byte; with a PVH note
/// if `pvh` names an entry.
pub(in crate::boot) fn kernel(pvh: Option<u32>) -> Vec<u8> {
    const NOTES: usize = 0x100;
    const CODE: usize = 0x200;
    let mut file = vec![0; CODE + 0x1000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2_u16.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(24, &0x100_0100_u64.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &2_u16.to_le_bytes());
    let mut header = |at: usize, kind: u64, fields: [u64; 5]| {
        put(at, &kind.to_le_bytes());
        for (i, field) in fields.into_iter().enumerate() {
            put(at + 8 + 8 * i, &field.to_le_bytes());
        }
    };
    let high = 0xffff_ffff_8100_0000;
    header(64, 1, [CODE as u64, high, 0x100_0000, 0x1000, 0x3000]);
    let kind = if pvh.is_some() { 4 } else { 0 };
    header(120, kind, [NOTES as u64, 0, 0, 40, 40]);
    // A note of somebody else's, then Xen's.
    put(
        NOTES,
        &[
            4, 0, 0, 0, 1, 0, 0, 0, 18, 0, 0, 0, b'G', b'N', b'U', 0, 7, 0, 0, 0,
        ],
    );
    put(
        NOTES + 20,
        &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0],
    );
    put(NOTES + 36, &pvh.unwrap_or(0).to_le_bytes());
    file
}

fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = kernel(None);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn refused(file: &[u8]) -> String {
    parse(file).unwrap_err().of("it").to_string()
}

#[test]
fn a_vmlinux_is_entered_in_64_bit_mode() {
    let file = kernel(None);
    let kernel = parse(&file).unwrap();
    assert_eq!(kernel.entry, Entry::Long(0x100_0100));
    assert_eq!(kernel.span, Span::new(0x100_0000, 0x3000));
    let segment = kernel.segments[0];
    assert_eq!(
        (segment.at, segment.bytes.len(), segment.zeros),
        (0x100_0000, 0x1000, 0x2000)
    );
}

#[test]
fn a_virtual_entry_is_translated() {
    let file = with(24, &0xffff_ffff_8100_0200_u64.to_le_bytes());
    assert_eq!(parse(&file).unwrap().entry, Entry::Long(0x100_0200));
}

#[test]
fn a_pvh_note_comes_first() {
    assert_eq!(
        parse(&kernel(Some(0x100_0040))).unwrap().entry,
        Entry::Pvh(0x100_0040)
    );
    assert!(refused(&kernel(Some(0x2000))).contains("PVH entry is 0x2000"));
}

#[test]
fn a_32_bit_file_needs_a_pvh_note() {
    let mut file = multiboot::tests::kernel(0x10_0000);
    file[0x100..0x10c].fill(0);
    assert!(refused(&file).contains("a 32-bit ELF file without"));
    // A second program header, behind the first at 52, for a note at 0xc0.
    file[44] = 2;
    for (i, field) in [4, 0xc0, 0, 0, 20, 20_u32].into_iter().enumerate() {
        file[84 + 4 * i..][..4].copy_from_slice(&field.to_le_bytes());
    }
    file[0xc0..0xcc].copy_from_slice(&[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    file[0xcc..0xd0].copy_from_slice(b"Xen\0");
    file[0xd0..0xd4].copy_from_slice(&0x10_0040_u32.to_le_bytes());
    assert_eq!(parse(&file).unwrap().entry, Entry::Pvh(0x10_0040));
}

#[test]
fn impossible_fields_are_named() {
    let cases: [(usize, &[u8], &str); 10] = [
        (4, &[3], "an ELF file that is not for a PC"),
        (18, &[183], "an ELF file for another processor"),
        (24, &[0; 8], "e_entry is 0x0"),
        (54, &[55], "e_phentsize is 0x37"),
        (56, &[0xff, 0xff], "e_phnum is 0xffff"),
        (64, &[0; 4], "it is not a kernel"),
        (120, &[3], "it is a program"),
        (64 + 24, &[0; 8], "lie at 0x0"),
        (64 + 40, &[1, 0], "p_memsz is 0x1"),
        (64 + 8, &[0xff; 8], "offset is 0xffffffffffffffff"),
    ];
    for (at, bytes, part) in cases {
        let text = refused(&with(at, bytes));
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn segments_that_overlap_are_refused() {
    let mut file = kernel(None);
    file.copy_within(64..120, 120);
    assert!(refused(&file).contains("p_paddr is 0x1000000"));
}

#[test]
fn every_shorter_file_is_refused() {
    let file = kernel(Some(0x100_0040));
    for len in 0..file.len() {
        assert!(parse(&file[..len]).is_err(), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn no_header_is_trusted(bytes in prop::collection::vec(any::<u8>(), 0x200), from in 6_usize..0x200) {
        let mut file = kernel(Some(0x100_0040));
        file[from..0x200].copy_from_slice(&bytes[from..]);
        if let Ok(kernel) = parse(&file) {
            for segment in &kernel.segments {
                prop_assert!(segment.at >= kernel.span.start && segment.end() <= kernel.span.end);
            }
        }
    }

    #[test]
    fn one_changed_field_is_handled(at in 16_usize..0x128, bytes: [u8; 8]) {
        let mut file = kernel(Some(0x100_0040));
        file[at..at + 8].copy_from_slice(&bytes);
        if let Ok(kernel) = parse(&file) {
            prop_assert!(kernel.span.start >= layout::KERNEL_MIN);
            prop_assert!(!kernel.segments.is_empty());
        }
    }
}
