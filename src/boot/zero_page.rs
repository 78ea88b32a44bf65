//! The zero page: what a boot loader tells a Linux kernel (Documentation/arch/x86/zero-page.rst, boot.rst).

use super::bzimage::HEADER;
use crate::layout;
use crate::memory::Range;

/// Offsets in the page that are not fields of the setup header.
mod at {
    pub(super) const ACPI_RSDP_ADDR: usize = 0x070;
    pub(super) const EXT_RAMDISK_IMAGE: usize = 0x0c0;
    pub(super) const EXT_RAMDISK_SIZE: usize = 0x0c4;
    pub(super) const ALT_MEM_K: usize = 0x1e0;
    pub(super) const E820_ENTRIES: usize = 0x1e8;
    pub(super) const TYPE_OF_LOADER: usize = 0x210;
    pub(super) const RAMDISK_IMAGE: usize = 0x218;
    pub(super) const RAMDISK_SIZE: usize = 0x21c;
    pub(super) const CMD_LINE_PTR: usize = 0x228;
    pub(super) const SETUP_DATA: usize = 0x250;
    pub(super) const E820_TABLE: usize = 0x2d0;
}

const SIZE: usize = layout::ZERO_PAGE.len() as usize;
const E820_ENTRY: usize = 20;
const E820_MAX: usize = 128;
/// A boot loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;

/// What goes into the page.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The kernel's setup header, from offset `HEADER` on.
    pub header: &'a [u8],
    /// The map of memory.
    pub map: &'a [Range],
    /// Where the initrd lies, and its length; zeros without one.
    pub initrd: (u64, u64),
    /// Where the ACPI root pointer lies.
    pub rsdp: u64,
    /// Where the chain of setup data begins; 0 without one.
    pub setup_data: u64,
}

/// The page. Everything that it does not say is zero: no screen, no EFI, no disks of a BIOS.
pub fn zero_page(contents: &Contents<'_>) -> Vec<u8> {
    let mut page = vec![0; SIZE];
    // The header's end is bounded by its one-byte jump; the e820 table begins behind the longest.
    let header = &contents.header[..contents.header.len().min(at::E820_TABLE - HEADER)];
    put(&mut page, HEADER, header);
    put(&mut page, at::TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
    put(&mut page, at::ACPI_RSDP_ADDR, &contents.rsdp.to_le_bytes());
    put(
        &mut page,
        at::SETUP_DATA,
        &contents.setup_data.to_le_bytes(),
    );
    let cmdline = layout::COMMAND_LINE.start as u32;
    put(&mut page, at::CMD_LINE_PTR, &cmdline.to_le_bytes());
    initrd(&mut page, contents.initrd);
    e820(&mut page, contents.map);
    page
}

fn initrd(page: &mut [u8], (start, len): (u64, u64)) {
    let split = |value: u64| {
        (
            (value as u32).to_le_bytes(),
            ((value >> 32) as u32).to_le_bytes(),
        )
    };
    let (low, high) = split(start);
    put(page, at::RAMDISK_IMAGE, &low);
    put(page, at::EXT_RAMDISK_IMAGE, &high);
    let (low, high) = split(len);
    put(page, at::RAMDISK_SIZE, &low);
    put(page, at::EXT_RAMDISK_SIZE, &high);
}

fn e820(page: &mut [u8], map: &[Range]) {
    let map = &map[..map.len().min(E820_MAX)];
    put(page, at::E820_ENTRIES, &[map.len() as u8]);
    for (i, range) in map.iter().enumerate() {
        let entry = at::E820_TABLE + i * E820_ENTRY;
        put(page, entry, &range.span.start.to_le_bytes());
        put(page, entry + 8, &range.span.len().to_le_bytes());
        put(page, entry + 16, &(range.kind as u32).to_le_bytes());
    }
    // What systems read that know no e820: KiB from 1 MiB on.
    let main = map
        .iter()
        .find(|range| range.span.start == layout::KERNEL_MIN);
    let kib = main.map_or(0, |range| range.span.len() >> 10) as u32;
    put(page, at::ALT_MEM_K, &kib.to_le_bytes());
}

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    fn page(map: &[Range], initrd: (u64, u64)) -> Vec<u8> {
        zero_page(&Contents {
            header: &[0xaa; 0x73],
            map,
            initrd,
            rsdp: 0xf_8000,
            setup_data: 0x3000,
        })
    }

    fn dword(page: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(page[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn fields_stand_where_the_protocol_has_them() {
        let map = memory::map(1 << 30);
        let page = page(&map, (0x1_2345_6000, 0x1_0000_0002));
        assert_eq!(page.len(), 4096);
        assert_eq!(page[0x1f1], 0xaa, "the header is the kernel's own");
        assert_eq!(page[0x210], 0xff, "type_of_loader");
        assert_eq!(dword(&page, 0x070), 0xf_8000, "acpi_rsdp_addr");
        assert_eq!(dword(&page, 0x228), 0x1_0000, "cmd_line_ptr");
        assert_eq!((dword(&page, 0x218), dword(&page, 0x0c0)), (0x2345_6000, 1));
        assert_eq!((dword(&page, 0x21c), dword(&page, 0x0c4)), (2, 1));
        assert_eq!(dword(&page, 0x250), 0x3000, "setup_data");
        assert_eq!(dword(&page, 0x1e0), (1 << 20) - 1024, "alt_mem_k");
        assert!(page[..0x70].iter().all(|&byte| byte == 0), "no screen");
    }

    #[test]
    fn the_map_is_copied_entry_by_entry() {
        let map = memory::map(5 << 30);
        let page = page(&map, (0, 0));
        assert_eq!(usize::from(page[0x1e8]), map.len());
        for (i, range) in map.iter().enumerate() {
            let at = 0x2d0 + 20 * i;
            let qword = |at| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
            assert_eq!(
                (qword(at), qword(at + 8)),
                (range.span.start, range.span.len())
            );
            assert_eq!(dword(&page, at + 16), range.kind as u32);
        }
    }

    #[test]
    fn a_map_that_is_too_long_is_cut() {
        let map = vec![memory::map(1 << 30)[0]; 300];
        let page = page(&map, (0, 0));
        assert_eq!(page[0x1e8], 128);
        assert_eq!(page.len(), 4096);
    }
}
