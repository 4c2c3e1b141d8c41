//! Encodings in which a text survives, written here so that neither the planter nor the judge leans on
//! what the product uses.

/// The alphabets of base64.
pub(super) const STANDARD: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
pub(super) const URL_SAFE: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 without padding.
pub(super) fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..=chunk.len() {
            let six = bits >> (18 - 6 * n) & 63;
            text.push(char::from(alphabet[six as usize]));
        }
    }
    text
}

/// Hexadecimal, two digits a byte, `before` each of them.
pub(super) fn hex(bytes: &[u8], before: &str, is_upper: bool) -> String {
    let digits: &[u8; 16] = if is_upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut text = String::with_capacity(bytes.len() * (before.len() + 2));
    for byte in bytes {
        text.push_str(before);
        text.push(char::from(digits[usize::from(byte >> 4)]));
        text.push(char::from(digits[usize::from(byte & 15)]));
    }
    text
}

/// Percent-encoded where RFC 3986 does not call a character unreserved.
pub(super) fn percent(text: &str, is_upper: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&hex(&[byte], "%", is_upper)),
        }
    }
    encoded
}

/// UTF-16 without a mark.
pub(super) fn utf16(text: &str, is_big: bool) -> Vec<u8> {
    let bytes = |unit: u16| if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() };
    text.encode_utf16().flat_map(bytes).collect()
}

/// The content of a JSON string, as serializers write it.
pub(super) fn json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// CRC-32 as of zip and GitHub's tokens.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a judge that looks for what no encoder writes. The answers are of RFC 4648 and coreutils.
    #[test]
    fn encodings_are_those_of_others() {
        let encoded = ["", "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy"];
        for (n, expected) in encoded.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..n], STANDARD), expected);
        }
        assert_eq!(base64(b"\xfb\xff", STANDARD), "+/8");
        assert_eq!(base64(b"\xfb\xff", URL_SAFE), "-_8");
        assert_eq!(hex(b"\x0fz", "", false), "0f7a");
        assert_eq!(percent("a/b-ä", true), "a%2Fb-%C3%A4");
        assert_eq!(utf16("aä", true), [0, 97, 0, 0xe4]);
        assert_eq!(json("a\"\n"), "a\\\"\\n");
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
