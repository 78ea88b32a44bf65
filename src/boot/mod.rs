//! From a kernel, an initrd and a command line to bytes in guest memory and the first registers.
//!
//! Linux's boot protocol (boot.rst), by the 64-bit entry where the kernel has one, otherwise by the 32-bit one; ELF
//! files, by their PVH entry or as a Linux; and multiboot 1 kernels with their modules.
//! What the machine is (memory map, ACPI tables) comes from the caller. Nothing is written before everything was
//! checked, and guest memory outside the pieces written is left as it is.

mod bzimage;
mod elf;
mod entry;
pub mod error;
pub mod image;
pub mod kernel;
mod multiboot;
mod place;
mod pvh;
mod zero_page;

use hvf_sys::ram::{OutsideRam, Ram};

use crate::layout;
use crate::memory::{Piece, Range};
use crate::x86::regs::Regs;
use error::{Error, Problem};
use image::Image;
use kernel::{Entry, Kernel};
use place::Placed;
use zero_page::Contents;

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// A bzImage, or an ELF or multiboot kernel.
    pub kernel: &'a Image,
    /// The initial RAM disk. For a multiboot kernel it is the first module, but for the built-in one, which is Linux's.
    pub initrd: Option<&'a Image>,
    /// The modules of a multiboot kernel.
    pub modules: &'a [Module<'a>],
    /// The whole command line.
    pub cmdline: &'a str,
    /// The machine's memory map.
    pub map: &'a [Range],
    /// Where the ACPI root pointer lies.
    pub rsdp: u64,
    /// Seed of the kernel's random numbers: it then has good ones from the start. May be empty.
    pub seed: &'a [u8],
}

/// A file for a multiboot kernel.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// The file.
    pub image: &'a Image,
    /// The text that goes with it.
    pub cmdline: &'a str,
}

/// `struct setup_data`: the next one's address, type, length.
const SETUP_DATA_HEADER: usize = 16;
/// SETUP_RNG_SEED (Linux's uapi/asm/bootparam.h).
const SETUP_RNG_SEED: u32 = 9;

/// Writes everything into `ram` and gives the first CPU's registers.
pub fn load(ram: &Ram, boot: &Boot<'_>) -> Result<Regs, Error> {
    let name = boot.kernel.name();
    let kernel = Kernel::parse(boot.kernel.bytes()).map_err(|problem| problem.of(name))?;
    place::kernel(&kernel, boot.map).map_err(|problem| problem.of(name))?;
    let cmdline = cmdline(boot.cmdline, &kernel)?;
    let modules = modules(boot, &kernel)?;
    let information = information(&kernel, boot, &modules)?;
    let write = |at, bytes: &[u8]| ram.write(at, bytes).map_err(|range| outside(name, range));
    for segment in &kernel.segments {
        write(segment.at, segment.bytes)?;
        let end = segment.at + segment.bytes.len() as u64;
        let cleared = ram.fill(end, segment.zeros, 0);
        cleared.map_err(|range| outside(name, range))?;
    }
    for placed in &modules {
        write(placed.at, placed.module.image.bytes())?;
    }
    write(layout::COMMAND_LINE.start, &cmdline)?;
    for piece in information.iter().chain(&entry::tables(kernel.entry)) {
        write(piece.at, &piece.bytes)?;
    }
    Ok(entry::registers(kernel.entry))
}

/// The files that go with the kernel: Linux's initrd, or multiboot's modules.
fn modules<'a>(boot: &Boot<'a>, kernel: &Kernel<'_>) -> Result<Vec<Placed<'a>>, Error> {
    let initrd = boot.initrd.filter(|image| !image.bytes().is_empty());
    let initrd = initrd.map(|image| Module { image, cmdline: "" });
    if let Entry::Multiboot(_) = kernel.entry {
        let ours = initrd.filter(|module| !module.image.is_built_in());
        let all = ours.into_iter().chain(boot.modules.iter().copied());
        return place_behind(all, kernel.span.end, boot.map);
    }
    if let Some(module) = boot.modules.first() {
        return Err(Problem::NoModules.of(module.image.name()));
    }
    let place = |module: Module<'a>| {
        let at = place::initrd(module.len(), kernel, boot.map);
        let at = at.map_err(|problem| problem.of(module.image.name()))?;
        Ok(Placed { at, module })
    };
    initrd.into_iter().map(place).collect()
}

