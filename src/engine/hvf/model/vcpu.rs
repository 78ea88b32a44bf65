//! A vCPU of the model: its registers, its VMCS, and `run` from a VM entry to the exit.

use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::super::vmx::{Error, FP_BYTES, Register, Result, VmxVcpu};
use super::vmcs::Vmcs;
use super::{Bell, Model, entry, exit, fp, guest};
use crate::bus::{Nanos, Width};
use crate::cpu::core::Core;
use crate::cpu::intercept::{Event, EventKind, Intercepts, NonRoot, Owned, TaskPriority};
use crate::cpu::io::Io;
use crate::cpu::{Cpu, Stop};
use crate::layout;
use crate::x86::control::{dr6, rflags, xcr0};
use crate::x86::cpuid::{Machine, Table};
use crate::x86::vmx::control::{activity, pending_debug, primary, secondary};
use crate::x86::vmx::{Field, event, reason};
use crate::x86::{msr, vector};

/// A vCPU. It belongs to the thread that made it.
pub struct ModelVcpu {
    model: Arc<Model>,
    id: u32,
    owner: ThreadId,
    cpu: Cpu,
    vmcs: Vmcs,
    bell: Arc<Bell>,
    /// CR8, where it is shadowed.
    tpr: u8,
    /// The map's changes that the TLB knows of.
    changes: u64,
    random: u64,
}

/// VM-instruction error 7: entry with invalid control fields (SDM volume 3, 31.4).
const INVALID_CONTROLS: u64 = 7;

impl ModelVcpu {
    /// A vCPU of the calling thread, with a fresh VMCS.
    pub fn new(model: Arc<Model>, id: u32) -> Self {
        // Its CPUID is never asked: every CPUID exits.
        let machine = Machine {
            cpus: 1,
            physical_bits: layout::PHYSICAL_BITS,
            crystal_hz: layout::CRYSTAL_HZ as u32,
            tsc_ratio: (layout::TSC_RATIO as u32, 1),
        };
        let table = Arc::new(Table::new(&machine, 0));
        let mut cpu = Cpu::new(model.ram.clone(), &model.group, table);
        cpu.core_mut().state.gpr = [0; 16];
        cpu.core_mut().non_root = Some(Box::new(NonRoot {
            second_stage: Some(model.memory.clone()),
            ..NonRoot::default()
        }));
        let bell = Arc::new(Bell::new(cpu.member().clone()));
        model.bells().push((id, bell.clone()));
        let mut vmcs = Vmcs::default();
        for (field, word) in [
            (Field::PIN_BASED_CONTROLS, model.host.pin),
            (Field::PRIMARY_CONTROLS, model.host.primary),
            (Field::SECONDARY_CONTROLS, model.host.secondary),
            (Field::ENTRY_CONTROLS, model.host.entry),
            (Field::EXIT_CONTROLS, model.host.exit),
        ] {
            vmcs.write(field, word.fresh().into());
        }
        vmcs.write(Field::VMCS_LINK_POINTER, u64::MAX);
        Self {
            random: model.host.seed ^ u64::from(id) << 32,
            model,
            id,
            owner: thread::current().id(),
            cpu,
            vmcs,
            bell,
            tpr: 0,
            changes: 0,
        }
    }

    /// Every access from another thread is refused.
    fn owned(&self) -> Result<()> {
        if thread::current().id() == self.owner {
            Ok(())
        } else {
            Err(Error::BAD_ARGUMENT)
        }
    }

    fn has(&self, control: Field, bits: u32) -> bool {
        self.vmcs.read_u32(control) & bits != 0
    }

    fn non_root(&mut self) -> Option<&mut NonRoot> {
        self.cpu.core_mut().non_root.as_deref_mut()
    }

    /// One in `Host::spurious` times.
    fn is_spurious(&mut self) -> bool {
        self.random = self
            .random
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        let odds = u64::from(self.model.host.spurious);
        odds != 0 && (self.random >> 33).is_multiple_of(odds)
    }

