//! The addresses of this machine, which webhooks are not sent to.
//!
//! Contract: one system call or a few, at start and in housekeeping; allocates the list it returns,
//! does not block. Owner: any thread. Failure: the kernel's refusal, as `io::Error`.

use std::io;
use std::net::IpAddr;

/// Every address of every interface, loopback included, up or not; sorted, each once. What
/// `AddressPolicy::new` takes as this machine's own. Addresses come and go with interfaces: ask again
/// now and then.
///
/// # Errors
/// The interfaces cannot be listed.
pub fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> =
        getifaddrs::getifaddrs()?.filter_map(|interface| interface.address.ip_addr()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use tocsin_core::webhook::address::{AddressPolicy, Refused};

    use super::*;

    #[test]
    fn loopback_and_the_address_packets_leave_from_are_among_them() {
        let own = own_addresses().unwrap();
        assert!(own.contains(&IpAddr::from([127, 0, 0, 1])), "{own:?}");
        assert!(own.is_sorted() && own.windows(2).all(|pair| pair[0] != pair[1]), "{own:?}");
        // Connecting a datagram socket sends nothing; it fails on a machine without a route.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let local = socket.local_addr().unwrap().ip();
            assert!(own.contains(&local), "{local} {own:?}");
            assert_eq!(AddressPolicy::new(Vec::new(), own).check(local), Err(Refused::Own));
        }
    }
}
