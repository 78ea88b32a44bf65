//! Networking in user space: the protocols that the launcher speaks itself with a guest, without any privilege.

pub mod tcp;
