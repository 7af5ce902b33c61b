//! Text patterns of listener rule conditions: `*` stands for any number of characters, `?` for
//! exactly one, and a backslash takes the special meaning from either of them.
//!
//! The rules for letter case differ between conditions (API page `RuleCondition`): paths and
//! methods compare exactly, hosts, header values and query strings ignore ASCII case.

use std::net::IpAddr;

/// One piece of a compiled pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// This byte.
    Exactly(u8),
    /// One character.
    AnyOne,
    /// Any number of characters, none included.
    AnyMany,
}

/// A compiled pattern. Matching is linear in the text for each `*` and needs no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pieces: Vec<Piece>,
    ignore_case: bool,
}

impl Pattern {
    /// A pattern that tells upper case from lower case.
    pub fn exact_case(text: &str) -> Self {
        Self::compile(text, false)
    }

    /// A pattern for which ASCII letters of either case are equal.
    pub fn any_case(text: &str) -> Self {
        Self::compile(text, true)
    }

    fn compile(text: &str, ignore_case: bool) -> Self {
        let mut pieces = Vec::with_capacity(text.len());
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            pieces.push(match byte {
                b'\\' => match bytes.next_if(|next| matches!(next, b'*' | b'?' | b'\\')) {
                    Some(literal) => Piece::Exactly(literal),
                    None => Piece::Exactly(b'\\'),
                },
                b'*' => Piece::AnyMany,
                b'?' => Piece::AnyOne,
                other => Piece::Exactly(if ignore_case { other.to_ascii_lowercase() } else { other }),
            });
        }
        Self { pieces, ignore_case }
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut at, mut piece) = (0, 0);
        // Where to resume when the text after the latest `*` turns out not to fit.
        let mut resume: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.pieces.get(piece) {
                Some(Piece::AnyMany) => {
                    resume = Some((piece + 1, at));
                    piece += 1;
                }
                Some(one) if self.fits(*one, text[at]) => {
                    at += 1;
                    piece += 1;
                }
                _ => match &mut resume {
                    Some((after_star, taken_to)) => {
                        *taken_to += 1;
                        at = *taken_to;
                        piece = *after_star;
                    }
                    None => return false,
                },
            }
        }
        self.pieces[piece..].iter().all(|rest| *rest == Piece::AnyMany)
    }

    fn fits(&self, piece: Piece, byte: u8) -> bool {
        match piece {
            Piece::Exactly(wanted) if self.ignore_case => wanted == byte.to_ascii_lowercase(),
            Piece::Exactly(wanted) => wanted == byte,
            Piece::AnyOne | Piece::AnyMany => true,
        }
    }
}

/// A block of IP addresses in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix_bits: u8,
}

impl Cidr {
    /// Reads `192.0.2.0/24`, `2001:db8::/32` or a single address; `None` when it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().ok()?;
        let widest = if network.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.unwrap_or(widest);
        (prefix_bits <= widest).then_some(Self { network, prefix_bits })
    }

    /// Whether the address lies in the block. Addresses of the other family never do.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = u32::from(network) ^ u32::from(address);
                differing.leading_zeros() >= u32::from(self.prefix_bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = u128::from(network) ^ u128::from(address);
                differing.leading_zeros() >= u32::from(self.prefix_bits)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_the_rule_condition_reference_says() {
        let cases = [
            ("/img/*", "/img/a/b.png", true),
            ("/img/*", "/img/", true),
            ("/img/*", "/img", false),
            ("/img/*/pics", "/img/x/y/pics", true),
            ("/img/*/pics", "/img/x/y/pics/", false),
            ("/v?/x", "/v1/x", true),
            ("/v?/x", "/v/x", false),
            ("*a*b*", "xxaxxaxbx", true),
            ("*a*b", "xxaxxaxbx", false),
            ("", "", true),
            ("", "/", false),
            ("*", "", true),
            (r"what\?", "what?", true),
            (r"what\?", "whatx", false),
            (r"2\*2", "2*2", true),
            (r"a\b", r"a\b", true),
            ("/Case", "/case", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                Pattern::exact_case(pattern).matches(text.as_bytes()),
                expected,
                "{pattern} on {text}"
            );
        }
        assert!(Pattern::any_case("*.Example.COM").matches(b"API.example.com"));
    }

    #[test]
    fn a_cidr_block_holds_its_addresses_and_no_other_family() {
        let cases = [
            ("127.0.0.0/8", "127.9.9.9", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::9", true),
            ("2001:db8::/32", "2001:db9::9", false),
        ];
        for (block, address, expected) in cases {
            let block = Cidr::parse(block).expect("a valid block");
            assert_eq!(block.contains(address.parse().unwrap()), expected, "{block:?} {address}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "ten/8", "10.0.0.0/x"] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }
}
