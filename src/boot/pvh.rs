//! PVH's start info ("x86/HVM direct boot ABI" of Xen, version 1): what the kernel finds at the address in EBX.

use crate::layout;
use crate::memory::{Piece, Range};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const START_INFO: u64 = 56;
const MODULE: u64 = 32;

/// Where it lies: it shares the place with multiboot's information, since no kernel is given both.
pub const AT: u64 = layout::MULTIBOOT_INFO.start;

/// Start info, the list of modules (the initrd, where its length is not zero) and the memory map.
pub fn start_info(map: &[Range], (initrd, initrd_len): (u64, u64), rsdp: u64) -> Piece {
    let modules = u32::from(initrd_len > 0);
    let module_list = AT + START_INFO;
    let memory_map = module_list + MODULE;
    let no_flags = 0_u32;
    let mut bytes = Vec::new();
    for word in [MAGIC, VERSION, no_flags, modules] {
        bytes.extend(word.to_le_bytes());
    }
    for address in [module_list, layout::COMMAND_LINE.start, rsdp, memory_map] {
        bytes.extend(address.to_le_bytes());
    }
    bytes.extend((map.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    let no_command_line = 0;
    for word in [initrd, initrd_len, no_command_line, 0] {
        bytes.extend(word.to_le_bytes());
    }
    for range in map {
        bytes.extend(range.span.start.to_le_bytes());
        bytes.extend(range.span.len().to_le_bytes());
        bytes.extend((range.kind as u32).to_le_bytes());
        bytes.extend([0; 4]);
    }
    Piece { at: AT, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    #[test]
    fn the_structure_is_that_of_the_abi() {
        let map = memory::map(5 << 30);
        let piece = start_info(&map, (0x3000_0000, 0x1234), 0xf_8000);
        let dword = |at: usize| u32::from_le_bytes(piece.bytes[at..at + 4].try_into().unwrap());
        let qword = |at: usize| u64::from_le_bytes(piece.bytes[at..at + 8].try_into().unwrap());
        let at = |address: u64| (address - piece.at) as usize;
        assert_eq!((dword(0), dword(4), dword(12)), (0x336e_c578, 1, 1));
        let modules = at(qword(16));
        assert_eq!((qword(modules), qword(modules + 8)), (0x3000_0000, 0x1234));
        assert_eq!(
            (qword(24), qword(32)),
            (layout::COMMAND_LINE.start, 0xf_8000)
        );
        assert_eq!(dword(48) as usize, map.len());
        for (i, range) in map.iter().enumerate() {
            let entry = at(qword(40)) + 24 * i;
            assert_eq!(
                (qword(entry), qword(entry + 8)),
                (range.span.start, range.span.len())
            );
            assert_eq!(dword(entry + 16), range.kind as u32);
        }
        assert_eq!(piece.bytes.len(), at(qword(40)) + 24 * map.len());
        assert!(piece.bytes.len() as u64 <= layout::MULTIBOOT_INFO.len());
    }

    #[test]
    fn no_initrd_is_no_module() {
        assert_eq!(start_info(&[], (0, 0), 0).bytes[12..16], [0; 4]);
    }
}