/// Places modules one behind the other, from `free` on.
fn place_behind<'a>(
    modules: impl Iterator<Item = Module<'a>>,
    mut free: u64,
    map: &[Range],
) -> Result<Vec<Placed<'a>>, Error> {
    let place = |module: Module<'a>| {
        let name = module.image.name();
        if module.cmdline.contains('\0') {
            return Err(Problem::ZeroByte.of(&format!("the text of {name}")));
        }
        let at = place::module(module.len(), free, map).map_err(|problem| problem.of(name))?;
        let placed = Placed { at, module };
        free = placed.end();
        Ok(placed)
    };
    modules.map(place).collect()
}

/// What the kernel is told, in the form of its boot protocol.
fn information(
    kernel: &Kernel<'_>,
    boot: &Boot<'_>,
    modules: &[Placed<'_>],
) -> Result<Vec<Piece>, Error> {
    let initrd = modules
        .first()
        .map_or((0, 0), |it| (it.at, it.module.len()));
    Ok(match kernel.entry {
        Entry::Multiboot(_) => {
            let piece = multiboot::information(boot.map, modules);
            vec![piece.map_err(|problem| problem.of("the modules"))?]
        }
        Entry::Pvh(_) => vec![pvh::start_info(boot.map, initrd, boot.rsdp)],
        Entry::Long(_) | Entry::Protected(_) => linux(kernel, boot, initrd),
    })
}

fn linux(kernel: &Kernel<'_>, boot: &Boot<'_>, initrd: (u64, u64)) -> Vec<Piece> {
    let seed = setup_data(boot.seed);
    let page = zero_page::zero_page(&Contents {
        header: &kernel.header,
        map: boot.map,
        initrd,
        rsdp: boot.rsdp,
        setup_data: seed.as_ref().map_or(0, |piece| piece.at),
    });
    let page = Piece {
        at: layout::ZERO_PAGE.start,
        bytes: page,
    };
    seed.into_iter().chain([page]).collect()
}

impl Module<'_> {
    fn len(&self) -> u64 {
        self.image.bytes().len() as u64
    }
}

/// The command line with its final zero byte.
fn cmdline(text: &str, kernel: &Kernel<'_>) -> Result<Vec<u8>, Error> {
    const OBJECT: &str = "the kernel command line";
    let limit = kernel.cmdline_max.min(layout::COMMAND_LINE.len() - 1);
    let bytes = text.len() as u64;
    if bytes > limit {
        return Err(Problem::LongCommandLine { bytes, limit }.of(OBJECT));
    }
    if text.contains('\0') {
        return Err(Problem::ZeroByte.of(OBJECT));
    }
    Ok([text.as_bytes(), &[0]].concat())
}

/// The seed as the only element of the chain of setup data; as much of it as its page holds.
fn setup_data(seed: &[u8]) -> Option<Piece> {
    if seed.is_empty() {
        return None;
    }
    let room = layout::SETUP_DATA.len() as usize - SETUP_DATA_HEADER;
    let seed = &seed[..seed.len().min(room)];
    let mut bytes = vec![0; 8];
    bytes.extend(SETUP_RNG_SEED.to_le_bytes());
    bytes.extend((seed.len() as u32).to_le_bytes());
    bytes.extend(seed);
    Some(Piece {
        at: layout::SETUP_DATA.start,
        bytes,
    })
}

/// The map names memory that the machine lacks: it has less than the pieces of the first mebibyte need.
fn outside(name: &str, range: OutsideRam) -> Error {
    let end = range.gpa.saturating_add(range.len);
    Problem::NeedsMemory {
        end,
        memory: range.gpa,
    }
    .of(name)
}

#[cfg(test)]
mod tests;
