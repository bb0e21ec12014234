//! Typed views of records that the CRM itself defines: users, the organisation, modules, fields.

/// Makes a type around a [`Record`](crate::Record): readers for the keys that everybody wants,
/// the record itself for the other fifty.
macro_rules! resource {
    (
        $(#[$doc:meta])* $name:ident {
            $($(#[$reader_doc:meta])* $reader:ident = $key:literal: $type:ty;)*
        }
    ) => {
        $(#[$doc])*
        ///
        /// The methods read the keys that most callers want; [`record`](Self::record) has all of
        /// them, as the CRM sent them.
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(crate::record::Record);

        impl $name {
            $(
                $(#[$reader_doc])*
                pub fn $reader(&self) -> Option<$type> {
                    self.0.get($key).ok().flatten()
                }
            )*

            /// Returns everything the CRM sent.
            pub fn record(&self) -> &crate::record::Record {
                &self.0
            }
        }
    };
}

pub(crate) use resource;

/// A reference to something with a name: a role, a profile, an owner.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Named {
    /// The id.
    pub id: crate::value::RecordId,
    /// The name, where the CRM tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
