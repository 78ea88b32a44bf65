//! The model as a program sees it: entries, exits, injection, and the framework's ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hvf_sys::ram::Ram;

use super::super::vmx::{Access, Capability, Error, FP_BYTES, Register, Vmx, VmxVcpu};
use super::Model;
use super::exit::JUNK;
use super::host::{Host, Word};
use super::valid::{CODE, MODES, Mode, STACK, TABLES, fields};
use super::vcpu::ModelVcpu;
use crate::x86::control::{cr0, cr4, efer, rflags};
use crate::x86::msr;
use crate::x86::vmx::control::{activity, entry, exit, interruptibility, primary, secondary};
use crate::x86::vmx::qualification::ept;
use crate::x86::vmx::{Field, event, reason};

const RAM: u64 = 0x20_0000;
/// Where memory ends for the guest, below the end of RAM.
const MAPPED: u64 = 0x10_0000;

struct Mac {
    vmx: Arc<dyn Vmx>,
    ram: Arc<Ram>,
}

impl Mac {
    fn new(host: Host) -> Self {
        let ram = Ram::new(&[(0, RAM)]).unwrap();
        let vmx = Model::new(host, ram.clone());
        vmx.map(&ram, 0, MAPPED, Access::ALL).unwrap();
        // Long mode: one page of 2 MiB. PAE: the same directory, by a pointer.
        ram.store_u64(TABLES, TABLES + 0x1000 | 3).unwrap();
        ram.store_u64(TABLES + 0x1000, TABLES + 0x2000 | 3).unwrap();
        ram.store_u64(TABLES + 0x2000, 0x83).unwrap();
        Self { vmx, ram }
    }

    fn vcpu(&self, mode: Mode) -> Guest {
        let mut vcpu = self.vmx.vcpu().unwrap();
        for (field, value) in fields(mode, &Host::HASWELL) {
            let fresh = vcpu.vmcs(field).unwrap();
            let is_control = field.0 & 0xc00 == 0;
            let kept = if is_control && field.bits() == 32 {
                fresh
            } else {
                0
            };
            vcpu.set_vmcs(field, value | kept).unwrap();
        }
        if mode == Mode::Pae {
            vcpu.set_vmcs(Field::GUEST_PDPTE0, TABLES + 0x2000 | 1)
                .unwrap();
        }
        Guest {
            vcpu,
            ram: self.ram.clone(),
        }
    }
}

struct Guest {
    vcpu: Box<dyn VmxVcpu>,
    ram: Arc<Ram>,
}

impl Guest {
    fn code(&mut self, bytes: &[u8]) -> &mut Self {
        self.ram.write(CODE, bytes).unwrap();
        self
    }

    fn get(&self, field: Field) -> u64 {
        self.vcpu.vmcs(field).unwrap()
    }

    fn set(&mut self, field: Field, value: u64) -> &mut Self {
        self.vcpu.set_vmcs(field, value).unwrap();
        self
    }

    fn or(&mut self, field: Field, bits: u32) -> &mut Self {
        let value = self.get(field) | u64::from(bits);
        self.set(field, value)
    }

    fn run(&mut self) -> u32 {
        self.vcpu.run(None).unwrap();
        self.get(Field::EXIT_REASON) as u32
    }

    fn inject(&mut self, info: u32) -> &mut Self {
        self.set(Field::ENTRY_INTERRUPTION_INFO, (info | event::VALID).into())
    }
}

fn guest(mode: Mode) -> Guest {
    Mac::new(Host::HASWELL).vcpu(mode)
}

#[test]
fn every_mode_is_entered_and_left() {
    for mode in MODES {
        let mut guest = guest(mode);
        let before = guest.get(Field::GUEST_RIP);
        // nop; cpuid
        assert_eq!(
            guest.code(&[0x90, 0x0f, 0xa2]).run(),
            reason::CPUID,
            "{mode:?}"
        );
        assert_eq!(guest.get(Field::GUEST_RIP), before + 1);
        assert_eq!(guest.get(Field::EXIT_INSTRUCTION_LENGTH), 2);
        assert_eq!(guest.get(Field::EXIT_QUALIFICATION), 0);
        // What was saved is right for the next entry.
        guest.set(Field::GUEST_RIP, before + 3);
        guest.ram.write(CODE + 3, &[0x0f, 0xa2]).unwrap();
        assert_eq!(guest.run(), reason::CPUID, "{mode:?}");
    }
}

