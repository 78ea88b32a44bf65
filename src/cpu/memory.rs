//! Data accesses: segmentation, the TLB, and what happens where the TLB does not know.
//!
//! All faults of an access (both pages, the right to write) are found before anything is read or written. A device access
//! is a call and happens once.

use hvf_sys::cpu::{Insn, Space, State};
use hvf_sys::ram::{PAGE, Word};

use super::core::{Done, Exec, Trap};
use super::int::Int;
use crate::bus::Width;
use crate::x86::control::{cr4, dr7};
use crate::x86::cpuid::LINEAR_BITS;
use crate::x86::{segment, vector};

/// Up to two pieces of guest physical memory that an access falls into.
#[derive(Clone, Copy)]
struct Pieces {
    first: u64,
    second: u64,
    /// How many bytes lie in the first piece.
    split: u64,
    len: u64,
}

impl Exec<'_> {
    /// The offset of the memory operand within its segment, at its address size.
    #[inline(always)]
    pub fn offset(&self, insn: &Insn) -> u64 {
        let mut offset = insn.displacement();
        if let Some(base) = insn.base() {
            offset = offset.wrapping_add(self.state.gpr[base & 15]);
        }
        if let Some(index) = insn.index() {
            offset = offset.wrapping_add(self.state.gpr[index & 15] << insn.scale());
        }
        if insn.is_plain() {
            offset
        } else {
            self.offset_slow(insn, offset)
        }
    }

    fn offset_slow(&self, insn: &Insn, offset: u64) -> u64 {
        let offset = if insn.rip_relative() {
            offset.wrapping_add(self.state.rip)
        } else {
            offset
        };
        match insn.address_size() {
            2 => offset & 0xffff,
            4 => offset & 0xffff_ffff,
            _ => offset,
        }
    }

    /// The linear address of the memory operand, for an access of `len` bytes. Limits and rights of a legacy segment are
    /// checked here; canonicality where the TLB misses, because no entry has an address that is not canonical.
    #[inline(always)]
    pub fn linear(&mut self, insn: &Insn, len: u64, write: bool) -> Result<u64, Trap> {
        let offset = self.offset(insn);
        if insn.is_plain() {
            Ok(offset)
        } else {
            self.linear_in(insn.segment(), offset, len, write)
        }
    }

    /// The linear address of an offset in a segment.
    #[inline]
    pub fn linear_in(
        &mut self,
        number: usize,
        offset: u64,
        len: u64,
        write: bool,
    ) -> Result<u64, Trap> {
        if self.code64() {
            let based = number == State::FS || number == State::GS;
            let base = if based { self.segment(number).base } else { 0 };
            return Ok(base.wrapping_add(offset));
        }
        let found = self.segment(number);
        let (base, limit, rights) = (found.base, found.limit, found.rights);
        let last = offset.wrapping_add(len - 1);
        let code = rights & segment::CODE != 0;
        let usable = rights & segment::P != 0
            && if write {
                !code && rights & segment::WRITABLE != 0
            } else {
                !code || rights & segment::READABLE != 0
            }
            // Real mode checks no more than the limit, whatever protected mode has left behind.
            || self.real_mode();
        let inside = if !code && rights & segment::EXPAND_DOWN != 0 {
            let top = if rights & segment::DB != 0 {
                0xffff_ffff
            } else {
                0xffff
            };
            offset > u64::from(limit) && last <= top
        } else {
            last <= u64::from(limit) && last >= offset
        };
        if usable && inside {
            Ok(base.wrapping_add(offset) & 0xffff_ffff)
        } else {
            Err(self.segment_fault(number))
        }
    }

    /// Loads the memory operand.
    #[inline(always)]
    pub fn load<W: Word>(&mut self, insn: &Insn) -> Result<W, Trap> {
        let la = self.linear(insn, size_of::<W>() as u64, false)?;
        self.load_at(la, insn.segment())
    }

    /// Stores to the memory operand.
    #[inline(always)]
    pub fn store<W: Word>(&mut self, insn: &Insn, value: W) -> Done {
        let la = self.linear(insn, size_of::<W>() as u64, true)?;
        self.store_at(la, insn.segment(), value)
    }

    /// Loads from a linear address, with the rights of the current privilege level. The segment only says which fault an
    /// address that is not canonical gives.
    #[inline(always)]
    pub fn load_at<W: Word>(&mut self, la: u64, segment: usize) -> Result<W, Trap> {
        match self.tlb.load(self.space, la) {
            Some(value) => Ok(value),
            None => self
                .load_slow(self.space, la, size_of::<W>() as u64, segment)
                .map(W::from_u128),
        }
    }

    /// Stores to a linear address, with the rights of the current privilege level.
    #[inline(always)]
    pub fn store_at<W: Word>(&mut self, la: u64, segment: usize, value: W) -> Done {
        if self.core.tlb.store(self.core.space, la, value) {
            Ok(())
        } else {
            self.store_slow(
                self.space,
                la,
                size_of::<W>() as u64,
                segment,
                value.to_u128(),
            )
        }
    }

    /// Stores to a linear address in a space of the caller's: the stack of another privilege level.
    pub fn store_in<W: Word>(&mut self, space: Space, la: u64, segment: usize, value: W) -> Done {
        if self.core.tlb.store(space, la, value) {
            return Ok(());
        }
        self.store_slow(space, la, size_of::<W>() as u64, segment, value.to_u128())
    }

    /// Loads on the processor's own behalf (descriptor tables, TSS, IDT), with supervisor rights.
    pub fn load_system<W: Word>(&mut self, la: u64) -> Result<W, Trap> {
        let space = self.system_space();
        match self.tlb.load(space, la) {
            Some(value) => Ok(value),
            None => self
                .load_slow(space, la, size_of::<W>() as u64, State::DS)
                .map(W::from_u128),
        }
    }

    /// Stores on the processor's own behalf, with supervisor rights.
    pub fn store_system<W: Word>(&mut self, la: u64, value: W) -> Done {
        let space = self.system_space();
        if self.core.tlb.store(space, la, value) {
            return Ok(());
        }
        self.store_slow(space, la, size_of::<W>() as u64, State::DS, value.to_u128())
    }

    /// Makes sure that a range of any length can be written on the processor's own behalf.
    pub fn probe_system_write(&mut self, la: u64, len: u64) -> Done {
        let space = self.system_space();
        for at in [la, la.wrapping_add(len - 1)] {
            self.translate_data(space, at, true)?;
        }
        Ok(())
    }

    /// Replaces the memory operand by what `new` makes of it and gives the old value; locked against other vCPUs where
    /// the instruction says so. `new` may be called more than once.
    #[inline(always)]
    pub fn update<W: Word>(
        &mut self,
        insn: &Insn,
        lock: bool,
        new: impl FnMut(W) -> W,
    ) -> Result<W, Trap> {
        let la = self.linear(insn, size_of::<W>() as u64, true)?;
        self.update_at(la, insn.segment(), lock, new)
    }

    /// The same at a linear address.
    #[inline(always)]
    pub fn update_at<W: Word>(
        &mut self,
        la: u64,
        segment: usize,
        lock: bool,
        mut new: impl FnMut(W) -> W,
    ) -> Result<W, Trap> {
        if lock {
            return self.update_locked(la, segment, &mut new);
        }
        if self.tlb.writable(self.space, la, size_of::<W>() as u64)
            && let Some(old) = self.tlb.load::<W>(self.space, la)
        {
            let value = new(old);
            let stored = self.core.tlb.store(self.core.space, la, value);
            debug_assert!(stored);
            return Ok(old);
        }
        self.update_slow(
            la,
            segment,
            false,
            &mut |v| new(W::from_u128(v)).to_u128(),
            size_of::<W>() as u64,
        )
        .map(W::from_u128)
    }

    #[inline(always)]
    fn update_locked<W: Word>(
        &mut self,
        la: u64,
        segment: usize,
        new: &mut impl FnMut(W) -> W,
    ) -> Result<W, Trap> {
        if let Some(old) = self.core.tlb.update(self.core.space, la, &mut *new) {
            return Ok(old);
        }
        self.pieces(self.space, la, size_of::<W>() as u64, segment, true)?;
        if let Some(old) = self.core.tlb.update(self.core.space, la, &mut *new) {
            return Ok(old);
        }
        self.update_slow(
            la,
            segment,
            true,
            &mut |v| new(W::from_u128(v)).to_u128(),
            size_of::<W>() as u64,
        )
        .map(W::from_u128)
    }

    /// `update` where the TLB has no entry to write through, or where a locked operand is not aligned.
    #[cold]
    #[inline(never)]
    fn update_slow(
        &mut self,
        la: u64,
        segment: usize,
        lock: bool,
        new: &mut dyn FnMut(u128) -> u128,
        len: u64,
    ) -> Result<u128, Trap> {
        let pieces = self.pieces(self.space, la, len, segment, true)?;
        // A locked access to RAM that cannot go through the TLB is made while every other vCPU stands still.
        let member = self.member.clone();
        let alone = lock.then(|| member.stand_alone(&mut self.core));
        let old = self.read_pieces(pieces);
        let stored = self.write_pieces(pieces, new(old));
        drop(alone);
        match stored {
            Ok(()) | Err(Trap::Edge) => {
                self.written_code |= stored.is_err();
                Ok(old)
            }
            Err(trap) => Err(trap),
        }
    }

    /// Makes sure that `len` bytes at a linear address can be written, without writing: the last chance to fault.
    pub fn probe_write(&mut self, la: u64, len: u64, segment: usize) -> Done {
        if self.tlb.writable(self.space, la, len) {
            return Ok(());
        }
        self.pieces(self.space, la, len, segment, true).map(|_| ())
    }

    #[cold]
    #[inline(never)]
    fn load_slow(&mut self, space: Space, la: u64, len: u64, segment: usize) -> Result<u128, Trap> {
        let pieces = self.pieces(space, la, len, segment, false)?;
        Ok(self.read_pieces(pieces))
    }

    #[cold]
    #[inline(never)]
    fn store_slow(&mut self, space: Space, la: u64, len: u64, segment: usize, value: u128) -> Done {
        let pieces = self.pieces(space, la, len, segment, true)?;
        if self.write_pieces(pieces, value).is_err() {
            self.written_code = true;
        }
        Ok(())
    }

    /// Translates every page that an access touches, or faults.
    fn pieces(
        &mut self,
        space: Space,
        la: u64,
        len: u64,
        segment: usize,
        write: bool,
    ) -> Result<Pieces, Trap> {
        let end = la.wrapping_add(len - 1);
        if self.long_mode() && !(canonical(la) && canonical(end)) {
            return Err(self.segment_fault(segment));
        }
        if space == Space::AlignedUser && la & (len.min(8) - 1) != 0 {
            return Err(self.raise_with(vector::AC, 0));
        }
        let first = self.translate_data(space, la, write)?;
        let split = (PAGE - la % PAGE).min(len);
        let second = if split < len {
            // Below 4 GiB, addresses wrap outside 64-bit code. The tables of long mode may lie anywhere.
            let mut next = la.wrapping_add(split);
            if !self.code64() && la >> 32 == 0 {
                next &= 0xffff_ffff;
            }
            self.translate_data(space, next, write)?
        } else {
            0
        };
        self.watch(la, len, write);
        Ok(Pieces {
            first,
            second,
            split,
            len,
        })
    }

    fn read_pieces(&mut self, pieces: Pieces) -> u128 {
        if pieces.split == pieces.len {
            return self.read_physical(pieces.first, pieces.len);
        }
        let low = self.read_physical(pieces.first, pieces.split);
        let high = self.read_physical(pieces.second, pieces.len - pieces.split);
        low | high << (8 * pieces.split)
    }

    /// `Trap::Edge` where decoded code was written over.
    fn write_pieces(&mut self, pieces: Pieces, value: u128) -> Done {
        if pieces.split == pieces.len {
            return self.write_physical(pieces.first, pieces.len, value);
        }
        let low = self.write_physical(pieces.first, pieces.split, value);
        let high = self.write_physical(
            pieces.second,
            pieces.len - pieces.split,
            value >> (8 * pieces.split),
        );
        low.and(high)
    }

    /// Reads 1 to 16 bytes that lie inside one page of guest physical memory.
    pub fn read_physical(&mut self, gpa: u64, len: u64) -> u128 {
        let ram = self.tlb.ram();
        let word = match len {
            1 => ram.load_u8(gpa).map(u128::from),
            2 => ram.load_u16(gpa).map(u128::from),
            4 => ram.load_u32(gpa).map(u128::from),
            8 => ram.load_u64(gpa).map(u128::from),
            _ => {
                let mut bytes = [0; 16];
                ram.read(gpa, &mut bytes[..len.min(16) as usize])
                    .map(|()| u128::from_le_bytes(bytes))
            }
        };
        match word {
            Ok(value) => value,
            Err(_) => chunks(len).fold(0, |sum, (at, width)| {
                sum | u128::from(self.io.mmio_read(gpa + at, width) & width.ones()) << (8 * at)
            }),
        }
    }

    fn write_physical(&mut self, gpa: u64, len: u64, value: u128) -> Done {
        let ram = self.tlb.ram();
        let before = ram.code_generation(gpa);
        let stored = match len {
            1 => ram.store_u8(gpa, value as u8),
            2 => ram.store_u16(gpa, value as u16),
            4 => ram.store_u32(gpa, value as u32),
            8 => ram.store_u64(gpa, value as u64),
            _ => ram.write(gpa, &value.to_le_bytes()[..len.min(16) as usize]),
        };
        match stored {
            Ok(()) if ram.code_generation(gpa) != before => Err(Trap::Edge),
            Ok(()) => Ok(()),
            Err(_) => {
                for (at, width) in chunks(len) {
                    self.io
                        .mmio_write(gpa + at, width, (value >> (8 * at)) as u64 & width.ones());
                }
                Ok(())
            }
        }
    }

    /// Whether a data breakpoint lies in the page of an address: such pages never enter the TLB.
    pub(super) fn watched(&self, va: u64) -> bool {
        self.state.dr7 & dr7::ENABLES != 0
            && self.state.breakpoints.iter().any(|b| b / PAGE == va / PAGE)
    }

    /// Notes which data breakpoints an access hits (SDM volume 3, 17.2.5).
    fn watch(&mut self, la: u64, len: u64, write: bool) {
        self.note_hits(la, len, |kind| match kind {
            dr7::WRITE => write,
            dr7::ACCESS => true,
            _ => false,
        });
    }

    /// Notes which port breakpoints an access hits: there are some only with CR4.DE.
    pub fn watch_port(&mut self, port: u16, len: u64) {
        if self.cr4(cr4::DE) {
            self.note_hits(u64::from(port), len, |kind| kind == dr7::PORT);
        }
    }

    fn note_hits(&mut self, la: u64, len: u64, watches: impl Fn(u64) -> bool) {
        if self.state.dr7 & dr7::ENABLES == 0 {
            return;
        }
        for n in 0..4 {
            let field = self.state.dr7 >> (dr7::FIELDS_SHIFT + 4 * n);
            let size = match field >> 2 & 3 {
                0 => 1,
                1 => 2,
                2 => 8,
                _ => 4,
            };
            let at = self.state.breakpoints[n as usize] & !(size - 1);
            let enabled = self.state.dr7 >> (2 * n) & 3 != 0;
            if enabled
                && watches(field & 3)
                && la < at.wrapping_add(size)
                && at < la.wrapping_add(len)
            {
                self.hits |= 1 << n;
            }
        }
    }

    /// Pushes one word of 2, 4 or 8 bytes.
    #[inline(always)]
    pub fn push<W: Int>(&mut self, value: W) -> Done {
        let pointer = self.stack_pointer().wrapping_sub(W::BYTES);
        self.store_stack(pointer, value)?;
        self.set_stack_pointer(pointer);
        Ok(())
    }

    /// Pops one word.
    #[inline(always)]
    pub fn pop<W: Int>(&mut self) -> Result<W, Trap> {
        let pointer = self.stack_pointer();
        let value = self.load_stack(pointer)?;
        self.set_stack_pointer(pointer.wrapping_add(W::BYTES));
        Ok(value)
    }

    /// Loads from the stack segment at an offset, taken at the stack's size.
    #[inline(always)]
    pub fn load_stack<W: Word>(&mut self, offset: u64) -> Result<W, Trap> {
        if self.code64() {
            return self.load_at(offset, State::SS);
        }
        let la = self.linear_in(
            State::SS,
            offset & self.stack_mask(),
            size_of::<W>() as u64,
            false,
        )?;
        self.load_at(la, State::SS)
    }

    /// Stores to the stack segment at an offset, taken at the stack's size.
    #[inline(always)]
    pub fn store_stack<W: Word>(&mut self, offset: u64, value: W) -> Done {
        if self.code64() {
            return self.store_at(offset, State::SS, value);
        }
        let la = self.linear_in(
            State::SS,
            offset & self.stack_mask(),
            size_of::<W>() as u64,
            true,
        )?;
        self.store_at(la, State::SS, value)
    }

    /// RSP, ESP or SP.
    #[inline(always)]
    pub fn stack_pointer(&self) -> u64 {
        self.state.gpr[4] & self.stack_mask()
    }

    /// Sets RSP, ESP or SP. ESP clears nothing above it outside 64-bit code, because nobody can see it there.
    #[inline(always)]
    pub fn set_stack_pointer(&mut self, value: u64) {
        let mask = self.stack_mask();
        let old = self.state.gpr[4];
        self.state.gpr[4] = old & !mask | value & mask;
    }

    /// The bits of a stack offset that count.
    #[inline(always)]
    pub fn stack_mask(&self) -> u64 {
        match self.stack_size() {
            8 => u64::MAX,
            4 => 0xffff_ffff,
            _ => 0xffff,
        }
    }
}

/// Whether a linear address is canonical: the bits above the implemented ones equal the top implemented one.
pub fn canonical(la: u64) -> bool {
    let shift = 64 - LINEAR_BITS;
    (la << shift) as i64 >> shift == la as i64
}

/// Cuts a device access of any length into accesses that a bus has.
fn chunks(len: u64) -> impl Iterator<Item = (u64, Width)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = [8, 4, 2, 1].into_iter().find(|b| at + b <= len)?;
        let chunk = (at, Width::from_bytes(bytes)?);
        at += bytes;
        Some(chunk)
    })
}
