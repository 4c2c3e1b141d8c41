//! A real NATS server with a folder and a port of its own, and a TCP proxy that goes deaf.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::KitError;

/// Longest wait for a server to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether it does.
const GLANCE: Duration = Duration::from_millis(10);

/// A running server; it dies with this value.
#[derive(Debug)]
pub struct Broker {
    dir: PathBuf,
    program: PathBuf,
    config: String,
    address: SocketAddr,
    child: Child,
}

/// A proxy in front of a server. While it is deaf it takes connections and bytes, and passes none
/// on: what a half-open connection looks like from either end.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    deaf: Arc<AtomicBool>,
}

impl Broker {
    /// A configuration with JetStream, of which an acknowledgement outlives the server.
    pub const JETSTREAM: &str = "jetstream { store_dir: \"./jetstream\", sync_interval: always }";

    /// Starts a server on a free port, with this configuration, in the folder `dir`. None where there
    /// is no program to start: `NATS_SERVER_BIN`, the `PATH` and `target/tools` were looked at.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(dir: &Path, config: &str) -> Result<Option<Self>, KitError> {
        let Some(program) = find() else { return Ok(None) };
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(KitError::io("find a port for the server in", dir))?;
        let child = launch(&program, dir, config, address)?;
        let (dir, config) = (dir.to_owned(), config.to_owned());
        Ok(Some(Self { dir, program, config, address, child }))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on its port, with what it had stored.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self) -> Result<(), KitError> {
        self.kill();
        self.child = launch(&self.program, &self.dir, &self.config, self.address)?;
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Proxy {
    /// Listens on a free port and passes everything on to `to`.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(to: SocketAddr) -> Result<Self, KitError> {
        let listening = TcpListener::bind("127.0.0.1:0").and_then(|l| Ok((l.local_addr()?, l)));
        let (address, listener) = listening.map_err(KitError::io("listen at", Path::new("lo")))?;
        let deaf = Arc::new(AtomicBool::new(false));
        let hears = Arc::clone(&deaf);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(to) else { continue };
                if let (Ok(c), Ok(s)) = (client.try_clone(), server.try_clone()) {
                    let (one, other) = (Arc::clone(&hears), Arc::clone(&hears));
                    thread::spawn(move || pass(client, server, &one));
                    thread::spawn(move || pass(s, c, &other));
                }
            }
        });
        Ok(Self { address, deaf })
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Passes nothing on from now, or goes on to.
    pub fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::SeqCst);
    }
}

/// The program, where there is one.
fn find() -> Option<PathBuf> {
    let named = std::env::var_os("NATS_SERVER_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let installed = target.join("tools/nats-server");
    named.into_iter().chain(on_path).chain([installed]).find(|file| file.is_file())
}

fn launch(
    program: &Path,
    dir: &Path,
    config: &str,
    address: SocketAddr,
) -> Result<Child, KitError> {
    let file = dir.join("nats.conf");
    std::fs::write(&file, config).map_err(KitError::io("write", &file))?;
    let mut child = Command::new(program)
        .args(["-a", "127.0.0.1", "-p", &address.port().to_string(), "-c"])
        .arg(&file)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(KitError::io("start", program))?;
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(_) => return Ok(child),
            Err(e) if Instant::now() >= until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(KitError::io("reach", program)(e));
            }
            Err(_) => thread::sleep(GLANCE),
        }
    }
}

/// Passes bytes on until either end closes.
fn pass(mut from: TcpStream, mut to: TcpStream, deaf: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        if !deaf.load(Ordering::SeqCst) && to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