#[test]
fn wrong_state_fails_the_entry_and_wrong_controls_the_call() {
    let mut guest = guest(Mode::Long);
    guest.code(&[0x0f, 0xa2]).set(Field::GUEST_RFLAGS, 0);
    guest.inject(event::kind::EXTERNAL | 0x40);
    let failed = reason::INVALID_GUEST_STATE | reason::ENTRY_FAILURE;
    assert_eq!(guest.run(), failed);
    let info = guest.get(Field::ENTRY_INTERRUPTION_INFO);
    assert_ne!(info as u32 & event::VALID, 0, "nothing was injected");
    guest.set(Field::ENTRY_INTERRUPTION_INFO, 0);
    guest.set(Field::GUEST_RFLAGS, 2);
    assert_eq!(guest.run(), reason::CPUID);
    let pins = guest.get(Field::PIN_BASED_CONTROLS);
    guest.set(Field::PIN_BASED_CONTROLS, pins & !2);
    assert_eq!(guest.vcpu.run(None), Err(Error::ERROR));
    assert_eq!(guest.get(Field::INSTRUCTION_ERROR), 7);
}

#[test]
fn bits_that_the_framework_set_must_stay() {
    let mac = Mac::new(Host {
        spurious: 0,
        first_touch: false,
        ..Host::COFFEE_LAKE
    });
    let mut guest = mac.vcpu(Mode::Long);
    assert_eq!(guest.code(&[0x0f, 0xa2]).run(), reason::CPUID);
    let own = u64::from(Host::COFFEE_LAKE.secondary.own);
    let second = guest.get(Field::SECONDARY_CONTROLS);
    assert_eq!(second & own, own);
    guest.set(
        Field::SECONDARY_CONTROLS,
        second & !u64::from(secondary::CONCEAL_VMX),
    );
    assert_eq!(guest.vcpu.run(None), Err(Error::ERROR));
    let Word {
        required, allowed, ..
    } = Host::COFFEE_LAKE.secondary;
    let told = mac.vmx.capability(Capability::Secondary).unwrap();
    assert_eq!(told, u64::from(allowed) << 32 | u64::from(required));
}

#[test]
fn events_are_injected_once_and_vectoring_is_told() {
    let mut guest = guest(Mode::Real);
    // The vector table says 0:0x3000, where a CPUID is.
    guest.ram.store_u32(4 * 0x41, 0x3000).unwrap();
    guest.ram.write(0x3000, &[0x0f, 0xa2]).unwrap();
    guest.set(Field::GUEST_RFLAGS, rflags::FIXED | rflags::IF);
    guest.inject(event::kind::EXTERNAL | 0x41);
    assert_eq!(guest.code(&[0x90]).run(), reason::CPUID);
    assert_eq!(guest.get(Field::GUEST_RIP), 0x3000);
    assert_eq!(guest.get(Field::GUEST_RSP), STACK - 6);
    assert_eq!(
        guest.get(Field::ENTRY_INTERRUPTION_INFO) as u32 & event::VALID,
        0
    );
    assert_eq!(guest.get(Field::IDT_VECTORING_INFO), 0);
    // A stack that is not there.
    guest
        .set(Field::guest_base(2), MAPPED)
        .set(Field::GUEST_RSP, 0x1000);
    let flags = rflags::FIXED | rflags::IF;
    guest
        .set(Field::GUEST_RFLAGS, flags)
        .inject(event::kind::EXTERNAL | 0x41);
    assert_eq!(guest.run(), reason::EPT_VIOLATION);
    let vectoring = event::VALID | event::kind::EXTERNAL | 0x41;
    assert_eq!(guest.get(Field::IDT_VECTORING_INFO), vectoring.into());
    assert_eq!(guest.get(Field::GUEST_PHYSICAL_ADDRESS), MAPPED + 0xffe);
    let told = guest.get(Field::EXIT_QUALIFICATION);
    assert_eq!(told, ept::WRITE | ept::LINEAR_VALID | ept::TRANSLATED);
    assert_eq!(
        guest.get(Field::EXIT_INSTRUCTION_LENGTH),
        JUNK & 0xffff_ffff
    );
}

