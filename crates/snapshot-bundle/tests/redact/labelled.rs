//! Labelled secrets, made from what providers publish of their tokens: prefix, alphabet, length, checksum.
//! Not from the rules.

use std::fmt::Write;

/// A text with one secret in it.
pub(crate) struct Sample {
    /// Who gives out such secrets.
    pub(crate) provider: &'static str,
    /// Where the secret stands.
    pub(crate) context: &'static str,
    /// The whole.
    pub(crate) text: String,
    /// What must not be left of it.
    pub(crate) secret: String,
}

const DIGITS: &str = "0123456789";
const HEX: &str = "0123456789abcdef";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BECH32: &str = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
const LOWER_NUM: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const ALPHA: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const URL_SAFE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What a token is made of, one after the other: a text, or so many letters of an alphabet.
#[derive(Clone, Copy)]
enum Part {
    Is(&'static str),
    Of(&'static str, usize),
}

use Part::{Is, Of};

/// Tokens that say what they are, wherever they stand.
const TOKENS: &[(&str, &[Part])] = &[
    (
        "OpenAI project",
        &[Is("sk-proj-"), Of(URL_SAFE, 74), Is("T3BlbkFJ"), Of(URL_SAFE, 73), Of(ALNUM, 1)],
    ),
    (
        "OpenAI service account",
        &[Is("sk-svcacct-"), Of(URL_SAFE, 74), Is("T3BlbkFJ"), Of(ALNUM, 74)],
    ),
    ("OpenAI, old", &[Is("sk-"), Of(ALNUM, 20), Is("T3BlbkFJ"), Of(ALNUM, 20)]),
    ("Anthropic", &[Is("sk-ant-api03-"), Of(URL_SAFE, 93), Is("AA")]),
    ("Anthropic OAuth", &[Is("sk-ant-oat01-"), Of(URL_SAFE, 93), Is("AA")]),
    ("GitHub classic", &[Is("ghp_"), Of(ALNUM, 36)]),
    ("GitHub OAuth", &[Is("gho_"), Of(ALNUM, 36)]),
    ("GitHub server", &[Is("ghs_"), Of(ALNUM, 36)]),
    ("GitHub fine-grained", &[Is("github_pat_"), Of(ALNUM, 22), Is("_"), Of(ALNUM, 59)]),
    ("GitLab", &[Is("glpat-"), Of(ALNUM, 20)]),
    ("AWS key id", &[Is("AKIA"), Of(BASE32, 16)]),
    ("AWS session key id", &[Is("ASIA"), Of(BASE32, 16)]),
    ("Google API", &[Is("AIza"), Of(URL_SAFE, 34), Of(ALNUM, 1)]),
    ("Google OAuth client", &[Is("GOCSPX-"), Of(URL_SAFE, 27), Of(ALNUM, 1)]),
    ("Slack bot", &[Is("xoxb-"), Of(DIGITS, 12), Is("-"), Of(DIGITS, 13), Is("-"), Of(ALNUM, 24)]),
    (
        "Slack user",
        &[
            Is("xoxp-"),
            Of(DIGITS, 12),
            Is("-"),
            Of(DIGITS, 12),
            Is("-"),
            Of(DIGITS, 13),
            Is("-"),
            Of(HEX, 32),
        ],
    ),
    ("Slack app", &[Is("xapp-1-A"), Of(BASE32, 10), Is("-"), Of(DIGITS, 13), Is("-"), Of(HEX, 64)]),
    (
        "Slack webhook",
        &[
            Is("https://hooks.slack.com/services/T"),
            Of(BASE32, 10),
            Is("/B"),
            Of(BASE32, 10),
            Is("/"),
            Of(ALNUM, 24),
        ],
    ),
    ("Stripe live", &[Is("sk_live_51"), Of(ALNUM, 97)]),
    ("Stripe restricted", &[Is("rk_live_51"), Of(ALNUM, 97)]),
    ("Stripe, old", &[Is("sk_live_"), Of(ALNUM, 24)]),
    ("Stripe webhook", &[Is("whsec_"), Of(ALNUM, 32)]),
    ("Hugging Face", &[Is("hf_"), Of(ALPHA, 34)]),
    ("Telegram", &[Is("7"), Of(DIGITS, 9), Is(":AA"), Of(URL_SAFE, 32), Of(ALNUM, 1)]),
    ("npm", &[Is("npm_"), Of(ALNUM, 36)]),
    ("PyPI", &[Is("pypi-AgEIcHlwaS5vcmc"), Of(URL_SAFE, 140), Of(ALNUM, 1)]),
    (
        "Discord bot",
        &[Is("MT"), Of(ALNUM, 24), Is("."), Of(ALNUM, 6), Is("."), Of(URL_SAFE, 37), Of(ALNUM, 1)],
    ),
    ("SendGrid", &[Is("SG."), Of(URL_SAFE, 22), Is("."), Of(URL_SAFE, 42), Of(ALNUM, 1)]),
    ("Twilio API key", &[Is("SK"), Of(HEX, 32)]),
    ("NATS user seed", &[Is("SUA"), Of(BASE32, 55)]),
    ("NATS account seed", &[Is("SAA"), Of(BASE32, 55)]),
    ("age", &[Is("AGE-SECRET-KEY-1"), Of(BECH32, 58)]),
    ("age, post-quantum", &[Is("AGE-SECRET-KEY-PQ-1"), Of(BECH32, 58)]),
    ("minisign", &[Is("RWRTY0Iy"), Of(BASE64, 204)]),
    (
        "JSON web token",
        &[
            Is("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ"),
            Of(ALNUM, 60),
            Is("."),
            Of(URL_SAFE, 42),
            Of(ALNUM, 1),
        ],
    ),
    ("DigitalOcean", &[Is("dop_v1_"), Of(HEX, 64)]),
    ("crates.io", &[Is("cio"), Of(ALNUM, 32)]),
    ("Vault", &[Is("hvs."), Of(URL_SAFE, 90), Of(ALNUM, 1)]),
    ("Shopify", &[Is("shpat_"), Of(HEX, 32)]),
    ("Linear", &[Is("lin_api_"), Of(ALNUM, 40)]),
    ("Notion", &[Is("ntn_"), Of(ALNUM, 46)]),
    ("Figma", &[Is("figd_"), Of(URL_SAFE, 39), Of(ALNUM, 1)]),
    ("Databricks", &[Is("dapi"), Of(HEX, 32)]),
    ("Docker Hub", &[Is("dckr_pat_"), Of(URL_SAFE, 26), Of(ALNUM, 1)]),
    ("Postman", &[Is("PMAK-"), Of(HEX, 24), Is("-"), Of(HEX, 34)]),
    ("Pulumi", &[Is("pul-"), Of(HEX, 40)]),
    ("Grafana", &[Is("glsa_"), Of(ALNUM, 32), Is("_"), Of(HEX, 8)]),
    ("RubyGems", &[Is("rubygems_"), Of(HEX, 48)]),
    ("NuGet", &[Is("oy2"), Of(LOWER_NUM, 43)]),
    ("Replicate", &[Is("r8_"), Of(ALNUM, 37)]),
    ("Groq", &[Is("gsk_"), Of(ALNUM, 52)]),
    ("xAI", &[Is("xai-"), Of(ALNUM, 80)]),
    ("Perplexity", &[Is("pplx-"), Of(ALNUM, 48)]),
    ("Mailgun", &[Is("key-"), Of(HEX, 32)]),
    ("New Relic user", &[Is("NRAK-"), Of(UPPER, 27)]),
    ("Airtable", &[Is("pat"), Of(ALNUM, 14), Is("."), Of(HEX, 64)]),
    ("Sentry", &[Is("sntryu_"), Of(HEX, 64)]),
    ("Tailscale", &[Is("tskey-auth-k"), Of(ALNUM, 11), Is("CNTRL-"), Of(ALNUM, 32)]),
];

/// Tokens that only the words beside them give away.
const NAMED: &[(&str, &str, &[Part])] = &[
    ("AWS secret", "aws_secret_access_key", &[Of(BASE64, 39), Of(ALNUM, 1)]),
    (
        "Azure client secret",
        "AZURE_CLIENT_SECRET",
        &[Of(ALNUM, 3), Is("8Q~"), Of(URL_SAFE, 33), Of(ALNUM, 1)],
    ),
    ("Cloudflare", "CLOUDFLARE_API_TOKEN", &[Of(ALNUM, 40)]),
    ("Datadog", "DATADOG_API_KEY", &[Of(HEX, 32)]),
    ("Twilio", "TWILIO_AUTH_TOKEN", &[Of(HEX, 32)]),
    ("a password", "DB_PASSWORD", &[Of(ALPHA, 5), Is("!"), Of(DIGITS, 2), Is("%"), Of(ALNUM, 6)]),
    ("a password of letters", "admin_password", &[Of(ALNUM, 12), Of(DIGITS, 2)]),
];

/// Words before and after a token that says itself what it is.
const AROUND: &[(&str, &str, &str)] = &[
    ("prose", "Ana sent me the new one: ", ", please keep it for the deploy job."),
    (
        "end of a sentence",
        "We rotated it yesterday, it is now ",
        ".\nThe old one still works until Friday.",
    ),
    ("parentheses", "Use the staging account (", ") for that."),
    ("code span", "Then run it with `", "` and wait."),
    ("env", "export SERVICE_KEY=", "\nexport DEBUG=1\n"),
    ("env, quoted", "SERVICE_KEY=\"", "\"\n"),
    ("yaml", "thing:\n  url: internal\n  key: ", "\n  retries: 3\n"),
    ("json", "{\"name\":\"svc\",\"value\":\"", "\",\"n\":1}"),
    ("json in json", r#"{"line":"{\"value\":\""#, r#"\",\"n\":1}"}"#),
    ("shell", "curl -H 'X-Key: ", "' internal/v1/things"),
    ("table", "| who | key |\n|---|---|\n| ana | ", " |\n"),
    ("python", "client = Client(key='", "', timeout=3)\n"),
    ("query", "GET /v1/things?key=", "&limit=5 HTTP/1.1\n"),
    ("list", "- old server\n- ", "\n- new server\n"),
    ("html", "<input value=\"", "\"/>"),
];

/// The same for what is called by its name, which stands in between.
const ASSIGNED: &[(&str, &str, &str, &str)] = &[
    ("env", "export ", "=", "\n"),
    ("env, quoted", "", "=\"", "\"\n"),
    ("yaml", "config:\n  ", ": ", "\n  retries: 3\n"),
    ("json", "{\"", "\": \"", "\"}"),
    ("json in json", r#"{"line":"{\""#, r#"\":\""#, r#"\"}"}"#),
    ("python", "", " = '", "'\n"),
    ("toml", "[auth]\n", " = \"", "\"\n"),
];

/// A source of the same letters on every run.
struct Letters(u64);

impl Letters {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn token(&mut self, parts: &[Part]) -> String {
        let mut token = String::new();
        for part in parts {
            match *part {
                Is(text) => token.push_str(text),
                Of(alphabet, count) => {
                    let letters = alphabet.as_bytes();
                    token
                        .extend((0..count).map(|_| char::from(letters[self.below(letters.len())])));
                }
            }
        }
        token
    }

    fn pem(&mut self, kind: &str, lines: usize) -> String {
        let mut text = format!("-----BEGIN {kind}-----\n");
        for _ in 0..lines {
            writeln!(text, "{}", self.token(&[Of(BASE64, 64)])).unwrap();
        }
        text + &format!("-----END {kind}-----")
    }
}

/// All samples: each token in each context, `rounds` times with other letters.
pub(crate) fn samples(rounds: usize) -> Vec<Sample> {
    let mut letters = Letters(20_261_127);
    let mut samples = Vec::new();
    for _ in 0..rounds {
        for &(provider, parts) in TOKENS {
            for &(context, before, after) in AROUND {
                let secret = letters.token(parts);
                let text = format!("{before}{secret}{after}");
                samples.push(Sample { provider, context, text, secret });
            }
        }
        for &(provider, name, parts) in NAMED {
            for &(context, before, between, after) in ASSIGNED {
                let secret = letters.token(parts);
                let text = format!("{before}{name}{between}{secret}{after}");
                samples.push(Sample { provider, context, text, secret });
            }
        }
        whole_texts(&mut letters, &mut samples);
    }
    samples
}

/// Secrets whose shape is more than a line.
fn whole_texts(letters: &mut Letters, samples: &mut Vec<Sample>) {
    for kind in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
    ] {
        let key = letters.pem(kind, 12);
        let body = key.lines().nth(5).unwrap().to_owned();
        let escaped = key.replace('\n', "\\n");
        let indented = key.replace('\n', "\n    ");
        for (context, text) in [
            ("file", format!("{key}\n")),
            ("json", format!("{{\"private_key\": \"{escaped}\\n\"}}")),
            ("yaml", format!("key: |\n    {indented}\n")),
        ] {
            samples.push(Sample { provider: "PEM", context, text, secret: body.clone() });
        }
    }
    for scheme in ["postgres", "mysql", "redis", "amqp", "mongodb+srv", "https"] {
        let secret = letters.token(&[Of(ALNUM, 14)]);
        let text = format!("DATABASE_URL={scheme}://svc:{secret}@db.internal:5432/main\n");
        samples.push(Sample { provider: "URL", context: scheme, text, secret });
    }
    for scheme in ["Bearer", "Basic"] {
        let secret = letters.token(&[Of(ALNUM, 40)]);
        let text = format!("> POST /v1/things\n> Authorization: {scheme} {secret}\n");
        samples.push(Sample { provider: "Authorization", context: scheme, text, secret });
    }
}
