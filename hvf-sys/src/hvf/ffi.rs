//! Apple's Hypervisor.framework on Intel, as its headers have it: hv_error.h, hv_types.h, hv_arch_x86.h, hv.h, hv_vmx.h.
//!
//! Names, types and numbers are those of the headers for macOS 11, whose functions every later release has. What belongs
//! to the framework's own interrupt controllers, to shadow VMCSs and to further address spaces is left out: nothing here uses it.
//! All functions but those of a whole VM and `hv_vcpu_interrupt` must be called by the thread that made the vCPU.

#![allow(non_camel_case_types)]

use libc::{c_uint, c_void, size_t};

/// What every function returns: a Mach error in `err_local | err_sub(0xba5)`.
pub type hv_return_t = u32;
/// It was done.
pub const HV_SUCCESS: hv_return_t = 0;
/// It failed for a reason without a name.
pub const HV_ERROR: hv_return_t = 0xfae9_4001;
/// Somebody else has it, such as the process's one VM.
pub const HV_BUSY: hv_return_t = 0xfae9_4002;
/// An argument is wrong, such as a VMCS field that the framework keeps to itself.
pub const HV_BAD_ARGUMENT: hv_return_t = 0xfae9_4003;
/// The host has no memory, VM or vCPU left.
pub const HV_NO_RESOURCES: hv_return_t = 0xfae9_4005;
/// There is no such VM or vCPU.
pub const HV_NO_DEVICE: hv_return_t = 0xfae9_4006;
/// The system does not allow it: the program lacks the entitlement.
pub const HV_DENIED: hv_return_t = 0xfae9_4007;
/// An address could not be accessed.
pub const HV_FAULT: hv_return_t = 0xfae9_4008;
/// This host has not got it.
pub const HV_UNSUPPORTED: hv_return_t = 0xfae9_400f;

/// What a host can do at most.
pub type hv_capability_t = u64;
/// How many vCPUs a VM can have.
pub const HV_CAP_VCPUMAX: hv_capability_t = 0;
/// How many address spaces a VM can have.
pub const HV_CAP_ADDRSPACEMAX: hv_capability_t = 1;

/// How a VM is made.
pub type hv_vm_options_t = u64;
/// With everything as usual.
pub const HV_VM_DEFAULT: hv_vm_options_t = 0;

/// How a vCPU is made.
pub type hv_vcpu_options_t = u64;
/// With everything as usual.
pub const HV_VCPU_DEFAULT: hv_vcpu_options_t = 0;

/// What a guest may do with memory.
pub type hv_memory_flags_t = u64;
/// Read it.
pub const HV_MEMORY_READ: hv_memory_flags_t = 1 << 0;
/// Write it.
pub const HV_MEMORY_WRITE: hv_memory_flags_t = 1 << 1;
/// Execute it.
pub const HV_MEMORY_EXEC: hv_memory_flags_t = 1 << 2;

/// A vCPU.
pub type hv_vcpuid_t = c_uint;
/// An address in this process.
pub type hv_uvaddr_t = *const c_void;
/// A guest-physical address.
pub type hv_gpaddr_t = u64;

/// The deadline that never comes.
pub const HV_DEADLINE_FOREVER: u64 = u64::MAX;

