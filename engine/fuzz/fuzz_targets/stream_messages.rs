//! Messages of push sources never panic; what they bring is announced once, and a session that they end stays
//! within its frames. First byte of the input: which source. The rest: messages, separated by a zero byte (which no
//! JSON text holds).
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tocsin_core::detect::Findings;
use tocsin_core::detect::stream::StreamDetector;
use tocsin_core::source::Scratch;
use tocsin_core::source::stream::session::{Conversation, Step};
use tocsin_core::source::stream::{ALL, Fresh, Incoming};
use tocsin_core::time::{Mono, WallUs};

fuzz_target!(|input: &[u8]| {
    let Some((&first, messages)) = input.split_first() else { return };
    let spec = ALL[usize::from(first) % ALL.len()];
    let fresh = Fresh { wall: WallUs::from_secs(1_795_000_000), random: [first; 16] };
    let (mut scratch, mut text) = (Scratch::default(), String::new());
    let mut detector = StreamDetector::new(spec, Duration::from_secs(300));
    let mut conversation = Conversation::new(spec, Mono(1));
    for (round, message) in messages.split(|b| *b == 0).take(16).enumerate() {
        let now = Mono(1 + round as u64 * 50_000_000);
        let mut announced = Vec::new();
        for _ in 0..2 {
            let (mut items, mut findings) = (0, Findings::default());
            let read = (spec.read)(&mut scratch, &mut message.to_vec(), &mut |channel, item| {
                assert!(channel < spec.channels.len());
                assert!(!item.notice_id.as_str().is_empty() && !item.title.trim().is_empty());
                let _ = item.link.to_url();
                detector.on_item(channel, item, false, fresh.wall, &mut findings);
                items += 1;
            });
            match read {
                Ok(Incoming::Items(parsed)) => assert_eq!(parsed.rows, items),
                _ => assert_eq!(items, 0),
            }
            if let Ok(incoming) = read {
                let _ = conversation.on_message(&incoming, now);
            }
            announced.push(findings.detected.len());
        }
        // One message may hold an item twice under two titles; then they replace each other.
        assert!(announced[1] <= announced[0] || announced[0] > 1);
        let mut frames = 0;
        while !matches!(conversation.poll(now, fresh, true, &mut text), Step::Wait(_) | Step::Fail(_)) {
            frames += 1;
            assert!(frames <= 8);
        }
    }
});
