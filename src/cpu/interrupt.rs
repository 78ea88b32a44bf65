//! Delivery of interrupts and exceptions through the IDT (SDM volume 3, chapter 6).

use hvf_sys::cpu::{Attention, Segment, Space, State};
use hvf_sys::ram::Word;

use super::core::{Done, Exec, Fault, Leave, Trap};
use super::int::Int;
use super::intercept::{Event, EventKind};
use super::memory::canonical;
use super::run::Stop;
use super::segments::{Descriptor, is_null, null_stack, selector_error};
use crate::x86::control::{cr4, dr6, dr7, rflags};
use crate::x86::segment::system;
use crate::x86::{segment, vector};

/// Where an event comes from: it decides whether a gate's privilege level counts, and the EXT bit of error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A device or another processor.
    Hardware,
    /// The processor itself.
    Exception,
    /// INT n, INT3, INTO.
    Software,
}

/// What a gate says.
struct Gate {
    selector: u16,
    offset: u64,
    /// Bytes of each pushed word: 2, 4 or 8.
    width: u8,
    /// Interrupts stay enabled.
    trap: bool,
    /// The interrupt stack table entry; 0 is none.
    ist: u8,
}

/// A stack that is being filled before it becomes the current one.
pub struct NewStack {
    /// What SS will hold.
    pub segment: Segment,
    /// What the stack pointer will be.
    pub pointer: u64,
    mask: u64,
    space: Space,
    /// The error code of #SS: the selector of another level's stack, and whether an external event is being delivered.
    error: u32,
}