/// A capability MSR of VMX, as the framework grants it.
pub type hv_vmx_capability_t = c_uint;
/// Pin-based controls.
pub const HV_VMX_CAP_PINBASED: hv_vmx_capability_t = 0;
/// Primary processor-based controls.
pub const HV_VMX_CAP_PROCBASED: hv_vmx_capability_t = 1;
/// Secondary processor-based controls.
pub const HV_VMX_CAP_PROCBASED2: hv_vmx_capability_t = 2;
/// VM-entry controls.
pub const HV_VMX_CAP_ENTRY: hv_vmx_capability_t = 3;
/// VM-exit controls.
pub const HV_VMX_CAP_EXIT: hv_vmx_capability_t = 4;
/// IA32_VMX_BASIC; this one and the next eleven since macOS 11.
pub const HV_VMX_CAP_BASIC: hv_vmx_capability_t = 5;
/// Pin-based controls, as the processor has them.
pub const HV_VMX_CAP_TRUE_PINBASED: hv_vmx_capability_t = 6;
/// Primary processor-based controls, as the processor has them.
pub const HV_VMX_CAP_TRUE_PROCBASED: hv_vmx_capability_t = 7;
/// VM-entry controls, as the processor has them.
pub const HV_VMX_CAP_TRUE_ENTRY: hv_vmx_capability_t = 8;
/// VM-exit controls, as the processor has them.
pub const HV_VMX_CAP_TRUE_EXIT: hv_vmx_capability_t = 9;
/// IA32_VMX_MISC.
pub const HV_VMX_CAP_MISC: hv_vmx_capability_t = 10;
/// Bits of CR0 that must be 1.
pub const HV_VMX_CAP_CR0_FIXED0: hv_vmx_capability_t = 11;
/// Bits of CR0 that may be 1.
pub const HV_VMX_CAP_CR0_FIXED1: hv_vmx_capability_t = 12;
/// Bits of CR4 that must be 1.
pub const HV_VMX_CAP_CR4_FIXED0: hv_vmx_capability_t = 13;
/// Bits of CR4 that may be 1.
pub const HV_VMX_CAP_CR4_FIXED1: hv_vmx_capability_t = 14;
/// IA32_VMX_VMCS_ENUM.
pub const HV_VMX_CAP_VMCS_ENUM: hv_vmx_capability_t = 15;
/// IA32_VMX_EPT_VPID_CAP.
pub const HV_VMX_CAP_EPT_VPID_CAP: hv_vmx_capability_t = 16;
/// The rate of the preemption timer.
pub const HV_VMX_CAP_PREEMPTION_TIMER: hv_vmx_capability_t = 32;

/// A register of a vCPU.
pub type hv_x86_reg_t = c_uint;

/// Numbers the registers in the header's order.
macro_rules! registers {
    ($($name:ident)*) => { registers!(@ 0; $($name)*); };
    (@ $at:expr; $name:ident $($rest:ident)*) => {
        #[doc = concat!("`", stringify!($name), "` of hv_arch_x86.h.")]
        pub const $name: hv_x86_reg_t = $at;
        registers!(@ $at + 1; $($rest)*);
    };
    (@ $at:expr;) => {};
}

registers! {
    HV_X86_RIP HV_X86_RFLAGS HV_X86_RAX HV_X86_RCX HV_X86_RDX HV_X86_RBX HV_X86_RSI HV_X86_RDI HV_X86_RSP HV_X86_RBP
    HV_X86_R8 HV_X86_R9 HV_X86_R10 HV_X86_R11 HV_X86_R12 HV_X86_R13 HV_X86_R14 HV_X86_R15
    HV_X86_CS HV_X86_SS HV_X86_DS HV_X86_ES HV_X86_FS HV_X86_GS
    HV_X86_IDT_BASE HV_X86_IDT_LIMIT HV_X86_GDT_BASE HV_X86_GDT_LIMIT
    HV_X86_LDTR HV_X86_LDT_BASE HV_X86_LDT_LIMIT HV_X86_LDT_AR HV_X86_TR HV_X86_TSS_BASE HV_X86_TSS_LIMIT HV_X86_TSS_AR
    HV_X86_CR0 HV_X86_CR1 HV_X86_CR2 HV_X86_CR3 HV_X86_CR4
    HV_X86_DR0 HV_X86_DR1 HV_X86_DR2 HV_X86_DR3 HV_X86_DR4 HV_X86_DR5 HV_X86_DR6 HV_X86_DR7
    HV_X86_TPR HV_X86_XCR0 HV_X86_REGISTERS_MAX
}

// The header numbers them, so that one left out would move all that follow.
const _: () = assert!(HV_X86_R15 == 17 && HV_X86_GS == 23 && HV_X86_TSS_AR == 35);
const _: () = assert!(HV_X86_CR4 == 40 && HV_X86_DR7 == 48 && HV_X86_REGISTERS_MAX == 51);

