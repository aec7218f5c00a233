//! Which addresses a webhook may be sent to.
//!
//! Contract: [`AddressPolicy::check`] and [`AddressPolicy::check_answer`] are pure, allocate nothing
//! and cannot fail otherwise than by refusing. The policy is built once from the configuration and
//! shared. Deny by default for IPv6: only global unicast space passes, less what is set aside in it.
//!
//! The rule: "every address must pass; connect only to the vetted address. IPv4: every
//! special-purpose block is refused, 168.63.129.16 too. IPv6: only 2000::/3 minus Teredo,
//! documentation, 6to4, 3fff::/20 and 2620:4f:8000::/48. Our own addresses are refused."

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It lies in a block set aside for a purpose: the block's name in the IANA registries.
    SpecialPurpose(&'static str),
    /// An IPv6 address outside 2000::/3, the only space in use for public hosts.
    NotGlobalUnicast,
    /// An address of this machine.
    Own,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::SpecialPurpose(block) => write!(f, "address is not public: {block}"),
            Refused::NotGlobalUnicast => f.write_str("address is not public: outside 2000::/3"),
            Refused::Own => f.write_str("address belongs to this machine"),
        }
    }
}

/// Why the addresses of a name are refused, all of them: a resolver that gives one address we may not
/// use beside a public one is not to be trusted with either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerRefused {
    /// No address at all. Not a matter of policy: the attempt fails as any DNS failure and is retried.
    Empty,
    /// No address passes; the first with its reason.
    All(IpAddr, Refused),
    /// Some pass, some do not; the first that does not, with its reason.
    Mixed(IpAddr, Refused),
}

impl AnswerRefused {
    /// Stable code for logs and answers: `dns`, `addr` or `mixed`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            AnswerRefused::Empty => "dns",
            AnswerRefused::All(..) => "addr",
            AnswerRefused::Mixed(..) => "mixed",
        }
    }
}

impl fmt::Display for AnswerRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerRefused::Empty => f.write_str("the name has no address"),
            AnswerRefused::All(address, why) => write!(f, "{address}: {why}"),
            AnswerRefused::Mixed(address, why) => {
                write!(f, "{address}: {why}; every address of a name must be public")
            }
        }
    }
}

impl core::error::Error for AnswerRefused {}

/// IPv4 blocks set aside by the IANA special-purpose registry, multicast, class E, and one public
/// address that answers for the host it is asked from.
const IPV4_BLOCKS: [(Ipv4Net, &str); 20] = [
    (v4([0, 0, 0, 0], 8), "this network"),
    (v4([10, 0, 0, 0], 8), "private use"),
    (v4([100, 64, 0, 0], 10), "shared address space"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([168, 63, 129, 16], 32), "Azure host services"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([172, 16, 0, 0], 12), "private use"),
    (v4([192, 0, 0, 0], 24), "IETF protocol assignments"),
    (v4([192, 0, 2, 0], 24), "documentation"),
    (v4([192, 31, 196, 0], 24), "AS112"),
    (v4([192, 52, 193, 0], 24), "AMT"),
    (v4([192, 88, 99, 0], 24), "6to4 relay"),
    (v4([192, 168, 0, 0], 16), "private use"),
    (v4([192, 175, 48, 0], 24), "AS112"),
    (v4([198, 18, 0, 0], 15), "benchmarking"),
    (v4([198, 51, 100, 0], 24), "documentation"),
    (v4([203, 0, 113, 0], 24), "documentation"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    (v4([240, 0, 0, 0], 4), "reserved"),
];

/// Where public IPv6 hosts are.
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0], 3);

