//! Where kernel and initrd go in memory.

use super::error::Problem;
use super::kernel::Kernel;
use crate::layout::Span;
use crate::memory::{Kind, Range};

const PAGE: u64 = 0x1000;
const FOUR_GIB: u64 = 1 << 32;

/// Whether the kernel, with the memory it uses before it reads the map, lies in RAM below 4 GiB.
pub(super) fn kernel(kernel: &Kernel<'_>, map: &[Range]) -> Result<(), Problem> {
    let mut low = usable(map).filter(|span| span.end <= FOUR_GIB);
    if low.any(|span| span.start <= kernel.span.start && kernel.span.end <= span.end) {
        return Ok(());
    }
    let memory = usable(map)
        .map(|span| span.end)
        .filter(|&end| end <= FOUR_GIB)
        .max();
    Err(Problem::NeedsMemory {
        end: kernel.span.end,
        memory: memory.unwrap_or(0),
    })
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

fn usable(map: &[Range]) -> impl Iterator<Item = Span> {
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