    /// Makes the core a guest as the controls say.
    fn apply_controls(&mut self) {
        let read = |field| self.vmcs.read(field);
        let owned = |mask, shadow| Owned {
            mask: read(mask),
            shadow: read(shadow),
        };
        let (cr0, cr4) = (
            owned(Field::CR0_MASK, Field::CR0_SHADOW),
            owned(Field::CR4_MASK, Field::CR4_SHADOW),
        );
        let first = self.vmcs.read_u32(Field::PRIMARY_CONTROLS);
        let task_priority = (first & primary::TPR_SHADOW != 0).then_some(TaskPriority {
            cr8: self.tpr,
            threshold: read(Field::TPR_THRESHOLD) as u8,
        });
        let exceptions = self.vmcs.read_u32(Field::EXCEPTION_BITMAP);
        let page_fault_mask = self.vmcs.read_u32(Field::PAGE_FAULT_ERROR_MASK);
        let page_fault_match = self.vmcs.read_u32(Field::PAGE_FAULT_ERROR_MATCH);
        let intercepts = intercepts(first, self.vmcs.read_u32(Field::SECONDARY_CONTROLS));
        let interrupt_window = first & primary::INTERRUPT_WINDOW != 0;
        let nmi_window = first & primary::NMI_WINDOW != 0;
        let inject = self.injected();
        let offset = if first & primary::TSC_OFFSETTING != 0 {
            self.vmcs.read(Field::TSC_OFFSET)
        } else {
            0
        };
        let core = self.cpu.core_mut();
        core.window = interrupt_window || nmi_window;
        core.state.msrs.tsc_offset = offset;
        if let Some(guest) = &mut core.non_root {
            guest.intercepts = intercepts;
            guest.exceptions = exceptions;
            guest.page_fault_mask = page_fault_mask;
            guest.page_fault_match = page_fault_match;
            (guest.cr0, guest.cr4) = (cr0, cr4);
            guest.task_priority = task_priority;
            guest.interrupt_window = interrupt_window;
            guest.nmi_window = nmi_window;
            guest.inject = inject;
        }
    }

    /// The event that the entry delivers: what is injected, or else a debug exception that waits (27.7.3).
    fn injected(&self) -> Option<Event> {
        let info = self.vmcs.read_u32(Field::ENTRY_INTERRUPTION_INFO);
        if info & event::VALID == 0 {
            return None;
        }
        let kind = match info & event::KIND {
            event::kind::EXTERNAL => EventKind::External,
            event::kind::NMI => EventKind::Nmi,
            event::kind::HARDWARE => EventKind::Hardware,
            event::kind::SOFTWARE_INTERRUPT => EventKind::Software,
            event::kind::PRIVILEGED_SOFTWARE => EventKind::Privileged,
            _ => EventKind::SoftwareException,
        };
        let is_software = matches!(
            kind,
            EventKind::Software | EventKind::Privileged | EventKind::SoftwareException
        );
        Some(Event {
            vector: (info & event::VECTOR) as u8,
            kind,
            error: (info & event::ERROR_CODE != 0)
                .then(|| self.vmcs.read_u32(Field::ENTRY_EXCEPTION_ERROR)),
            len: if is_software {
                self.vmcs.read(Field::ENTRY_INSTRUCTION_LENGTH) as u8
            } else {
                0
            },
        })
    }

    /// A debug exception that was pending and that nothing blocks comes right after the entry.
    fn apply_pending_debug(&mut self) {
        let pending = self.vmcs.read(Field::GUEST_PENDING_DEBUG);
        let due = pending & (pending_debug::ENABLED | pending_debug::BS) != 0;
        let core = self.cpu.core_mut();
        let Some(guest) = &mut core.non_root else {
            return;
        };
        if !due || core.shadow || guest.inject.is_some() {
            return;
        }
        core.state.dr6 |= pending & (pending_debug::BREAKPOINTS | dr6::BS);
        guest.inject = Some(Event {
            vector: vector::DB,
            kind: EventKind::Hardware,
            error: None,
            len: 0,
        });
    }

    fn enter(&mut self) {
        self.apply_controls();
        guest::load(&self.vmcs, self.cpu.core_mut());
        self.apply_pending_debug();
        if !self.has(Field::SECONDARY_CONTROLS, secondary::VPID) {
            self.cpu.core_mut().flush_all();
        }
    }