/// What is set aside inside [`GLOBAL_UNICAST`]. All of 2001::/23 is protocol assignments: Teredo,
/// benchmarking, ORCHID, AMT, AS112; no host is numbered out of it.
const IPV6_BLOCKS: [(Ipv6Net, &str); 6] = [
    (v6([0x2001, 0, 0], 32), "Teredo"),
    (v6([0x2001, 0, 0], 23), "IETF protocol assignments"),
    (v6([0x2001, 0xdb8, 0], 32), "documentation"),
    (v6([0x2002, 0, 0], 16), "6to4"),
    (v6([0x2620, 0x4f, 0x8000], 48), "AS112"),
    (v6([0x3fff, 0, 0], 20), "documentation"),
];

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 3], prefix: u8) -> Ipv6Net {
    let [a, b, c] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// What the operator adds to the rules, and the rules themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    allow_nets: Box<[IpNet]>,
    own_addresses: Box<[IpAddr]>,
}

impl AddressPolicy {
    /// `allow_nets` are the configuration's `egress.allow_nets`: addresses in them pass whatever else
    /// would refuse them, this machine's own too. `own_addresses` are those of the machine's
    /// interfaces. A network allows exactly the family it is written in: 127.0.0.0/8 does not allow
    /// ::ffff:127.0.0.1.
    #[must_use]
    pub fn new(allow_nets: Vec<IpNet>, own_addresses: Vec<IpAddr>) -> AddressPolicy {
        AddressPolicy { allow_nets: allow_nets.into(), own_addresses: own_addresses.into() }
    }

