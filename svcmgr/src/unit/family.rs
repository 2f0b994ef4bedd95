//! Address families by name, as `RestrictAddressFamilies=` writes them: systemd.exec(5), address_families(7).

/// Names and numbers, from the C library's own constants.
const FAMILIES: [(&str, libc::c_int); 32] = [
    ("AF_UNIX", libc::AF_UNIX),
    ("AF_LOCAL", libc::AF_LOCAL),
    ("AF_INET", libc::AF_INET),
    ("AF_INET6", libc::AF_INET6),
    ("AF_NETLINK", libc::AF_NETLINK),
    ("AF_PACKET", libc::AF_PACKET),
    ("AF_BLUETOOTH", libc::AF_BLUETOOTH),
    ("AF_CAN", libc::AF_CAN),
    ("AF_ALG", libc::AF_ALG),
    ("AF_VSOCK", libc::AF_VSOCK),
    ("AF_TIPC", libc::AF_TIPC),
    // include/linux/socket.h
    ("AF_QIPCRTR", 42),
    ("AF_RXRPC", libc::AF_RXRPC),
    ("AF_KEY", libc::AF_KEY),
    ("AF_PPPOX", libc::AF_PPPOX),
    ("AF_XDP", libc::AF_XDP),
    ("AF_NFC", libc::AF_NFC),
    ("AF_IEEE802154", libc::AF_IEEE802154),
    ("AF_PHONET", libc::AF_PHONET),
    ("AF_CAIF", libc::AF_CAIF),
    ("AF_AX25", libc::AF_AX25),
    ("AF_IPX", libc::AF_IPX),
    ("AF_APPLETALK", libc::AF_APPLETALK),
    ("AF_NETROM", libc::AF_NETROM),
    ("AF_BRIDGE", libc::AF_BRIDGE),
    ("AF_ATMPVC", libc::AF_ATMPVC),
    ("AF_X25", libc::AF_X25),
    ("AF_ROSE", libc::AF_ROSE),
    ("AF_LLC", libc::AF_LLC),
    ("AF_RDS", libc::AF_RDS),
    ("AF_ISDN", libc::AF_ISDN),
    ("AF_IB", libc::AF_IB),
];

/// The number of a family's name.
pub fn number(name: &str) -> Option<u32> {
    FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, number)| number.unsigned_abs())
}

/// All names, to look for the one that was meant.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().map(|(name, _)| name)
}
