//! The engine `kvm`: the host's processor, through /dev/kvm of an x86-64 Linux. The interrupt controllers and the
//! clocks are the machine's own, so that it is the same machine as on every engine; KVM has none of them.
//!
//! KVM executes instructions, keeps most MSRs and answers CPUID from our table; what it leaves to us (ports, device
//! memory, the local APIC's MSRs) is done from within `run`, as the software CPU does. The guest's TSC runs at the
//! machine's rate where the host can scale it (KVM_CAP_TSC_CONTROL); otherwise at the host's, which CPUID then tells.
//!
//! Not modelled: debug registers are KVM's; a guest's machine checks are the host's own affair. Documents: the
//! kernel's Documentation/virt/kvm/api.rst.

mod convert;
mod fault;
mod msrs;
pub mod probe;
mod software;
mod tsc;
mod vcpu;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use hvf_sys::kvm::{Capability, CpuidEntry, System, Vm};
use hvf_sys::ram::Ram;

use super::alarm::Alarm;
use super::{Engine, Refusal, Vcpu};
use crate::layout;
use crate::x86::cpuid::{Answer, Entry, Machine, Table, feature};
use tsc::Rate;
use vcpu::KvmVcpu;

/// What there must be, and since which Linux it is.
const NEEDED: [(Capability, &str, &str); 7] = [
    (Capability::ExtCpuid, "KVM_CAP_EXT_CPUID", "2.6.26"),
    (Capability::VcpuEvents, "KVM_CAP_VCPU_EVENTS", "2.6.33"),
    (Capability::Debugregs, "KVM_CAP_DEBUGREGS", "2.6.35"),
    (Capability::Xcrs, "KVM_CAP_XCRS", "2.6.36"),
    (Capability::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT", "4.13"),
    (
        Capability::UserSpaceMsr,
        "KVM_CAP_X86_USER_SPACE_MSR",
        "5.10",
    ),
    (Capability::MsrFilter, "KVM_CAP_X86_MSR_FILTER", "5.10"),
];

/// The vCPUs of one machine.
pub struct Kvm {
    vm: Arc<Vm>,
    alarm: Alarm,
    /// What the host can offer.
    offered: Vec<Entry>,
    scales_tsc: bool,
    cpus: u8,
}

impl Kvm {
    /// An engine for a machine with so many CPUs over `ram`.
    pub fn new(ram: Arc<Ram>, cpus: u8) -> Result<Self, Refusal> {
        let system = open()?;
        let most = system.extension(Capability::MaxVcpus);
        if u32::from(cpus) > most {
            return Err(Refusal(format!(
                "KVM of this host runs at most {most} CPUs in a machine, not {cpus}; ask for fewer with --cpus"
            )));
        }
        let vm = machine(&system, ram)?;
        let offered = system.supported_cpuid();
        let offered = offered.map_err(|error| failed("KVM_GET_SUPPORTED_CPUID", &error))?;
        let alarm = Alarm::start();
        Ok(Self {
            vm: Arc::new(vm),
            alarm: alarm.map_err(|error| {
                Refusal(format!(
                    "cannot start a thread for KVM: {error}; raise the limit on threads"
                ))
            })?,
            offered: offered.iter().map(entry).collect(),
            scales_tsc: system.extension(Capability::TscControl) != 0,
            cpus,
        })
    }

    fn table(&self, rate: Rate, index: u8) -> Table {
        let machine = Machine {
            cpus: self.cpus.into(),
            physical_bits: layout::PHYSICAL_BITS,
            crystal_hz: layout::CRYSTAL_HZ as u32,
            tsc_ratio: rate.ratio(),
        };
        Table::hosted(&self.offered, &machine, index.into())
    }
}

impl Engine for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn vcpu(&self, index: u8) -> Result<Box<dyn Vcpu>, Refusal> {
        let vcpu = self.vm.create_vcpu(index.into());
        let mut vcpu = vcpu.map_err(|error| failed("KVM_CREATE_VCPU", &error))?;
        if self.scales_tsc {
            // Some hosts refuse a rate far from their own: then it is theirs, as without scaling.
            let _ = vcpu.set_tsc_khz((layout::TSC_HZ / 1000) as u32);
        }
        let rate = vcpu.tsc_khz();
        let rate = Rate::new(rate.map_err(|error| failed("KVM_GET_TSC_KHZ", &error))?);
        let table = Arc::new(self.table(rate, index));
        let answers: Vec<CpuidEntry> = table.entries().iter().map(answer).collect();
        vcpu.set_cpuid(&answers)
            .map_err(|error| failed("KVM_SET_CPUID2", &error))?;
        let kick = vcpu.kick();
        let bell = self.alarm.bell(move || kick.kick());
        Ok(Box::new(KvmVcpu::new(vcpu, bell, rate, index, table)))
    }
}

