//! A header that is right, and every way in which one can be wrong.

use super::*;
use proptest::prelude::*;

/// The smallest kernel that is accepted: one setup sector, `payload` bytes behind it, boot protocol 2.15, a 64-bit
/// entry, 16 MiB as its address and 4 MiB to start in.
pub(in crate::boot) fn kernel(payload: usize) -> Vec<u8> {
    let mut file = vec![0; 1024 + payload.next_multiple_of(16)];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &(payload.div_ceil(16) as u32).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x230, &0x20_0000_u32.to_le_bytes());
    put(0x236, &0x3_u16.to_le_bytes());
    put(0x238, &2047_u32.to_le_bytes());
    put(0x258, &0x100_0000_u64.to_le_bytes());
    put(0x260, &0x40_0000_u32.to_le_bytes());
    for (i, byte) in file[1024..].iter_mut().enumerate() {
        *byte = i as u8;
    }
    file
}

fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = kernel(4096);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn refused(file: &[u8]) -> String {
    parse(file).unwrap_err().of("it").to_string()
}

#[test]
fn a_right_header_is_understood() {
    let file = kernel(4096);
    let image = parse(&file).unwrap();
    assert_eq!(image.segments[0].bytes, &file[1024..]);
    assert_eq!((image.span.start, image.span.end), (0x100_0000, 0x140_0000));
    assert_eq!(image.entry, Entry::Long(0x100_0200));
    assert_eq!((image.cmdline_max, image.initrd_end), (2047, 0x8000_0000));
    assert!(image.initrd_high);
    assert_eq!(*image.header, file[0x1f1..0x26c]);
}

#[test]
fn a_kernel_without_64_bit_entry_is_entered_in_32_bit_mode() {
    for file in [with(0x236, &[0, 0]), with(0x206, &[0x0a, 0x02])] {
        let image = parse(&file).unwrap();
        assert_eq!(image.entry, Entry::Protected(0x100_0000));
        assert!(!image.initrd_high);
    }
}

#[test]
fn no_setup_sectors_means_four() {
    let mut file = with(0x1f1, &[0]);
    assert!(refused(&file).contains("truncated: 5120 bytes, but its header promises 6656"));
    file.resize(6656, 0x5a);
    assert_eq!(parse(&file).unwrap().segments[0].bytes, &file[2560..]);
}

#[test]
fn what_lies_behind_the_payload_is_not_loaded() {
    let mut file = kernel(4096);
    file.extend([0xee; 300]);
    assert_eq!(parse(&file).unwrap().segments[0].bytes.len(), 4096);
}

#[test]
fn impossible_fields_are_named() {
    let cases: [(usize, &[u8], &str); 10] = [
        (0x1fe, &[0, 0], "boot_flag is 0x0"),
        (0x1f4, &[0; 4], "syssize is 0x0"),
        (0x201, &[0x10], "jump is 0x10"),
        (0x206, &[0x09, 0x02], "boot protocol 2.09"),
        (0x211, &[0], "zImage"),
        (0x230, &[0; 4], "kernel_alignment is 0x0"),
        (0x230, &[3, 0, 0, 0], "kernel_alignment is 0x3"),
        (0x258, &[0; 8], "pref_address is 0x0"),
        (
            0x258,
            &[1, 0, 0, 1, 0, 0, 0, 0],
            "pref_address is 0x1000001",
        ),
        (
            0x258,
            &[0, 0, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff],
            "init_size is 0x400000",
        ),
    ];
    for (at, bytes, part) in cases {
        let text = refused(&with(at, bytes));
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn other_files_are_told_apart() {
    let mut arm = vec![0; 4096];
    arm[56..60].copy_from_slice(b"ARM\x64");
    let cases: [(&[u8], &str); 5] = [
        (b"#!/bin/sh\nexit 0\n", "it is a text file"),
        (&[0x1f, 0x8b, 8, 0], "it is a gzip file"),
        (&arm, "a kernel for AArch64"),
        (&[0; 5000], "it is not a kernel"),
        (b"MZ\0\0", "truncated"),
    ];
    for (file, part) in cases {
        let text = refused(file);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn every_shorter_file_is_refused() {
    let file = kernel(2048);
    for len in 0..file.len() {
        assert!(parse(&file[..len]).is_err(), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn no_header_is_trusted(fill in prop::collection::vec(any::<u8>(), 0x1f1..0x300), len in 0_usize..8192) {
        let mut file = kernel(4096);
        for (at, &byte) in fill.iter().enumerate().skip(0x1f1) {
            file[at] = byte;
        }
        // The magic is kept, or hardly a case would come further than it.
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        file.resize(len, 0);
        if let Ok(image) = parse(&file) {
            prop_assert!(image.span.end >= image.span.start + image.segments[0].bytes.len() as u64);
            prop_assert!(image.span.start >= layout::KERNEL_MIN);
        }
    }

    #[test]
    fn one_changed_field_is_handled(at in 0x1f1_usize..0x26c, bytes: [u8; 8]) {
        let file = with(at, &bytes);
        if let Ok(image) = parse(&file) {
            prop_assert!(file.len() >= image.segments[0].bytes.len() + 512);
            prop_assert!(image.span.end > image.span.start);
        }
    }
}