#[link(name = "Hypervisor", kind = "framework")]
#[allow(missing_docs)] // Apple's documentation is theirs.
unsafe extern "C" {
    pub fn hv_capability(capability: hv_capability_t, value: *mut u64) -> hv_return_t;

    pub fn hv_vm_create(flags: hv_vm_options_t) -> hv_return_t;
    pub fn hv_vm_destroy() -> hv_return_t;
    pub fn hv_vm_map(
        uva: hv_uvaddr_t,
        gpa: hv_gpaddr_t,
        size: size_t,
        flags: hv_memory_flags_t,
    ) -> hv_return_t;
    pub fn hv_vm_unmap(gpa: hv_gpaddr_t, size: size_t) -> hv_return_t;
    pub fn hv_vm_protect(gpa: hv_gpaddr_t, size: size_t, flags: hv_memory_flags_t) -> hv_return_t;
    pub fn hv_vm_sync_tsc(tsc: u64) -> hv_return_t;

    pub fn hv_vcpu_create(vcpu: *mut hv_vcpuid_t, flags: hv_vcpu_options_t) -> hv_return_t;
    pub fn hv_vcpu_destroy(vcpu: hv_vcpuid_t) -> hv_return_t;
    pub fn hv_vcpu_read_register(
        vcpu: hv_vcpuid_t,
        reg: hv_x86_reg_t,
        value: *mut u64,
    ) -> hv_return_t;
    pub fn hv_vcpu_write_register(vcpu: hv_vcpuid_t, reg: hv_x86_reg_t, value: u64) -> hv_return_t;
    pub fn hv_vcpu_read_fpstate(
        vcpu: hv_vcpuid_t,
        buffer: *mut c_void,
        size: size_t,
    ) -> hv_return_t;
    pub fn hv_vcpu_write_fpstate(
        vcpu: hv_vcpuid_t,
        buffer: *mut c_void,
        size: size_t,
    ) -> hv_return_t;
    pub fn hv_vcpu_enable_native_msr(vcpu: hv_vcpuid_t, msr: u32, enable: bool) -> hv_return_t;
    pub fn hv_vcpu_read_msr(vcpu: hv_vcpuid_t, msr: u32, value: *mut u64) -> hv_return_t;
    pub fn hv_vcpu_write_msr(vcpu: hv_vcpuid_t, msr: u32, value: u64) -> hv_return_t;
    pub fn hv_vcpu_flush(vcpu: hv_vcpuid_t) -> hv_return_t;
    pub fn hv_vcpu_invalidate_tlb(vcpu: hv_vcpuid_t) -> hv_return_t;
    pub fn hv_vcpu_run(vcpu: hv_vcpuid_t) -> hv_return_t;
    pub fn hv_vcpu_run_until(vcpu: hv_vcpuid_t, deadline: u64) -> hv_return_t;
    pub fn hv_vcpu_interrupt(vcpus: *mut hv_vcpuid_t, vcpu_count: c_uint) -> hv_return_t;
    pub fn hv_vcpu_get_exec_time(vcpu: hv_vcpuid_t, time: *mut u64) -> hv_return_t;

    pub fn hv_vmx_vcpu_read_vmcs(vcpu: hv_vcpuid_t, field: u32, value: *mut u64) -> hv_return_t;
    pub fn hv_vmx_vcpu_write_vmcs(vcpu: hv_vcpuid_t, field: u32, value: u64) -> hv_return_t;
    pub fn hv_vmx_vcpu_get_cap_write_vmcs(
        vcpu: hv_vcpuid_t,
        field: u32,
        allowed_0: *mut u64,
        allowed_1: *mut u64,
    ) -> hv_return_t;
    pub fn hv_vmx_read_capability(field: hv_vmx_capability_t, value: *mut u64) -> hv_return_t;
    pub fn hv_vmx_vcpu_set_apic_address(vcpu: hv_vcpuid_t, gpa: hv_gpaddr_t) -> hv_return_t;
}

/// The factor from ticks of the Mach clock to nanoseconds (mach/mach_time.h).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mach_timebase_info_data_t {
    /// Nanoseconds...
    pub numer: u32,
    /// ... in so many ticks.
    pub denom: u32,
}

#[allow(missing_docs)]
unsafe extern "C" {
    pub fn mach_absolute_time() -> u64;
    pub fn mach_timebase_info(info: *mut mach_timebase_info_data_t) -> libc::c_int;
}
