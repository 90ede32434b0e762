//! The listener: connections with an end.
//!
//! Promises: a client that sends its headers slowly, reads its answer slowly or stays idle loses its
//! connection, not our memory; at most [`CONNECTIONS`] are open. On `stop`, what is in flight is answered
//! (at most [`DRAIN`]), and connections the kernel has already accepted for us are served too.
//!
//! Does not promise: HTTP/2 without TLS; a proxy in front speaks HTTP/1.1 to us.

use super::stall::{Phase, Watched};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use futures::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Connections open at once; more wait in the kernel's queue.
pub const CONNECTIONS: usize = 10_000;

/// The same on a listener that a handful of replicas use.
const FEW: usize = 256;

/// How long answers in flight may take once the server stops.
pub const DRAIN: Duration = Duration::from_secs(10);

/// How long a connection may stay idle: longer than the usual 60 s of proxies, so that it is the proxy
/// that closes, and no request runs into a closing connection.
const IDLE: Duration = Duration::from_secs(90);

/// Request line and headers.
const MAX_HEAD: usize = 32 * 1024;

/// Rest after a failed accept (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel keeps for us until we accept them. The usual 128 are not enough: when a
/// thousand jobs of a full hour come at once, the kernel drops the rest, and their clients try again only
/// after 1, 3 and 7 s. (The kernel's own limit, `net.core.somaxconn`, is 4096 as well.)
const BACKLOG: u32 = 4096;

/// Listens on `addr`, with room for a crowd.
///
/// # Errors
/// What the system says: the address is in use, not ours, or not allowed.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `TcpListener::bind` does: a restart need not wait for old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`, then finishes what is in flight.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_at_most(CONNECTIONS, listener, router, stop).await;
}

/// The same for a few clients.
pub async fn serve_few(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_at_most(FEW, listener, router, stop).await;
}

async fn serve_at_most(connections: usize, listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(connections));
    let (tracker, cut) = (TaskTracker::new(), CancellationToken::new());
    let start = |stream: TcpStream, place: Option<OwnedSemaphorePermit>| {
        let connection = connection(stream, router.clone(), stop.clone());
        let cut = cut.clone();
        tracker.spawn(async move {
            let _place = place;
            tokio::select! { () = connection => {} () = cut.cancelled() => {} }
        });
    };
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            (accepted, place) = next => match accepted {
                Ok((stream, _)) => start(stream, place),
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept a connection: {e}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    // These have been connected by the kernel already: closing the listener would reset them.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        start(stream, None);
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
        tracing::warn!(
            open = tracker.len(),
            "cut off {} connections that did not end in time",
            tracker.len()
        );
    }
    cut.cancel();
    tracker.wait().await;
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    // Answers are small: waiting to fill a packet only costs time. An error here shows at the first read.
    let _ = stream.set_nodelay(true);
    let phase = Phase::default();
    let io = TokioIo::new(Watched::new(stream, phase.clone()));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        phase.busy();
        let (router, phase) = (router.clone(), phase.clone());
        async move {
            let request: Request = request.map(Body::new);
            let response = router.oneshot(request).await;
            phase.idle();
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let mut told = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(e) = ended {
                    tracing::debug!(error = %e, "a connection ended early: {e}");
                }
                return;
            }
            () = stop.cancelled(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
