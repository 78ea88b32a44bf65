//! Loading into memory: what is written where, and what does not fit.

use std::sync::Arc;

use proptest::prelude::*;

use super::bzimage::tests::kernel;
use super::*;
use crate::memory::{self, Kind};
use crate::x86::regs::{RAX, RBX, RSI};

const MIB: u64 = 1 << 20;

fn ram(bytes: u64) -> Arc<Ram> {
    let regions: Vec<_> = [layout::low_ram(bytes), layout::high_ram(bytes)]
        .iter()
        .filter(|span| !span.is_empty())
        .map(|span| (span.start, span.len()))
        .collect();
    Ram::new(&regions).unwrap()
}

fn read(ram: &Ram, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ram.read(at, &mut bytes).unwrap();
    bytes
}

fn start(
    memory: u64,
    kernel: Vec<u8>,
    initrd: u64,
    cmdline: &str,
) -> Result<(Arc<Ram>, Regs), Error> {
    let ram = ram(memory);
    let kernel = Image::made("kernel k", kernel);
    let initrd = Image::made("initrd i", vec![0x5c; initrd as usize]);
    let boot = Boot {
        kernel: &kernel,
        initrd: Some(&initrd),
        modules: &[],
        cmdline,
        map: &memory::map(memory),
        rsdp: layout::RSDP.start,
        seed: &[7; 32],
    };
    let regs = load(&ram, &boot)?;
    Ok((ram, regs))
}

fn refused(memory: u64, kernel: Vec<u8>, initrd: u64, cmdline: &str) -> String {
    start(memory, kernel, initrd, cmdline)
        .map(|_| ())
        .unwrap_err()
        .to_string()
}

#[test]
fn everything_lies_where_the_zero_page_says() {
    let file = kernel(8192);
    let (ram, regs) = start(64 * MIB, file.clone(), 5000, "console=ttyS0 quiet").unwrap();
    assert_eq!(regs.rip, 0x100_0200);
    assert_eq!(read(&ram, 0x100_0000, 8192), &file[1024..]);
    let page = read(&ram, regs.gprs[RSI], 4096);
    let dword = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
    let initrd = u64::from(dword(0x218));
    assert_eq!((initrd, dword(0x21c)), (64 * MIB - 8192, 5000));
    assert_eq!(read(&ram, initrd, 5000), [0x5c; 5000]);
    let cmdline = u64::from(dword(0x228));
    assert_eq!(read(&ram, cmdline, 20), b"console=ttyS0 quiet\0");
    let seed = read(&ram, u64::from(dword(0x250)), 16 + 32);
    assert_eq!(
        seed[..16],
        [0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 32, 0, 0, 0]
    );
    assert_eq!(seed[16..], [7; 32]);
}

#[test]
fn the_initrd_goes_below_the_kernels_limit() {
    let mut file = kernel(4096);
    file[0x22c..0x230].copy_from_slice(&(0x17f_ffff_u32).to_le_bytes());
    let (ram, _) = start(64 * MIB, file.clone(), 4096, "").unwrap();
    assert_eq!(read(&ram, 0x180_0000 - 4096, 4096), [0x5c; 4096]);
    // Too large for the space between kernel and limit, and below the kernel is more of it.
    let (ram, _) = start(64 * MIB, file, 5 * MIB, "").unwrap();
    assert_eq!(read(&ram, 0x100_0000 - 4096, 4096), [0x5c; 4096]);
}

#[test]
fn an_initrd_above_four_gib_is_for_kernels_that_allow_it() {
    let memory = 4 << 30;
    let mut file = kernel(4096);
    file[0x22c..0x230].copy_from_slice(&(0x10f_ffff_u32).to_le_bytes());
    let initrd = 16 * MIB;
    let (ram, regs) = start(memory, file.clone(), initrd, "").unwrap();
    let page = read(&ram, regs.gprs[RSI], 4096);
    let dword = |at: usize| u64::from(u32::from_le_bytes(page[at..at + 4].try_into().unwrap()));
    assert_eq!(dword(0x218) | dword(0x0c0) << 32, (5 << 30) - initrd);
    file[0x236] = 1;
    let text = refused(memory, file, initrd, "");
    assert!(
        text.starts_with("cannot load initrd i: its 16777216 bytes do not fit"),
        "{text}"
    );
}

