//! Checks on VMX controls (SDM volume 3, 27.2.1).

use super::super::host::{Host, Word, simulated};
use super::super::vmcs::Vmcs;
use super::{Check, require};
use crate::x86::control::cr0;
use crate::x86::vector;
use crate::x86::vmx::control::{entry, exit, pin, primary, secondary};
use crate::x86::vmx::{Field, event};

/// `tpr` is CR8's shadow.
pub fn check(vmcs: &Vmcs, host: &Host, tpr: u8) -> Check {
    check_execution(vmcs, host, tpr)?;
    check_exit(vmcs, host)?;
    check_entry(vmcs, host)?;
    check_event(vmcs)
}

fn check_word(value: u32, word: Word, section: &'static str) -> Check {
    require(
        value & word.required == word.required,
        section,
        "a control that must be one is zero",
    )?;
    require(
        value & !word.allowed == 0,
        section,
        "a control that must be zero is one",
    )?;
    require(
        value & word.own == word.own,
        "Hypervisor.framework",
        "a control that the framework has set for itself is zero",
    )
}

fn check_simulated(value: u32, simulated: u32) -> Check {
    require(
        value & !simulated == 0,
        "the model",
        "a control is set that the model does not simulate",
    )
}

fn check_execution(vmcs: &Vmcs, host: &Host, tpr: u8) -> Check {
    const SECTION: &str = "27.2.1.1";
    let pins = vmcs.read_u32(Field::PIN_BASED_CONTROLS);
    let first = vmcs.read_u32(Field::PRIMARY_CONTROLS);
    let second = match first & primary::SECONDARY {
        0 => 0,
        _ => vmcs.read_u32(Field::SECONDARY_CONTROLS),
    };
    check_word(pins, host.pin, SECTION)?;
    check_word(first, host.primary, SECTION)?;
    check_word(second, host.secondary, SECTION)?;
    check_simulated(pins, simulated::PIN)?;
    check_simulated(first, simulated::PRIMARY)?;
    check_simulated(second, simulated::SECONDARY)?;
    let rules = [
        (
            pins & pin::NMI != 0 || pins & pin::VIRTUAL_NMI == 0,
            "virtual NMIs need NMI exiting",
        ),
        (
            pins & pin::VIRTUAL_NMI != 0 || first & primary::NMI_WINDOW == 0,
            "NMI-window exiting needs virtual NMIs",
        ),
        (
            first & primary::TPR_SHADOW == 0 || vmcs.read(Field::TPR_THRESHOLD) >> 4 == 0,
            "bits 31:4 of the TPR threshold are not zero",
        ),
        (
            first & primary::TPR_SHADOW == 0 || vmcs.read(Field::TPR_THRESHOLD) <= u64::from(tpr),
            "the TPR threshold is above the TPR shadow",
        ),
        (
            second & secondary::UNRESTRICTED_GUEST == 0 || second & secondary::EPT != 0,
            "an unrestricted guest needs EPT",
        ),
    ];
    for (holds, what) in rules {
        require(holds, SECTION, what)?;
    }
    require(
        vmcs.read(Field::CR3_TARGET_COUNT) == 0,
        "the model",
        "CR3 targets are not simulated",
    )?;
    let framework = [
        (
            second & secondary::EPT != 0,
            "without EPT the guest would see the host's memory",
        ),
        (
            first & primary::UNCONDITIONAL_IO != 0,
            "without I/O exiting the guest would reach the host's ports",
        ),
        (
            pins & (pin::EXTERNAL_INTERRUPT | pin::NMI) == pin::EXTERNAL_INTERRUPT | pin::NMI,
            "the host would lose its interrupts to the guest",
        ),
        (
            first & primary::TPR_SHADOW != 0
                || first & (primary::CR8_LOAD | primary::CR8_STORE)
                    == primary::CR8_LOAD | primary::CR8_STORE,
            "without CR8 exiting or a TPR shadow the guest would reach the host's task priority",
        ),
    ];
    for (holds, what) in framework {
        require(holds, "Hypervisor.framework", what)?;
    }
    Ok(())
}

fn check_exit(vmcs: &Vmcs, host: &Host) -> Check {
    const SECTION: &str = "27.2.1.2";
    let controls = vmcs.read_u32(Field::EXIT_CONTROLS);
    check_word(controls, host.exit, SECTION)?;
    require(
        controls & exit::SAVE_PREEMPTION_TIMER == 0,
        SECTION,
        "the preemption timer is saved but not activated",
    )?;
    for count in [Field::EXIT_MSR_STORE_COUNT, Field::EXIT_MSR_LOAD_COUNT] {
        require(
            vmcs.read(count) == 0,
            "the model",
            "the lists of MSRs are the framework's",
        )?;
    }
    Ok(())
}

fn check_entry(vmcs: &Vmcs, host: &Host) -> Check {
    const SECTION: &str = "27.2.1.3";
    let controls = vmcs.read_u32(Field::ENTRY_CONTROLS);
    check_word(controls, host.entry, SECTION)?;
    require(
        controls & (entry::ENTRY_TO_SMM | entry::DEACTIVATE_DUAL_MONITOR) == 0,
        SECTION,
        "an entry to SMM comes from outside SMM",
    )?;
    require(
        vmcs.read(Field::ENTRY_MSR_LOAD_COUNT) == 0,
        "the model",
        "the lists of MSRs are the framework's",
    )
}

/// The event that is injected (27.2.1.3).
fn check_event(vmcs: &Vmcs) -> Check {
    const SECTION: &str = "27.2.1.3";
    let info = vmcs.read_u32(Field::ENTRY_INTERRUPTION_INFO);
    if info & event::VALID == 0 {
        return Ok(());
    }
    let (kind, vector) = (info & event::KIND, (info & event::VECTOR) as u8);
    let unrestricted =
        vmcs.read_u32(Field::SECONDARY_CONTROLS) & secondary::UNRESTRICTED_GUEST != 0;
    let protected = vmcs.read(Field::GUEST_CR0) & cr0::PE != 0;
    let vector_fits = match kind {
        event::kind::NMI => vector == vector::NMI,
        event::kind::HARDWARE => vector < 32,
        _ => true,
    };
    let pushes_error = kind == event::kind::HARDWARE
        && vector::has_error_code(vector)
        && (protected || !unrestricted);
    let is_software = matches!(
        kind,
        event::kind::SOFTWARE_INTERRUPT
            | event::kind::PRIVILEGED_SOFTWARE
            | event::kind::SOFTWARE_EXCEPTION
    );
    let length = vmcs.read(Field::ENTRY_INSTRUCTION_LENGTH);
    let error = vmcs.read(Field::ENTRY_EXCEPTION_ERROR);
    let known = event::VALID | event::ERROR_CODE | event::KIND | event::VECTOR;
    let rules = [
        (
            kind != 1 << 8 && kind != event::kind::OTHER,
            "the injected event's type is reserved",
        ),
        (
            vector_fits,
            "the injected event's vector is not of its type",
        ),
        (
            (info & event::ERROR_CODE != 0) == pushes_error,
            "an error code is injected where the exception has none, or the other way round",
        ),
        (
            info & !known == 0,
            "reserved bits of the injected event are set",
        ),
        (
            !pushes_error || error >> 16 == 0,
            "bits 31:16 of the injected error code are set",
        ),
        (
            !is_software || (1..=15).contains(&length),
            "the injected instruction's length is not 1 to 15",
        ),
    ];
    for (holds, what) in rules {
        require(holds, SECTION, what)?;
    }
    Ok(())
}
