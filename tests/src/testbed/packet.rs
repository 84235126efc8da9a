//! As much of IPv4 as a link needs: where a packet goes, and other addresses and ports in it.

use std::net::{Ipv4Addr, SocketAddrV4};

const TCP: u8 = 6;
const UDP: u8 = 17;
const HEADER_BYTES: usize = 20;
const CHECKSUM: usize = 10;
const SOURCE: usize = 12;
const DESTINATION: usize = 16;

/// Both ends of a packet that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) protocol: u8,
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn address(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
    Some(bytes.into())
}

/// Bytes of its header, if it is IPv4.
fn header(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let bytes = usize::from(first & 0xf) * 4;
    (first >> 4 == 4 && bytes >= HEADER_BYTES && packet.len() >= bytes).then_some(bytes)
}

/// Where an IPv4 packet goes.
pub(super) fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    header(packet)?;
    address(packet, DESTINATION)
}

/// The ends of a TCP or UDP packet. A later fragment has no ports, and none that is whole here.
pub(super) fn flow(packet: &[u8]) -> Option<Flow> {
    let ports = header(packet)?;
    let fragment = word(packet, 6)? & 0x1fff;
    let protocol = packet[9];
    if fragment != 0 || ![TCP, UDP].contains(&protocol) {
        return None;
    }
    Some(Flow {
        protocol,
        source: SocketAddrV4::new(address(packet, SOURCE)?, word(packet, ports)?),
        destination: SocketAddrV4::new(address(packet, DESTINATION)?, word(packet, ports + 2)?),
    })
}

/// Gives one end of a packet another address and port, and mends its checksums. Only for packets of which [`flow`]
/// knows both ends.
pub(super) fn readdress(packet: &mut [u8], end: End, to: SocketAddrV4) {
    let (Some(ports), Some(flow)) = (header(packet), flow(packet)) else { return };
    let (at, port_at, old) = match end {
        End::Source => (SOURCE, ports, flow.source),
        End::Destination => (DESTINATION, ports + 2, flow.destination),
    };
    packet[at..at + 4].copy_from_slice(&to.ip().octets());
    packet[port_at..port_at + 2].copy_from_slice(&to.port().to_be_bytes());
    let [before, after] = [old, to].map(|end| {
        let [a, b, c, d] = end.ip().octets();
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), end.port()]
    });
    mend(packet, CHECKSUM, &before[..2], &after[..2]);
    let sum = ports + if flow.protocol == TCP { 16 } else { 6 };
    // A UDP packet may go without a checksum, which is then 0.
    if flow.protocol == TCP || word(packet, sum) != Some(0) {
        mend(packet, sum, &before, &after);
    }
}

/// A checksum after some of its words have changed (RFC 1624).
fn mend(packet: &mut [u8], at: usize, before: &[u16], after: &[u16]) {
    let Some(sum) = word(packet, at) else { return };
    let gone: u32 = before.iter().map(|word| u32::from(!word)).sum();
    let come: u32 = after.iter().map(|word| u32::from(*word)).sum();
    let sum = fold(u32::from(!sum) + gone + come);
    packet[at..at + 2].copy_from_slice(&(!sum).to_be_bytes());
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A checksum from nothing.
    fn sum(bytes: impl Iterator<Item = u8>) -> u16 {
        let bytes: Vec<u8> = bytes.collect();
        let words = bytes.chunks(2).map(|two| u16::from_be_bytes([two[0], two.get(1).copied().unwrap_or(0)]));
        !fold(words.map(u32::from).sum())
    }

    fn pseudo(packet: &[u8]) -> Vec<u8> {
        let length = (packet.len() - 20) as u16;
        [&packet[12..20], &[0, packet[9]], &length.to_be_bytes()].concat()
    }

    /// A packet with checksums as a kernel writes them.
    pub(in super::super) fn packet(protocol: u8, from: &str, to: &str, body: &[u8]) -> Vec<u8> {
        let [from, to] = [from, to].map(|text| text.parse::<SocketAddrV4>().unwrap());
        let (size, at) = if protocol == TCP { (20, 16) } else { (8, 6) };
        let mut packet = vec![0; 20 + size];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&((20 + size + body.len()) as u16).to_be_bytes());
        packet[8] = 64;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&from.ip().octets());
        packet[16..20].copy_from_slice(&to.ip().octets());
        packet[20..22].copy_from_slice(&from.port().to_be_bytes());
        packet[22..24].copy_from_slice(&to.port().to_be_bytes());
        packet.extend_from_slice(body);
        let header = sum(packet[..20].iter().copied());
        packet[10..12].copy_from_slice(&header.to_be_bytes());
        let whole = sum(pseudo(&packet).into_iter().chain(packet[20..].iter().copied()));
        packet[20 + at..22 + at].copy_from_slice(&whole.to_be_bytes());
        packet
    }

    #[test]
    fn a_readdressed_packet_is_the_one_that_a_kernel_would_have_written() {
        for protocol in [TCP, UDP] {
            for body in [&b""[..], b"odd", b"even", &[0xff; 1001]] {
                let mut changed = packet(protocol, "192.168.7.2:40001", "10.0.0.1:4710", body);
                readdress(&mut changed, End::Source, "10.0.0.8:20000".parse().unwrap());
                assert_eq!(changed, packet(protocol, "10.0.0.8:20000", "10.0.0.1:4710", body));
                readdress(&mut changed, End::Destination, "10.255.255.255:65535".parse().unwrap());
                assert_eq!(changed, packet(protocol, "10.0.0.8:20000", "10.255.255.255:65535", body));
            }
        }
    }

    #[test]
    fn what_has_no_ports_or_is_cut_has_no_flow() {
        let whole = packet(TCP, "10.0.0.1:1", "10.0.0.2:2", b"body");
        let told = flow(&whole).unwrap();
        assert_eq!((told.source.port(), told.destination.port(), told.protocol), (1, 2, TCP));
        for length in 0..24 {
            assert_eq!(flow(&whole[..length]), None, "{length}");
            readdress(&mut whole[..length].to_vec(), End::Source, "10.0.0.9:9".parse().unwrap());
        }
        let mut fragment = whole.clone();
        fragment[7] = 1;
        assert_eq!(flow(&fragment), None);
        let mut other = whole.clone();
        other[9] = 1;
        assert_eq!(flow(&other), None);
        other[0] = 0x65;
        assert_eq!(destination(&other), None);
        assert_eq!(destination(&whole), Some("10.0.0.2".parse().unwrap()));
    }
}
