//! `mmos-image build`: from an image definition to `vmlinuz`, `initramfs.cpio.zst`, `root.wim` and `manifest.json`.