impl Exec<'_> {
    /// IRET ends the blocking of NMIs: the loop looks for one that waits.
    pub(super) fn unblock_nmis(&mut self) {
        self.nmi_blocked = false;
        if self.nmi_pending {
            self.attention().raise(Attention::KICK);
        }
    }

    /// Delivers what was injected or waits, before the first instruction of a run.
    pub(super) fn deliver_waiting(&mut self) -> Result<(), Stop> {
        if self.nmi_pending && !self.nmi_blocked {
            self.nmi_pending = false;
            self.nmi_blocked = true;
            self.deliver_event(vector::NMI, Source::Hardware)?;
        }
        if let Some(event) = self.take_injected() {
            self.deliver_injected(event)?;
        }
        match self.injected.take() {
            Some(vector) => self.deliver_event(vector, Source::Hardware),
            None => Ok(()),
        }
    }

    fn deliver_event(&mut self, vector: u8, source: Source) -> Result<(), Stop> {
        match self.deliver(vector, source, None, self.state.rip) {
            Ok(()) => Ok(()),
            Err(_) => self.deliver_fault(),
        }
    }

    /// Delivers an event that a VM entry injects (SDM volume 3, 27.6): it ends the shadows of STI and MOV SS, and an NMI
    /// blocks further ones.
    fn deliver_injected(&mut self, event: Event) -> Result<(), Stop> {
        self.nmi_blocked |= event.kind == EventKind::Nmi;
        self.begin_delivery(event);
        let return_to = self.state.rip.wrapping_add(u64::from(event.len));
        match self.deliver(event.vector, event.source(), event.error, return_to) {
            Ok(()) => self.end_delivery(),
            Err(Trap::Intercept) => {
                self.note_length(event.len.into());
                return Err(Stop::Intercepted);
            }
            Err(_) => self.deliver_fault()?,
        }
        self.end_shadow();
        Ok(())
    }

    /// Delivers the exception in `self.fault`, and those that its delivery raises (SDM volume 3, 6.15, "double fault").
    pub(super) fn deliver_fault(&mut self) -> Result<(), Stop> {
        loop {
            let first = self.fault;
            if self
                .intercept_exception(EventKind::Hardware, first)
                .is_err()
            {
                return Err(Stop::Intercepted);
            }
            if first.vector == vector::PF {
                self.state.cr2 = first.detail;
            }
            if first.vector == vector::DB {
                self.state.dr6 = self.state.dr6 & !dr6::BREAKPOINTS | first.detail;
                self.state.dr7 &= !dr7::GD;
            }
            self.begin_delivery(first.event(EventKind::Hardware));
            match self.deliver(first.vector, Source::Exception, first.error, self.state.rip) {
                Ok(()) => {
                    self.end_delivery();
                    if self.shadow {
                        self.end_shadow();
                    }
                    return Ok(());
                }
                Err(Trap::Intercept) => return Err(Stop::Intercepted),
                Err(_) => {}
            }
            // What is intercepted is the second exception itself, before it makes a double fault of the first.
            let second = self.fault;
            if self
                .intercept_exception(EventKind::Hardware, second)
                .is_err()
            {
                return Err(Stop::Intercepted);
            }
            let detail = second.detail;
            let second = second.vector;
            if second == vector::PF {
                self.state.cr2 = detail;
            }
            if first.vector == vector::DF {
                self.end_delivery();
                self.leave = Leave::TripleFault;
                return Err(Stop::TripleFault);
            }
            let double = if first.vector == vector::PF {
                second == vector::PF || vector::is_contributory(second)
            } else {
                vector::is_contributory(first.vector) && vector::is_contributory(second)
            };
            if double {
                self.end_delivery();
                self.fault = Fault {
                    vector: vector::DF,
                    error: Some(0),
                    detail: 0,
                };
            }
        }
    }

    /// Transfers control through the IDT, with `return_to` as the pushed instruction pointer. On a fault nothing has changed.
    pub fn deliver(
        &mut self,
        vector: u8,
        source: Source,
        error: Option<u32>,
        return_to: u64,
    ) -> Done {
        if self.real_mode() {
            return self.deliver_real(vector, return_to);
        }
        let external = u32::from(source != Source::Software);
        let index_error = u32::from(vector) << 3 | 2 | external;
        let gate_size = if self.long_mode() { 16 } else { 8 };
        let offset = u64::from(vector) * gate_size;
        if offset + gate_size - 1 > u64::from(self.state.idtr.limit) {
            return Err(self.general_protection(index_error));
        }
        let at = self.table_address(self.state.idtr.base, offset);
        let bits: u64 = self.load_system(at)?;
        let found = Descriptor {
            selector: (bits >> 16) as u16,
            bits,
            at,
        };
        let kind = found.system_type();
        let known = match kind {
            _ if found.is_segment() => false,
            system::INTERRUPT_GATE32 | system::TRAP_GATE32 => true,
            system::INTERRUPT_GATE16 | system::TRAP_GATE16 | system::TASK_GATE => !self.long_mode(),
            _ => false,
        };
        if !known || source == Source::Software && found.dpl() < self.cpl {
            return Err(self.general_protection(index_error));
        }
        if !found.present() {
            return Err(self.raise_with(vector::NP, index_error));
        }
        let flags = self.pushed_flags(vector, source);
        if kind == system::TASK_GATE {
            self.intercept_task_switch(found.selector, 3)?;
            return self.deliver_to_task(found.selector, error, (return_to, flags), external);
        }
        let gate = self.gate(&found)?;
        self.enter_gate(&gate, error, return_to, external, flags)
    }

    fn gate(&mut self, found: &Descriptor) -> Result<Gate, Trap> {
        let (bits, kind) = (found.bits, found.system_type());
        let mut gate = Gate {
            selector: found.selector,
            offset: bits & 0xffff | bits >> 32 & 0xffff_0000,
            width: if kind & 8 != 0 { 4 } else { 2 },
            trap: kind & 1 != 0,
            ist: 0,
        };
        if self.long_mode() {
            gate.offset |= self.load_system::<u64>(found.at.wrapping_add(8))? << 32;
            gate.width = 8;
            gate.ist = (bits >> 32 & 7) as u8;
        } else if gate.width == 2 {
            gate.offset &= 0xffff;
        }
        Ok(gate)
    }

    /// Faults push RF set, so that an instruction breakpoint does not hit twice; traps and interrupts push it as it is.
    fn pushed_flags(&self, vector: u8, source: Source) -> u64 {
        let trap = matches!(vector, vector::DB | vector::BP | vector::OF);
        self.rflags()
            | if source == Source::Exception && !trap {
                rflags::RF
            } else {
                0
            }
    }

    fn enter_gate(
        &mut self,
        gate: &Gate,
        error: Option<u32>,
        return_to: u64,
        external: u32,
        flags: u64,
    ) -> Done {
        if is_null(gate.selector) {
            return Err(self.general_protection(external));
        }
        let code_error = selector_error(gate.selector) | external;
        let mut code = self.descriptor_or(gate.selector, vector::GP, code_error)?;
        let wrong_size =
            self.long_mode() && code.rights() & (segment::L | segment::DB) != segment::L;
        if !code.is_code() || code.dpl() > self.cpl || wrong_size {
            return Err(self.general_protection(code_error));
        }
        if !code.present() {
            return Err(self.raise_with(vector::NP, code_error));
        }
        let inner = !code.is_conforming() && code.dpl() < self.cpl;
        let cpl = if code.is_conforming() {
            self.cpl
        } else {
            code.dpl()
        };
        if self.vm86() && (cpl != 0 || code.is_conforming()) {
            return Err(self.general_protection(code_error));
        }
        if self.long_mode() && !canonical(gate.offset)
            || !self.long_mode() && gate.offset > u64::from(segment::limit(code.bits))
        {
            return Err(self.general_protection(external));
        }
        let mut stack = if self.long_mode() {
            self.long_stack(cpl, inner, gate.ist)?
        } else if inner {
            self.inner_stack(cpl, external)?
        } else {
            self.current_stack()
        };
        stack.error |= external;
        self.push_frame(&mut stack, gate, inner, error, return_to, flags)?;
        self.mark_accessed(&mut code)?;
        let leaves_vm86 = self.vm86();
        let mut new_flags = self.rflags() & !(rflags::TF | rflags::NT | rflags::RF | rflags::VM);
        if !gate.trap {
            new_flags &= !rflags::IF;
        }
        if leaves_vm86 {
            for number in [State::ES, State::DS, State::FS, State::GS] {
                self.state.segments[number] = Segment::default();
            }
        }
        self.cpl = cpl;
        self.set_rflags(new_flags);
        self.switch_stack(&stack);
        self.set_code_segment(code.loaded(), cpl);
        self.state.rip = gate.offset;
        Ok(())
    }

    fn push_frame(
        &mut self,
        stack: &mut NewStack,
        gate: &Gate,
        inner: bool,
        error: Option<u32>,
        return_to: u64,
        flags: u64,
    ) -> Done {
        let width = gate.width;
        if self.vm86() {
            for number in [State::GS, State::FS, State::DS, State::ES] {
                let selector = u64::from(self.segment(number).selector);
                stack.push(self, width, selector)?;
            }
        }
        if inner || self.long_mode() {
            let old = u64::from(self.segment(State::SS).selector);
            stack.push(self, width, old)?;
            stack.push(self, width, self.state.gpr[4])?;
        }
        stack.push(self, width, flags)?;
        stack.push(self, width, u64::from(self.segment(State::CS).selector))?;
        stack.push(self, width, return_to)?;
        match error {
            Some(error) => stack.push(self, width, u64::from(error)),
            None => Ok(()),
        }
    }

    fn deliver_real(&mut self, vector: u8, return_to: u64) -> Done {
        let at = u64::from(vector) * 4;
        if at + 3 > u64::from(self.state.idtr.limit) {
            return Err(self.general_protection(0));
        }
        let entry: u32 = self.load_system(self.table_address(self.state.idtr.base, at))?;
        let flags = self.rflags();
        let mut stack = self.current_stack();
        for value in [
            flags,
            u64::from(self.segment(State::CS).selector),
            return_to,
        ] {
            stack.push(self, 2, value)?;
        }
        self.switch_stack(&stack);
        self.set_rflags(flags & !(rflags::IF | rflags::TF | rflags::AC | rflags::RF));
        let selector = (entry >> 16) as u16;
        self.state.segments[State::CS] = self.real_segment(State::CS, selector);
        self.state.rip = u64::from(entry & 0xffff);
        self.update_mode();
        Ok(())
    }

    /// The stack as it is, to push on.
    pub fn current_stack(&self) -> NewStack {
        NewStack {
            segment: *self.segment(State::SS),
            pointer: self.state.gpr[4],
            mask: self.stack_mask(),
            space: self.space,
            error: 0,
        }
    }

    /// The stack of an inner privilege level, from the TSS. Faults name the TSS or the stack segment (#TS).
    pub fn inner_stack(&mut self, cpl: u8, external: u32) -> Result<NewStack, Trap> {
        let tss = *self.segment(State::TR);
        let wide = tss.rights & 8 != 0;
        let (at, last) = if wide {
            (4 + 8 * u64::from(cpl), 5)
        } else {
            (2 + 4 * u64::from(cpl), 3)
        };
        if at + last > u64::from(tss.limit) {
            return Err(self.raise_with(vector::TS, selector_error(tss.selector) | external));
        }
        let at = tss.base.wrapping_add(at);
        let (pointer, selector) = if wide {
            (
                u64::from(self.load_system::<u32>(at)?),
                self.load_system::<u16>(at.wrapping_add(4))?,
            )
        } else {
            (
                u64::from(self.load_system::<u16>(at)?),
                self.load_system::<u16>(at.wrapping_add(2))?,
            )
        };
        let segment = self
            .stack_segment(selector, cpl, vector::TS)
            .inspect_err(|_| {
                self.core.fault.error = self.core.fault.error.map(|e| e | external);
            })?;
        let mask = if segment.rights & segment::DB != 0 {
            0xffff_ffff
        } else {
            0xffff
        };
        Ok(NewStack {
            segment,
            pointer,
            mask,
            space: self.space_of(cpl),
            error: selector_error(selector),
        })
    }

    /// The stack of a 64-bit handler: an entry of the interrupt stack table, that of the inner level, or the current one;
    /// aligned to 16 bytes.
    fn long_stack(&mut self, cpl: u8, inner: bool, ist: u8) -> Result<NewStack, Trap> {
        let pointer = match ist {
            0 if !inner => self.state.gpr[4],
            0 => self.stack_of_level(cpl)?,
            n => self.tss_qword(0x1c + 8 * u64::from(n))?,
        };
        let segment = if inner {
            null_stack(u16::from(cpl), cpl)
        } else {
            *self.segment(State::SS)
        };
        Ok(NewStack {
            segment,
            pointer: pointer & !15,
            mask: u64::MAX,
            space: self.space_of(cpl),
            error: 0,
        })
    }

    /// RSPn of the 64-bit TSS.
    pub fn stack_of_level(&mut self, cpl: u8) -> Result<u64, Trap> {
        self.tss_qword(4 + 8 * u64::from(cpl))
    }

    fn tss_qword(&mut self, offset: u64) -> Result<u64, Trap> {
        let tss = *self.segment(State::TR);
        if offset + 7 > u64::from(tss.limit) {
            return Err(self.raise_with(vector::TS, selector_error(tss.selector)));
        }
        let pointer = self.load_system(tss.base.wrapping_add(offset))?;
        if canonical(pointer) {
            Ok(pointer)
        } else {
            Err(self.raise_with(vector::SS, 0))
        }
    }

    fn space_of(&self, cpl: u8) -> Space {
        if cpl == 3 {
            Space::User
        } else {
            self.system_space()
        }
    }

    /// Makes a filled stack the current one.
    pub fn switch_stack(&mut self, stack: &NewStack) {
        self.state.segments[State::SS] = stack.segment;
        let old = self.state.gpr[4];
        self.state.gpr[4] = old & !stack.mask | stack.pointer & stack.mask;
    }
}

