//! A simulated exchange: what it has published, which page a request gets, and in what mood it is.
//!
//! Contract: pages have the exchange's real shape ([`crate::shape`]). What is on a page is read back
//! independently when it is rendered ([`Served::rows`]), so that checkers know what the engine was shown.
//! Owner: the world. Nothing fails: a page that cannot be read back shows nothing.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use core::time::Duration;

use serde_json::Value;
use tocsin_core::source::backoff::Failure;
use tocsin_core::source::{Scratch, SourceSpec};
use tocsin_core::time::{Mono, WallUs};

use super::dice::Dice;
use super::draw::ExchangePlan;
use crate::catalogue::{Catalogue, Category, Change};
use crate::http::Request;
use crate::invent::Inventor;
use crate::options::Options;
use crate::shape::{self, View};

/// A row of a page, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: Box<str>,
    pub(super) title: Box<str>,
    pub(super) published: Option<WallUs>,
}

/// A page as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) body: Arc<[u8]>,
    pub(super) rows: Rc<[Row]>,
    /// Its entity tag.
    pub(super) version: u64,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Page(Served),
    NotModified,
    Status(u16, Option<Duration>),
    /// 200 with something else.
    Garbage(&'static [u8]),
    /// The connection failed.
    Broken(Failure),
}

/// What there is to know of a notice, for checkers.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    /// By the polled source.
    pub(super) id: Box<str>,
    /// By the stream, if it has one.
    pub(super) stream_id: Box<str>,
    pub(super) published: WallUs,
    pub(super) title: String,
    /// It was there when the world began.
    pub(super) old: bool,
    pub(super) edits: u32,
    /// It was fixed to the top: an old one that is pinned is known silently.
    pub(super) pinned: bool,
    pub(super) category: Category,
}

struct Page {
    request: Request,
    current: Option<Served>,
    before: VecDeque<Served>,
    rendered: u64,
}

/// See the module head.
pub(super) struct Exchange {
    pub(super) plan: ExchangePlan,
    pub(super) spec: &'static SourceSpec,
    catalogue: Catalogue,
    inventor: Inventor,
    options: Options,
    pages: Vec<Page>,
    version: u64,
    next_tag: u64,
    pub(super) notices: Vec<Notice>,
    /// What is wrong with it, until then.
    trouble: Option<(Trouble, Mono)>,
    dice: Dice,
}

/// A phase of misbehaviour.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Refuses(u16),
    Breaks,
    Garbles,
    Slow,
    /// Edges answer in turn with old pages.
    Stale,
    /// Rows are missing, doubled or out of order.
    Scrambles,
}

impl Exchange {
    pub(super) fn new(
        plan: ExchangePlan,
        spec: &'static SourceSpec,
        seed: u64,
        now: WallUs,
        dice: Dice,
    ) -> Exchange {
        let catalogue = Catalogue::new(plan.kind, seed, plan.old_notices, now);
        let notices = catalogue.listed().chain(catalogue.pinned()).map(|notice| Notice {
            id: notice.notice_id(plan.kind).into(),
            stream_id: notice.code.as_str().into(),
            published: notice.published,
            title: notice.title.clone(),
            old: true,
            edits: 0,
            pinned: false,
            category: notice.category,
        });
        let notices = notices.collect();
        let pages = spec.lists.iter().map(|list| Page {
            request: request(spec, list.target),
            current: None,
            before: VecDeque::new(),
            rendered: 0,
        });
        Exchange {
            plan,
            spec,
            inventor: Inventor::new(plan.kind, seed ^ 0x7e57),
            options: Options { max_per_page: 100, ..Options::default() },
            pages: pages.collect(),
            catalogue,
            version: 1,
            next_tag: 1,
            notices,
            trouble: None,
            dice,
        }
    }

    /// A new notice; returns its number.
    pub(super) fn publish(&mut self, now: WallUs) -> usize {
        let invented = self.inventor.any(now);
        let category = invented.draft.category;
        let notice = self.catalogue.prepare(invented.draft, now);
        self.notices.push(Notice {
            id: notice.notice_id(self.plan.kind).into(),
            stream_id: notice.code.as_str().into(),
            published: notice.published,
            title: notice.title.clone(),
            old: false,
            edits: 0,
            pinned: false,
            category,
        });
        self.catalogue.apply(Change::Publish(notice));
        self.version += 1;
        self.notices.len() - 1
    }

    /// A notice is given another title; returns its number.
    pub(super) fn edit(&mut self, now: WallUs) -> Option<usize> {
        let recent = self.notices.len().checked_sub(self.dice.index(4) + 1)?;
        let notice = self.notices.get_mut(recent)?;
        notice.edits += 1;
        notice.title = format!("{} [{}]", notice.title.split(" [").next().unwrap_or_default(), notice.edits);
        let (notice_id, title) = (notice.id.to_string(), notice.title.clone());
        let change = match self.dice.coin() {
            true => Change::Edit { notice_id, title, at: now },
            false => Change::Retitle { notice_id, title },
        };
        self.catalogue.apply(change);
        self.version += 1;
        Some(recent)
    }

    pub(super) fn delete(&mut self) {
        let at = self.dice.index(self.notices.len());
        if let Some(notice) = self.notices.get(at) {
            self.catalogue.apply(Change::Delete(notice.id.to_string()));
            self.version += 1;
        }
    }

    pub(super) fn pin(&mut self) {
        let at = self.dice.index(self.notices.len());
        if let Some(notice) = self.notices.get_mut(at) {
            notice.pinned = true;
            self.catalogue.apply(Change::Pin(notice.id.to_string()));
            self.version += 1;
        }
    }

