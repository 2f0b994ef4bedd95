//! Boots QEMU and speaks with the guest.
