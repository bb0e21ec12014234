//! Somebody between a client and a server, who understands enough of the protocol to do harm.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// Commands that the server does not answer: goodbye, long data, and a statement to forget.
const WITHOUT_ANSWER: [u8; 3] = [0x01, 0x18, 0x19];

/// Passes everything on, until it is told to cut a connection at the worst moment.
pub(super) struct Middleman {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    commands: AtomicU64,
    /// How many more commands are answered before a connection is cut; none to cut at 0.
    countdown: AtomicU64,
    has_cut: AtomicBool,
    hold: Mutex<Option<Hold>>,
    stopped: watch::Sender<bool>,
}

/// Which commands are held, and whom it is told.
struct Hold {
    has: &'static [u8],
    told: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

impl Middleman {
    pub(super) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<State>::default();
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server, shared.clone()));
            }
        });
        Self { port, state }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How many commands were passed on.
    pub(super) fn commands(&self) -> u64 {
        self.state.commands.load(Ordering::SeqCst)
    }

    /// Cuts the connection on which the next command but so many comes, when the server has
    /// answered it, and keeps the answer.
    pub(super) fn cut_after(&self, commands: u64) {
        self.state.has_cut.store(false, Ordering::SeqCst);
        self.state.countdown.store(commands, Ordering::SeqCst);
    }

    /// Whether it did; from then on it does not any more.
    pub(super) fn has_cut(&self) -> bool {
        self.state.countdown.store(0, Ordering::SeqCst);
        self.state.has_cut.load(Ordering::SeqCst)
    }

    /// From now on holds each command that has these bytes in it, as it comes, and answers how to
    /// let it go on its way; it does so even if whoever sent it has gone away.
    pub(super) fn hold(&self, has: &'static [u8]) -> mpsc::UnboundedReceiver<oneshot::Sender<()>> {
        let (told, held) = mpsc::unbounded_channel();
        *self.state.hold.lock().unwrap() = Some(Hold { has, told });
        held
    }

    /// Cuts all connections, and takes no others.
    pub(super) fn stop(&self) {
        self.state.stopped.send_replace(true);
    }

    pub(super) fn go_on(&self) {
        self.state.stopped.send_replace(false);
    }
}

async fn serve(client: TcpStream, server: u16, state: Arc<State>) {
    let mut stopped = state.stopped.subscribe();
    if *stopped.borrow() {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let keeps = Arc::new(AtomicBool::new(false));
    let cut = Notify::new();
    tokio::select! {
        _ = ask(from_client, to_server, &state, &keeps) => {}
        _ = answer(from_server, to_client, &keeps, &cut) => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = cut.notified() => {}
    }
}

/// Passes on what the client says, packet by packet.
async fn ask(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    state: &State,
    keeps: &AtomicBool,
) -> std::io::Result<()> {
    loop {
        let mut header = [0; 4];
        client.read_exact(&mut header).await?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let mut packet = header.to_vec();
        packet.resize(4 + length as usize, 0);
        client.read_exact(&mut packet[4..]).await?;
        // The first packet of a command has the number 0.
        let is_command = header[3] == 0 && length > 0 && !WITHOUT_ANSWER.contains(&packet[4]);
        if is_command {
            state.commands.fetch_add(1, Ordering::SeqCst);
            let left = state
                .countdown
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
            if left == Ok(1) {
                state.has_cut.store(true, Ordering::SeqCst);
                keeps.store(true, Ordering::SeqCst);
            }
        }
        if is_command && let Some(released) = state.held(&packet) {
            drop(released.await);
        }
        server.write_all(&packet).await?;
    }
}

impl State {
    /// What to wait for before this command is passed on.
    fn held(&self, packet: &[u8]) -> Option<oneshot::Receiver<()>> {
        let hold = self.hold.lock().unwrap();
        let hold = hold.as_ref()?;
        let mut parts = packet.windows(hold.has.len());
        if !parts.any(|part| part == hold.has) {
            return None;
        }
        let (release, released) = oneshot::channel();
        hold.told.send(release).ok()?;
        Some(released)
    }
}

/// Passes on what the server says, unless it is to be kept; then the connection is cut.
async fn answer(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    keeps: &AtomicBool,
    cut: &Notify,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = server.read(&mut buffer).await?;
        if length == 0 || keeps.load(Ordering::SeqCst) {
            cut.notify_one();
            return Ok(());
        }
        client.write_all(&buffer[..length]).await?;
    }
}
