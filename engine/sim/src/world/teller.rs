//! What a source thread makes of findings: the model of the engine's own, step by step.
//!
//! Contract: as the engine's `Teller`: race or [`Told`], classify, announce oldest first, then have the rest
//! remembered. What is to be done comes out as [`Op`]s, which the world carries out one by one, for a life may
//! end between any two. Owner: a simulated source thread.

use std::collections::VecDeque;

use tocsin_core::classify::classify;
use tocsin_core::detect::race::{Candidate, Race, Verdict};
use tocsin_core::detect::told::Told;
use tocsin_core::detect::{Findings, SeenRecord};
use tocsin_core::model::{Action, Announcement, CategoryHint, Exchange, FeedPosition};
use tocsin_core::time::WallUs;

use super::durable::Row;
use super::plant::Plant;

/// One step of a source thread.
#[derive(Debug)]
pub(super) enum Op {
    /// Number, journal, broadcast.
    Announce(Box<Announcement>),
    /// To the webhook thread and the journal thread.
    Settle,
    /// To the journal thread.
    Remember(Row),
}

/// See the module head.
pub(super) struct Teller {
    pub(super) source: &'static str,
    pub(super) exchange: Exchange,
    pub(super) told: Told,
    /// Its place among the paths of its exchange's race, if there is one.
    pub(super) path: Option<u8>,
}

impl Teller {
    /// What an answer of `list` brought.
    pub(super) fn tell(
        &mut self,
        list: &'static str,
        (received, detected): (WallUs, WallUs),
        findings: &mut Findings,
        race: Option<&mut Race>,
        plant: Option<Plant>,
        ops: &mut VecDeque<Op>,
    ) {
        if findings.is_empty() {
            return;
        }
        let mut race = race.zip(self.path);
        let mut confirmed = Vec::new();
        for found in findings.detected.drain(..) {
            let classification = classify(self.exchange, &found.record.title, found.hint);
            let candidate = Candidate { found, classification, received, detected };
            let Some((race, path)) = &mut race else {
                let (id, edited) =
                    (candidate.found.record.notice_id.clone(), candidate.found.action != Action::Created);
                let said = &candidate.classification;
                let action = self.told.note(&id, edited, said.listing_type, &said.tickers);
                ops.push_back(Op::Announce(self.announcement(candidate, &id, action)));
                continue;
            };
            let mut verdicts = Vec::new();
            race.enter(*path, candidate.clone(), &mut verdicts);
            for verdict in verdicts {
                match verdict {
                    Verdict::Announce { candidate, notice, action } => {
                        ops.push_back(Op::Announce(self.announcement(candidate, &notice, action)));
                    }
                    Verdict::Confirms { record, behind_us: Some(_), .. }
                        if plant == Some(Plant::RaceDropsConfirmation) =>
                    {
                        let action = candidate.found.action;
                        ops.push_back(Op::Announce(self.announcement(
                            candidate.clone(),
                            &record.notice_id,
                            action,
                        )));
                    }
                    Verdict::Confirms { record, notice, .. } => confirmed.push((record, notice)),
                }
            }
        }
        ops.push_back(Op::Settle);
        ops.extend(
            confirmed.into_iter().map(|(record, notice)| Op::Remember(Row::Confirmed { record, notice })),
        );
        for record in findings.seen.drain(..) {
            let notice = self.know(&record, race.as_mut().map(|(race, path)| (&mut **race, *path)));
            ops.push_back(Op::Remember(match notice {
                Some(notice) => Row::Confirmed { record, notice },
                None => Row::Seen(record),
            }));
        }
        if findings.baselined {
            ops.push_back(Op::Remember(Row::Baselined { source: self.source, list }));
        }
        findings.clear();
    }

    fn know(&mut self, record: &SeenRecord, race: Option<(&mut Race, u8)>) -> Option<Box<str>> {
        let known = classify(self.exchange, &record.title, CategoryHint::None);
        match race {
            None => {
                self.told.note(&record.notice_id, false, known.listing_type, &known.tickers);
                None
            }
            Some((race, path)) => race.know(path, record, &known),
        }
    }

    fn announcement(&self, candidate: Candidate, notice: &str, action: Action) -> Box<Announcement> {
        let Candidate { found, classification, received, detected } = candidate;
        let record = found.record;
        Box::new(Announcement {
            id: [self.exchange.name(), ":", notice].concat(),
            position: FeedPosition::default(),
            exchange: self.exchange,
            title: record.title.into(),
            classification,
            action,
            late: found.late,
            url: found.url,
            notice_id: record.notice_id.into(),
            source: self.source.to_owned(),
            published: record.published,
            received,
            detected,
            classified: detected,
            effective_at: None,
        })
    }
}
