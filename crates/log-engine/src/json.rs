//! What can be written with serde, and what of it can be read back: ids and settings.
//!
//! An id is its text, an ack level its name, the settings of a topic an object with Kafka's names
//! and texts as values, as [`TopicConfig::entries`] has them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use crate::append_id::AppendId;
use crate::config::{Ack, TopicConfig};

impl Serialize for AppendId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text(self, serializer)
    }
}

impl<'de> Deserialize<'de> for AppendId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AppendId, D::Error> {
        from_text(deserializer)
    }
}

impl Serialize for Ack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Ack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ack, D::Error> {
        from_text(deserializer)
    }
}

impl Serialize for TopicConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        settings(&self.entries(), serializer)
    }
}

/// What a setting may be written as: the text that it is, or the number or truth value in it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Setting {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl<'de> Deserialize<'de> for TopicConfig {
    /// Settings that are left out have their default.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TopicConfig, D::Error> {
        let mut config = TopicConfig::default();
        for (key, setting) in BTreeMap::<String, Setting>::deserialize(deserializer)? {
            let value = match setting {
                Setting::Text(text) => text,
                Setting::Number(number) => number.to_string(),
                Setting::Flag(flag) => flag.to_string(),
            };
            config.set(&key, &value).map_err(D::Error::custom)?;
        }
        Ok(config)
    }
}

/// As what it displays.
pub(crate) fn text<S: Serializer>(value: impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&value)
}

fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

/// As an object.
pub(crate) fn settings<S: Serializer>(
    entries: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, json, to_string, to_value};

    use super::*;
    use crate::{Engine, Record};

    #[test]
    fn an_id_is_a_string_that_is_checked_when_it_is_read() {
        let text = "\"orders/0/17.0.42.3/4d2ab70c5e9f4a61b03a8c5d17e6f902\"";
        let id: AppendId = from_str(text).unwrap();
        assert_eq!(
            id.to_string(),
            "orders/0/17.0.42.3/4d2ab70c5e9f4a61b03a8c5d17e6f902"
        );
        assert_eq!(to_string(&id).unwrap(), text);
        let error = from_str::<AppendId>("\"orders/0\"").unwrap_err();
        assert!(error.to_string().contains("is no append id"), "{error}");
    }

    #[test]
    fn settings_are_read_by_kafkas_names_and_nothing_is_ignored() {
        let text = r#"{"ack": "memory", "retention.ms": 1000, "idempotence": false, "segment.bytes": "65536"}"#;
        let config: TopicConfig = from_str(text).unwrap();
        assert_eq!(config.ack(), Ack::Memory);
        assert_eq!(
            (config.retention_ms(), config.segment_bytes()),
            (Some(1_000), 65_536)
        );
        let back: TopicConfig = from_str(&to_string(&config).unwrap()).unwrap();
        assert_eq!(back, config);
        for (wrong, says) in [
            (r#"{"retention": "1"}"#, "there is no setting retention"),
            (r#"{"ack": "none"}"#, "allowed: synced, interval, memory"),
            (r#"{"flush.ms": -1}"#, "flush.ms=-1 is not possible"),
        ] {
            let error = from_str::<TopicConfig>(wrong).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let error = from_str::<Ack>("\"all\"").unwrap_err().to_string();
        assert!(error.contains("allowed: synced"), "{error}");
    }

    #[test]
    fn what_the_engine_tells_is_written_as_objects() {
        let engine = Engine::in_memory();
        let topic = engine.ensure_topic("t", 1).unwrap();
        let producer = engine.producer().open().unwrap();
        let record = Record::to("t").value("v").timestamp(7);
        let at = producer.blocking_append(record).unwrap();
        let at = to_value(at).unwrap();
        let expected =
            json!({"topic": "t", "partition": 0, "offset": 0, "timestamp": 7, "duplicate": false});
        assert_eq!(at, expected);
        let described = to_value(topic.describe()).unwrap();
        assert_eq!(described["id"], topic.id().to_string());
        assert_eq!(described["partitions"][0]["high_watermark"], 1);
        assert_eq!(described["config"]["ack"], "synced");
        let counts = to_value(producer.counts()).unwrap();
        assert_eq!(
            (&counts["records"], &counts["skipped"]),
            (&json!(1), &json!(0))
        );
    }
}
