//! How a vCPU's thread is woken and stopped, model-checked: loom runs the protocol through every order of its steps.
//!
//! The files that have the protocol are compiled here over loom's locks and atomics in place of the host's: the parker,
//! the attention word, and the kicks of `hvf` (KVM's are walked through in `hvf_sys::kvm`). Around them stands the run
//! loop's order (`engine::run`): look at the mailbox, then sleep, or enter the guest; and a sender's: post, then kick,
//! then wake. A wake-up that is lost leaves a thread that sleeps or runs for ever, which loom reports as a deadlock. Each
//! protocol has a broken twin beside it, which must be found out.

use loom::sync::atomic::{AtomicU32, Ordering};

#[path = "../../hvf-sys/src/cpu/attention.rs"]
#[allow(dead_code, missing_docs)]
mod attention;
mod engine;