#[test]
fn nmis_block_until_iret_and_windows_open() {
    let mut guest = guest(Mode::Real);
    guest.ram.store_u32(4 * 2, 0x3000).unwrap();
    // cpuid; iret
    guest.ram.write(0x3000, &[0x0f, 0xa2, 0xcf]).unwrap();
    guest.code(&[0x90, 0x0f, 0xa2]);
    assert_eq!(guest.inject(event::kind::NMI | 2).run(), reason::CPUID);
    assert_eq!(
        guest.get(Field::GUEST_INTERRUPTIBILITY),
        interruptibility::NMI.into()
    );
    // Another one is refused.
    let failed = reason::INVALID_GUEST_STATE | reason::ENTRY_FAILURE;
    assert_eq!(guest.inject(event::kind::NMI | 2).run(), failed);
    guest.set(Field::ENTRY_INTERRUPTION_INFO, 0);
    guest.or(Field::PRIMARY_CONTROLS, primary::NMI_WINDOW);
    guest.set(Field::GUEST_RIP, 0x3002);
    assert_eq!(guest.run(), reason::NMI_WINDOW);
    assert_eq!(guest.get(Field::GUEST_RIP), CODE);
    assert_eq!(guest.get(Field::GUEST_INTERRUPTIBILITY), 0);
    let first = guest.get(Field::PRIMARY_CONTROLS) & !u64::from(primary::NMI_WINDOW);
    guest.set(
        Field::PRIMARY_CONTROLS,
        first | u64::from(primary::INTERRUPT_WINDOW),
    );
    // sti; nop; nop
    guest.code(&[0xfb, 0x90, 0x90]);
    assert_eq!(guest.run(), reason::INTERRUPT_WINDOW);
    assert_eq!(guest.get(Field::GUEST_RIP), CODE + 2);
}

#[test]
fn what_sti_shadows_is_saved_and_restored() {
    let mut guest = guest(Mode::Protected);
    // sti; cpuid; nop
    assert_eq!(guest.code(&[0xfb, 0x0f, 0xa2, 0x90]).run(), reason::CPUID);
    assert_eq!(
        guest.get(Field::GUEST_INTERRUPTIBILITY),
        interruptibility::STI.into()
    );
    // An interrupt cannot come now; after the instruction, a window opens.
    let failed = reason::INVALID_GUEST_STATE | reason::ENTRY_FAILURE;
    assert_eq!(guest.inject(event::kind::EXTERNAL | 0x40).run(), failed);
    guest.set(Field::ENTRY_INTERRUPTION_INFO, 0);
    guest.set(Field::GUEST_RIP, CODE + 3);
    guest.or(Field::PRIMARY_CONTROLS, primary::INTERRUPT_WINDOW);
    assert_eq!(guest.run(), reason::INTERRUPT_WINDOW);
    assert_eq!(guest.get(Field::GUEST_RIP), CODE + 4);
}

#[test]
fn control_registers_are_masked() {
    let mut guest = guest(Mode::Protected);
    guest
        .set(Field::CR0_MASK, cr0::NE | cr0::PG)
        .set(Field::CR0_SHADOW, 0);
    // mov eax, cr0; or eax, 0x80000000; mov cr0, eax
    guest.code(&[0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0]);
    assert_eq!(guest.run(), reason::CR_ACCESS);
    assert_eq!(guest.get(Field::EXIT_QUALIFICATION), 0);
    assert_eq!(guest.get(Field::EXIT_INSTRUCTION_LENGTH), 3);
    let seen = guest.vcpu.register(Register::Rax).unwrap();
    assert_eq!(seen, cr0::PG | cr0::PE | cr0::ET, "NE is hidden");
    assert_eq!(guest.get(Field::GUEST_RIP), CODE + 8);
}

