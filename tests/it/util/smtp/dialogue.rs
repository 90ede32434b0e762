//! One client's dialogue with the sink, from the greeting to QUIT.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Encryption, Fault, Mail, Shared};
use crate::util::wait::now;

/// The longest line taken: far above SMTP's 1,000, low enough that a flood ends.
const LONGEST_LINE: usize = 64 * 1024;

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

struct Dialogue {
    wire: BufReader<Box<dyn Wire>>,
    shared: Arc<Shared>,
    encrypted: bool,
    greeted: bool,
    login: Option<String>,
    from: Option<String>,
    to: Vec<String>,
}

/// Serves one client until it quits, breaks off, or a fault ends it.
pub async fn hold(stream: TcpStream, shared: Arc<Shared>) {
    if shared.happens(&Fault::HangAfterAccept) {
        hang().await;
    }
    stream.set_nodelay(true).ok();
    let encrypted = shared.encryption == Encryption::Implicit;
    let wire: Box<dyn Wire> = if encrypted {
        match shared.identity.acceptor().accept(stream).await {
            Ok(stream) => Box::new(stream),
            Err(_) => return,
        }
    } else {
        Box::new(stream)
    };
    let mut dialogue = Dialogue {
        wire: BufReader::new(wire),
        shared,
        encrypted,
        greeted: false,
        login: None,
        from: None,
        to: Vec::new(),
    };
    // An error is the client breaking off, which is its right.
    dialogue.run().await.ok();
}

async fn hang() {
    std::future::pending().await
}

