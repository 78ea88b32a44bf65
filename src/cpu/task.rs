//! Hardware task switches (SDM volume 3, chapter 7). Only outside long mode.

use hvf_sys::cpu::{Segment, State};

use super::core::{Done, Exec, Trap};
use super::memory::canonical;
use super::segments::{Descriptor, is_null, selector_error};
use crate::x86::control::{cr0, dr6, dr7, rflags};
use crate::x86::segment::{self, system};
use crate::x86::vector;

/// What makes a task switch: it decides about busy bits, the back link and NT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// JMP: the old task is left for good.
    Jump,
    /// CALL, or an event through a task gate: the new task is nested in the old one.
    Call,
    /// IRET with NT set: back to the task that the back link names.
    Return,
}

/// The registers of a task as a TSS holds them, in the order of the 32-bit one from CR3 on.
struct Image {
    cr3: u32,
    eip: u32,
    eflags: u32,
    gprs: [u32; 8],
    /// ES, CS, SS, DS, FS, GS.
    selectors: [u16; 6],
    ldt: u16,
    /// The debug trap bit.
    trap: bool,
}

impl Exec<'_> {
    /// The TSS that a selector names, in the GDT and available. `fault` with the selector where not.
    pub fn task_descriptor(
        &mut self,
        selector: u16,
        fault: u8,
        external: u32,
    ) -> Result<Descriptor, Trap> {
        let error = selector_error(selector) | external;
        if is_null(selector) || selector & 4 != 0 {
            return Err(self.raise_with(fault, error));
        }
        let found = self.descriptor_or(selector, fault, error)?;
        if found.is_segment() || !matches!(found.system_type(), system::TSS16 | system::TSS32) {
            return Err(self.raise_with(fault, error));
        }
        if !found.present() {
            return Err(self.raise_with(vector::NP, error));
        }
        Ok(found)
    }

    /// Delivers an event through a task gate.
    pub(super) fn deliver_to_task(
        &mut self,
        selector: u16,
        error: Option<u32>,
        saved: (u64, u64),
        external: u32,
    ) -> Done {
        let found = self.task_descriptor(selector, vector::GP, external)?;
        self.switch_task(found, Switch::Call, saved, error)
    }

    /// IRET with NT set.
    pub fn return_from_task(&mut self) -> Done {
        let old = *self.segment(State::TR);
        let link: u16 = self.load_system(old.base)?;
        let error = selector_error(link);
        if is_null(link) || link & 4 != 0 {
            return Err(self.raise_with(vector::TS, error));
        }
        let found = self.descriptor(link, vector::TS)?;
        if found.is_segment()
            || !matches!(found.system_type(), system::TSS16_BUSY | system::TSS32_BUSY)
        {
            return Err(self.raise_with(vector::TS, error));
        }
        if !found.present() {
            return Err(self.raise_with(vector::NP, error));
        }
        self.intercept_task_switch(link, 1)?;
        self.unblock_nmis();
        let saved = (self.state.rip, self.rflags() & !rflags::NT);
        self.switch_task(found, Switch::Return, saved, None)
    }

    /// Saves the current task, with its RIP and RFLAGS as given, and loads another. An error code is pushed on the new stack.
    /// What the new task's state raises is raised in the new task, before its first instruction.
    pub fn switch_task(
        &mut self,
        new: Descriptor,
        how: Switch,
        (return_to, flags): (u64, u64),
        error: Option<u32>,
    ) -> Done {
        let wide = new.system_type() & 8 != 0;
        let loaded = new.loaded();
        if loaded.limit < if wide { 103 } else { 43 } {
            return Err(self.raise_with(vector::TS, selector_error(new.selector)));
        }
        let image = self.read_image(&loaded, wide)?;
        let old = *self.segment(State::TR);
        self.save_task(&old, flags, return_to)?;
        if how != Switch::Call {
            self.set_busy(&old, false)?;
        }
        if how == Switch::Call {
            self.store_system(loaded.base, old.selector)?;
        }
        if how != Switch::Return {
            self.store_system(new.at.wrapping_add(5), (new.bits >> 40) as u8 | 2)?;
        }
        let nested = how == Switch::Call;
        self.commit(loaded, wide, &image, nested);
        self.begin_task(&image, wide, error).map_err(|_| Trap::Late)
    }

    fn begin_task(&mut self, image: &Image, wide: bool, error: Option<u32>) -> Done {
        if self.pae_paging() {
            self.load_pdptes(self.state.cr3)?;
        }
        self.load_task_segments(image)?;
        if let Some(error) = error {
            let mut stack = self.current_stack();
            stack.push(self, if wide { 4 } else { 2 }, u64::from(error))?;
            self.switch_stack(&stack);
        }
        if self.state.rip > u64::from(self.segment(State::CS).limit) {
            return Err(self.general_protection(0));
        }
        if image.trap {
            self.fault = super::core::Fault {
                vector: vector::DB,
                error: None,
                detail: dr6::BT,
            };
            return Err(Trap::Fault);
        }
        Ok(())
    }

    /// Sets or clears the busy bit of the current task's descriptor.
    fn set_busy(&mut self, tss: &Segment, busy: bool) -> Done {
        let at = self.table_address(self.state.gdtr.base, u64::from(tss.selector & !7) + 5);
        let byte: u8 = self.load_system(at)?;
        self.store_system(at, byte & !2 | if busy { 2 } else { 0 })
    }

    fn read_image(&mut self, tss: &Segment, wide: bool) -> Result<Image, Trap> {
        let mut words = [0u32; 18];
        let count = if wide { 18 } else { 15 };
        for (n, word) in words.iter_mut().enumerate().take(count) {
            *word = if wide {
                self.load_system(tss.base.wrapping_add(28 + 4 * n as u64))?
            } else {
                u32::from(self.load_system::<u16>(tss.base.wrapping_add(14 + 2 * n as u64))?)
            };
        }
        // The 16-bit TSS starts at IP, has four segments and no CR3.
        let (cr3, rest) = if wide {
            (words[0], &words[1..])
        } else {
            (0, &words[..])
        };
        let mut selectors = [0; 6];
        let segments = if wide { 6 } else { 4 };
        for (selector, word) in selectors.iter_mut().zip(&rest[10..10 + segments]) {
            *selector = *word as u16;
        }
        let mut gprs = [0; 8];
        gprs.copy_from_slice(&rest[2..10]);
        let trap = wide && self.load_system::<u16>(tss.base.wrapping_add(100))? & 1 != 0;
        Ok(Image {
            cr3,
            eip: rest[0],
            eflags: rest[1],
            gprs,
            selectors,
            ldt: rest[10 + segments] as u16,
            trap,
        })
    }

    fn save_task(&mut self, tss: &Segment, flags: u64, return_to: u64) -> Done {
        let wide = tss.rights & 8 != 0;
        let mut words = vec![return_to as u32, flags as u32];
        words.extend(self.state.gpr[..8].iter().map(|r| *r as u32));
        words.extend(
            self.state.segments[..if wide { 6 } else { 4 }]
                .iter()
                .map(|s| u32::from(s.selector)),
        );
        let (first, size) = if wide { (32, 4) } else { (14, 2) };
        let len = words.len() as u64 * size;
        self.probe_system_write(tss.base.wrapping_add(first), len)?;
        for (n, word) in (0..).zip(words) {
            let at = tss.base.wrapping_add(first + n * size);
            // The upper halves of selector words keep what they hold.
            if !wide || n >= 10 {
                self.store_system(at, word as u16)?;
            } else {
                self.store_system(at, word)?;
            }
        }
        Ok(())
    }

    /// From here on the new task is the current one, and faults are its own.
    fn commit(&mut self, tss: Segment, wide: bool, image: &Image, nested: bool) {
        self.state.segments[State::TR] = Segment {
            rights: tss.rights | 2,
            ..tss
        };
        self.state.cr0 |= cr0::TS;
        if wide && self.cr0(cr0::PG) && self.state.cr3 != u64::from(image.cr3) {
            self.state.cr3 = u64::from(image.cr3);
            self.flush_local();
        }
        for (n, value) in image.gprs.into_iter().enumerate() {
            self.state.gpr[n] = u64::from(if wide { value } else { value | 0xffff_0000 });
        }
        self.state.rip = u64::from(image.eip);
        let high = if wide { 0 } else { self.rflags() & 0xffff_0000 };
        let flags = u64::from(image.eflags) | high | if nested { rflags::NT } else { 0 };
        self.set_rflags(flags);
        // Debug breakpoints that are local to a task end with it.
        self.state.dr7 &= !dr7::LOCAL;
    }

    fn load_task_segments(&mut self, image: &Image) -> Done {
        for (number, &selector) in image.selectors.iter().enumerate() {
            self.state.segments[number] = Segment {
                selector,
                ..Segment::default()
            };
        }
        self.load_task_ldt(image.ldt)?;
        let [es, cs, ss, ds, fs, gs] = image.selectors;
        if self.vm86() {
            self.cpl = 3;
            for (number, &selector) in image.selectors.iter().enumerate() {
                self.state.segments[number] = self.real_segment(number, selector);
            }
            self.update_mode();
            return Ok(());
        }
        let cpl = (cs & 3) as u8;
        self.cpl = cpl;
        let error = selector_error(cs);
        if is_null(cs) {
            return Err(self.raise_with(vector::TS, error));
        }
        let mut code = self.descriptor(cs, vector::TS)?;
        let fits = if code.is_conforming() {
            code.dpl() <= cpl
        } else {
            code.dpl() == cpl
        };
        if !code.is_code() || !fits {
            return Err(self.raise_with(vector::TS, error));
        }
        if !code.present() {
            return Err(self.raise_with(vector::NP, error));
        }
        self.mark_accessed(&mut code)?;
        self.state.segments[State::SS] = self.stack_segment(ss, cpl, vector::TS)?;
        self.set_code_segment(code.loaded(), cpl);
        for (number, selector) in [
            (State::ES, es),
            (State::DS, ds),
            (State::FS, fs),
            (State::GS, gs),
        ] {
            if let Err(trap) = self.load_segment(number, selector) {
                if self.fault.vector == vector::GP {
                    self.fault.vector = vector::TS;
                }
                return Err(trap);
            }
        }
        Ok(())
    }

    fn load_task_ldt(&mut self, selector: u16) -> Done {
        self.state.segments[State::LDTR] = Segment {
            selector,
            ..Segment::default()
        };
        if is_null(selector) {
            return Ok(());
        }
        let error = selector_error(selector);
        if selector & 4 != 0 {
            return Err(self.raise_with(vector::TS, error));
        }
        let found = self.descriptor(selector, vector::TS)?;
        let usable = !found.is_segment() && found.system_type() == system::LDT && found.present();
        if !usable || !canonical(u64::from(segment::base(found.bits))) {
            return Err(self.raise_with(vector::TS, error));
        }
        self.state.segments[State::LDTR] = found.loaded();
        Ok(())
    }
}
