//! A TCP proxy that loses a request, or the reply to it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Where the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Before the request reaches the server.
    Request,
    /// When the server has answered, and before the answer reaches the client.
    Reply,
}

#[derive(Default)]
struct State {
    /// The next request that holds these bytes is cut so.
    armed: Mutex<Option<(Cut, Vec<u8>)>>,
    cuts: AtomicU32,
    server: AtomicU16,
    /// Whether new connections are refused.
    down: AtomicBool,
}

/// A proxy before a server on the loopback. Its threads end with their connections, or with the process.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// A proxy to that port.
    pub fn to(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        state.server.store(server, Ordering::Relaxed);
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = shared.server.load(Ordering::Relaxed);
                let server = TcpStream::connect(("127.0.0.1", server));
                if let (Ok(server), false) = (server, shared.down.load(Ordering::Relaxed)) {
                    connect(client, server, &shared);
                }
            }
        });
        Proxy { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts at the next request that holds these bytes, once.
    pub fn cut(&self, cut: Cut, request: &[u8]) {
        *self.state.armed.lock().unwrap() = Some((cut, request.to_owned()));
    }

    /// How often it cut.
    pub fn cuts(&self) -> u32 {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// Leads new connections to another port: that of a server which was started again.
    pub fn lead_to(&self, server: u16) {
        self.state.server.store(server, Ordering::Relaxed);
    }

    /// Whether new connections are closed at once.
    pub fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::Relaxed);
    }
}

fn connect(client: TcpStream, server: TcpStream, state: &Arc<State>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Once set, replies are read and thrown away.
    let mute = Arc::new(AtomicBool::new(false));
    let (Ok(client_read), Ok(server_read)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let (state, muted) = (state.clone(), mute.clone());
    let (to_client, to_server) = (client, server);
    std::thread::spawn(move || requests(client_read, to_server, &state, &mute));
    std::thread::spawn(move || replies(server_read, to_client, &muted));
}

fn requests(mut from: TcpStream, mut to: TcpStream, state: &State, mute: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    // The end of what came before: the bytes looked for may be split.
    let mut seen: Vec<u8> = Vec::new();
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let before = seen.len();
        seen.extend(&buffer[..bytes]);
        let cut = state.armed.lock().unwrap().take_if(|(_, request)| {
            // What ended in an earlier read is an earlier request.
            let fresh = &seen[before.saturating_sub(request.len() - 1)..];
            fresh.windows(request.len()).any(|window| window == request)
        });
        match cut {
            Some((Cut::Request, _)) => {
                state.cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
            Some((Cut::Reply, _)) => {
                state.cuts.fetch_add(1, Ordering::SeqCst);
                mute.store(true, Ordering::SeqCst);
            }
            None => seen.drain(..seen.len().saturating_sub(64)).for_each(drop),
        }
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn replies(mut from: TcpStream, mut to: TcpStream, mute: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        // The first reply behind the request is proof that the server acted.
        if mute.load(Ordering::SeqCst) || to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
