//! A connection that fails when its client stalls.
//!
//! Promises: a request's headers arrive within [`HEADERS`] of their first byte (of the connection's
//! opening, for the first request), and a client that does not read its answer for [`UNREAD`] is cut off.
//! Idle time between requests is the server's to limit; a body's time is the request's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Time for the headers of a request.
pub(super) const HEADERS: Duration = Duration::from_secs(10);

/// Time in which an answer must make some way.
pub(super) const UNREAD: Duration = Duration::from_secs(30);

const HEAD: u8 = 0;
const BUSY: u8 = 1;
const IDLE: u8 = 2;

/// Where a connection is: between requests, in the headers of one, or busy with one.
#[derive(Debug, Clone, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

impl Phase {
    /// The headers are complete.
    pub(super) fn busy(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// The answer is made.
    pub(super) fn idle(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    phase: Phase,
    head: Option<Pin<Box<Sleep>>>,
    write: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, phase: Phase) -> Self {
        Self { inner, phase, head: None, write: None }
    }
}

/// Whether `timer`, started now if it is not running, has run out.
fn expired(timer: &mut Option<Pin<Box<Sleep>>>, limit: Duration, cx: &mut Context<'_>) -> bool {
    timer.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx).is_ready()
}

fn stalled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the client stalled {what}"))
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        let phase = this.phase.0.load(Ordering::Relaxed);
        if buf.filled().len() > before && phase == IDLE {
            this.phase.0.store(HEAD, Ordering::Relaxed);
        }
        if phase != HEAD {
            this.head = None;
        } else if outcome.is_pending() && expired(&mut this.head, HEADERS, cx) {
            return Poll::Ready(Err(stalled("in its headers")));
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Passes `outcome` on, unless nothing could be written for too long.
    fn write_outcome<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write = None;
        } else if expired(&mut self.write, UNREAD, cx) {
            return Poll::Ready(Err(stalled("reading its answer")));
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, data);
        self.write_outcome(outcome, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.write_outcome(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.write_outcome(outcome, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn headers_that_trickle_in_end_the_connection_and_an_idle_one_stays() {
        let (mut client, server) = tokio::io::duplex(64);
        let phase = Phase::default();
        let mut watched = Watched::new(server, phase.clone());
        let drip = tokio::spawn(async move {
            for _ in 0..60 {
                client.write_all(b"x").await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
            client
        });
        let mut buf = [0; 64];
        let error = loop {
            match watched.read(&mut buf).await {
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut client = drip.await.unwrap();

        phase.idle();
        let wait = tokio::time::timeout(HEADERS * 6, async {
            while watched.read(&mut buf).await.is_ok_and(|_| {
                phase.idle();
                true
            }) {}
        });
        assert!(wait.await.is_err(), "an idle connection is not ours to end");
        client.write_all(b"G").await.unwrap();
        assert_eq!(watched.read(&mut buf).await.unwrap(), 1);
        assert_eq!(watched.read(&mut buf).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_the_connection() {
        let (client, server) = tokio::io::duplex(8);
        let mut watched = Watched::new(server, Phase::default());
        let error = watched.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
