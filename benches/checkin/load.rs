//! The load: keep-alive HTTP/1.1 clients, one request on its way each, in a process of their own. No more
//! than sockets and a few bytes of parsing, as they share the processors with what they measure.

use super::process::on_processor;
use super::timing::Latencies;
use gotel::clock;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// What one run of the load asks for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `127.0.0.1:8080`.
    pub addr: String,
    /// Connections.
    pub clients: usize,
    /// Reservations that are checked in for.
    pub jobs: usize,
    /// Before anything is counted.
    pub warm: Duration,
    /// Counted.
    pub run: Duration,
    /// Requests a second in all, sent whether or not earlier ones were answered; 0: each client sends its
    /// next request when it has its answer.
    pub rate: u32,
    /// Whether the load stays on the second processor and leaves the first to the server.
    pub apart: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Answers 2xx a second.
    pub rate: f64,
    /// Of those, in microseconds.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Answers by status, the warm-up included.
    pub answers: BTreeMap<u16, u64>,
    /// Answers 503: in microseconds.
    pub refused_p99_us: f64,
    /// The longest any answer took.
    pub longest_us: f64,
    /// Requests that were due while every connection waited for its answer, and so were not sent.
    pub unsent: u64,
    /// Connections that broke.
    pub broken: u64,
}

impl Outcome {
    /// Answers 2xx in all.
    pub fn stored(&self) -> u64 {
        self.answers.range(200..300).map(|(_, n)| n).sum()
    }

    /// Answers other than 2xx.
    pub fn others(&self) -> u64 {
        self.answers.values().sum::<u64>() - self.stored()
    }
}