    /// Executes the guest up to the exit and tells of it.
    fn execute(&mut self, until: Option<u64>) -> Result<()> {
        let mut halted = self.vmcs.read_u32(Field::GUEST_ACTIVITY) == activity::HLT
            && self.non_root().is_none_or(|guest| guest.inject.is_none());
        loop {
            let changes = self.model.memory.changes();
            if self.changes != changes {
                self.changes = changes;
                self.cpu.core_mut().flush_all();
            }
            if halted && let Some(basic) = self.sleep(until) {
                self.leave(basic, activity::HLT);
                return Ok(());
            }
            halted = false;
            let mut io = HostIo(&self.model);
            let stop = self.cpu.run(&mut io, until.map(Nanos));
            let basic = match stop {
                Stop::Kicked if !self.bell.has_rung() => continue,
                Stop::Kicked => reason::EXTERNAL_INTERRUPT,
                Stop::Deadline => reason::PREEMPTION_TIMER,
                Stop::TripleFault => reason::TRIPLE_FAULT,
                Stop::Halt => {
                    halted = true;
                    continue;
                }
                Stop::Intercepted => return self.leave_intercepted(),
                Stop::WindowOpen => return Err(Error::ERROR),
            };
            self.leave(basic, activity::ACTIVE);
            return Ok(());
        }
    }

    /// Waits in the activity state HLT. `None` where a window opens, which the CPU then finds.
    fn sleep(&mut self, until: Option<u64>) -> Option<u32> {
        loop {
            let core = self.cpu.core();
            let enabled = core.state.rflags & rflags::IF != 0;
            let blocked = core.nmi_blocked;
            let window = self.has(Field::PRIMARY_CONTROLS, primary::INTERRUPT_WINDOW) && enabled
                || self.has(Field::PRIMARY_CONTROLS, primary::NMI_WINDOW) && !blocked;
            if window {
                return None;
            }
            if self.bell.has_rung() {
                return Some(reason::EXTERNAL_INTERRUPT);
            }
            if until.is_some_and(|until| self.model.tsc() >= until) {
                return Some(reason::PREEMPTION_TIMER);
            }
            thread::sleep(Duration::from_micros(100));
        }
    }

    fn leave(&mut self, basic: u32, state: u32) {
        self.save(state);
        exit::record(&mut self.vmcs, basic, 0);
    }

    fn leave_intercepted(&mut self) -> Result<()> {
        self.save(activity::ACTIVE);
        let told = self.non_root().and_then(|guest| guest.exit.take());
        let told = told.ok_or(Error::ERROR)?;
        exit::record_intercept(&mut self.vmcs, &told);
        Ok(())
    }

    fn save(&mut self, state: u32) {
        guest::save(self.cpu.core(), &mut self.vmcs);
        self.vmcs.write(Field::GUEST_ACTIVITY, state.into());
        let priority = self.non_root().and_then(|guest| guest.task_priority);
        if let Some(priority) = priority {
            self.tpr = priority.cr8;
        }
        // Every exit clears the valid bit (28.2): an event is injected once.
        let info = self.vmcs.read_u32(Field::ENTRY_INTERRUPTION_INFO) & !event::VALID;
        self.vmcs.write(Field::ENTRY_INTERRUPTION_INFO, info.into());
    }

    fn check(&mut self) -> Result<bool> {
        let refused = entry::check_controls(&self.vmcs, &self.model.host, self.tpr);
        if let Err(refusal) = refused {
            log::error!("VM entry refused, {}: {}", refusal.section, refusal.what);
            self.vmcs.write(Field::INSTRUCTION_ERROR, INVALID_CONTROLS);
            return Err(Error::ERROR);
        }
        let Err(refusal) = entry::check_guest(&self.vmcs) else {
            return Ok(true);
        };
        log::error!("VM entry failed, {}: {}", refusal.section, refusal.what);
        // Such an exit changes nothing but what it tells (27.8).
        let told = reason::INVALID_GUEST_STATE | reason::ENTRY_FAILURE;
        exit::record(&mut self.vmcs, told, refusal.qualification);
        Ok(false)
    }
}

