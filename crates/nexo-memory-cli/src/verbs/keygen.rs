//! `keygen`: keys in the formats of age and minisign.

use nexo_memory_snapshot::keys::{SigningKey, generate_identity, write_secret_file};
use nexo_memory_snapshot::ports::DurableFs;
use serde_json::json;

use crate::args::KeygenArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::settings::quoted;

/// Mode of a public key.
const PUBLIC_MODE: u32 = 0o644;

pub(super) fn run(context: &mut Context, args: &KeygenArgs) -> Ended {
    if args.age { identity(context, args) } else { signing(context, args) }
}

fn identity(context: &mut Context, args: &KeygenArgs) -> Ended {
    let (secret, recipient) = generate_identity();
    write_secret_file(&args.to, &secret)?;
    if context.out.is_json() {
        context.out.json(&json!({ "identity": args.to, "recipient": recipient }));
    }
    for line in [
        format!("recipient {recipient}"),
        format!(
            "wrote {}: whoever has it reads what is encrypted for this recipient",
            args.to.display()
        ),
        format!("  memory.snapshot.encryption: {{ enabled: true, recipients: [{recipient}] }}"),
        format!(
            "  nexo-memory verify latest --decrypt-identity {}",
            quoted(&args.to.to_string_lossy())
        ),
    ] {
        context.out.line(&line);
    }
    Ok(None)
}

fn signing(context: &mut Context, args: &KeygenArgs) -> Ended {
    let key = SigningKey::generate().map_err(|e| Failure::from_error(e.kind(), &e))?;
    let public = key.public();
    let mut beside = args.to.clone().into_os_string();
    beside.push(".pub");
    let beside = std::path::PathBuf::from(beside);
    write_secret_file(&args.to, &key.to_file())?;
    write_public(&beside, &public.to_file())?;
    if context.out.is_json() {
        context.out.json(&json!({
            "secret_key": args.to, "public_key": public.to_string(), "key_id": public.id(),
            "public_key_file": beside,
        }));
    }
    for line in [
        format!("public key {public} ({})", public.id()),
        format!("wrote {}: whoever has it can sign", args.to.display()),
        format!("wrote {}", beside.display()),
        format!(
            "  memory.snapshot: {{ signing_key_path: {}, trusted_keys: [{public}] }}",
            args.to.display()
        ),
    ] {
        context.out.line(&line);
    }
    Ok(None)
}

fn write_public(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    let parent = path.parent().filter(|parent| *parent != std::path::Path::new(""));
    let written = DurableFs::default()
        .open_dir(parent.unwrap_or(std::path::Path::new(".")))
        .and_then(|dir| {
            let name = path.file_name().unwrap_or_default();
            dir.write_atomic(name, text.as_bytes(), PUBLIC_MODE)
        });
    written.map_err(|e| Failure::from_error(e.kind(), &e))
}