/// Runs the load in a process of its own.
pub async fn run(plan: &Plan) -> Outcome {
    let program = std::env::current_exe().expect("this program has a path");
    let command = if plan.apart { on_processor(1, program) } else { Command::new(program) };
    let child = tokio::process::Command::from(command)
        .args(["load", &plan.addr, &plan.clients.to_string(), &plan.jobs.to_string()])
        .args([plan.warm.as_millis().to_string(), plan.run.as_millis().to_string(), plan.rate.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let limit = plan.warm + plan.run + Duration::from_secs(60);
    let output = tokio::time::timeout(limit, child).await.expect("the load ends").expect("the load runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse(&text).unwrap_or_else(|| panic!("the load failed: {text:?}"))
}

fn parse(text: &str) -> Option<Outcome> {
    let mut outcome = Outcome::default();
    let mut words = text.lines().last()?.split_whitespace();
    let mut next = || words.next()?.parse::<f64>().ok();
    outcome.rate = next()?;
    outcome.p50_us = next()?;
    outcome.p99_us = next()?;
    outcome.refused_p99_us = next()?;
    outcome.longest_us = next()?;
    outcome.unsent = next()? as u64;
    outcome.broken = next()? as u64;
    for pair in words {
        let (status, times) = pair.split_once('=')?;
        outcome.answers.insert(status.parse().ok()?, times.parse().ok()?);
    }
    Some(outcome)
}

/// The process of its own.
pub fn child(arguments: &[String]) {
    let number = |i: usize| arguments[i].parse::<u64>().expect("a number");
    let plan = Plan {
        addr: arguments[0].clone(),
        clients: number(1) as usize,
        jobs: number(2) as usize,
        warm: Duration::from_millis(number(3)),
        run: Duration::from_millis(number(4)),
        rate: number(5) as u32,
        apart: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let all = LocalSet::new().block_on(&runtime, all(Rc::new(plan)));
    all.print();
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    good: Latencies,
    refused: Latencies,
    longest_us: i64,
    answers: BTreeMap<u16, u64>,
    unsent: u64,
    broken: u64,
    seconds: f64,
}

async fn all(plan: Rc<Plan>) -> Seen {
    let mut connections = Vec::with_capacity(plan.clients);
    // Many at a time, as the server ends a connection whose first request does not come soon; but no more than
    // the kernel keeps waiting for it.
    while connections.len() < plan.clients {
        let some = (plan.clients - connections.len()).min(256);
        connections.extend(futures::future::join_all((0..some).map(|_| Connection::open(&plan.addr))).await);
    }
    let start_us = clock::boot_us();
    let clients: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(n, connection)| {
            let client = Client { n, connection, start_us, plan: Rc::clone(&plan), seen: Seen::default() };
            tokio::task::spawn_local(client.run())
        })
        .collect();
    let mut all = Seen { seconds: plan.run.as_secs_f64(), ..Seen::default() };
    for client in clients {
        let seen = client.await.expect("a client does not panic");
        all.good.absorb(seen.good);
        all.refused.absorb(seen.refused);
        all.longest_us = all.longest_us.max(seen.longest_us);
        all.unsent += seen.unsent;
        all.broken += seen.broken;
        for (status, times) in seen.answers {
            *all.answers.entry(status).or_default() += times;
        }
    }
    all
}

impl Seen {
    fn print(mut self) {
        let answers: Vec<_> =
            self.answers.iter().map(|(status, times)| format!("{status}={times}")).collect();
        println!(
            "{} {} {} {} {} {} {} {}",
            self.good.len() as f64 / self.seconds,
            self.good.quantile(0.5),
            self.good.quantile(0.99),
            self.refused.quantile(0.99),
            self.longest_us,
            self.unsent,
            self.broken,
            answers.join(" ")
        );
    }
}

/// One keep-alive client.
struct Client {
    n: usize,
    connection: Connection,
    start_us: i64,
    plan: Rc<Plan>,
    seen: Seen,
}

impl Client {
    async fn run(mut self) -> Seen {
        let (warm_us, run_us) = (self.plan.warm.as_micros() as i64, self.plan.run.as_micros() as i64);
        let count_from_us = self.start_us + warm_us;
        let end_us = count_from_us + run_us;
        // Between two requests of this client; each begins at its own moment.
        let gap_us = match self.plan.rate {
            0 => 0,
            rate => self.plan.clients as i64 * 1_000_000 / i64::from(rate),
        };
        let mut due_us = self.start_us + fastrand::i64(0..=gap_us);
        // Each walks through all jobs, from its own.
        let mut job = self.n * 7919 % self.plan.jobs;
        loop {
            let mut sent_us = clock::boot_us();
            if gap_us > 0 {
                while due_us + gap_us < sent_us {
                    due_us += gap_us;
                    self.seen.unsent += 1;
                }
                if due_us > sent_us {
                    tokio::time::sleep(Duration::from_micros((due_us - sent_us) as u64)).await;
                    sent_us = clock::boot_us();
                }
                due_us += gap_us;
            }
            if sent_us >= end_us {
                return self.seen;
            }
            let status = self.connection.check_in(job).await;
            let now_us = clock::boot_us();
            job = (job + 1) % self.plan.jobs;
            match status {
                Ok(status) => self.note(status, now_us - sent_us, (count_from_us..end_us).contains(&now_us)),
                Err(_) => {
                    self.seen.broken += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    self.connection = Connection::open(&self.plan.addr).await;
                }
            }
        }
    }

    fn note(&mut self, status: u16, took_us: i64, counted: bool) {
        *self.seen.answers.entry(status).or_default() += 1;
        self.seen.longest_us = self.seen.longest_us.max(took_us);
        match status {
            200..300 if counted => self.seen.good.push(took_us),
            503 => self.seen.refused.push(took_us),
            _ => {}
        }
    }
}

/// A connection, with the bytes of its request ready.
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    digits: std::ops::Range<usize>,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(addr: &str) -> Self {
        let mut tries = 0;
        let stream = loop {
            match TcpStream::connect(addr).await {
                Ok(stream) => break stream,
                Err(e) if tries >= 50 => panic!("cannot connect to {addr}: {e}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            tries += 1;
        };
        let _ = stream.set_nodelay(true);
        let head = "GET /checkin/bench/job-";
        let request =
            format!("{head}000000 HTTP/1.1\r\nhost: {addr}\r\nuser-agent: bench\r\naccept: */*\r\n\r\n");
        let digits = head.len()..head.len() + 6;
        Self { stream, request: request.into_bytes(), digits, answer: Vec::with_capacity(1024) }
    }

    /// Checks in for one job; the status, once the whole answer is there.
    async fn check_in(&mut self, job: usize) -> std::io::Result<u16> {
        let mut rest = job;
        for digit in self.request[self.digits.clone()].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(status) = whole(&self.answer) {
                return Ok(status);
            }
        }
    }
}

/// The status of an answer that has arrived whole.
fn whole(answer: &[u8]) -> Option<u16> {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&answer[..head]).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    (answer.len() >= head + 4 + length.unwrap_or(0)).then_some(status)
}