/// Opens KVM and looks for what it must be able to do.
fn open() -> Result<System, Refusal> {
    let system = System::open().map_err(|error| {
        Refusal(match error.kind() {
            ErrorKind::NotFound => {
                "there is no /dev/kvm; load the kernel's module kvm_intel or kvm_amd, or use --engine soft".to_owned()
            }
            ErrorKind::PermissionDenied => {
                "/dev/kvm may not be opened by this user; join the group that owns it, or use --engine soft".to_owned()
            }
            _ => format!("cannot open /dev/kvm: {error}; use --engine soft"),
        })
    })?;
    match NEEDED.iter().find(|needed| system.extension(needed.0) == 0) {
        None => Ok(system),
        Some((_, name, since)) => Err(Refusal(format!(
            "KVM of this host lacks {name}, which Linux has since {since}; use --engine soft"
        ))),
    }
}

/// A machine with `ram` in it, whose MSRs that are ours arrive.
fn machine(system: &System, ram: Arc<Ram>) -> Result<Vm, Refusal> {
    let vm = system.create_vm(ram);
    let vm = vm.map_err(|error| failed("KVM_CREATE_VM", &error))?;
    // First of all: soon after another change of the machine the kernel takes milliseconds for it.
    vm.exit_on_msrs(&msrs::OURS)
        .map_err(|error| failed("KVM_X86_SET_MSR_FILTER", &error))?;
    let pages = layout::KVM_PAGES;
    if system.extension(Capability::SetIdentityMapAddr) != 0 {
        vm.set_identity_map_addr(pages.start)
            .map_err(|error| failed("KVM_SET_IDENTITY_MAP_ADDR", &error))?;
    }
    vm.set_tss_addr(pages.start as u32 + 0x1000)
        .map_err(|error| failed("KVM_SET_TSS_ADDR", &error))?;
    vm.map_ram()
        .map_err(|error| failed("KVM_SET_USER_MEMORY_REGION", &error))?;
    Ok(vm)
}

fn failed(request: &str, error: &io::Error) -> Refusal {
    Refusal(format!("{request} failed: {error}; use --engine soft"))
}

fn entry(offered: &CpuidEntry) -> Entry {
    let CpuidEntry {
        function,
        index,
        flags,
        eax,
        ebx,
        ecx,
        edx,
        padding: _,
    } = *offered;
    let is_significant = flags & CpuidEntry::SIGNIFICANT_INDEX != 0;
    Entry {
        leaf: function,
        subleaf: is_significant.then_some(index),
        answer: Answer { eax, ebx, ecx, edx },
    }
}

/// KVM itself shows OSXSAVE, OSPKE and the size of XSAVE's area, and clears APIC where IA32_APIC_BASE says so.
fn answer(entry: &Entry) -> CpuidEntry {
    let Entry {
        leaf,
        subleaf,
        answer: Answer { eax, ebx, ecx, edx },
    } = *entry;
    let apic = match leaf {
        1 => feature::leaf1_edx::APIC,
        _ => 0,
    };
    CpuidEntry {
        function: leaf,
        index: subleaf.unwrap_or(0),
        flags: subleaf.map_or(0, |_| CpuidEntry::SIGNIFICANT_INDEX),
        eax,
        ebx,
        ecx,
        edx: edx | apic,
        padding: [0; 3],
    }
}

#[cfg(test)]
mod tests;