impl NewStack {
    /// A stack of 64-bit code.
    pub fn long(segment: Segment, pointer: u64, space: Space) -> Self {
        Self {
            segment,
            pointer,
            mask: u64::MAX,
            space,
            error: 0,
        }
    }

    /// Pushes a word of 2, 4 or 8 bytes. #SS names the stack's selector, where it is not the current one's.
    pub fn push(&mut self, x: &mut Exec<'_>, width: u8, value: u64) -> Done {
        match width {
            2 => self.push_word(x, value as u16),
            4 => self.push_word(x, value as u32),
            _ => self.push_word(x, value),
        }
    }

    fn push_word<W: Int + Word>(&mut self, x: &mut Exec<'_>, value: W) -> Done {
        let pointer = self.pointer.wrapping_sub(W::BYTES) & self.mask;
        let la = if self.mask == u64::MAX {
            pointer
        } else {
            let last = pointer.wrapping_add(W::BYTES - 1);
            let limit = u64::from(self.segment.limit);
            let down = self.segment.rights & segment::EXPAND_DOWN != 0;
            let inside = if down {
                pointer > limit && last <= self.mask
            } else {
                last <= limit
            };
            if !inside {
                return Err(x.raise_with(vector::SS, self.error));
            }
            self.segment.base.wrapping_add(pointer) & 0xffff_ffff
        };
        x.store_in(self.space, la, State::SS, value)?;
        self.pointer = self.pointer & !self.mask | pointer;
        Ok(())
    }
}