#[test]
fn an_exit_tells_the_mode_in_the_entry_control() {
    // A guest that turns long mode off by itself: in compatibility mode, mov cr0, eax; cpuid
    let mut guest = guest(Mode::Long);
    guest.set(Field::guest_access_rights(1), 0xc09b);
    guest
        .vcpu
        .set_register(Register::Rax, cr0::PE | cr0::NE | cr0::ET)
        .unwrap();
    assert_eq!(
        guest.code(&[0x0f, 0x22, 0xc0, 0x0f, 0xa2]).run(),
        reason::CPUID
    );
    let controls = guest.get(Field::ENTRY_CONTROLS) as u32;
    assert_eq!(controls & entry::IA32E_GUEST, 0);
    assert_eq!(guest.get(Field::GUEST_EFER), efer::LME);
    guest.set(Field::GUEST_RIP, CODE + 3);
    assert_eq!(guest.run(), reason::CPUID);
}

#[test]
fn msrs_are_the_guests_only_where_they_are_native() {
    let mut guest = guest(Mode::Long);
    assert_eq!(guest.vcpu.msr(msr::LSTAR), Err(Error::BAD_ARGUMENT));
    assert_eq!(
        guest.vcpu.enable_native_msr(msr::EFER, true),
        Err(Error::BAD_ARGUMENT)
    );
    guest.vcpu.enable_native_msr(msr::LSTAR, true).unwrap();
    guest.vcpu.set_msr(msr::LSTAR, 0x77).unwrap();
    guest.vcpu.enable_native_msr(msr::GS_BASE, true).unwrap();
    guest.set(Field::guest_base(5), 0x55);
    // mov ecx, LSTAR; rdmsr; mov ebx, eax; mov ecx, GS_BASE; rdmsr; mov ecx, EFER; rdmsr
    let mut code = vec![0xb9, 0x82, 0, 0, 0xc0, 0x0f, 0x32, 0x89, 0xc3];
    code.extend([
        0xb9, 1, 1, 0, 0xc0, 0x0f, 0x32, 0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32,
    ]);
    assert_eq!(guest.code(&code).run(), reason::RDMSR);
    assert_eq!(guest.vcpu.register(Register::Rbx), Ok(0x77));
    assert_eq!(guest.vcpu.register(Register::Rax), Ok(0x55));
    assert_eq!(guest.vcpu.register(Register::Rcx), Ok(msr::EFER.into()));
}

#[test]
fn the_time_stamp_counter_is_the_hosts_with_the_offset() {
    let mac = Mac::new(Host::HASWELL);
    let mut guest = mac.vcpu(Mode::Long);
    let offset = 0u64.wrapping_sub(mac.vmx.tsc());
    // rdtsc; cpuid
    guest
        .code(&[0x0f, 0x31, 0x0f, 0xa2])
        .set(Field::TSC_OFFSET, offset);
    assert_eq!(guest.run(), reason::CPUID);
    assert_eq!(guest.vcpu.register(Register::Rdx), Ok(0), "starts at zero");
}

#[test]
fn an_interrupt_outside_run_is_lost_and_one_inside_is_not() {
    let mac = Mac::new(Host::HASWELL);
    let vmx = mac.vmx.clone();
    let mut guest = mac.vcpu(Mode::Long);
    let id = guest.vcpu.id();
    vmx.interrupt(&[id]).unwrap();
    assert_eq!(guest.code(&[0x0f, 0xa2]).run(), reason::CPUID);
    assert_eq!(vmx.interrupt(&[id + 1]), Err(Error::BAD_ARGUMENT));
    let done = Arc::new(AtomicBool::new(false));
    let other = {
        let done = done.clone();
        thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                vmx.interrupt(&[id]).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        })
    };
    // jmp $
    assert_eq!(guest.code(&[0xeb, 0xfe]).run(), reason::EXTERNAL_INTERRUPT);
    // A halted guest is woken too.
    guest.set(Field::GUEST_ACTIVITY, activity::HLT.into());
    assert_eq!(guest.run(), reason::EXTERNAL_INTERRUPT);
    assert_eq!(guest.get(Field::GUEST_ACTIVITY), activity::HLT.into());
    done.store(true, Ordering::SeqCst);
    other.join().unwrap();
}

