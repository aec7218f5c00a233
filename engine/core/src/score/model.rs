//! A trained model: a weight for every slot, a bias, and the calibration as a table.
//!
//! Contract: [`Model::read`] checks everything once, at compile time for the shipped one;
//! [`Model::score`] adds integers, allocates nothing and cannot fail.
//!
//! Format, all numbers little-endian: the eight bytes `TOCSCORE`; version (u32, 1); number of slots
//! (u32); a fingerprint of the titles it was trained on (u64, [`fingerprint`] of the file); bias (i32); 98 thresholds (i32 each, ascending): a title scores `k` or more if its sum reaches
//! threshold `k`, counted from 2 on ([`LOWEST`] needs none); then one weight a slot (i16 each). The sum
//! is the bias and the weights of the slots that are set. The unit of all is a 1/1024 of a natural
//! logarithm of odds before calibration; calibration lies in the thresholds alone.

use super::features::{Features, SLOTS};

/// Lowest score: so few titles are labelled that none can be called impossible.
pub const LOWEST: u8 = 1;
/// Highest score: and none certain.
pub const HIGHEST: u8 = 99;
/// Size of a model.
pub const MODEL_BYTES: usize = WEIGHTS_AT + 2 * SLOTS;

const MAGIC: &[u8; 8] = b"TOCSCORE";
const VERSION: u32 = 1;
const THRESHOLDS: usize = (HIGHEST - LOWEST) as usize;
const FINGERPRINT_AT: usize = 16;
const BIAS_AT: usize = FINGERPRINT_AT + 8;
const THRESHOLDS_AT: usize = BIAS_AT + 4;
const WEIGHTS_AT: usize = THRESHOLDS_AT + 4 * THRESHOLDS;

/// Why bytes are no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelError {
    /// Not [`MODEL_BYTES`] long.
    Length,
    /// Does not begin as a model of this version and number of slots does.
    Head,
    /// A threshold is below the one before it.
    Thresholds,
}

impl core::fmt::Display for ModelError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ModelError::Length => "a model of another length",
            ModelError::Head => "no model, or one of another version or number of slots",
            ModelError::Thresholds => "thresholds do not ascend",
        })
    }
}

impl core::error::Error for ModelError {}

/// A model that was checked.
#[derive(Clone, Copy, Debug)]
pub struct Model<'m> {
    trained_on: u64,
    bias: i32,
    thresholds: [i32; THRESHOLDS],
    weights: &'m [u8],
}

impl<'m> Model<'m> {
    /// Checks and reads a model.
    ///
    /// # Errors
    /// The bytes are no model for this engine.
    #[allow(clippy::indexing_slicing, reason = "the length was checked; const code has nothing else")]
    pub const fn read(bytes: &'m [u8]) -> Result<Model<'m>, ModelError> {
        if bytes.len() != MODEL_BYTES {
            return Err(ModelError::Length);
        }
        let mut at = 0;
        while at < MAGIC.len() {
            if bytes[at] != MAGIC[at] {
                return Err(ModelError::Head);
            }
            at += 1;
        }
        if word(bytes, 8) != VERSION || word(bytes, 12) as usize != SLOTS {
            return Err(ModelError::Head);
        }
        let mut thresholds = [0; THRESHOLDS];
        let mut at = 0;
        while at < THRESHOLDS {
            thresholds[at] = word(bytes, THRESHOLDS_AT + 4 * at).cast_signed();
            if at > 0 && thresholds[at] < thresholds[at - 1] {
                return Err(ModelError::Thresholds);
            }
            at += 1;
        }
        let (_, weights) = bytes.split_at(WEIGHTS_AT);
        let [low, high] = [word(bytes, FINGERPRINT_AT) as u64, word(bytes, FINGERPRINT_AT + 4) as u64];
        Ok(Model {
            trained_on: high << 32 | low,
            bias: word(bytes, BIAS_AT).cast_signed(),
            thresholds,
            weights,
        })
    }

    /// Writes a model as [`Model::read`] takes it.
    #[must_use]
    pub fn write(
        trained_on: u64,
        bias: i32,
        thresholds: &[i32; THRESHOLDS],
        weights: &[i16; SLOTS],
    ) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MODEL_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(SLOTS).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&trained_on.to_le_bytes());
        bytes.extend_from_slice(&bias.to_le_bytes());
        bytes.extend(thresholds.iter().flat_map(|t| t.to_le_bytes()));
        bytes.extend(weights.iter().flat_map(|w| w.to_le_bytes()));
        bytes
    }

    /// [`fingerprint`] of the file of titles it was trained on.
    #[must_use]
    pub const fn trained_on(&self) -> u64 {
        self.trained_on
    }

    /// The sum before calibration, in 1/1024 of a logarithm of odds.
    #[must_use]
    pub fn sum(&self, features: &Features) -> i32 {
        let weights = features.slots().filter_map(|slot| self.weights.get(2 * slot..)?.first_chunk());
        weights.fold(self.bias, |sum, weight| sum.saturating_add(i32::from(i16::from_le_bytes(*weight))))
    }

    /// The score, [`LOWEST`] to [`HIGHEST`].
    #[must_use]
    pub fn score(&self, features: &Features) -> u8 {
        let sum = self.sum(features);
        let reached = self.thresholds.partition_point(|threshold| *threshold <= sum);
        LOWEST + u8::try_from(reached).unwrap_or(HIGHEST - LOWEST)
    }
}

