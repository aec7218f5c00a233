//! Each case of the table: a receiver that was well-behaved when it was registered begins to misbehave.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tocsin_core::limits;
use tocsin_core::webhook::attempt::Verdict;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::outgoing::Outcome;
use tocsin_core::webhook::schedule::wait_after;
use tocsin_sim::{Behaviour, Received};

use crate::Scene;
use crate::cases::{Case, Made, cases};

/// Cases at a time: most of what they do is wait for one another's handshakes.
const AT_ONCE: usize = 6;
/// Longer than a scripted receiver leaves a connection alone.
const IDLE: Duration = Duration::from_millis(250);

impl Case {
    fn path(&self) -> &'static str {
        match self.made {
            Made::Path(path) => path,
            Made::Script(_) => "/scripted",
            Made::Met(_) => "/ok",
        }
    }

    /// No request gets through.
    fn keeps_out(&self) -> bool {
        matches!(self.made, Made::Met(_)) && self.verdict != Verdict::Delivered
    }
}

/// One case being run.
struct Run<'a> {
    case: &'a Case,
    scene: Scene,
    id: EndpointId,
}

impl Run<'_> {
    /// Registers the endpoint while all is well, then lets the receiver misbehave.
    fn begin(case: &Case) -> Run<'_> {
        let mut scene = Scene::new();
        scene.receiver.behave(case.path(), vec![Behaviour::ok()]);
        let id = scene.rig.register_active(&scene.receiver.url(case.path()));
        scene.rig.warm(id);
        match case.made {
            Made::Path(path) => scene.receiver.behave(path, Vec::new()),
            Made::Script(script) => scene.receiver.behave(case.path(), script()),
            Made::Met(greeting) => {
                scene.receiver.greet(vec![greeting]).unwrap();
                scene.receiver.drop_connections();
                scene.rig.idle(id, 0);
            }
        }
        let _ = scene.receiver.take();
        Run { case, scene, id }
    }

    /// The first delivery, to its outcome; the requests it was.
    fn first(&mut self) -> Vec<Received> {
        let counters = self.scene.receiver.counters();
        self.scene.rig.announce("FIRST");
        let Scene { receiver, rig, .. } = &mut self.scene;
        if self.case.lasts() {
            rig.until("the attempt under way", |_| {
                let now = receiver.counters();
                now.requests > counters.requests || now.connections > counters.connections
            });
            rig.pass(limits::WEBHOOK_TIMEOUT);
        }
        rig.until("its outcome", |rig| !rig.outcomes().is_empty());
        self.judge();
        self.scene.receiver.take()
    }

    /// Holds outcome, delivery log and the next attempt's time against the table.
    fn judge(&self) {
        let (outcomes, attempts) = (self.scene.rig.outcomes(), self.scene.attempts());
        assert_eq!((outcomes.len(), attempts.len()), (1, 1), "{attempts:?}");
        let (outcome, line) = (outcomes[0].outcome, &attempts[0]);
        assert_eq!(line.class, self.case.verdict.class(), "{line:?}");
        assert_eq!(line.purpose, Purpose::Event { attempt: 1 });
        match self.case.verdict {
            Verdict::Delivered => assert_eq!(outcome, Outcome::Delivered),
            Verdict::Permanent { .. } => assert_eq!(outcome, Outcome::Failed),
            Verdict::Retry { wait, .. } => {
                let Outcome::Retry { attempt: 2, due } = outcome else { panic!("{outcome:?}") };
                assert_eq!(line.next_at, Some(due));
                // From the attempt's end; the two clocks may differ by a little over its length.
                let waits = due.micros_since(line.started_at) - i64::from(line.took_us);
                let least = wait_after(1, wait, 0).unwrap();
                let most = least + (least / 10).min(limits::WEBHOOK_JITTER);
                let waits = Duration::from_micros(u64::try_from(waits).unwrap());
                let slack = Duration::from_millis(500);
                assert!(waits + slack >= least && waits <= most + slack, "{waits:?}, not {least:?}");
            }
            Verdict::Resend => panic!("no verdict of a whole attempt"),
        }
    }

    /// Waits until what is left of the first answer has been read, or its connection is closed.
    fn settle(&mut self, closed: u64) {
        match (self.case.made, self.case.reused) {
            (Made::Met(_), true) => while self.scene.rig.report(self.id).connections == 0 {},
            (_, true) => self.scene.rig.warm(self.id),
            // Nothing shows that they are closed; the next deliveries do.
            (Made::Script(_), false) => self.scene.rig.run_for(IDLE),
            (_, false) if self.case.lasts() => {}
            (_, false) => {
                self.scene.rig.pass(limits::WEBHOOK_DRAIN_TIME);
                self.scene.closes(closed + 1);
            }
        }
    }

    /// Two more deliveries, one for each connection that may be warm; the connections they came on.
    fn more(&mut self) -> BTreeSet<u64> {
        for ticker in ["SECOND", "THIRD"] {
            self.scene.rig.announce(ticker);
        }
        if self.case.lasts() {
            return self.scene.deliveries(2).iter().map(|received| received.connection).collect();
        }
        self.scene.outcomes(3);
        let same = |outcome: &Outcome| match self.case.verdict {
            Verdict::Delivered => *outcome == Outcome::Delivered,
            Verdict::Permanent { .. } => *outcome == Outcome::Failed,
            _ => matches!(outcome, Outcome::Retry { attempt: 2, .. }),
        };
        let outcomes: Vec<Outcome> = self.scene.rig.outcomes().iter().map(|o| o.outcome).collect();
        assert!(outcomes.iter().all(same), "the next ones fare as the first did: {outcomes:?}");
        self.scene.receiver.take().iter().map(|received| received.connection).collect()
    }
}

fn run(case: &Case) {
    let mut run = Run::begin(case);
    let closed = run.scene.closed();
    let first = run.first();
    if case.keeps_out() {
        assert!(first.is_empty(), "{first:?}");
        return;
    }
    // A transparent resend is the same request once more, and there is at most one.
    assert!(matches!(first.len(), 1 | 2), "{} requests", first.len());
    for received in &first {
        assert_eq!((received.attempt(), &received.body), (Some(1), &first[0].body));
        assert!(run.scene.receiver.verdict(received).is_valid());
    }
    run.settle(closed);
    let used: BTreeSet<u64> = first.iter().map(|received| received.connection).collect();
    let again = run.more();
    assert_eq!(!again.is_disjoint(&used), case.reused, "first on {used:?}, then on {again:?}");
    assert_eq!(run.scene.receiver.trap(), 0, "a redirect was followed");
}

#[test]
fn every_case_gets_its_verdict_from_the_thread() {
    let cases = cases();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(why) = catch_unwind(AssertUnwindSafe(|| run(case))) {
                let said = why.downcast_ref::<String>().cloned();
                let said = said.or_else(|| why.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                wrong.push(format!("{}: {}", case.name, said.unwrap_or_default()));
            }
        }
        wrong
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} receivers", cases.len());
}
