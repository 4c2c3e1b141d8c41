//! `keygen`: keys in the formats of age and minisign.

use std::path::{Path, PathBuf};

use nexo_memory_snapshot::error::SnapshotError;
use nexo_memory_snapshot::keys::{
    SigningKey, generate_identity, write_public_file, write_secret_file,
};
use serde_json::json;

use crate::args::KeygenArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::settings::quoted;

pub(super) fn run(context: &mut Context, args: &KeygenArgs) -> Ended {
    if args.age { identity(context, args) } else { signing(context, args) }
}

fn identity(context: &mut Context, args: &KeygenArgs) -> Ended {
    let (secret, recipient) = generate_identity();
    write_secret_file(&args.to, &secret)?;
    if context.out.is_json() {
        context.out.json(&json!({ "identity": args.to, "recipient": recipient }));
    }
    let path = quoted(&args.to.to_string_lossy());
    context.out.line(&format!("recipient {recipient}"));
    context.out.line(&format!(
        "wrote {}: whoever has it reads what is encrypted for this recipient",
        args.to.display()
    ));
    let sealed = format!("encryption: {{ enabled: true, recipients: [{recipient}] }}");
    tell_keys(context, &[sealed]);
    context.out.line(&format!("  nexo-memory verify latest --decrypt-identity {path}"));
    Ok(None)
}

fn signing(context: &mut Context, args: &KeygenArgs) -> Ended {
    let key = SigningKey::generate().map_err(|e| Failure::from_error(e.kind(), &e))?;
    let public = key.public();
    let mut beside = args.to.clone().into_os_string();
    beside.push(".pub");
    let beside = PathBuf::from(beside);
    // One of another key stays, and no secret is written that it would seem to belong to.
    if beside.symlink_metadata().is_ok() {
        return Err(SnapshotError::Exists { path: beside }.into());
    }
    write_secret_file(&args.to, &key.to_file())?;
    write_public_file(&beside, &public.to_file())?;
    if context.out.is_json() {
        context.out.json(&json!({
            "secret_key": args.to, "public_key": public.to_string(), "key_id": public.id(),
            "public_key_file": beside,
        }));
    }
    context.out.line(&format!("public key {public} ({})", public.id()));
    context.out.line(&format!("wrote {}: whoever has it can sign", args.to.display()));
    context.out.line(&format!("wrote {}", beside.display()));
    let (path, trusted) = (in_yaml(&args.to), format!("trusted_keys: [{public}]"));
    tell_keys(context, &[format!("signing_key_path: {path}"), trusted]);
    Ok(None)
}

/// Shows keys of the configuration as they stand in its file.
fn tell_keys(context: &mut Context, keys: &[String]) {
    context.out.line("  memory:");
    context.out.line("    snapshot:");
    for key in keys {
        context.out.line(&format!("      {key}"));
    }
}

/// A path as YAML has it, whatever is in it, and from wherever it is read.
fn in_yaml(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    json!(path.to_string_lossy()).to_string()
}
