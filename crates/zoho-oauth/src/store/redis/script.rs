//! The scripts that run on the server, and their calls.

use std::borrow::Cow;
use std::sync::LazyLock;

use redis::{Cmd, Script};

/// A script: its text, and the digest by which the server knows it.
pub(super) struct Lua {
    text: &'static str,
    digest: LazyLock<String>,
}

macro_rules! lua {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $(
            $(#[$doc])*
            pub(super) static $name: Lua = Lua {
                text: concat!(include_str!("lua/common.lua"), include_str!($file)),
                digest: LazyLock::new(|| Script::new($name.text).get_hash().to_owned()),
            };
        )*

        #[cfg(test)]
        pub(super) const ALL: &[&Lua] = &[$(&$name),*];
    };
}

lua! {
    OPEN = "lua/open.lua";
    LOOK = "lua/look.lua";
    ROWS = "lua/rows.lua";
    PAGE = "lua/page.lua";
    MARK = "lua/mark.lua";
    WRITE = "lua/write.lua";
    CLEAR = "lua/clear.lua";
    CLEARED = "lua/cleared.lua";
    SWEEP = "lua/sweep.lua";
    READ_CELL = "lua/read_cell.lua";
    SWAP_CELL = "lua/swap_cell.lua";
    TOLD = "lua/told.lua";
}

/// A call of a script. Every script may be sent again when its answer was lost.
pub(super) struct Call<'a> {
    script: &'static Lua,
    is_write: bool,
    arguments: Vec<Cow<'a, [u8]>>,
}

/// How a call is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    /// An earlier sending may have been carried out.
    pub(super) again: bool,
    /// With the text of the script, since the server does not know it.
    pub(super) in_full: bool,
}

impl<'a> Call<'a> {
    pub(super) const fn read(script: &'static Lua) -> Self {
        Self {
            script,
            is_write: false,
            arguments: Vec::new(),
        }
    }

    pub(super) const fn write(script: &'static Lua) -> Self {
        Self {
            script,
            is_write: true,
            arguments: Vec::new(),
        }
    }

    pub(super) fn arg(mut self, argument: impl Into<Cow<'a, str>>) -> Self {
        self.arguments.push(match argument.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        });
        self
    }

    pub(super) fn args<T: Into<Cow<'a, str>>>(
        self,
        arguments: impl IntoIterator<Item = T>,
    ) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// What may be no text.
    pub(super) fn bytes(mut self, arguments: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(Cow::Borrowed));
        self
    }

    pub(super) const fn is_write(&self) -> bool {
        self.is_write
    }

    /// Returns the command for a store whose keys begin with `base`.
    pub(super) fn command(&self, base: &str, sending: Sending) -> Cmd {
        let mut command = if sending.in_full {
            let mut command = redis::cmd("EVAL");
            command.arg(self.script.text);
            command
        } else {
            let mut command = redis::cmd("EVALSHA");
            command.arg(self.script.digest.as_str());
            command
        };
        command
            .arg(1)
            .arg(format!("{base}store"))
            .arg(base)
            .arg(u8::from(sending.again));
        for argument in &self.arguments {
            command.arg(&argument[..]);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_script_has_the_common_part_and_a_digest_of_its_own() {
        let digests: BTreeSet<_> = ALL.iter().map(|lua| lua.digest.as_str()).collect();
        assert_eq!(digests.len(), ALL.len());
        for lua in ALL {
            assert!(lua.text.starts_with("-- Before every script."));
            assert_eq!(lua.digest.len(), 40);
        }
    }

    #[test]
    fn a_call_names_one_key_and_says_whether_it_was_sent_before() {
        let call = Call::write(&WRITE).arg("a").args(["b", ""]);
        let text = |again, in_full| {
            let command = call.command("{p}:", Sending { again, in_full });
            String::from_utf8(command.get_packed_command()).unwrap()
        };
        let first = text(false, false);
        let digest = WRITE.digest.as_str();
        let rest = "$1\r\n1\r\n$9\r\n{p}:store\r\n$4\r\n{p}:\r\n$1\r\n0\r\n$1\r\na\r\n$1\r\nb\r\n$0\r\n\r\n";
        assert_eq!(
            first,
            format!("*9\r\n$7\r\nEVALSHA\r\n$40\r\n{digest}\r\n{rest}")
        );
        let second = text(true, true);
        assert!(
            second.starts_with("*9\r\n$4\r\nEVAL\r\n") && second.contains("$1\r\n1\r\n$1\r\na")
        );
    }
}
