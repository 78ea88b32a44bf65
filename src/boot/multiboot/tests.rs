//! Multiboot kernels that are right, and many that are not; what they are told.

use proptest::prelude::*;

use super::super::Module;
use super::super::image::Image;
use super::*;
use crate::memory;

const CODE: usize = 0x100;

/// An ELF32 kernel of one segment at `at`: a multiboot header, 4 KiB in all, and 8 KiB of zeros; entered behind the
/// header.
pub(in crate::boot) fn kernel(at: u32) -> Vec<u8> {
    let mut file = vec![0x90; CODE + 0x1000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0; CODE]);
    put(0, b"\x7fELF\x01\x01\x01");
    put(16, &2_u16.to_le_bytes());
    put(18, &3_u16.to_le_bytes());
    put(24, &(at + 0x20).to_le_bytes());
    put(28, &52_u32.to_le_bytes());
    put(42, &32_u16.to_le_bytes());
    put(44, &1_u16.to_le_bytes());
    let fields = [1, CODE as u32, at, at, 0x1000, 0x3000];
    for (i, field) in fields.into_iter().enumerate() {
        put(52 + 4 * i, &field.to_le_bytes());
    }
    put(CODE, &header(0b11));
    file
}

fn header(flags: u32) -> [u8; 12] {
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(flags);
    let words = [MAGIC, flags, checksum].map(u32::to_le_bytes);
    *words.as_flattened().first_chunk().unwrap()
}

/// A file without a format, whose header at 0x10 says where it goes.
fn raw(addresses: [u32; 5]) -> Vec<u8> {
    let mut file = vec![0xcc; 0x400];
    file[0x10..0x1c].copy_from_slice(&header(ADDRESSES));
    for (i, address) in addresses.into_iter().enumerate() {
        file[0x1c + 4 * i..][..4].copy_from_slice(&address.to_le_bytes());
    }
    file
}

fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = kernel(0x10_0000);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn refused(file: &[u8]) -> String {
    let problem = Kernel::parse(file).unwrap_err();
    problem.of("kernel k").to_string()
}

#[test]
fn an_elf_kernel_goes_where_its_program_headers_say() {
    let file = kernel(0x10_0000);
    let kernel = Kernel::parse(&file).unwrap();
    assert_eq!(kernel.entry, Entry::Multiboot(0x10_0020));
    assert_eq!(kernel.span, Span::new(0x10_0000, 0x3000));
    let segment = kernel.segments[0];
    assert_eq!((segment.bytes, segment.zeros), (&file[CODE..], 0x2000));
}

#[test]
fn the_header_is_searched_in_the_first_eight_kibibytes() {
    let at = |at: usize| {
        let mut file = kernel(0x10_0000);
        file.resize(0x4000, 0);
        file[CODE..CODE + 12].fill(0);
        file[at..at + 12].copy_from_slice(&header(0));
        Header::find(&file).map(|header| header.at)
    };
    assert_eq!(at(0), Some(0));
    assert_eq!(at(8192 - 12), Some(8192 - 12));
    assert_eq!(at(8192 - 8), None, "not wholly inside");
    assert_eq!(at(0x102), None, "not on a boundary of four");
    let mut file = with(CODE + 8, &[0xff]);
    assert_eq!(Header::find(&file), None, "a wrong checksum");
    file[0x200..0x20c].copy_from_slice(&header(2));
    let second = Header::find(&file).map(|header| header.at);
    assert_eq!(second, Some(0x200), "the one behind it is right");
    for len in 0..12 {
        assert_eq!(Header::find(&file[..len]), None);
    }
}

