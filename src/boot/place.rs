//! Where kernel, initrd and modules go in memory.

use super::Module;
use super::error::Problem;
use super::kernel::{Entry, Kernel};
use crate::layout::Span;
use crate::memory::{Kind, Range};

const PAGE: u64 = 0x1000;
const FOUR_GIB: u64 = 1 << 32;

/// A module or initrd with its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    /// Its first address.
    pub(super) at: u64,
    /// What it is.
    pub(super) module: Module<'a>,
}

impl Placed<'_> {
    /// The first address behind it: below the end of RAM, since it was placed there.
    pub(super) fn end(&self) -> u64 {
        self.at + self.module.len()
    }
}

/// Whether the kernel lies in RAM below 4 GiB: the pieces of a multiboot kernel each, since it reads the map before it
/// uses more; of any other the whole, with the memory it uses before that.
pub(super) fn kernel(kernel: &Kernel<'_>, map: &[Range]) -> Result<(), Problem> {
    match kernel.entry {
        Entry::Multiboot(_) => kernel.segments.iter().try_for_each(|segment| {
            let span = Span {
                start: segment.at,
                end: segment.end(),
            };
            in_memory(span, map)
        }),
        Entry::Long(_) | Entry::Protected(_) | Entry::Pvh(_) => in_memory(kernel.span, map),
    }
}

fn in_memory(wanted: Span, map: &[Range]) -> Result<(), Problem> {
    let mut low = low(map);
    if low.any(|span| span.start <= wanted.start && wanted.end <= span.end) {
        return Ok(());
    }
    let memory = self::low(map).map(|span| span.end).max().unwrap_or(0);
    Err(if wanted.end > memory {
        Problem::NeedsMemory {
            end: wanted.end,
            memory,
        }
    } else {
        Problem::NotMemory(wanted)
    })
}

/// Where a module of `bytes` goes: the first page from `free` on behind which there is room below 4 GiB.
pub(super) fn module(bytes: u64, free: u64, map: &[Range]) -> Result<u64, Problem> {
    let behind = Span {
        start: free.next_multiple_of(PAGE),
        end: FOUR_GIB.max(free.next_multiple_of(PAGE)),
    };
    let mut holes = low(map)
        .map(|span| intersection(span, behind))
        .filter(|hole| !hole.is_empty());
    let free = holes.clone().map(Span::len).max().unwrap_or(0);
    let hole = holes.find(|hole| hole.len() >= bytes);
    hole.map(|hole| hole.start)
        .ok_or(Problem::NoRoom { bytes, free })
}

/// Where an initrd of `bytes` goes: as high as the kernel can reach it, below 4 GiB if possible, on a page boundary,
/// clear of the kernel.
pub(super) fn initrd(bytes: u64, kernel: &Kernel<'_>, map: &[Range]) -> Result<u64, Problem> {
    let low = holes(
        kernel,
        map,
        Span {
            start: 0,
            end: kernel.initrd_end,
        },
    );
    let mut fits = highest(&low, bytes);
    let mut free = low;
    if fits.is_none() && kernel.initrd_high {
        let all = Span {
            start: 0,
            end: u64::MAX,
        };
        free = holes(kernel, map, all);
        fits = highest(&free, bytes);
    }
    fits.ok_or_else(|| Problem::NoRoom {
        bytes,
        free: free.iter().map(|span| span.len()).max().unwrap_or(0),
    })
}

/// The usable memory behind the first mebibyte and inside `within`, without the kernel's.
fn holes(kernel: &Kernel<'_>, map: &[Range], within: Span) -> Vec<Span> {
    let before = Span {
        start: crate::layout::KERNEL_MIN,
        end: kernel.span.start,
    };
    let behind = Span {
        start: kernel.span.end.next_multiple_of(PAGE),
        end: u64::MAX,
    };
    usable(map)
        .flat_map(|span| [intersection(span, before), intersection(span, behind)])
        .map(|span| intersection(span, within))
        .filter(|span| !span.is_empty())
        .collect()
}

/// The highest page boundary from which `bytes` fit into a hole.
fn highest(holes: &[Span], bytes: u64) -> Option<u64> {
    let starts = holes.iter().filter(|hole| hole.len() >= bytes).map(|hole| {
        let start = (hole.end - bytes) / PAGE * PAGE;
        (start >= hole.start).then_some(start)
    });
    starts.flatten().max()
}

fn low(map: &[Range]) -> impl Iterator<Item = Span> + Clone {
    usable(map).filter(|span| span.end <= FOUR_GIB)
}

fn usable(map: &[Range]) -> impl Iterator<Item = Span> + Clone {
    map.iter()
        .filter(|range| range.kind == Kind::Usable)
        .map(|range| range.span)
}

fn intersection(a: Span, b: Span) -> Span {
    let start = a.start.max(b.start);
    Span {
        start,
        end: a.end.min(b.end).max(start),
    }
}