#[test]
fn what_is_too_large_is_said_in_one_sentence() {
    let text = refused(16 * MIB, kernel(4096), 0, "");
    assert_eq!(
        text,
        "cannot load kernel k: it needs memory up to 0x1400000, and the machine's ends at 0x1000000; \
         give more with --memory"
    );
    let text = refused(32 * MIB, kernel(4096), 20 * MIB, "");
    assert!(
        text.contains("20971520 bytes do not fit into the 15728640 bytes"),
        "{text}"
    );
    let text = refused(64 * MIB, kernel(4096), 0, &"x".repeat(2048));
    assert!(
        text.contains("it has 2048 bytes and the kernel takes 2047"),
        "{text}"
    );
    assert!(start(64 * MIB, kernel(4096), 0, &"x".repeat(2047)).is_ok());
    assert!(refused(64 * MIB, kernel(4096), 0, "a\0b").contains("zero byte"));
}

#[test]
fn an_elf_kernel_is_loaded_with_its_zeros() {
    let ram = ram(64 * MIB);
    ram.fill(0x100_0000, 0x4000, 0xee).unwrap();
    let file = elf::tests::kernel(Some(0x100_0040));
    let kernel = Image::made("kernel k", file.clone());
    let boot = Boot {
        kernel: &kernel,
        initrd: None,
        modules: &[],
        cmdline: "quiet",
        map: &memory::map(64 * MIB),
        rsdp: layout::RSDP.start,
        seed: &[],
    };
    let regs = load(&ram, &boot).unwrap();
    assert_eq!(read(&ram, 0x100_0000, 0x1000), file[0x200..]);
    assert_eq!(read(&ram, 0x100_1000, 0x2000), [0; 0x2000]);
    assert_eq!(read(&ram, 0x100_3000, 1), [0xee]);
    assert_eq!(regs.rip, 0x100_0040);
    assert_eq!(read(&ram, regs.gprs[RBX], 4), 0x336e_c578_u32.to_le_bytes());
}

