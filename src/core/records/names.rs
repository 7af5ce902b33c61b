//! Names: of services, of the two target groups, of AWS resources.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Which of a service's two target groups. The names never change; the roles (stable, candidate)
/// alternate from release to release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Target group `a`.
    A,
    /// Target group `b`.
    B,
}

impl Group {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// One value for each of the two target groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PerGroup<T> {
    /// Of target group `a`.
    pub a: T,
    /// Of target group `b`.
    pub b: T,
}

impl<T> PerGroup<T> {
    /// The value of `group`.
    pub const fn of(&self, group: Group) -> &T {
        match group {
            Group::A => &self.a,
            Group::B => &self.b,
        }
    }
}

impl PerGroup<Arn> {
    /// Which group has this ARN.
    pub fn group_of(&self, arn: &str) -> Option<Group> {
        if self.a.as_str() == arn {
            Some(Group::A)
        } else if self.b.as_str() == arn {
            Some(Group::B)
        } else {
            None
        }
    }
}

/// A service as people name it: `namespace/name`, both DNS labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    namespace: Label,
    name: Label,
}

impl ServiceKey {
    /// From two labels.
    pub const fn new(namespace: Label, name: Label) -> Self {
        Self { namespace, name }
    }
    /// Namespace, usually a team.
    pub fn namespace(&self) -> &str {
        &self.namespace.0
    }
    /// Name within the namespace.
    pub fn name(&self) -> &str {
        &self.name.0
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace.0, self.name.0)
    }
}

impl FromStr for ServiceKey {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let (namespace, name) = text
            .split_once('/')
            .ok_or_else(|| BadName { value: text.to_owned(), allowed: "namespace/name, each a DNS label" })?;
        Ok(Self { namespace: namespace.parse()?, name: name.parse()? })
    }
}

impl Serialize for ServiceKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is not the name it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{value}\" is not {allowed}")]
pub struct BadName {
    value: String,
    allowed: &'static str,
}

/// A text that is checked while it is read, with the same rule in its JSON schema.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, allowed: $allowed:literal, pattern: $pattern:literal, longest: $longest:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> bool = $check;
                if text.len() <= $longest && check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName { value: text.chars().take(128).collect(), allowed: $allowed })
                }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "maxLength": $longest })
            }
        }
    };
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !text.is_empty()
        && text.bytes().all(inner)
        && text.as_bytes().first().is_some_and(edge)
        && text.as_bytes().last().is_some_and(edge)
}

fn is_arn(text: &str) -> bool {
    text.starts_with("arn:")
        && text.splitn(6, ':').filter(|part| !part.is_empty()).count() == 6
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'*')
}

checked_text!(
    /// A DNS label: lower-case letters, digits and inner hyphens, at most 63 characters. It can hold
    /// none of `/`, `#`, `*` and `$`, which separate keys and stand for wildcards in policies.
    Label, allowed: "a DNS label ([a-z0-9] and inner hyphens, at most 63 characters)",
    pattern: "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", longest: 63, is_label
);

checked_text!(
    /// A full Amazon resource name with account and region, without wildcards.
    Arn, allowed: "a full ARN with account and region, such as arn:aws:ecs:eu-central-1:111122223333:service/prod/checkout",
    pattern: "^arn(:[!-)+-9;-~]+){4}:[!-)+-~]+$", longest: 512, is_arn
);

impl Arn {
    fn part(&self, index: usize) -> &str {
        self.0.splitn(6, ':').nth(index).unwrap_or_default()
    }
    /// Partition, for example `aws`.
    pub fn partition(&self) -> &str {
        self.part(1)
    }
    /// Service prefix, for example `ecs`.
    pub fn service(&self) -> &str {
        self.part(2)
    }
    /// Region.
    pub fn region(&self) -> &str {
        self.part(3)
    }
    /// Account id.
    pub fn account(&self) -> &str {
        self.part(4)
    }
    /// What follows the account: `service/prod/checkout`.
    pub fn resource(&self) -> &str {
        self.part(5)
    }
}
