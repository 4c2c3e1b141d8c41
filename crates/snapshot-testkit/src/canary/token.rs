//! Secrets in the shapes that providers publish.

use std::ops::Range;

use super::encode::{STANDARD, URL_SAFE, base64, crc32};
use crate::random::Random;

const DIGITS: &[u8] = b"0123456789";
const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BECH32: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Every secret has a run of so many letters and digits: a full-text index keeps it as one token.
const RUN: usize = 12;

/// Characters of a line in a PEM file.
const PEM_LINE: usize = 64;

/// Which shape a secret has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `AKIA…`
    AwsKeyId,
    /// `ghp_…` with its checksum.
    Github,
    /// `github_pat_…`
    GithubFineGrained,
    /// `xoxb-…`
    Slack,
    /// `sk_live_…`
    Stripe,
    /// `sk-ant-api03-…AA`
    Anthropic,
    /// `sk-proj-…T3BlbkFJ…`
    OpenAi,
    /// `AIza…`
    Google,
    /// `hf_…`
    HuggingFace,
    /// `npm_…` with its checksum.
    Npm,
    /// `glpat-…`
    Gitlab,
    /// `SG.….…`
    SendGrid,
    /// `AGE-SECRET-KEY-1…` with its checksum.
    Age,
    /// A PEM block of several lines.
    Pem,
    /// A signed token of three parts.
    Jwt,
    /// The password in a URL.
    UrlPassword,
    /// A random value behind a telling name.
    Assignment,
}

/// A secret without its context.
#[derive(Debug)]
pub(super) struct Secret {
    pub(super) value: String,
    /// What differs from every other secret of its kind.
    pub(super) random: Range<usize>,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::AwsKeyId,
        Self::Github,
        Self::GithubFineGrained,
        Self::Slack,
        Self::Stripe,
        Self::Anthropic,
        Self::OpenAi,
        Self::Google,
        Self::HuggingFace,
        Self::Npm,
        Self::Gitlab,
        Self::SendGrid,
        Self::Age,
        Self::Pem,
        Self::Jwt,
        Self::UrlPassword,
        Self::Assignment,
    ];

    /// Whether it is known by itself, and fits into a name.
    #[must_use]
    pub fn is_token(self) -> bool {
        !matches!(self, Self::Pem | Self::Jwt | Self::UrlPassword | Self::Assignment)
    }

    /// A secret of this shape.
    pub(super) fn secret(self, random: &mut Random) -> Secret {
        loop {
            let secret = self.any(random);
            if longest_run(&secret.value[secret.random.clone()]).len() >= RUN {
                return secret;
            }
        }
    }

    /// What stands around a secret so that it is known as one.
    pub(super) fn in_context(self, value: &str, random: &mut Random) -> String {
        match self {
            Self::UrlPassword => format!("postgres://app:{value}@db.example.org:5432/memories"),
            Self::Assignment => match random.below(3) {
                0 => format!("api_key = \"{value}\""),
                1 => format!("password: {value}"),
                _ => format!("SECRET_TOKEN={value}"),
            },
            _ => value.to_owned(),
        }
    }

    fn any(self, random: &mut Random) -> Secret {
        let mut some = |n, of: &[u8]| text(random, n, of);
        match self {
            Self::AwsKeyId => around("AKIA", &some(16, BASE32), ""),
            Self::Github => around("ghp_", &checked(&some(30, BASE62)), ""),
            Self::GithubFineGrained => {
                let parts = [some(22, BASE62), some(59, BASE62)];
                around("github_pat_", &parts.join("_"), "")
            }
            Self::Slack => {
                let parts = [some(12, DIGITS), some(13, DIGITS), some(24, BASE62)];
                around("xoxb-", &parts.join("-"), "")
            }
            Self::Stripe => around("sk_live_", &some(24, BASE62), ""),
            Self::Anthropic => around("sk-ant-api03-", &some(93, URL_SAFE), "AA"),
            Self::OpenAi => {
                let parts = [some(74, URL_SAFE), some(74, URL_SAFE)];
                around("sk-proj-", &parts.join("T3BlbkFJ"), "")
            }
            Self::Google => around("AIza", &some(35, URL_SAFE), ""),
            Self::HuggingFace => around("hf_", &some(34, &BASE62[10..]), ""),
            Self::Npm => around("npm_", &checked(&some(30, BASE62)), ""),
            Self::Gitlab => around("glpat-", &some(20, URL_SAFE), ""),
            Self::SendGrid => {
                let parts = [some(22, URL_SAFE), some(43, URL_SAFE)];
                around("SG.", &parts.join("."), "")
            }
            Self::Age => around("AGE-SECRET-KEY-1", &age(random), ""),
            Self::Pem => pem(random),
            Self::Jwt => jwt(random),
            Self::UrlPassword => around("", &some(20, BASE62), ""),
            Self::Assignment => {
                let length = 24 + random.below(17);
                around("", &text(random, length, BASE62), "")
            }
        }
    }
}

