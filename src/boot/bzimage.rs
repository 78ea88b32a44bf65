//! Reading a bzImage: the header of the Linux/x86 boot protocol (Documentation/arch/x86/boot.rst, "boot.rst"
//! below), versions 2.10 to now.
//!
//! The real-mode code in front is never run; its header goes into the zero page, and what follows it into memory.
//! A field that is wrong is refused by name: no value of the file is used before it was checked.

use std::borrow::Cow;

use super::error::Problem;
use super::kernel::{Entry, Kernel, Segment};
use crate::layout::{self, Span};

/// Offset of the setup header in the file and in the zero page.
pub const HEADER: usize = 0x1f1;

/// Where the header's fields stand (boot.rst, "The real-mode kernel header").
mod field {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const SYSSIZE: usize = 0x1f4;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const JUMP_OFFSET: usize = 0x201;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(super) const KERNEL_ALIGNMENT: usize = 0x230;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    /// Behind `init_size`, the last field that every version from 2.10 on has.
    pub(super) const END: usize = 0x264;
}

const SECTOR: u64 = 512;
const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: [u8; 4] = *b"HdrS";
/// The first version with `pref_address` and `init_size`.
const VERSION_MIN: u16 = 0x020a;
/// The first version with `xloadflags`.
const VERSION_XLOADFLAGS: u16 = 0x020c;
/// In `loadflags`: the protected-mode code goes to 1 MiB and above.
const LOADED_HIGH: u8 = 1 << 0;
/// In `xloadflags`: there is a 64-bit entry, 0x200 behind the load address.
const XLF_KERNEL_64: u16 = 1 << 0;
/// In `xloadflags`: kernel, zero page, command line and initrd may lie above 4 GiB.
const XLF_ABOVE_4G: u16 = 1 << 1;
/// Where the 64-bit entry lies, from the load address.
const ENTRY_64: u64 = 0x200;

/// Checks the header of `file`.
pub(super) fn parse(file: &[u8]) -> Result<Kernel<'_>, Problem> {
    recognise(file)?;
    let version = word(file, field::VERSION);
    if version < VERSION_MIN {
        let [minor, major] = version.to_le_bytes();
        return Err(Problem::OldProtocol(major, minor));
    }
    if file[field::LOADFLAGS] & LOADED_HIGH == 0 {
        return Err(Problem::LoadedLow);
    }
    let payload = payload(file)?;
    let start = load_address(file)?;
    let init_size = u64::from(dword(file, field::INIT_SIZE));
    let used = init_size.max(payload.len() as u64);
    let end = start.checked_add(used);
    let xloadflags = match version {
        VERSION_XLOADFLAGS.. => word(file, field::XLOADFLAGS),
        _ => 0,
    };
    Ok(Kernel {
        header: Cow::Borrowed(header(file)?),
        segments: vec![Segment {
            at: start,
            bytes: payload,
            zeros: 0,
        }],
        span: Span {
            start,
            end: end.ok_or(Problem::Field("init_size", init_size))?,
        },
        entry: entry(xloadflags, start, payload)?,
        cmdline_max: u64::from(dword(file, field::CMDLINE_SIZE)),
        initrd_end: u64::from(dword(file, field::INITRD_ADDR_MAX)) + 1,
        initrd_high: xloadflags & XLF_ABOVE_4G != 0,
    })
}

/// Whether this is a bzImage whose header lies in the file; if not, what it is.
fn recognise(file: &[u8]) -> Result<(), Problem> {
    let magic = file.get(field::MAGIC..field::MAGIC + 4);
    if magic != Some(&MAGIC) {
        return Err(foreign(file));
    }
    if file.len() < field::END {
        return Err(truncated(file, field::END as u64));
    }
    match word(file, field::BOOT_FLAG) {
        BOOT_FLAG => Ok(()),
        flag => Err(Problem::Field("boot_flag", flag.into())),
    }
}

/// What a file is that has no "HdrS".
fn foreign(file: &[u8]) -> Problem {
    const ARM64_MAGIC: usize = 56;
    let sample = &file[..file.len().min(4096)];
    let text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b | 0x20..=0x7e | 0x80..);
    if file.starts_with(&[0x1f, 0x8b]) {
        Problem::Foreign("a gzip file")
    } else if file.get(ARM64_MAGIC..ARM64_MAGIC + 4) == Some(b"ARM\x64") {
        Problem::Foreign("a kernel for AArch64")
    } else if sample.iter().all(text) {
        Problem::Text
    } else if file.starts_with(b"MZ") && file.len() < field::END {
        truncated(file, field::END as u64)
    } else {
        Problem::NotAKernel
    }
}

/// The header ends where the jump over it leads (boot.rst, "jump"); what lies behind is code.
fn header(file: &[u8]) -> Result<&[u8], Problem> {
    let end = field::MAGIC + usize::from(file[field::JUMP_OFFSET]);
    if end < field::END {
        return Err(Problem::Field("jump", file[field::JUMP_OFFSET].into()));
    }
    file.get(HEADER..end)
        .ok_or_else(|| truncated(file, end as u64))
}

/// The protected-mode code: behind the boot sector and `setup_sects` further ones, `syssize` paragraphs.
fn payload(file: &[u8]) -> Result<&[u8], Problem> {
    let sectors = match file[field::SETUP_SECTS] {
        // boot.rst: for backwards compatibility.
        0 => 4,
        sectors => u64::from(sectors),
    };
    let start = (sectors + 1) * SECTOR;
    let paragraphs = dword(file, field::SYSSIZE);
    if paragraphs == 0 {
        return Err(Problem::Field("syssize", 0));
    }
    let end = start + u64::from(paragraphs) * 16;
    if end > file.len() as u64 {
        return Err(truncated(file, end));
    }
    Ok(&file[start as usize..end as usize])
}

/// The address that the kernel prefers is also the lowest at which it can unpack itself, so there is no other to
/// try where it does not fit.
fn load_address(file: &[u8]) -> Result<u64, Problem> {
    let alignment = dword(file, field::KERNEL_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(Problem::Field("kernel_alignment", alignment.into()));
    }
    let load = qword(file, field::PREF_ADDRESS);
    if load < layout::KERNEL_MIN || !load.is_multiple_of(alignment.into()) {
        return Err(Problem::Field("pref_address", load));
    }
    Ok(load)
}

fn entry(xloadflags: u16, load: u64, payload: &[u8]) -> Result<Entry, Problem> {
    let len = payload.len() as u64;
    if xloadflags & XLF_KERNEL_64 == 0 {
        Ok(Entry::Protected(load))
    } else if len <= ENTRY_64 {
        Err(Problem::Field("syssize", len / 16))
    } else {
        Ok(Entry::Long(load.wrapping_add(ENTRY_64)))
    }
}

fn truncated(file: &[u8], need: u64) -> Problem {
    Problem::Truncated {
        have: file.len() as u64,
        need,
    }
}

fn word(file: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(std::array::from_fn(|i| file[at + i]))
}

fn dword(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| file[at + i]))
}

fn qword(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| file[at + i]))
}

#[cfg(test)]
pub(super) mod tests;
