//! A mail as it goes over the wire: headers and encoded body.
//!
//! Contract: pure but for the clock in `Date`. The `Message-ID` is made of the numbers of the outbox rows
//! the mail tells of and of the installation's: a mail sent again has the same one, another mail never.
//! Fails with a reason where the recipient's address is none. Allocates.

use std::time::SystemTime;

use lettre::Message;
use lettre::address::{Address, Envelope};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};

use super::text::{self, Notice};

/// What distinguishes the mails of one installation.
#[derive(Clone, Debug)]
pub struct MailSender {
    /// `From`, and the envelope's sender.
    pub from: Mailbox,
    /// [`crate::store::Store::install_id`].
    pub install: String,
    /// Disabled endpoints come back by themselves: `webhooks.self_healing`.
    pub self_healing: bool,
}

/// A mail ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) from: Address,
    pub(super) to: Address,
    /// Headers and body, lines ended by CR LF.
    pub(super) bytes: Vec<u8>,
}

impl MailSender {
    /// The mail of one group of notices.
    pub(super) fn letter(&self, group: &[Notice]) -> Result<Letter, &'static str> {
        let text = text::write(group, self.self_healing).ok_or("there is nothing to tell")?;
        let to = group.first().map(|first| first.due.to.as_str()).unwrap_or_default();
        if to.contains(char::is_control) {
            return Err("the account's address holds control characters");
        }
        let to: Address = to.parse().map_err(|_| "the account's address is none")?;
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.clone()]);
        let message = self
            .headers(group, &to)
            .envelope(envelope.map_err(|_| "the envelope is incomplete")?)
            .subject(text.subject)
            .body(text.body)
            .map_err(|_| "the mail cannot be composed")?;
        Ok(Letter { from: self.from.email.clone(), to, bytes: message.formatted() })
    }

    fn headers(&self, group: &[Notice], to: &Address) -> MessageBuilder {
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .date(SystemTime::now())
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .message_id(Some(self.message_id(group)))
            // RFC 3834: nobody's holiday notice answers it.
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN)
    }

    /// `<tocsin-ID.INSTALL@domain>`; a digest has all its rows' numbers.
    fn message_id(&self, group: &[Notice]) -> String {
        let ids: Vec<String> = group.iter().map(|notice| notice.due.id.to_string()).collect();
        format!("<tocsin-{}.{}@{}>", ids.join("-"), self.install, self.from.email.domain())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::webhook::accounts::AccountId;
    use crate::store::webhook::mail::DueMail;
    use tocsin_core::time::WallUs;
    use tocsin_core::webhook::board::EndpointId;
    use tocsin_core::webhook::endpoint::Mail;

    fn sender() -> MailSender {
        let from = "Tocsin <alerts@example.com>".parse().unwrap();
        MailSender { from, install: "0123abcd".to_owned(), self_healing: true }
    }

    fn notice(id: i64, mail: Mail, to: &str, label: &str) -> Notice {
        let due = DueMail {
            id,
            account: AccountId(1),
            to: to.to_owned(),
            name: "Ada".to_owned(),
            endpoint: EndpointId(7),
            url: "https://hooks.example.org/in".to_owned(),
            mail,
            detail: "timeout".to_owned(),
            at: WallUs(1_770_000_000_000_000),
            tries: 0,
        };
        Notice { due, label: label.to_owned() }
    }

    fn head(letter: &Letter) -> Vec<String> {
        let text = String::from_utf8(letter.bytes.clone()).unwrap();
        let (head, _body) = text.split_once("\r\n\r\n").unwrap();
        head.split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn the_headers_are_those_of_an_automatic_mail() {
        let letter = sender().letter(&[notice(5, Mail::Gone, "ada@example.org", "")]).unwrap();
        let head = head(&letter);
        let names: Vec<&str> = head.iter().map(|line| line.split(": ").next().unwrap()).collect();
        for name in ["Date", "From", "To", "Message-ID", "Auto-Submitted", "Content-Type", "Subject"] {
            assert_eq!(names.iter().filter(|n| **n == name).count(), 1, "{name}: {head:?}");
        }
        for line in [
            "From: Tocsin <alerts@example.com>",
            "To: ada@example.org",
            "Message-ID: <tocsin-5.0123abcd@example.com>",
            "Auto-Submitted: auto-generated",
            "Subject: Webhook endpoint is gone (410): hooks.example.org",
        ] {
            assert!(head.iter().any(|l| l == line), "no {line:?} in {head:?}");
        }
    }

    #[test]
    fn the_message_id_is_that_of_its_rows() {
        let slow = [3, 4, 9].map(|id| notice(id, Mail::Slow, "ada@example.org", ""));
        let head = head(&sender().letter(&slow).unwrap());
        assert!(head.contains(&"Message-ID: <tocsin-3-4-9.0123abcd@example.com>".to_owned()), "{head:?}");
    }

    #[test]
    fn nothing_adds_a_header_or_a_recipient() {
        let evil = "x\r\nBcc: victim@example.com";
        let mut one = notice(1, Mail::AutoDisabled, "ada@example.org", evil);
        one.due.name = evil.to_owned();
        one.due.detail = evil.to_owned();
        one.due.url = format!("https://{evil}/");
        let letter = sender().letter(&[one]).unwrap();
        assert!(head(&letter).iter().all(|line| !line.to_ascii_lowercase().starts_with("bcc")));
        assert_eq!(letter.to.to_string(), "ada@example.org");
        for to in ["", "ada", "ada@example.org\r\nRCPT TO:<x@example.com>", "a@b.example, c@d.example", "<>"]
        {
            assert!(sender().letter(&[notice(1, Mail::Gone, to, "")]).is_err(), "{to:?}");
        }
        assert!(sender().letter(&[]).is_err());
    }

    #[test]
    fn other_characters_are_encoded() {
        let letter = sender().letter(&[notice(1, Mail::Gone, "ada@example.org", "생산 ✓")]).unwrap();
        assert!(letter.bytes.is_ascii());
    }
}
