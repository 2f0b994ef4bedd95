//! Root images: read, check and unpack them in parallel; capture them.
