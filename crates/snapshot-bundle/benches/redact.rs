//! Looking for secrets in ordinary text, and taking them out of text that has some.

#![expect(clippy::unwrap_used, reason = "a bench that fails measures nothing")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use snapshot_bundle::redact::{KnownSecrets, Replacer, Rules, Search};
use snapshot_core::{FoundSecret, Redactor, SecretSearch};

/// Ordinary Markdown: pages of this repository.
const PAGES: [&str; 4] = [
    include_str!("../../../docs/format.md"),
    include_str!("../../../docs/decisions.md"),
    include_str!("../../../docs/embedding.md"),
    include_str!("../../../README.md"),
];
/// A secret.
const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
/// Secrets that are known already.
const KNOWN: usize = 1000;

fn redact(c: &mut Criterion) {
    let text = PAGES.concat().repeat(8);
    let json = serde_json::to_string(&text).unwrap();
    let rules = Rules::builtin();
    let search = Search::new(&*rules);
    let mut known = KnownSecrets::default();
    for n in 0..KNOWN {
        let value = format!("kX92-fLq0-{n:06}").into_bytes();
        known
            .add(&FoundSecret { range: 0..1, rule: "a-rule".into(), value, is_key: false }, false)
            .unwrap();
    }
    let replacer = Replacer::new(&*rules, &known, [7; 32]);
    let with_secrets = PAGES.map(|page| format!("{page}\ntoken {TOKEN}\n")).concat().repeat(8);

    let mut group = c.benchmark_group("redact");
    group.sample_size(20).throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("search Markdown", |b| {
        b.iter(|| search.search(black_box(text.as_bytes())))
    });
    group.bench_function("search it with 1,000 known secrets", |b| {
        b.iter(|| replacer.receipt().search(black_box(text.as_bytes())));
    });
    group.bench_function("redact 32 secrets", |b| {
        b.iter(|| replacer.redact(black_box(with_secrets.as_bytes())));
    });
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function("search it in a JSON string", |b| {
        b.iter(|| search.search(black_box(json.as_bytes())));
    });
    group.finish();
}

criterion_group!(benches, redact);
criterion_main!(benches);
