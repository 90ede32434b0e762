//! What each action does to a world.

use super::*;

impl<const N: usize> World<N> {
    /// Does it, and says what was to be seen.
    pub(super) fn apply(&mut self, action: Action, plan: &Plan, seen: &mut Vec<Sight>) {
        match action {
            Action::Tick => self.tick(plan, seen),
            Action::Arrive(i) => {
                let request = self.replicas[i].op.map(|op| op.request);
                let reply = request.map(|request| self.execute(request, plan));
                if let Some(op) = &mut self.replicas[i].op {
                    op.reply = reply;
                }
            }
            Action::Answer(i) => {
                let reply = self.replicas[i].op.take().and_then(|op| op.reply);
                self.feed(i, reply.unwrap_or(Event::Failed), seen);
            }
            Action::Fail(i) => {
                self.blame();
                self.give_up(i);
                self.feed(i, Event::Failed, seen);
            }
            Action::Haunt(i) => {
                if let Some(request) = self.replicas[i].ghost.take() {
                    let won = self.execute(request, plan) == Event::Taken;
                    seen.extend(won.then_some(Sight::LateBidWon));
                }
            }
            Action::Begin(i) => {
                let claim = self.replicas[i].election.claim;
                self.replicas[i].work =
                    claim.map(|c| Work { term: c.term, token: c.token, checked: false, overlooks: false });
            }
            Action::Check(i) => {
                let row = self.db.row;
                let work = &mut self.replicas[i].work;
                *work = work
                    .filter(|w| (w.term, w.token) == (row.term, row.token))
                    .map(|w| Work { checked: true, ..w });
            }
            Action::Commit(i) => self.commit(i, plan, seen),
            Action::Crash(i) | Action::End(i) => {
                self.blame();
                self.give_up(i);
                let claim = self.replicas[i].election.claim;
                let release = claim.map(|c| Request::Release { term: c.term, token: c.token });
                let r = &mut self.replicas[i];
                if action == Action::End(i) && release.is_some() {
                    r.ghost = release;
                }
                *r = Replica {
                    election: Election::new(plan.timers),
                    wake_in: 0,
                    op: None,
                    paused: false,
                    ..*r
                };
                self.feed(i, Event::Woken, seen);
            }
            Action::Pause(i) => {
                self.blame();
                self.replicas[i].paused = true;
            }
            Action::Resume(i) => {
                self.replicas[i].paused = false;
                self.wake(i, seen);
            }
            Action::FailOver(n) => {
                self.db = self.past[n].unwrap_or(self.db);
                self.past = [None; FORGETS];
                self.failover = false;
            }
        }
        if plan.fence == Fence::Write && !self.failover {
            let row = self.db.row;
            for r in &mut self.replicas {
                // Whenever it arrives, it will match nothing.
                if r.work.take_if(|w| (w.term, w.token) != (row.term, row.token)).is_some() {
                    seen.push(Sight::StaleWorkRefused);
                }
            }
        }
        let believers = self.replicas.iter().filter(|r| r.election.believes(0)).count();
        // Not after a fail-over: it may forget a take-over of which both sides have heard.
        if believers > 1 && !plan.failover {
            seen.push(OVERLAP);
        }
    }

    fn blame(&mut self) {
        self.faults = self.faults.map(|left| left.saturating_sub(1));
    }

    fn tick(&mut self, plan: &Plan, seen: &mut Vec<Sight>) {
        for db in std::iter::once(&mut self.db).chain(self.past.iter_mut().flatten()).filter(|_| plan.ages) {
            db.row.age_ms += TICK;
        }
        for i in 0..N {
            let rate = plan.rates[i];
            let r = &mut self.replicas[i];
            r.election.pass(rate);
            r.wake_in -= rate;
            if let Some(op) = &mut r.op {
                op.age += rate;
            }
        }
        for i in 0..N {
            self.wake(i, seen);
        }
    }

    pub(super) fn wake(&mut self, i: usize, seen: &mut Vec<Sight>) {
        let r = &self.replicas[i];
        if r.op.is_none() && r.wake_in <= 0 && !r.paused {
            self.feed(i, Event::Woken, seen);
        }
    }

