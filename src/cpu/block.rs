//! Decoded code, cached by physical address and code size.
//!
//! A block is a run of instructions that ends where control may go elsewhere, at a page's end, or at 64 instructions.
//! Only its first instruction may cross into a second page; it then stands alone. A block remembers the generation of
//! its pages (see `hvf_sys::ram::code`) and is looked up again once that has moved on.
//!
//! Each vCPU has its own cache: nothing here is shared, and nothing is locked.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use hvf_sys::cpu::{Insn, State};
use hvf_sys::ram::{CodeMark, PAGE};

use super::core::{CodeSize, Exec, Trap};
use super::decode::{DecodeError, decode};
use super::exec::{self, Handler};
use super::memory::canonical;
use super::mmu::Want;

const JUMPS: usize = 1 << 12;
const INSNS: usize = 64;
const WINDOW: usize = 384;
const LONGEST: usize = 15;
/// At this many instructions (16 MiB of them) the cache starts afresh.
const CAPACITY: usize = 1 << 19;

/// An instruction and what executes it.
#[derive(Clone, Copy)]
pub struct Slot {
    /// What executes it.
    pub handler: Handler,
    /// The instruction.
    pub insn: Insn,
}

/// A run of decoded instructions.
#[derive(Clone, Copy)]
pub struct Block {
    first: u32,
    count: u32,
    /// How many bytes the first instruction has.
    first_bytes: u8,
    /// How many bytes of guest code it was made from.
    pub bytes: u32,
    gpa: u64,
    generation: u32,
    /// The page that the only instruction continues in.
    second: Option<(u64, u32)>,
}

/// Where a linear address was last found.
#[derive(Clone, Copy)]
struct Jump {
    la: u64,
    key: u64,
    epoch: u64,
    block: u32,
}

/// One vCPU's decoded code.
pub struct Cache {
    jumps: Box<[Jump; JUMPS]>,
    blocks: Vec<Block>,
    slots: Vec<Slot>,
    index: HashMap<(u64, u8), u32, BuildHasherDefault<Mix>>,
}

impl Default for Cache {
    fn default() -> Self {
        let nowhere = Jump {
            la: 0,
            key: 0,
            epoch: 0,
            block: 0,
        };
        Self {
            jumps: Box::new([nowhere; JUMPS]),
            blocks: Vec::new(),
            slots: Vec::new(),
            index: HashMap::default(),
        }
    }
}

impl Cache {
    /// The block at the current instruction, decoded if need be.
    #[inline(always)]
    pub fn find(&mut self, x: &mut Exec<'_>) -> Result<Block, Trap> {
        let la = x.fetch_address();
        let keys = x.fetch.keys(x.cpl == 3);
        let size = x.code_size as u64;
        let jump = &self.jumps[jump_slot(la)];
        let current = jump.key == keys.local << 2 | size || jump.key == keys.global << 2 | size;
        if jump.la == la && current && jump.epoch == x.tlb.ram().code_epoch() {
            return Ok(self.blocks[jump.block as usize]);
        }
        self.find_slow(x, la)
    }

    /// The instructions of a block.
    #[inline(always)]
    pub fn slots(&self, block: &Block) -> &[Slot] {
        &self.slots[block.first as usize..][..block.count as usize]
    }

    #[inline(never)]
    fn find_slow(&mut self, x: &mut Exec<'_>, la: u64) -> Result<Block, Trap> {
        let epoch = x.tlb.ram().code_epoch();
        let (page, key) = x.fetch_page(la)?;
        let (gpa, size) = (page | la % PAGE, x.code_size as u8);
        let known = self
            .index
            .get(&(gpa, size))
            .copied()
            .filter(|&at| self.blocks[at as usize].is_current(x, la));
        let at = match known {
            Some(at) => at,
            None => {
                let at = self.build(x, la, gpa)?;
                self.index.insert((gpa, size), at);
                at
            }
        };
        // Where the second page's translation ends with a write to CR3, so does the way to the block.
        let crosses = self.blocks[at as usize].second.is_some();
        let key = if crosses {
            x.fetch.keys(x.cpl == 3).local
        } else {
            key
        };
        self.jumps[jump_slot(la)] = Jump {
            la,
            key: key << 2 | u64::from(size),
            epoch,
            block: at,
        };
        Ok(self.blocks[at as usize])
    }

    fn build(&mut self, x: &mut Exec<'_>, la: u64, gpa: u64) -> Result<u32, Trap> {
        if self.slots.len() + INSNS > CAPACITY {
            *self = Self::default();
        }
        let mut window = [0; WINDOW];
        let bytes = &mut window[..((PAGE - gpa % PAGE) as usize).min(WINDOW)];
        loop {
            x.read_code(gpa, bytes)?;
            let first = self.slots.len();
            let len = self.decode_run(bytes, x.code_size);
            match len {
                Ok(0) => return self.build_crossing(x, la, gpa, bytes),
                Ok(len) => {
                    let generation = x.watch_code(gpa, len as u64)?;
                    let mut again = [0; WINDOW];
                    x.read_code(gpa, &mut again[..len])?;
                    if again[..len] == bytes[..len] {
                        return Ok(self.enter(first, len, gpa, generation, None));
                    }
                    self.slots.truncate(first);
                }
                Err(()) => return Err(x.general_protection(0)),
            }
        }
    }

    /// Decodes instructions until one ends the block, and gives how many bytes they have: none where already the first
    /// one needs more bytes than there are. `Err` where the first one is longer than an instruction may be.
    fn decode_run(&mut self, bytes: &[u8], size: CodeSize) -> Result<usize, ()> {
        let mut at = 0;
        for n in 0..INSNS {
            let rest = &bytes[at..bytes.len().min(at + LONGEST)];
            let insn = match decode(rest, size) {
                Ok(insn) => insn,
                Err(DecodeError::TooLong) if n == 0 => return Err(()),
                Err(_) => break,
            };
            at += insn.len() as usize;
            self.slots.push(Slot {
                handler: exec::select(&insn),
                insn,
            });
            if exec::ends_block(&insn) {
                break;
            }
        }
        Ok(at)
    }