#[test]
fn address_fields_go_before_the_files_format() {
    let file = raw([0x20_0010, 0x20_0000, 0x20_0300, 0x20_1000, 0x20_0040]);
    let kernel = Kernel::parse(&file).unwrap();
    let segment = kernel.segments[0];
    assert_eq!((segment.at, segment.bytes), (0x20_0000, &file[..0x300]));
    assert_eq!(segment.zeros, 0xd00);
    assert_eq!(kernel.entry, Entry::Multiboot(0x20_0040));
    // Neither end: the whole file, and nothing behind it.
    let file = raw([0x20_0010, 0x20_0008, 0, 0, 0x20_0040]);
    let segment = Kernel::parse(&file).unwrap().segments[0];
    assert_eq!((segment.bytes, segment.zeros), (&file[8..], 0));
    // In an ELF file as well.
    let mut file = kernel_with_addresses();
    assert_eq!(Kernel::parse(&file).unwrap().segments[0].at, 0x30_0000);
    file[CODE..CODE + 12].copy_from_slice(&header(0));
    assert_eq!(Kernel::parse(&file).unwrap().segments[0].at, 0x10_0000);
}

fn kernel_with_addresses() -> Vec<u8> {
    let mut file = with(CODE, &header(ADDRESSES));
    let addresses = [0x30_0000, 0x30_0000, 0, 0, 0x30_0030_u32];
    for (i, address) in addresses.into_iter().enumerate() {
        file[CODE + 12 + 4 * i..][..4].copy_from_slice(&address.to_le_bytes());
    }
    file
}

#[test]
fn impossible_addresses_are_named() {
    let cases = [
        ([0x20_0010, 0x1_0000, 0, 0, 0], "lie at 0x10000"),
        ([0x20_0010, 0x20_0020, 0, 0, 0], "load_addr is 0x200020"),
        ([0x20_0020, 0x20_0000, 0, 0, 0], "load_addr is 0x200000"),
        (
            [0x20_0010, 0x20_0000, 0x1f_ffff, 0, 0],
            "load_end_addr is 0x1fffff",
        ),
        (
            [0x20_0010, 0x20_0000, 0x20_0401, 0, 0],
            "promises 1025; copy it again",
        ),
        (
            [0x20_0010, 0x20_0000, 0xffff_ffff, 0, 0],
            "promises 4292870143",
        ),
        (
            [0x20_0010, 0x20_0000, 0, 0x20_03ff, 0x20_0000],
            "bss_end_addr is 0x2003ff",
        ),
        (
            [0x20_0010, 0x20_0000, 0, 0x30_0000, 0x20_0400],
            "entry_addr is 0x200400",
        ),
    ];
    for (addresses, part) in cases {
        let text = refused(&raw(addresses));
        assert!(text.contains(part), "{text}");
    }
    let mut file = raw([0x20_0010, 0x20_0000, 0, 0, 0x20_0040]);
    file.truncate(0x2f);
    assert!(refused(&file).contains("47 bytes, but its header promises 48"));
}

#[test]
fn demands_that_cannot_be_met_are_refused() {
    for flags in [1 << 2, 1 << 3, 0x8000] {
        let text = refused(&with(CODE, &header(flags | 3)));
        assert!(text.contains(&format!("demands {flags:#x}")), "{text}");
    }
    // The other half of the flags is no demand.
    assert!(Kernel::parse(&with(CODE, &header(0xfffe_0003))).is_ok());
}

