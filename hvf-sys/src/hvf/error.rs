//! What the framework refuses, with the call and its code kept.

use super::ffi::*;
use std::fmt;

/// A call of Hypervisor.framework that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The function, as in Apple's headers.
    pub call: &'static str,
    /// What it returned.
    pub code: hv_return_t,
}

impl Error {
    /// The code's name in hv_error.h.
    fn name(&self) -> &'static str {
        match self.code {
            HV_ERROR => "HV_ERROR",
            HV_BUSY => "HV_BUSY",
            HV_BAD_ARGUMENT => "HV_BAD_ARGUMENT",
            HV_NO_RESOURCES => "HV_NO_RESOURCES",
            HV_NO_DEVICE => "HV_NO_DEVICE",
            HV_DENIED => "HV_DENIED",
            HV_FAULT => "HV_FAULT",
            HV_UNSUPPORTED => "HV_UNSUPPORTED",
            _ => "an error without a name",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({:#010x})", self.call, self.name(), self.code)
    }
}

impl std::error::Error for Error {}

/// Turns what a call returned into an error that names it.
pub(super) fn check(call: &'static str, code: hv_return_t) -> Result<(), Error> {
    match code {
        HV_SUCCESS => Ok(()),
        code => Err(Error { call, code }),
    }
}

/// Calls a function of the framework by its name, which an error then keeps.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        super::error::check(stringify!($function), super::ffi::$function($($argument),*))
    };
}
pub(super) use call;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_which_call_and_which_code() {
        assert_eq!(check("hv_vm_map", HV_SUCCESS), Ok(()));
        let denied = check("hv_vm_create", 0xfae9_4007).unwrap_err();
        assert_eq!(denied.to_string(), "hv_vm_create: HV_DENIED (0xfae94007)");
        let strange = check("hv_vcpu_run_until", 5).unwrap_err();
        assert_eq!(
            strange.to_string(),
            "hv_vcpu_run_until: an error without a name (0x00000005)"
        );
    }
}