    /// Gives the state machine an event, and sends what it asks for.
    pub(super) fn feed(&mut self, i: usize, event: Event, seen: &mut Vec<Sight>) {
        let event = match event {
            Event::Read { row, .. } => Event::Read { row, fresh: self.fresh() },
            other => other,
        };
        let r = &mut self.replicas[i];
        let proven = event == Event::Renewed && !r.election.is_holder();
        let next = r.election.next(event, NOW);
        let claim = r.election.claim.map_or((0, Uuid::nil()), |c| (c.term, c.token));
        let (term, token) = claim;
        match next.news {
            Some(News::Leads) if proven => seen.push(Sight::Proven),
            Some(News::SteppedDown(Reason::Overtaken)) => seen.push(Sight::SteppedDown("overtaken")),
            Some(News::SteppedDown(_)) => seen.push(Sight::SteppedDown("not renewed")),
            _ => {}
        }
        let request = match next.step {
            Step::Rest { for_ms } => {
                r.wake_in = for_ms;
                self.wake(i, seen);
                return;
            }
            Step::Observe => Request::Observe,
            Step::Take { token, grounds } => {
                seen.push(Sight::Taken(grounds.as_str()));
                let Event::Read { row: Row { term, beat, .. }, .. } = event else { unreachable!() };
                Request::Take { term, beat, token }
            }
            Step::Prove | Step::Renew => Request::Fence { term, token },
            Step::Release => Request::Release { term, token },
        };
        r.wake_in = 0;
        r.op = Some(Op { request, age: 0, reply: None });
    }

    /// What the replica no longer waits for.
    fn give_up(&mut self, i: usize) {
        let r = &mut self.replicas[i];
        if let Some(Op { request, reply: None, .. }) = r.op.take()
            && request != Request::Observe
        {
            r.ghost = Some(request);
        }
    }

    pub(super) fn execute(&mut self, request: Request, plan: &Plan) -> Event {
        let before = self.db;
        let row = &mut self.db.row;
        let ours = |term: i64, token: Uuid| {
            before.row.term == term && (before.row.token == token || plan.fence == Fence::TermOnly)
        };
        let event = match request {
            Request::Observe => return Event::Read { row: *row, fresh: Uuid::nil() },
            Request::Take { term, beat, token } if (term, beat) == (row.term, row.beat) => {
                *row = Row { term: term + 1, token, vacant: false, lease_ms: plan.timers.lease_ms, ..*row };
                Event::Taken
            }
            Request::Take { .. } => return Event::Beaten,
            Request::Fence { term, token } if ours(term, token) => Event::Renewed,
            Request::Fence { .. } => return Event::Fenced,
            Request::Release { term, token } if ours(term, token) => {
                row.vacant = true;
                Event::Released
            }
            Request::Release { .. } => return Event::Released,
        };
        row.beat += 1;
        if event != Event::Released {
            row.age_ms = 0;
        }
        self.remember(before);
        event
    }

    fn commit(&mut self, i: usize, plan: &Plan, seen: &mut Vec<Sight>) {
        let Some(Work { term, token, overlooks, .. }) = self.replicas[i].work.take() else { return };
        let before = self.db;
        let row = before.row;
        let fenced = match plan.fence {
            Fence::Write => (row.term, row.token) != (term, token),
            Fence::TermOnly => row.term != term,
            // It was looked at before.
            Fence::Read => false,
        };
        if fenced {
            seen.push(Sight::StaleWorkRefused);
            return;
        }
        if (row.term, row.token) != (term, token) {
            seen.push(STALE);
        }
        if let Some(last) = before.last {
            seen.extend((term < last.0).then_some(BACKWARDS));
            seen.extend((term == last.0 && token != last.1).then_some(MIXED));
        }
        // Not after a fail-over: what it forgot was never overlooked.
        seen.extend((overlooks && !plan.failover).then_some(OVERLOOKED));
        for work in self.replicas.iter_mut().filter_map(|r| r.work.as_mut()) {
            work.overlooks |= work.token != token;
        }
        self.db.last = Some((term, token));
        if plan.fence != Fence::Read {
            self.db.row.beat += 1;
            self.db.row.age_ms = 0;
        }
        self.remember(before);
    }

    fn remember(&mut self, before: Db) {
        if self.failover {
            self.past = [Some(before), self.past[0]];
        }
    }
}