    /// Whether `address` may be connected to.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        if self.allow_nets.iter().any(|net| net.contains(&address)) {
            return Ok(());
        }
        if self.own_addresses.contains(&address) {
            return Err(Refused::Own);
        }
        let block = match address {
            IpAddr::V4(v4) => IPV4_BLOCKS.iter().find(|(net, _)| net.contains(&v4)).map(|(_, name)| *name),
            IpAddr::V6(v6) if !GLOBAL_UNICAST.contains(&v6) => return Err(Refused::NotGlobalUnicast),
            IpAddr::V6(v6) => IPV6_BLOCKS.iter().find(|(net, _)| net.contains(&v6)).map(|(_, name)| *name),
        };
        block.map_or(Ok(()), |name| Err(Refused::SpecialPurpose(name)))
    }

    /// Whether a name with these addresses, A and AAAA together, may be connected to: "every address
    /// must pass". The caller connects to addresses of this very answer and asks no second time.
    ///
    /// # Errors
    /// The first address that may not be used and why, or that there is none.
    pub fn check_answer(&self, addresses: &[IpAddr]) -> Result<(), AnswerRefused> {
        if addresses.is_empty() {
            return Err(AnswerRefused::Empty);
        }
        let refused = |address: &IpAddr| self.check(*address).err().map(|why| (*address, why));
        let Some((address, why)) = addresses.iter().find_map(refused) else { return Ok(()) };
        if addresses.iter().any(|address| self.check(*address).is_ok()) {
            return Err(AnswerRefused::Mixed(address, why));
        }
        Err(AnswerRefused::All(address, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn edges_of_every_block() {
        let policy = AddressPolicy::default();
        for row in [
            "1.0.0.0 9.255.255.255 | 0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255",
            "11.0.0.0 100.63.255.255 100.128.0.0 | 100.64.0.0 100.100.100.200 100.127.255.255",
            "126.255.255.255 128.0.0.0 | 127.0.0.0 127.255.255.255",
            "168.63.129.15 168.63.129.17 | 168.63.129.16",
            "169.253.255.255 169.255.0.0 | 169.254.0.0 169.254.169.254 169.254.255.255",
            "172.15.255.255 172.32.0.0 | 172.16.0.0 172.31.255.255",
            "191.255.255.255 192.0.1.0 192.0.3.0 | 192.0.0.0 192.0.0.192 192.0.0.255 192.0.2.0 192.0.2.255",
            "192.31.195.255 192.31.197.0 192.52.192.255 192.52.194.0 | 192.31.196.0 192.52.193.255",
            "192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 | 192.88.99.0 192.168.0.0 192.168.255.255",
            "192.175.47.255 192.175.49.0 | 192.175.48.0 192.175.48.255",
            "198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 | 198.18.0.0 198.19.255.255 198.51.100.7",
            "203.0.112.255 203.0.114.0 223.255.255.255 | 203.0.113.0 224.0.0.0 239.255.255.255",
            " | 240.0.0.0 255.255.255.254 255.255.255.255",
            "2000:: 2001:200:: 2606:4700:4700::1111 3ffe:ffff:: | 1fff:ffff:: 4000:: :: ::1",
            "2001:db7:ffff:: 2001:db9:: | 2001:: 2001:0:1::1 2001:1ff:ffff:: 2001:db8:: 2001:db8:ffff::",
            "2003:: 2001:ffff:: | 2002:: 2002:a00:5:: 2002:808:808:: 2002:ffff::",
            "2620:4f:7fff:: 2620:4f:8001:: | 2620:4f:8000:: 2620:4f:8000:ffff::",
            "3fff:1000:: 3ffe:: | 3fff:: 3fff:fff:ffff::",
            " | ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::808:808 64:ff9b:1::1 100::1",
            " | 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1",
        ] {
            let (pass, refuse) = row.split_once('|').unwrap();
            for address in pass.split_whitespace() {
                assert_eq!(policy.check(ip(address)), Ok(()), "{address}");
            }
            for address in refuse.split_whitespace() {
                assert!(policy.check(ip(address)).is_err(), "{address}");
            }
        }
    }

    #[test]
    fn own_addresses_are_refused_unless_the_operator_allows_them() {
        let own = vec![ip("8.8.4.4"), ip("2606:4700::5"), ip("127.0.0.1")];
        let policy = AddressPolicy::new(Vec::new(), own.clone());
        assert_eq!(policy.check(ip("8.8.4.4")), Err(Refused::Own));
        assert_eq!(policy.check(ip("2606:4700::5")), Err(Refused::Own));
        assert_eq!(policy.check(ip("8.8.4.5")), Ok(()));
        let policy = AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], own);
        assert_eq!(policy.check(ip("127.0.0.1")), Ok(()));
        assert_eq!(policy.check(ip("8.8.4.4")), Err(Refused::Own));
        assert_eq!(policy.check(ip("::ffff:127.0.0.1")), Err(Refused::NotGlobalUnicast));
        assert_eq!(policy.check(ip("::1")), Err(Refused::NotGlobalUnicast));
    }

    #[test]
    fn one_bad_address_refuses_the_whole_answer() {
        let policy = AddressPolicy::default();
        let (good, good6) = (ip("93.184.216.34"), ip("2606:4700::1"));
        let (bad, bad6) = (ip("10.0.0.1"), ip("fd00::1"));
        assert_eq!(policy.check_answer(&[good, good6]), Ok(()));
        for (answer, code) in [
            (&[][..], "dns"),
            (&[bad], "addr"),
            (&[bad, bad6], "addr"),
            (&[good, bad6], "mixed"),
            (&[bad, good], "mixed"),
            (&[good, good6, bad], "mixed"),
        ] {
            assert_eq!(policy.check_answer(answer).unwrap_err().code(), code, "{answer:?}");
        }
        let why = policy.check_answer(&[good, bad6]).unwrap_err();
        assert!(why.to_string().starts_with("fd00::1: "), "{why}");
    }

    proptest! {
        #[test]
        fn addresses_that_carry_another_never_pass(v4 in any::<u32>(), prefix in 0_usize..6) {
            let carried = v4.to_be_bytes();
            let [a, b, c, d] = carried;
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let carrier = match prefix {
                0 => Ipv4Addr::from(carried).to_ipv6_mapped(),
                1 => Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                2 => Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                3 => Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                4 => Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                _ => Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low),
            };
            prop_assert!(AddressPolicy::default().check(IpAddr::V6(carrier)).is_err());
        }

        #[test]
        fn what_passes_is_what_the_standard_library_calls_ordinary(v4 in any::<u32>()) {
            let address = Ipv4Addr::from(v4);
            if AddressPolicy::default().check(IpAddr::V4(address)).is_ok() {
                prop_assert!(!address.is_private() && !address.is_loopback() && !address.is_link_local());
                prop_assert!(!address.is_multicast() && !address.is_broadcast() && !address.is_unspecified());
                prop_assert!(!address.is_documentation());
            }
        }
    }
}