#[test]
fn deadlines_end_a_run_where_the_host_has_them() {
    let mut guest = guest(Mode::Long);
    guest.code(&[0xeb, 0xfe]);
    guest.vcpu.run(Some(Duration::from_millis(1))).unwrap();
    assert_eq!(
        guest.get(Field::EXIT_REASON),
        reason::PREEMPTION_TIMER.into()
    );
    let mut other = Mac::new(Host::COFFEE_LAKE).vcpu(Mode::Long);
    let refused = other.vcpu.run(Some(Duration::from_millis(1)));
    assert_eq!(refused, Err(Error::UNSUPPORTED));
}

#[test]
fn exits_that_mean_nothing_come_and_the_guest_goes_on() {
    let mac = Mac::new(Host {
        spurious: 2,
        ..Host::COFFEE_LAKE
    });
    let mut guest = mac.vcpu(Mode::Long);
    guest.code(&[0x90, 0x0f, 0xa2]);
    let mut seen = Vec::new();
    for _ in 0..100 {
        let told = guest.run();
        if told == reason::CPUID {
            assert_eq!(guest.get(Field::GUEST_RIP), CODE + 1);
            guest.set(Field::GUEST_RIP, CODE);
        }
        seen.push(told);
    }
    for expected in [
        reason::EXTERNAL_INTERRUPT,
        reason::EPT_VIOLATION,
        reason::CPUID,
    ] {
        assert!(seen.contains(&expected), "{expected}");
    }
    let violations = seen.iter().filter(|told| **told == reason::EPT_VIOLATION);
    assert_eq!(
        violations.count(),
        4,
        "three tables and the code, once each"
    );
}

#[test]
fn translations_live_until_they_are_invalidated() {
    let mac = Mac::new(Host::HASWELL);
    let mut guest = mac.vcpu(Mode::Long);
    // mov eax, [0x2000]; cpuid
    guest.code(&[0x8b, 0x04, 0x25, 0, 0x20, 0, 0, 0x0f, 0xa2]);
    assert_eq!(guest.run(), reason::CPUID);
    guest.ram.store_u64(TABLES + 0x2000, 0).unwrap();
    guest.set(Field::GUEST_RIP, CODE);
    assert_eq!(
        guest.run(),
        reason::CPUID,
        "with VPIDs an entry keeps translations"
    );
    guest.vcpu.invalidate_tlb().unwrap();
    guest
        .set(Field::GUEST_RIP, CODE)
        .set(Field::EXCEPTION_BITMAP, 1 << 14);
    assert_eq!(guest.run(), reason::EXCEPTION_OR_NMI);
    assert_eq!(guest.get(Field::EXIT_QUALIFICATION), CODE);
    // The map's changes need no invalidation by the program.
    guest.ram.store_u64(TABLES + 0x2000, 0x83).unwrap();
    assert_eq!(guest.run(), reason::CPUID);
    mac.vmx.unmap(0x2000, 0x1000).unwrap();
    guest.set(Field::GUEST_RIP, CODE);
    assert_eq!(guest.run(), reason::EPT_VIOLATION);
    assert_eq!(guest.get(Field::GUEST_PHYSICAL_ADDRESS), 0x2000);
}

#[test]
fn ports_tell_what_the_manual_says() {
    let mut guest = guest(Mode::Real);
    // rep outsw from DS:SI
    guest.vcpu.set_register(Register::Rcx, 3).unwrap();
    guest.vcpu.set_register(Register::Rdx, 0x1f0).unwrap();
    guest.vcpu.set_register(Register::Rsi, 0x2000).unwrap();
    assert_eq!(guest.code(&[0xf3, 0x6f]).run(), reason::IO_INSTRUCTION);
    assert_eq!(
        guest.get(Field::EXIT_QUALIFICATION),
        0x1f0 << 16 | 1 << 5 | 1 << 4 | 1
    );
    assert_eq!(guest.get(Field::GUEST_LINEAR_ADDRESS), 0x2000);
    assert_eq!(guest.get(Field::EXIT_INSTRUCTION_INFO), 3 << 15);
}