#[test]
fn impossible_elf_fields_are_named() {
    let cases: [(usize, &[u8], &str); 9] = [
        (4, &[2], "another processor"),
        (18, &[40], "another processor"),
        (24, &[0; 4], "e_entry is 0x0"),
        (42, &[56], "e_phentsize is 0x38"),
        (44, &[0xff], "e_phnum is 0xff"),
        (52, &[0], "it is not a kernel"),
        (52 + 12, &[0; 4], "lie at 0x0"),
        (52 + 20, &[1, 0], "p_memsz is 0x1"),
        (52 + 4, &[0xff; 4], "truncated"),
    ];
    for (at, bytes, part) in cases {
        let text = refused(&with(at, bytes));
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn every_shorter_file_is_refused() {
    let file = kernel(0x10_0000);
    for len in 0..file.len() {
        assert!(Kernel::parse(&file[..len]).is_err(), "{len} bytes");
    }
}

fn dword(piece: &Piece, address: u32) -> u32 {
    let at = (u64::from(address) - piece.at) as usize;
    u32::from_le_bytes(piece.bytes[at..at + 4].try_into().unwrap())
}

fn text(piece: &Piece, address: u32) -> &str {
    let at = (u64::from(address) - piece.at) as usize;
    let bytes = piece.bytes[at..].split(|&byte| byte == 0).next();
    std::str::from_utf8(bytes.unwrap()).unwrap()
}

#[test]
fn the_information_is_that_of_the_specification() {
    let image = Image::made("module m", vec![0; 0x1234]);
    let placed = |at, cmdline| Placed {
        at,
        module: Module {
            image: &image,
            cmdline,
        },
    };
    let modules = [placed(0x20_0000, ""), placed(0x20_2000, "a b")];
    let map = memory::map(5 << 30);
    let piece = information(&map, &modules).unwrap();
    let info = AT as u32;
    let field = |at: u32| dword(&piece, info + at);
    assert_eq!(field(0), 0b10_0100_1101);
    assert_eq!((field(4), field(8)), (639, (3 << 20) - 1024));
    assert_eq!(u64::from(field(16)), layout::COMMAND_LINE.start);
    assert_eq!(text(&piece, field(64)), "xlaunch");
    assert_eq!(field(20), 2);
    let list = field(24);
    for (i, placed) in modules.iter().enumerate() {
        let entry = list + 16 * i as u32;
        assert_eq!(u64::from(dword(&piece, entry)), placed.at);
        assert_eq!(u64::from(dword(&piece, entry + 4)), placed.at + 0x1234);
        let line = text(&piece, dword(&piece, entry + 8));
        assert_eq!(line, placed.module.cmdline);
        assert_eq!(dword(&piece, entry + 12), 0);
    }
    assert_eq!(field(44) as usize, 24 * map.len());
    let mut entry = field(48);
    for range in &map {
        let qword = |at| u64::from(dword(&piece, at)) | u64::from(dword(&piece, at + 4)) << 32;
        assert_eq!(qword(entry + 4), range.span.start);
        assert_eq!(qword(entry + 12), range.span.len());
        assert_eq!(dword(&piece, entry + 20), range.kind as u32);
        // "Size" counts what follows it.
        entry += dword(&piece, entry) + 4;
    }
    assert_eq!(entry, field(48) + field(44));
}

#[test]
fn information_that_is_too_long_is_refused() {
    let image = Image::made("module m", vec![0]);
    let modules = |count| {
        vec![
            Placed {
                at: 0x20_0000,
                module: Module {
                    image: &image,
                    cmdline: "x",
                }
            };
            count
        ]
    };
    assert!(information(&[], &modules(800)).is_ok());
    let problem = information(&[], &modules(1000)).unwrap_err();
    let text = problem.of("the modules").to_string();
    assert!(
        text.contains("takes 18128 bytes and there are 16384"),
        "{text}"
    );
}

proptest! {
    #[test]
    fn no_header_is_trusted(
        at in 0_usize..0x200,
        bytes: [u8; 32],
        elf: bool,
        low in 0_u32..0x40_0000,
    ) {
        let mut file = if elf {
            kernel(0x10_0000)
        } else {
            raw([0x10_0010, low, low.wrapping_mul(3), 0, low])
        };
        file[at..at + 32].copy_from_slice(&bytes);
        file[4..7].copy_from_slice(&[1, 1, 1]);
        if let Ok(kernel) = Kernel::parse(&file) {
            prop_assert!(kernel.span.start >= LEAST);
            for segment in &kernel.segments {
                prop_assert!(segment.at >= kernel.span.start && segment.end() <= kernel.span.end);
            }
        }
    }

    #[test]
    fn random_address_fields_are_handled(addresses: [u32; 5], near in 0_u32..0x2000) {
        for base in [0, 0x10_0000] {
            let mut addresses = addresses;
            if base != 0 {
                addresses = addresses.map(|address| base + address % (near + 1));
            }
            if let Ok(kernel) = Kernel::parse(&raw(addresses)) {
                let Entry::Multiboot(entry) = kernel.entry else { panic!("not multiboot") };
                prop_assert!(kernel.span.contains(entry));
                prop_assert!(kernel.segments[0].bytes.len() <= 0x400);
            }
        }
    }
}
