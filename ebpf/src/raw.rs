//! From the bytes of kernel programs to values: what all readers share.

use std::net::{IpAddr, Ipv6Addr};

use aya::Pod;

use crate::record::ResidentMemory;

/// Reads a record that a kernel program wrote; `None` if it is shorter than the record, which means that object and
/// loader do not belong together.
pub(crate) fn decode<T: Pod>(bytes: &[u8]) -> Option<T> {
    // SAFETY: the length is checked, every bit pattern is a value of a `Pod`, and the read need not be aligned.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Text up to the first NUL or the end.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Pages to bytes; below zero is zero.
pub(crate) fn pages(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0).saturating_mul(rustix::param::page_size() as u64)
}

/// The counters of an address space in the kernel's order: file, anonymous, swap, shared.
pub(crate) fn resident([file, anon, swap, shmem]: [i64; 4]) -> ResidentMemory {
    ResidentMemory {
        anon_bytes: pages(anon),
        file_bytes: pages(file),
        shmem_bytes: pages(shmem),
        swap_bytes: pages(swap),
    }
}

/// `struct address` of `programs/packet.h`: IPv4 is mapped.
pub(crate) fn address(bytes: [u8; 16]) -> IpAddr {
    let address = Ipv6Addr::from(bytes);
    address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
}

/// CLOCK_BOOTTIME, nanoseconds: the clock of the kernel programs.
pub(crate) fn boot_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_pages() {
        assert_eq!(text(b"nginx\0junk"), "nginx");
        assert_eq!(text(b"sixteen bytes ab"), "sixteen bytes ab");
        assert_eq!(text(b"\xff\0"), "\u{fffd}");
        assert_eq!(pages(-3), 0);
        assert_eq!(pages(2), 2 * rustix::param::page_size() as u64);
        assert_eq!(pages(i64::MAX), u64::MAX);
    }

    #[test]
    fn a_short_record_is_refused() {
        assert_eq!(decode::<u64>(&[1, 0, 0, 0, 0, 0, 0, 0, 9]), Some(1));
        assert_eq!(decode::<u64>(&[1; 7]), None);
        assert_eq!(decode::<u64>(&[]), None);
    }

    #[test]
    fn a_mapped_address_is_ipv4() {
        let v4: IpAddr = "10.1.2.3".parse().unwrap();
        let mapped: Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(address(mapped.octets()), v4);
        let v6: Ipv6Addr = "fd00::1".parse().unwrap();
        assert_eq!(address(v6.octets()), IpAddr::V6(v6));
    }
}
