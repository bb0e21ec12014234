//! A way to one server that can lead to another one, and counts who goes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to a server on this machine.
pub(crate) struct Switch {
    port: u16,
    target: Arc<AtomicU16>,
    connections: Arc<AtomicUsize>,
    cut: watch::Sender<()>,
}

impl Switch {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let switch = Self {
            port: listener.local_addr().unwrap().port(),
            target: Arc::new(AtomicU16::new(server)),
            connections: Arc::default(),
            cut: watch::Sender::new(()),
        };
        let (target, connections) = (switch.target.clone(), switch.connections.clone());
        let cut = switch.cut.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let target = target.load(Ordering::SeqCst);
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        switch
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections and leads to this server from now on.
    pub(crate) fn lead_to(&self, server: u16) {
        self.target.store(server, Ordering::SeqCst);
        self.connections.store(0, Ordering::SeqCst);
        self.cut.send_replace(());
    }

    /// How many connections were made since it leads to its server.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