impl Drop for ModelVcpu {
    fn drop(&mut self) {
        self.model.bells().retain(|(id, _)| *id != self.id);
    }
}

/// The instructions that exit, as the controls say.
fn intercepts(first: u32, second: u32) -> Intercepts {
    let mut found = Intercepts::ALWAYS;
    for (control, which) in [
        (primary::HLT, Intercepts::HLT),
        (primary::INVLPG, Intercepts::INVLPG),
        (primary::MWAIT, Intercepts::MWAIT),
        (primary::RDPMC, Intercepts::RDPMC),
        (primary::RDTSC, Intercepts::RDTSC),
        (primary::CR3_LOAD, Intercepts::CR3_LOAD),
        (primary::CR3_STORE, Intercepts::CR3_STORE),
        (primary::CR8_LOAD, Intercepts::CR8_LOAD),
        (primary::CR8_STORE, Intercepts::CR8_STORE),
        (primary::MOV_DR, Intercepts::MOV_DR),
        (primary::UNCONDITIONAL_IO, Intercepts::IO),
        (primary::MONITOR, Intercepts::MONITOR),
        (primary::PAUSE, Intercepts::PAUSE),
    ] {
        found.set(which, first & control != 0);
    }
    found.set(Intercepts::WBINVD, second & secondary::WBINVD != 0);
    found.set(Intercepts::NO_RDTSCP, second & secondary::RDTSCP == 0);
    found.set(Intercepts::NO_INVPCID, second & secondary::INVPCID == 0);
    found
}

/// Where a register is.
enum Place {
    Vmcs(Field),
    Gpr(usize),
    Cr2,
    Breakpoint(usize),
    Dr6,
    Tpr,
    Xcr0,
}

/// `None` where there is no such register.
fn place(register: Register) -> Option<Place> {
    use Register::*;
    let segment = |n| Place::Vmcs(Field::guest_selector(n));
    Some(match register {
        Rip => Place::Vmcs(Field::GUEST_RIP),
        Rflags => Place::Vmcs(Field::GUEST_RFLAGS),
        Rsp => Place::Vmcs(Field::GUEST_RSP),
        Rax => Place::Gpr(0),
        Rcx => Place::Gpr(1),
        Rdx => Place::Gpr(2),
        Rbx => Place::Gpr(3),
        Rbp => Place::Gpr(5),
        Rsi => Place::Gpr(6),
        Rdi => Place::Gpr(7),
        R8 | R9 | R10 | R11 | R12 | R13 | R14 | R15 => {
            Place::Gpr(8 + (register as usize - R8 as usize))
        }
        Es => segment(0),
        Cs => segment(1),
        Ss => segment(2),
        Ds => segment(3),
        Fs => segment(4),
        Gs => segment(5),
        Ldtr => segment(6),
        Tr => segment(7),
        IdtBase => Place::Vmcs(Field::GUEST_IDTR_BASE),
        IdtLimit => Place::Vmcs(Field::GUEST_IDTR_LIMIT),
        GdtBase => Place::Vmcs(Field::GUEST_GDTR_BASE),
        GdtLimit => Place::Vmcs(Field::GUEST_GDTR_LIMIT),
        LdtBase => Place::Vmcs(Field::GUEST_LDTR_BASE),
        LdtLimit => Place::Vmcs(Field::GUEST_LDTR_LIMIT),
        LdtAr => Place::Vmcs(Field::GUEST_LDTR_ACCESS_RIGHTS),
        TssBase => Place::Vmcs(Field::GUEST_TR_BASE),
        TssLimit => Place::Vmcs(Field::GUEST_TR_LIMIT),
        TssAr => Place::Vmcs(Field::GUEST_TR_ACCESS_RIGHTS),
        Cr0 => Place::Vmcs(Field::GUEST_CR0),
        Cr3 => Place::Vmcs(Field::GUEST_CR3),
        Cr4 => Place::Vmcs(Field::GUEST_CR4),
        Dr7 => Place::Vmcs(Field::GUEST_DR7),
        Cr2 => Place::Cr2,
        Dr0 | Dr1 | Dr2 | Dr3 => Place::Breakpoint(register as usize - Dr0 as usize),
        Dr6 => Place::Dr6,
        Tpr => Place::Tpr,
        Xcr0 => Place::Xcr0,
        Cr1 | Dr4 | Dr5 => return None,
    })
}