    /// A block of one instruction that continues in the next page.
    fn build_crossing(
        &mut self,
        x: &mut Exec<'_>,
        la: u64,
        gpa: u64,
        head: &[u8],
    ) -> Result<u32, Trap> {
        // The limit of the code segment comes before the next page's fault.
        let last = x.state.rip.wrapping_add(head.len() as u64);
        if !x.code64() && last > u64::from(x.segment(State::CS).limit) {
            return Err(x.general_protection(0));
        }
        let next = x.next_page(la);
        let (second, _) = x.fetch_page(next)?;
        loop {
            let head_len = head.len().min(LONGEST);
            let mut bytes = [0; LONGEST];
            x.read_code(gpa, &mut bytes[..head_len])?;
            x.read_code(second, &mut bytes[head_len..])?;
            let insn = match decode(&bytes, x.code_size) {
                Ok(insn) => insn,
                Err(_) => return Err(x.general_protection(0)),
            };
            let len = insn.len() as usize;
            let generation = x.watch_code(gpa, head_len as u64)?;
            let second_generation =
                x.watch_code(second, len.saturating_sub(head_len).max(1) as u64)?;
            let mut again = [0; LONGEST];
            x.read_code(gpa, &mut again[..head_len])?;
            x.read_code(second, &mut again[head_len..])?;
            if again[..len] == bytes[..len] {
                let first = self.slots.len();
                self.slots.push(Slot {
                    handler: exec::select(&insn),
                    insn,
                });
                return Ok(self.enter(
                    first,
                    len,
                    gpa,
                    generation,
                    Some((second, second_generation)),
                ));
            }
        }
    }

    fn enter(
        &mut self,
        first: usize,
        len: usize,
        gpa: u64,
        generation: u32,
        second: Option<(u64, u32)>,
    ) -> u32 {
        let count = (self.slots.len() - first) as u32;
        let first_bytes = self.slots[first].insn.len() as u8;
        self.blocks.push(Block {
            first: first as u32,
            count,
            first_bytes,
            bytes: len as u32,
            gpa,
            generation,
            second,
        });
        self.blocks.len() as u32 - 1
    }
}

impl Block {
    /// How many bytes the first instruction has.
    pub fn first_len(&self) -> u64 {
        u64::from(self.first_bytes)
    }

    /// Whether the guest's code is still what was decoded, and the second page still follows the first.
    fn is_current(&self, x: &mut Exec<'_>, la: u64) -> bool {
        let ram = x.tlb.ram();
        if ram.code_generation(self.gpa) != self.generation {
            return false;
        }
        let Some((second, generation)) = self.second else {
            return true;
        };
        let same = ram.code_generation(second) == generation;
        let next = x.next_page(la);
        // Where the page faults, decoding again finds the fault.
        same && x.fetch_page(next).is_ok_and(|(page, _)| page == second)
    }
}

impl Exec<'_> {
    /// The linear address of the current instruction.
    #[inline(always)]
    pub(super) fn fetch_address(&self) -> u64 {
        if self.code64() {
            self.state.rip
        } else {
            self.segment(1).base.wrapping_add(self.state.rip) & 0xffff_ffff
        }
    }

    pub(super) fn next_page(&self, la: u64) -> u64 {
        let next = (la | (PAGE - 1)).wrapping_add(1);
        if self.code64() {
            next
        } else {
            next & 0xffff_ffff
        }
    }

    /// The guest physical page behind a linear address of code, and the key of the translation.
    pub(super) fn fetch_page(&mut self, la: u64) -> Result<(u64, u64), Trap> {
        let keys = self.fetch.keys(self.cpl == 3);
        if let Some(found) = self.fetch.find(la, keys) {
            return Ok(found);
        }
        if self.long_mode() && !canonical(la) {
            return Err(self.general_protection(0));
        }
        let found = self.translate(self.space, la, Want::Execute)?;
        let key = self.core.fetch.fill(la, found.gpa, found.global, keys);
        Ok((found.gpa & !(PAGE - 1), key))
    }

    /// A byte of code that was executed just now, where it can still be read.
    pub(super) fn code_byte(&mut self, la: u64) -> Option<u8> {
        let (page, _) = self.fetch_page(la).ok()?;
        self.tlb.ram().load_u8(page | la % PAGE).ok()
    }

    /// Reads code. Where there is no RAM there is nothing to execute: #GP, as a fetch that nobody answers has no better one.
    pub(super) fn read_code(&mut self, gpa: u64, into: &mut [u8]) -> Result<(), Trap> {
        match self.tlb.ram().read(gpa, into) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.general_protection(0)),
        }
    }

    /// Has writes to these bytes watched, and gives the generation under which they may be decoded.
    fn watch_code(&mut self, gpa: u64, len: u64) -> Result<u32, Trap> {
        loop {
            match self.tlb.ram().mark_code(gpa, len) {
                CodeMark::Watched(generation) => return Ok(generation),
                CodeMark::DropWrites => {
                    let member = self.member.clone();
                    member.make_code(&mut self.core, gpa, len);
                }
                CodeMark::NotRam => return Err(self.general_protection(0)),
            }
        }
    }
}

#[inline(always)]
fn jump_slot(la: u64) -> usize {
    (la ^ la >> 12) as usize % JUMPS
}

/// A cheap hash for physical addresses: the map is the vCPU's own, and the guest gains nothing from collisions.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
}