/// Debug exceptions (SDM volume 3, chapter 17).
impl Exec<'_> {
    /// Whether an enabled instruction breakpoint is at the current instruction; notes which.
    pub(super) fn instruction_breakpoint(&mut self) -> bool {
        if self.state.dr7 & dr7::ENABLES == 0 {
            return false;
        }
        let at = self.fetch_address();
        for n in 0..4 {
            let executes = self.state.dr7 >> (dr7::FIELDS_SHIFT + 4 * n) & 3 == dr7::EXECUTE;
            let enabled = self.state.dr7 >> (2 * n) & 3 != 0;
            if executes && enabled && self.state.breakpoints[n as usize] == at {
                self.hits |= 1 << n;
            }
        }
        self.hits != 0
    }

    /// #DB of an instruction breakpoint: a fault.
    pub(super) fn debug_fault(&mut self) -> Trap {
        self.fault = Fault {
            vector: vector::DB,
            error: None,
            detail: std::mem::take(&mut self.hits),
        };
        Trap::Fault
    }

    /// #DB after an instruction: data breakpoints that it hit, and single-step.
    pub(super) fn debug_trap(&mut self, stepping: bool) -> Done {
        if self.stack_shadow {
            return Ok(());
        }
        let hits = std::mem::take(&mut self.hits);
        if hits == 0 && !stepping {
            return Ok(());
        }
        self.fault = Fault {
            vector: vector::DB,
            error: None,
            detail: hits | if stepping { dr6::BS } else { 0 },
        };
        Err(Trap::Fault)
    }

    /// #DB of an access to a debug register while DR7.GD is set.
    pub fn debug_register_fault(&mut self) -> Trap {
        self.fault = Fault {
            vector: vector::DB,
            error: None,
            detail: dr6::BD,
        };
        Trap::Fault
    }

    /// Whether CR4.VME redirects a software interrupt of virtual-8086 code back to its own interrupt table.
    pub fn redirects_interrupts(&self) -> bool {
        self.vm86() && self.cr4(cr4::VME)
    }
}