/// The MSRs that the framework lets a guest have.
fn is_native(number: u32) -> bool {
    matches!(
        number,
        msr::STAR
            | msr::LSTAR
            | msr::CSTAR
            | msr::FMASK
            | msr::KERNEL_GS_BASE
            | msr::FS_BASE
            | msr::GS_BASE
            | msr::SYSENTER_CS
            | msr::SYSENTER_ESP
            | msr::SYSENTER_EIP
            | msr::TSC
            | msr::TSC_AUX
    )
}

/// The field that an MSR lives in while the guest does not run.
fn field_of(number: u32) -> Option<Field> {
    Some(match number {
        msr::FS_BASE => Field::guest_base(4),
        msr::GS_BASE => Field::guest_base(5),
        msr::SYSENTER_CS => Field::GUEST_SYSENTER_CS,
        msr::SYSENTER_ESP => Field::GUEST_SYSENTER_ESP,
        msr::SYSENTER_EIP => Field::GUEST_SYSENTER_EIP,
        _ => return None,
    })
}

/// The register of the core that an MSR is.
fn register_of(core: &mut Core, number: u32) -> Option<&mut u64> {
    let msrs = &mut core.state.msrs;
    Some(match number {
        msr::STAR => &mut msrs.star,
        msr::LSTAR => &mut msrs.lstar,
        msr::CSTAR => &mut msrs.cstar,
        msr::FMASK => &mut msrs.fmask,
        msr::KERNEL_GS_BASE => &mut msrs.kernel_gs_base,
        msr::TSC_AUX => &mut msrs.tsc_aux,
        _ => return None,
    })
}

fn read_register_of(core: &Core, number: u32) -> Option<u64> {
    let msrs = &core.state.msrs;
    Some(match number {
        msr::STAR => msrs.star,
        msr::LSTAR => msrs.lstar,
        msr::CSTAR => msrs.cstar,
        msr::FMASK => msrs.fmask,
        msr::KERNEL_GS_BASE => msrs.kernel_gs_base,
        msr::TSC_AUX => msrs.tsc_aux,
        _ => return None,
    })
}

impl VmxVcpu for ModelVcpu {
    fn id(&self) -> u32 {
        self.id
    }

    fn vmcs(&self, field: Field) -> Result<u64> {
        self.owned()?;
        self.vmcs.program_reads(field)
    }

    fn set_vmcs(&mut self, field: Field, value: u64) -> Result<()> {
        self.owned()?;
        self.vmcs.program_writes(field, value)
    }

    fn register(&self, register: Register) -> Result<u64> {
        self.owned()?;
        let state = &self.cpu.core().state;
        Ok(match place(register).ok_or(Error::BAD_ARGUMENT)? {
            Place::Vmcs(field) => self.vmcs.read(field),
            Place::Gpr(n) => state.gpr[n],
            Place::Cr2 => state.cr2,
            Place::Breakpoint(n) => state.breakpoints[n],
            Place::Dr6 => state.dr6,
            Place::Tpr => u64::from(self.tpr) << 4,
            Place::Xcr0 => state.xcr0,
        })
    }

    fn set_register(&mut self, register: Register, value: u64) -> Result<()> {
        self.owned()?;
        let state = &mut self.cpu.core_mut().state;
        match place(register).ok_or(Error::BAD_ARGUMENT)? {
            Place::Vmcs(field) => self.vmcs.write(field, value),
            Place::Gpr(n) => state.gpr[n] = value,
            Place::Cr2 => state.cr2 = value,
            Place::Breakpoint(n) => state.breakpoints[n] = value,
            Place::Dr6 => state.dr6 = value,
            Place::Tpr => self.tpr = (value >> 4 & 15) as u8,
            Place::Xcr0 if value & !(xcr0::X87 | xcr0::SSE) != 0 || value & xcr0::X87 == 0 => {
                return Err(Error::BAD_ARGUMENT);
            }
            Place::Xcr0 => state.xcr0 = value,
        }
        Ok(())
    }

