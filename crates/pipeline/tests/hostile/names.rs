//! A name server on this machine, which answers what a test wants.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// The type of a question for IPv4; the other that is answered is for IPv6.
const A: u16 = 1;
const AAAA: u16 = 28;

/// Notes what it is asked for.
pub(crate) struct Names {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    /// Answers the question for a name, which was asked so many times before, with addresses, which hold for no time.
    pub(crate) fn new(answer: impl Fn(&str, usize) -> Vec<IpAddr> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("bound");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = asked.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut packet) {
                let Some((name, kind, end)) = question(&packet[..length]) else { continue };
                let question = format!("{name} {kind}");
                let mut asked = noted.lock().expect("no panic");
                let before = asked.iter().filter(|other| **other == question).count();
                asked.push(question);
                drop(asked);
                let addresses = answer(&name, before);
                let addresses: Vec<_> = addresses.into_iter().filter(|a| a.is_ipv4() == (kind == A)).collect();
                drop(socket.send_to(&reply(&packet[..end], &addresses), client));
            }
        });
        Self { address, asked }
    }

    /// Questions for the IPv4 addresses of a name.
    pub(crate) fn asked(&self, name: &str) -> usize {
        let question = format!("{name} {A}");
        self.asked.lock().expect("no panic").iter().filter(|other| **other == question).count()
    }
}

/// The name and type that are asked for (RFC 1035, section 4), and where the question ends.
fn question(packet: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*packet.get(at)?);
        let label = packet.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let kind = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
    [A, AAAA].contains(&kind).then(|| (labels.join("."), kind, at + 4))
}

/// The answer; without addresses it says that there is no such name (code 3).
fn reply(question: &[u8], addresses: &[IpAddr]) -> Vec<u8> {
    let code = if addresses.is_empty() { 3 } else { 0 };
    let mut packet = question.to_vec();
    packet[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    for address in addresses {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let kind = if address.is_ipv4() { A } else { AAAA };
        packet.extend([0xC0, 12]); // the name of the question
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1, 0, 0, 0, 0, 0, bytes.len() as u8]); // the internet, for no time
        packet.extend(bytes);
    }
    packet
}
