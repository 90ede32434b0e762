//! A TCP proxy before the database that can fall silent, as a network does, or carries everything late, as a long
//! line does.

use gotel::clock;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Forwards until it is told to be silent. Dropping it closes everything.
pub struct Proxy {
    pub addr: SocketAddr,
    silent: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn before(server: SocketAddr) -> Self {
        Self::far_before(server, Duration::ZERO).await
    }

    /// Carries every byte `late`, each way. It limits no rate: what was sent together arrives together.
    pub async fn far_before(server: SocketAddr, late: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let addr = listener.local_addr().expect("it has an address");
        let (silent, heard) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, heard.clone(), late));
            }
        });
        Self { addr, silent, accepting }
    }

    /// Whether bytes are held back, in both directions.
    pub fn silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, silent: watch::Receiver<bool>, late: Duration) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    // An error here shows at the first read.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((up_in, up_out), (down_in, down_out)) = (client.split(), server.split());
    tokio::join!(pump(up_in, down_out, silent.clone(), late), pump(down_in, up_out, silent, late));
}

/// On the line: the bytes, and when they arrive by the boot clock.
type Sent = (Vec<u8>, i64);

async fn pump(
    from: impl AsyncReadExt + Unpin,
    to: impl AsyncWriteExt + Unpin,
    silent: watch::Receiver<bool>,
    late: Duration,
) {
    let (line, arriving) = mpsc::channel(1024);
    tokio::join!(send(from, line, late), arrive(arriving, to, silent));
}

async fn send(mut from: impl AsyncReadExt + Unpin, line: mpsc::Sender<Sent>, late: Duration) {
    let mut buffer = vec![0; 16 * 1024];
    let late_us = i64::try_from(late.as_micros()).unwrap_or(i64::MAX);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if line.send((buffer[..read].to_vec(), clock::boot_us() + late_us)).await.is_err() {
            break;
        }
    }
}

async fn arrive(
    mut line: mpsc::Receiver<Sent>,
    mut to: impl AsyncWriteExt + Unpin,
    mut silent: watch::Receiver<bool>,
) {
    while let Some((bytes, at_us)) = line.recv().await {
        let left_us = u64::try_from(at_us - clock::boot_us()).unwrap_or(0);
        if left_us > 0 {
            tokio::time::sleep(Duration::from_micros(left_us)).await;
        }
        let speaks = silent.wait_for(|silent| !silent).await.is_ok();
        if !speaks || to.write_all(&bytes).await.is_err() {
            break;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}