impl Dialogue {
    async fn run(&mut self) -> io::Result<()> {
        if self.shared.happens(&Fault::Busy) {
            return self.say("421 4.3.2 too busy").await;
        }
        self.say("220 sink.test ESMTP").await?;
        loop {
            let line = self.line().await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" | "HELO" => self.hello().await?,
                "STARTTLS" if self.shared.encryption == Encryption::StartTls && !self.encrypted => {
                    self.start_tls().await?;
                }
                "AUTH" => self.auth(rest).await?,
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.rcpt(rest).await?,
                "DATA" => {
                    if !self.data().await? {
                        return Ok(());
                    }
                }
                "RSET" => {
                    self.forget_mail();
                    self.say("250 2.0.0 forgotten").await?;
                }
                "NOOP" => self.say("250 2.0.0 ok").await?,
                "QUIT" => return self.say("221 2.0.0 bye").await,
                _ => self.say("502 5.5.1 unknown command").await?,
            }
        }
    }

    async fn hello(&mut self) -> io::Result<()> {
        if self.shared.happens(&Fault::HangAfterEhlo) {
            hang().await;
        }
        self.greeted = true;
        self.forget_mail();
        let mut features = vec!["sink.test", "8BITMIME"];
        if self.shared.encryption == Encryption::StartTls && !self.encrypted {
            features.push("STARTTLS");
        } else if self.shared.login().is_some() {
            features.push("AUTH PLAIN LOGIN");
        }
        let (last, others) = features.split_last().expect("there is at least the name");
        let mut reply: String = others.iter().map(|feature| format!("250-{feature}\r\n")).collect();
        reply.push_str("250 ");
        reply.push_str(last);
        self.say(&reply).await
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        self.say("220 2.0.0 go ahead").await?;
        let nothing: Box<dyn Wire> = Box::new(tokio::io::empty());
        // What a client sent ahead of the handshake is dropped with the buffer, as it must be.
        let plain = std::mem::replace(&mut self.wire, BufReader::new(nothing)).into_inner();
        let encrypted = self.shared.identity.acceptor().accept(plain).await?;
        self.wire = BufReader::new(Box::new(encrypted));
        self.encrypted = true;
        self.greeted = false;
        Ok(())
    }

    async fn auth(&mut self, rest: &str) -> io::Result<()> {
        let Some((user, password)) = self.shared.login() else {
            return self.say("502 5.5.1 no login here").await;
        };
        if self.needs_tls() {
            return self.say("530 5.7.0 STARTTLS first").await;
        }
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let given = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let answer = self.credential(initial, "").await?;
                let mut parts = answer.split('\0').skip(1).map(str::to_owned);
                parts.next().zip(parts.next())
            }
            "LOGIN" => {
                let user = self.credential(initial, "VXNlcm5hbWU6").await?;
                Some((user, self.credential("", "UGFzc3dvcmQ6").await?))
            }
            _ => return self.say("504 5.5.4 unknown mechanism").await,
        };
        if self.shared.happens(&Fault::RefuseLogin) || given != Some((user.clone(), password)) {
            return self.say("535 5.7.8 wrong user or password").await;
        }
        self.login = Some(user);
        self.say("235 2.7.0 welcome").await
    }

    /// A base64 answer: given with the command, or asked for with `prompt`. What is not base64 is empty.
    async fn credential(&mut self, initial: &str, prompt: &str) -> io::Result<String> {
        let answer = if initial.is_empty() {
            self.say(&format!("334 {prompt}")).await?;
            self.line().await?
        } else {
            initial.as_bytes().to_vec()
        };
        let bytes = BASE64_STANDARD.decode(answer).unwrap_or_default();
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }

    async fn mail(&mut self, rest: &str) -> io::Result<()> {
        if !self.greeted {
            return self.say("503 5.5.1 EHLO first").await;
        }
        if self.needs_tls() {
            return self.say("530 5.7.0 STARTTLS first").await;
        }
        if self.shared.login().is_some() && self.login.is_none() {
            return self.say("530 5.7.0 login first").await;
        }
        match address(rest, "FROM:") {
            Some(from) => {
                self.forget_mail();
                self.from = Some(from);
                self.say("250 2.1.0 sender ok").await
            }
            None => self.say("501 5.1.7 MAIL FROM:<address>").await,
        }
    }

    async fn rcpt(&mut self, rest: &str) -> io::Result<()> {
        if self.from.is_none() {
            return self.say("503 5.5.1 MAIL first").await;
        }
        let Some(to) = address(rest, "TO:").filter(|to| !to.is_empty()) else {
            return self.say("501 5.1.3 RCPT TO:<address>").await;
        };
        let refused = self.shared.takes_place(|fault| match fault {
            Fault::Recipient(address, reply) if *address == to => Some(reply.clone()),
            _ => None,
        });
        if let Some(reply) = refused {
            return self.say(&reply).await;
        }
        self.to.push(to);
        self.say("250 2.1.5 recipient ok").await
    }

    /// Takes the message; false when the connection is to end.
    async fn data(&mut self) -> io::Result<bool> {
        if self.to.is_empty() {
            self.say("503 5.5.1 RCPT first").await?;
            return Ok(true);
        }
        if self.shared.happens(&Fault::HangAfterData) {
            hang().await;
        }
        self.say("354 end with a dot").await?;
        let mut data = Vec::new();
        loop {
            let line = self.line().await?;
            match line.strip_prefix(b".") {
                Some(b"") => break,
                Some(stuffed) => data.extend_from_slice(stuffed),
                None => data.extend_from_slice(&line),
            }
            data.extend_from_slice(b"\r\n");
        }
        let dropped = self.shared.happens(&Fault::DropAfterFinalDot);
        let hangs = self.shared.happens(&Fault::HangAfterFinalDot);
        let reply = self.shared.takes_place(|fault| match fault {
            Fault::AnswerFinalDot(reply) => Some(reply.clone()),
            _ => None,
        });
        let mail = Mail {
            from: self.from.take().expect("there is no recipient without a sender"),
            to: std::mem::take(&mut self.to),
            data,
            encrypted: self.encrypted,
            login: self.login.clone(),
            accepted: !dropped && !hangs && reply.is_none(),
            at: now(),
        };
        self.shared.mails.lock().unwrap().push(mail);
        if dropped {
            return Ok(false);
        }
        if hangs {
            hang().await;
        }
        self.say(reply.as_deref().unwrap_or("250 2.0.0 kept")).await?;
        Ok(true)
    }

    fn needs_tls(&self) -> bool {
        self.shared.encryption != Encryption::None && !self.encrypted
    }

    fn forget_mail(&mut self) {
        self.from = None;
        self.to.clear();
    }

    async fn say(&mut self, reply: &str) -> io::Result<()> {
        self.wire.write_all(format!("{reply}\r\n").as_bytes()).await?;
        self.wire.flush().await
    }

    /// The next line without its CRLF; an error for one that ends otherwise, or never.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let piece = self.wire.fill_buf().await?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let end = piece.iter().position(|byte| *byte == b'\n').map_or(piece.len(), |at| at + 1);
            line.extend_from_slice(&piece[..end]);
            self.wire.consume(end);
            if line.len() > LONGEST_LINE {
                self.say("500 5.5.2 line too long").await?;
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        line.truncate(line.len() - 1);
        if line.pop() != Some(b'\r') || line.contains(&b'\r') {
            self.say("500 5.5.2 a line ends with CRLF, and only there").await?;
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(line)
    }
}

/// The address in `FROM:<address> PARAMETERS`.
fn address(rest: &str, keyword: &str) -> Option<String> {
    let (given, path) = rest.split_at_checked(keyword.len())?;
    let (address, _) = path.trim_start().strip_prefix('<')?.split_once('>')?;
    given.eq_ignore_ascii_case(keyword).then(|| address.to_owned())
}