/// The longest run of letters and digits.
pub(super) fn longest_run(text: &str) -> &str {
    let runs = text.split(|c: char| !c.is_ascii_alphanumeric());
    runs.max_by_key(|run| run.len()).unwrap_or_default()
}

fn text(random: &mut Random, n: usize, alphabet: &[u8]) -> String {
    (0..n).map(|_| char::from(alphabet[random.below(alphabet.len())])).collect()
}

fn around(before: &str, random: &str, after: &str) -> Secret {
    let range = before.len()..before.len() + random.len();
    Secret { value: format!("{before}{random}{after}"), random: range }
}

/// With six digits of base 62 that check it, as GitHub has them.
fn checked(random: &str) -> String {
    let mut left = crc32(random.as_bytes()) as usize;
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[left % 62];
        left /= 62;
    }
    format!("{random}{}", String::from_utf8_lossy(&digits))
}

/// What stands behind the 1 of an age key: 32 bytes in Bech32 (BIP 173), in capitals.
fn age(random: &mut Random) -> String {
    let mut values: Vec<u8> = random.bytes(51).iter().map(|byte| byte & 31).collect();
    // 256 bits: the last of the 52 characters carries one of them.
    values.extend(random.bytes(1).iter().map(|byte| byte & 16));
    bech32("age-secret-key-", &values).to_ascii_uppercase()
}

/// Values of five bits, and their checksum.
fn bech32(prefix: &str, values: &[u8]) -> String {
    let mut checked: Vec<u8> = prefix.bytes().map(|c| c >> 5).collect();
    checked.push(0);
    checked.extend(prefix.bytes().map(|c| c & 31));
    checked.extend(values);
    checked.extend([0; 6]);
    let sum = polymod(&checked) ^ 1;
    let letter = |value: usize| char::from(BECH32[value]);
    let sum = (0..6).map(|n| letter((sum >> (5 * (5 - n)) & 31) as usize));
    values.iter().map(|&value| letter(value.into())).chain(sum).collect()
}

fn polymod(values: &[u8]) -> u32 {
    const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.iter().fold(1, |sum, &value| {
        let shifted = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        let on = (0..5).filter(|n| sum >> 25 >> n & 1 == 1);
        on.fold(shifted, |sum, n| sum ^ GENERATORS[n])
    })
}

/// A private key: markers and lines as real ones, random numbers between.
fn pem(random: &mut Random) -> Secret {
    let what = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"]
        [random.below(4)];
    let bytes = 100 + random.below(300);
    let body = base64(&random.bytes(bytes / 3 * 3), STANDARD);
    let lines: Vec<&str> = (0..body.len())
        .step_by(PEM_LINE)
        .map(|at| &body[at..body.len().min(at + PEM_LINE)])
        .collect();
    around(
        &format!("-----BEGIN {what}-----\n"),
        &lines.join("\n"),
        &format!("\n-----END {what}-----\n"),
    )
}

fn jwt(random: &mut Random) -> Secret {
    let header = base64(br#"{"alg":"HS256","typ":"JWT"}"#, URL_SAFE);
    let start = r#"{"sub":""#;
    let subject = text(random, 24, BASE62);
    let payload = base64(format!("{start}{subject}\"}}").as_bytes(), URL_SAFE);
    let signature = base64(&random.bytes(32), URL_SAFE);
    // The next group of base64 is the first without anything of the start.
    let fixed = (start.len() + 1) * 4 / 3;
    let (before, rest) = payload.split_at(fixed);
    around(&format!("{header}.{before}"), &format!("{rest}.{signature}"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: tokens that a scanner which checks the checksum takes for none. The answer is the token
    /// of GitHub's own documentation.
    #[test]
    fn checksums_are_githubs() {
        let random = concat!("zQWBuTSOoRi4A9sp", "HcVY5ncnsDkxkJ");
        assert_eq!(checked(random), format!("{random}0mLq17"));
    }

    /// Would catch: age keys that age does not take. The answers are of BIP 173.
    #[test]
    fn bech32_is_that_of_the_standard() {
        assert_eq!(bech32("a", &[]), "2uel5l");
        let all: Vec<u8> = (0..32).collect();
        assert_eq!(bech32("abcdef", &all), "qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw");
    }
}