/// FNV-1a of a file: tells whether a model was trained on it.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[allow(clippy::indexing_slicing, reason = "only within the length that was checked")]
const fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::classify;
    use crate::model::{CategoryHint, Exchange};

    fn thresholds() -> [i32; THRESHOLDS] {
        core::array::from_fn(|k| 10 * (i32::try_from(k).unwrap() + 1))
    }

    fn features() -> Features {
        let title = "Binance Will List Quokka (QUOK)";
        Features::read(Exchange::Binance, title, &classify(Exchange::Binance, title, CategoryHint::None))
    }

    #[test]
    fn what_is_written_reads_back_and_adds_up() {
        let slots: Vec<usize> = features().slots().collect();
        for (bias, weight, sum, score) in [
            (0, 0, 0, 1),
            (9, 0, 9, 1),
            (10, 0, 10, 2),
            (979, 0, 979, 98),
            (980, 0, 980, 99),
            (-5, 500, 495, 50),
        ] {
            let mut weights = [7_i16; SLOTS];
            for slot in &slots {
                weights[*slot] = 0;
            }
            weights[slots[0]] = weight;
            let bytes = Model::write(u64::MAX - 1, bias, &thresholds(), &weights);
            let model = Model::read(&bytes).unwrap();
            assert_eq!(model.trained_on(), u64::MAX - 1);
            assert_eq!((model.sum(&features()), model.score(&features())), (sum, score), "{bias} {weight}");
        }
        let bytes = Model::write(0, i32::MAX, &[i32::MAX; THRESHOLDS], &[i16::MAX; SLOTS]);
        assert_eq!(Model::read(&bytes).unwrap().score(&features()), HIGHEST, "saturates, never wraps");
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let good = Model::write(0, 0, &thresholds(), &[0; SLOTS]);
        assert!(Model::read(&good).is_ok());
        let spoilt = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Model::read(&bytes).err()
        };
        assert_eq!(Model::read(&good[1..]).err(), Some(ModelError::Length));
        assert_eq!(Model::read(&[]).err(), Some(ModelError::Length));
        assert_eq!(spoilt(0, b'X'), Some(ModelError::Head));
        assert_eq!(spoilt(8, 2), Some(ModelError::Head));
        assert_eq!(spoilt(12, 1), Some(ModelError::Head));
        assert_eq!(fingerprint(b"a"), 0xaf63_dc4c_8601_ec8c, "a known value of FNV-1a");
        assert_eq!(spoilt(THRESHOLDS_AT, 21), Some(ModelError::Thresholds));
        assert_eq!(spoilt(WEIGHTS_AT, 1), None, "any weight is one");
    }
}