    fn enable_native_msr(&mut self, msr: u32, enable: bool) -> Result<()> {
        self.owned()?;
        let native = &mut self.non_root().ok_or(Error::ERROR)?.native_msrs;
        if !is_native(msr) {
            return Err(Error::BAD_ARGUMENT);
        }
        if enable {
            native.insert(msr);
        } else {
            native.remove(&msr);
        }
        Ok(())
    }

    fn msr(&self, msr: u32) -> Result<u64> {
        self.owned()?;
        let guest = self.cpu.core().non_root.as_ref();
        if !guest.is_some_and(|guest| guest.native_msrs.contains(&msr)) {
            return Err(Error::BAD_ARGUMENT);
        }
        if msr == msr::TSC {
            let offset = self.vmcs.read(Field::TSC_OFFSET);
            return Ok(self.model.tsc().wrapping_add(offset));
        }
        match field_of(msr) {
            Some(field) => Ok(self.vmcs.read(field)),
            None => read_register_of(self.cpu.core(), msr).ok_or(Error::BAD_ARGUMENT),
        }
    }

    fn set_msr(&mut self, msr: u32, value: u64) -> Result<()> {
        self.owned()?;
        let native = &self.non_root().ok_or(Error::ERROR)?.native_msrs;
        if !native.contains(&msr) {
            return Err(Error::BAD_ARGUMENT);
        }
        match field_of(msr) {
            Some(field) => self.vmcs.write(field, value),
            None => {
                *register_of(self.cpu.core_mut(), msr).ok_or(Error::BAD_ARGUMENT)? = value;
            }
        }
        Ok(())
    }

    fn read_fp(&self, area: &mut [u8; FP_BYTES]) -> Result<()> {
        self.owned()?;
        fp::save(&self.cpu.core().state, area);
        Ok(())
    }

    fn write_fp(&mut self, area: &[u8; FP_BYTES]) -> Result<()> {
        self.owned()?;
        fp::restore(&mut self.cpu.core_mut().state, area)
    }

    fn invalidate_tlb(&mut self) -> Result<()> {
        self.owned()?;
        self.cpu.core_mut().flush_all();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.owned()
    }

    fn run(&mut self, within: Option<Duration>) -> Result<()> {
        self.owned()?;
        if within.is_some() && !self.model.host.deadlines {
            return Err(Error::UNSUPPORTED);
        }
        if !self.check()? {
            return Ok(());
        }
        let until = within.map(|within| {
            let ticks = within.as_nanos() * u128::from(self.model.host.tsc_hz) / 1_000_000_000;
            self.model
                .tsc()
                .saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
        });
        self.enter();
        self.bell.enter();
        if self.is_spurious() {
            self.bell.ring();
        }
        let done = self.execute(until);
        self.bell.leave();
        done
    }
}

/// What lies outside the guest. Ports, devices and the interrupt controller are never reached: they exit.
struct HostIo<'a>(&'a Model);

impl Io for HostIo<'_> {
    fn port_read(&mut self, _port: u16, _width: Width) -> u32 {
        u32::MAX
    }

    fn port_write(&mut self, _port: u16, _width: Width, _value: u32) {}

    fn mmio_read(&mut self, _gpa: u64, width: Width) -> u64 {
        width.ones()
    }

    fn mmio_write(&mut self, _gpa: u64, _width: Width, _value: u64) {}

    fn msr_read(&mut self, _msr: u32) -> Option<u64> {
        None
    }

    fn msr_write(&mut self, _msr: u32, _value: u64) -> Option<()> {
        None
    }

    fn cr8(&mut self) -> u64 {
        0
    }

    fn set_cr8(&mut self, _tpr: u64) {}

    /// The host's time-stamp counter: the unit of a guest's TSC and of deadlines here.
    fn now(&mut self) -> Nanos {
        Nanos(self.0.tsc())
    }
}
