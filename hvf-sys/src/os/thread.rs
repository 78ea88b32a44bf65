//! How much a thread matters to the host's scheduler.

/// Says that a person waits for what this thread does. A Mac then runs it on its fast cores at full speed; elsewhere
/// the scheduler finds out by itself.
pub fn matters() {
    #[cfg(target_os = "macos")]
    // SAFETY: it takes two numbers and changes this thread alone. Where it is refused the thread is only slower.
    unsafe {
        libc::pthread_set_qos_class_self_np(libc::qos_class_t::QOS_CLASS_USER_INTERACTIVE, 0);
    }
}
