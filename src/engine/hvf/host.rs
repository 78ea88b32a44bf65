//! Whether this host has Hypervisor.framework for x86 guests, and what to do where it refuses.

use std::sync::Arc;

use hvf_sys::ram::Ram;

use super::vmx::Error;
use crate::engine::{Engine, Refusal};

/// Why `hv_vm_create` failed, and what helps.
pub fn refused(error: Error) -> String {
    let why = match error {
        Error::DENIED => {
            "this program is not signed with the entitlement com.apple.security.hypervisor; sign it with `codesign --force \
             --sign - --entitlements xlaunch.entitlements` and its path (the file is in the release and in scripts), or use \
             --engine soft"
        }
        Error::UNSUPPORTED | Error::NO_DEVICE => {
            "this Mac's processor has no VMX to offer, as in a virtual machine; use --engine soft"
        }
        Error::BUSY | Error::NO_RESOURCES => {
            "the host has no virtual machine left for this process; end other hypervisors, or use --engine soft"
        }
        _ => "that is not known to happen; use --engine soft, and please report it",
    };
    format!("Hypervisor.framework refuses a virtual machine, {error}: {why}")
}

/// Whether it makes virtual machines for this program; else why not.
#[cfg(not(all(target_os = "macos", target_arch = "x86_64")))]
pub fn verdict() -> Result<String, String> {
    Err(if cfg!(target_os = "macos") {
        "Hypervisor.framework runs no x86 guests on Apple silicon; use --engine soft".to_owned()
    } else {
        "Hypervisor.framework is a part of macOS, which this host is not; use --engine soft"
            .to_owned()
    })
}

/// Whether it makes virtual machines for this program; else why not. It makes one and lets it go again.
#[cfg(all(target_os = "macos", target_arch = "x86_64"))]
pub fn verdict() -> Result<String, String> {
    let made = super::framework::Framework::new();
    made.map(|_| "Hypervisor.framework makes virtual machines for this program".to_owned())
        .map_err(refused)
}

/// The engine for a machine with so many CPUs over `ram`.
#[cfg(not(all(target_os = "macos", target_arch = "x86_64")))]
pub fn engine(_: &Arc<Ram>, _: u8) -> Result<Arc<dyn Engine>, Refusal> {
    Err(Refusal(verdict().err().unwrap_or_default()))
}

/// The engine for a machine with so many CPUs over `ram`.
#[cfg(all(target_os = "macos", target_arch = "x86_64"))]
pub fn engine(ram: &Arc<Ram>, cpus: u8) -> Result<Arc<dyn Engine>, Refusal> {
    let vmx = super::framework::Framework::new().map_err(|error| Refusal(refused(error)))?;
    Ok(Arc::new(super::Hvf::new(Arc::new(vmx), ram.clone(), cpus)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_entitlement_is_recognised_and_has_a_cure() {
        let sentence = refused(Error::DENIED);
        for part in [
            "HV_DENIED (0xfae94007)",
            "com.apple.security.hypervisor",
            "codesign --force --sign - --entitlements xlaunch.entitlements",
        ] {
            assert!(sentence.contains(part), "{sentence}");
        }
        let entitlements = include_str!("../../../scripts/xlaunch.entitlements");
        assert!(entitlements.contains("<key>com.apple.security.hypervisor</key>"));
    }

    #[test]
    fn every_refusal_is_one_sentence_with_a_way_out() {
        for code in [
            0xfae9_4001,
            0xfae9_4002,
            0xfae9_4005,
            0xfae9_4006,
            0xfae9_400f,
            1,
        ] {
            let sentence = refused(Error(code));
            assert!(
                sentence.contains("--engine soft") && !sentence.contains('\n'),
                "{sentence}"
            );
            assert!(sentence.contains(&format!("{code:#x}")), "{sentence}");
        }
    }
}