/// Boots the multiboot kernel `file` with modules in a machine of `memory`.
fn multiboot(
    memory: u64,
    file: Vec<u8>,
    initrd: &Image,
    modules: &[Module<'_>],
) -> Result<(Arc<Ram>, Regs), Error> {
    let ram = ram(memory);
    let kernel = Image::made("kernel k", file);
    let boot = Boot {
        kernel: &kernel,
        initrd: Some(initrd),
        modules,
        cmdline: "one two",
        map: &memory::map(memory),
        rsdp: layout::RSDP.start,
        seed: &[],
    };
    let regs = load(&ram, &boot)?;
    Ok((ram, regs))
}

#[test]
fn a_multiboot_kernel_finds_its_modules_on_pages_behind_it() {
    let initrd = Image::made("initrd i", vec![0x5c; 5000]);
    let image = Image::made("module m", vec![0x6d; 3]);
    let module = Module {
        image: &image,
        cmdline: "text",
    };
    let file = multiboot::tests::kernel(0x10_0000);
    let (ram, regs) = multiboot(2 * MIB, file.clone(), &initrd, &[module; 2]).unwrap();
    assert_eq!((regs.rip, regs.cr0 & 0x8000_0001), (0x10_0020, 1));
    assert_eq!(regs.gprs[RAX], 0x2bad_b002);
    assert_eq!(read(&ram, 0x10_0000, 0x1000), file[0x100..]);
    assert_eq!(read(&ram, 0x10_1000, 0x2000), [0; 0x2000]);
    let dword = |at: u64| u32::from_le_bytes(read(&ram, at, 4).try_into().unwrap());
    let info = regs.gprs[RBX];
    assert_eq!(read(&ram, dword(info + 16).into(), 8), b"one two\0");
    assert_eq!(dword(info + 20), 3);
    let list = u64::from(dword(info + 24));
    let places: Vec<_> = (0..3)
        .map(|i| (dword(list + 16 * i), dword(list + 16 * i + 4)))
        .collect();
    let expected = [
        (0x10_3000, 0x10_3000 + 5000),
        (0x10_5000, 0x10_5003),
        (0x10_6000, 0x10_6003),
    ];
    assert_eq!(places, expected);
    assert_eq!(read(&ram, 0x10_3000, 5000), [0x5c; 5000]);
    assert_eq!(read(&ram, 0x10_6000, 3), [0x6d; 3]);
    assert_eq!(read(&ram, dword(list + 16 + 8).into(), 5), b"text\0");
}

#[test]
fn a_multiboot_kernel_runs_in_a_mebibyte() {
    let initrd = Image::made("initrd i", vec![0x5c; 0x6000]);
    let file = multiboot::tests::kernel(0x2_0000);
    let (ram, regs) = multiboot(MIB, file, &initrd, &[]).unwrap();
    assert_eq!(regs.rip, 0x2_0020);
    assert_eq!(read(&ram, 0x2_3000, 0x6000), [0x5c; 0x6000]);
    let dword = |at: u64| u32::from_le_bytes(read(&ram, at, 4).try_into().unwrap());
    assert_eq!(
        (dword(regs.gprs[RBX] + 4), dword(regs.gprs[RBX] + 8)),
        (639, 0)
    );
    let refused = |at, initrd: &Image| {
        let file = multiboot::tests::kernel(at);
        multiboot(MIB, file, initrd, &[])
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(0x10_0000, &initrd),
        "cannot load kernel k: it needs memory up to 0x103000, and the machine's ends at 0x9fc00; \
         give more with --memory"
    );
    assert!(refused(0x1_f000, &initrd).contains("link it to 0x20000 or above"));
    let large = Image::made("initrd i", vec![0; 0x7_d000]);
    assert!(refused(0x2_0000, &large).contains("512000 bytes do not fit into the 510976 bytes"));
}

#[test]
fn a_multiboot_kernel_lies_in_memory_piece_by_piece() {
    // Its zeros reach from conventional memory to behind the hole.
    let initrd = Image::made("initrd i", vec![1]);
    let mut file = multiboot::tests::kernel(0x9_0000);
    file[52 + 20..52 + 24].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    let text = multiboot(4 * MIB, file, &initrd, &[])
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(text.contains("at 0x90000 to 0x190000, where"), "{text}");
}

#[test]
fn the_built_in_initrd_is_no_module_and_linux_takes_none() {
    let built_in = Image::bundled(image::Role::Initrd, b"cpio");
    let file = multiboot::tests::kernel(0x10_0000);
    let (ram, regs) = multiboot(2 * MIB, file, &built_in, &[]).unwrap();
    assert_eq!(read(&ram, regs.gprs[RBX] + 20, 4), [0; 4]);
    let image = Image::made("module m", vec![1]);
    let modules = [Module {
        image: &image,
        cmdline: "",
    }];
    let text = multiboot(64 * MIB, kernel(4096), &built_in, &modules)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("cannot pass module m: only a multiboot"),
        "{text}"
    );
}

#[test]
fn nothing_is_written_when_something_is_refused() {
    let ram = ram(64 * MIB);
    let kernel = Image::made("kernel k", kernel(4096));
    let boot = Boot {
        kernel: &kernel,
        initrd: None,
        modules: &[],
        cmdline: "a\0b",
        map: &memory::map(64 * MIB),
        rsdp: 0,
        seed: &[],
    };
    assert!(load(&ram, &boot).is_err());
    assert!(
        read(&ram, 0, 64 * MIB as usize)
            .iter()
            .all(|&byte| byte == 0)
    );
}

proptest! {
    #[test]
    fn an_initrd_never_overlaps_anything(
        size in 0_u64..48 * MIB,
        limit in 0_u32..,
        pref in 1_u64..24,
        init_size in 0_u32..0x200_0000,
        high: bool,
    ) {
        let mut file = kernel(4096);
        file[0x22c..0x230].copy_from_slice(&limit.to_le_bytes());
        file[0x258..0x260].copy_from_slice(&(pref * 2 * MIB).to_le_bytes());
        file[0x260..0x264].copy_from_slice(&init_size.to_le_bytes());
        file[0x236] = 1 | u8::from(high) << 1;
        let image = Kernel::parse(&file).unwrap();
        for memory in [16 * MIB, 64 * MIB, 5 << 30] {
            let map = memory::map(memory);
            if let Ok(start) = place::initrd(size, &image, &map) {
                let end = start + size;
                prop_assert!(start % 4096 == 0);
                prop_assert!(end <= image.span.start || start >= image.span.end);
                prop_assert!(end <= image.initrd_end || high);
                let inside = |range: &Range| {
                    range.kind == Kind::Usable
                        && range.span.start <= start
                        && end <= range.span.end
                };
                prop_assert!(map.iter().any(inside));
            }
        }
    }
}