#[test]
fn a_triple_fault_is_an_exit() {
    let mut guest = guest(Mode::Protected);
    guest.set(Field::GUEST_IDTR_LIMIT, 0);
    assert_eq!(guest.code(&[0x0f, 0x0b]).run(), reason::TRIPLE_FAULT);
}

#[test]
fn a_shadowed_task_priority_exits_below_its_threshold() {
    let mut guest = guest(Mode::Long);
    guest.or(Field::PRIMARY_CONTROLS, primary::TPR_SHADOW);
    let exiting = u64::from(primary::CR8_LOAD | primary::CR8_STORE);
    let first = guest.get(Field::PRIMARY_CONTROLS) & !exiting;
    guest
        .set(Field::PRIMARY_CONTROLS, first)
        .set(Field::TPR_THRESHOLD, 5);
    // mov cr8, rax
    guest.code(&[0x44, 0x0f, 0x22, 0xc0]);
    assert_eq!(guest.vcpu.run(None), Err(Error::ERROR), "below already");
    guest.vcpu.set_register(Register::Tpr, 0x90).unwrap();
    guest.vcpu.set_register(Register::Rax, 2).unwrap();
    assert_eq!(guest.run(), reason::TPR_BELOW_THRESHOLD);
    assert_eq!(guest.vcpu.register(Register::Tpr), Ok(0x20));
    assert_eq!(guest.get(Field::GUEST_RIP), CODE + 4);
}

/// The trait's vCPUs cannot even be sent; the model's own can, for this.
#[test]
fn other_threads_are_refused() {
    let ram = Ram::new(&[(0, RAM)]).unwrap();
    let mut vcpu = ModelVcpu::new(Model::make(Host::HASWELL, ram), 1);
    assert_eq!(vcpu.vmcs(Field::GUEST_RIP), Ok(0));
    let refused = thread::spawn(move || {
        [
            vcpu.vmcs(Field::GUEST_RIP).unwrap_err(),
            vcpu.set_register(Register::Rax, 1).unwrap_err(),
            vcpu.invalidate_tlb().unwrap_err(),
            vcpu.run(None).unwrap_err(),
        ]
    });
    assert_eq!(refused.join().unwrap(), [Error::BAD_ARGUMENT; 4]);
}

/// What `STI` shadows is one thing, a fault in IRET another: it has unblocked NMIs nevertheless, and says so.
#[test]
fn iret_that_faults_has_unblocked_nmis() {
    let mut guest = guest(Mode::Real);
    guest.set(Field::GUEST_INTERRUPTIBILITY, interruptibility::NMI.into());
    guest
        .set(Field::guest_base(2), MAPPED)
        .set(Field::GUEST_RSP, 0x1000);
    assert_eq!(guest.code(&[0xcf]).run(), reason::EPT_VIOLATION);
    let told = guest.get(Field::EXIT_QUALIFICATION);
    assert_eq!(told & ept::NMI_UNBLOCKED, ept::NMI_UNBLOCKED);
    assert_eq!(guest.get(Field::GUEST_INTERRUPTIBILITY), 0);
}

#[test]
fn registers_and_the_vmcs_are_one_view() {
    let mut guest = guest(Mode::Long);
    guest.vcpu.set_register(Register::Rip, 0x42).unwrap();
    assert_eq!(guest.get(Field::GUEST_RIP), 0x42);
    guest.vcpu.set_register(Register::R13, 13).unwrap();
    assert_eq!(guest.vcpu.register(Register::R13), Ok(13));
    assert_eq!(guest.vcpu.register(Register::Cr1), Err(Error::BAD_ARGUMENT));
    assert_eq!(
        guest.vcpu.set_register(Register::Xcr0, 4),
        Err(Error::BAD_ARGUMENT)
    );
    let mut area = [0; FP_BYTES];
    guest.vcpu.read_fp(&mut area).unwrap();
    guest.vcpu.write_fp(&area).unwrap();
    let saved = guest.get(Field::EXIT_CONTROLS) as u32 & exit::SAVE_EFER;
    assert_ne!(saved, 0);
    assert_eq!(guest.get(Field::GUEST_CR4) & cr4::VMXE, cr4::VMXE);
}