    /// Something goes wrong for a while, or nothing does.
    pub(super) fn be_moody(&mut self, until: Mono) {
        let statuses = [429, 403, 418, 500, 503, 302, 404];
        let trouble = match self.dice.below(8) {
            0 => Trouble::Refuses(self.dice.pick(&statuses, 500)),
            1 => Trouble::Breaks,
            2 => Trouble::Garbles,
            3 => Trouble::Slow,
            4 | 5 => Trouble::Stale,
            _ => Trouble::Scrambles,
        };
        self.trouble = Some((trouble, until));
    }

    pub(super) fn recover(&mut self) {
        self.trouble = None;
    }

    /// Answers a request for a list: what comes, and after how long.
    pub(super) fn answer(
        &mut self,
        list: usize,
        etag: Option<u64>,
        now: (Mono, WallUs),
    ) -> (Reply, Duration) {
        let latency = self.dice.millis(1, 60);
        let trouble = self.trouble.filter(|(_, until)| now.0 < *until).map(|(trouble, _)| trouble);
        let Some(page) = self.page(list, now.1) else { return (Reply::Garbage(b"{}"), latency) };
        let dice = &mut self.dice;
        match trouble {
            Some(_) if dice.per_mille(300) => {}
            None => {}
            Some(Trouble::Refuses(status)) => {
                let after = dice.coin().then(|| Duration::from_secs(dice.below(20)));
                return (Reply::Status(status, after), latency);
            }
            Some(Trouble::Breaks) => {
                let failures = [Failure::Connect, Failure::Closed, Failure::Tls, Failure::Protocol];
                return (Reply::Broken(dice.pick(&failures, Failure::Closed)), latency);
            }
            Some(Trouble::Garbles) => {
                let bodies: [&'static [u8]; 5] = [b"", b"<html>busy</html>", b"{\"data\":", b"{}", b"[1,2]"];
                return (Reply::Garbage(dice.pick(&bodies, b"")), latency);
            }
            Some(Trouble::Slow) => return (Reply::Page(page), dice.millis(500, 7_000)),
            Some(Trouble::Stale) => {
                let old = self.pages.get(list).map(|page| &page.before).filter(|before| !before.is_empty());
                let at = dice.index(old.map_or(0, VecDeque::len));
                if let Some(old) = old.and_then(|old| old.get(at)).cloned() {
                    return (Reply::Page(old), latency);
                }
            }
            Some(Trouble::Scrambles) => {
                if let Some(page) = scramble(self.spec, &page, dice) {
                    return (Reply::Page(page), latency);
                }
            }
        }
        if self.spec.conditional && etag == Some(page.version) {
            return (Reply::NotModified, latency);
        }
        (Reply::Page(page), latency)
    }

    /// The list as it is now.
    fn page(&mut self, list: usize, now: WallUs) -> Option<Served> {
        let page = self.pages.get_mut(list)?;
        if page.rendered != self.version {
            page.rendered = self.version;
            let view = View { catalogue: &self.catalogue, options: &self.options, now };
            let response = shape::answer(self.plan.kind, &view, &page.request).response;
            let fresh = page.current.as_ref().is_none_or(|current| *current.body != *response.body);
            if fresh {
                let served = Served {
                    rows: rows(self.spec, &response.body),
                    body: response.body,
                    version: self.next_tag,
                };
                self.next_tag += 1;
                page.before.extend(page.current.replace(served));
                if page.before.len() > 3 {
                    page.before.pop_front();
                }
            }
        }
        page.current.clone()
    }
}

fn request(spec: &SourceSpec, target: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        target: target.to_owned(),
        headers: spec.headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        began: WallUs(0),
        head: Vec::new(),
        body: Vec::new(),
        keep_alive: true,
    }
}

fn rows(spec: &SourceSpec, body: &[u8]) -> Rc<[Row]> {
    let mut rows = Vec::new();
    // What cannot be read shows nothing.
    let _ = (spec.parse)(&mut Scratch::default(), &mut body.to_vec(), &mut |item| {
        rows.push(Row {
            id: item.notice_id.as_str().into(),
            title: item.title.into(),
            published: item.published,
        });
    });
    rows.into()
}

/// The page with rows missing, doubled or in another order.
fn scramble(spec: &SourceSpec, page: &Served, dice: &mut Dice) -> Option<Served> {
    let mut value: Value = serde_json::from_slice(&page.body).ok()?;
    let list = longest(&mut value)?;
    match dice.below(3) {
        0 => list.truncate(list.len() / 2 + 1),
        1 => {
            let at = dice.index(list.len());
            let row = list.get(at)?.clone();
            list.insert(0, row);
        }
        _ => {
            for at in (1..list.len()).rev() {
                list.swap(at, dice.index(at + 1));
            }
        }
    }
    let body: Arc<[u8]> = serde_json::to_vec(&value).ok()?.into();
    Some(Served { rows: rows(spec, &body), body, version: 0 })
}

/// The longest list of objects anywhere within.
fn longest(value: &mut Value) -> Option<&mut Vec<Value>> {
    match value {
        Value::Array(list) => {
            if list.first().is_some_and(Value::is_object) {
                return Some(list);
            }
            list.iter_mut().filter_map(longest).max_by_key(|list| list.len())
        }
        Value::Object(map) => map.values_mut().filter_map(longest).max_by_key(|list| list.len()),
        _ => None,
    }
}
