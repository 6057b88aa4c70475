//! Colours and width, decided once and handed down.

use std::io::IsTerminal;

use crate::args::ColorChoice;

/// How human output may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to use colours.
    pub color: bool,
    /// Columns of the terminal; `None` = not a terminal.
    pub width: Option<usize>,
}

impl Style {
    /// No colours, no terminal: what pipes and tests get.
    pub const PLAIN: Self = Self { color: false, width: None };

    /// By `--color`, `NO_COLOR` and what stdout is.
    pub fn detect(choice: ColorChoice) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !no_color && !dumb,
        };
        Self { color, width: terminal.then(terminal_width) }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Headings.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Less important.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// In the colour of a status or severity.
    pub fn by_level(self, level: &str, text: &str) -> String {
        match level {
            "unhealthy" | "critical" | "error" | "fail" => self.paint("1;31", text),
            "degraded" | "warning" => self.paint("33", text),
            "healthy" | "ok" => self.paint("32", text),
            _ => self.dim(text),
        }
    }
}

fn terminal_width() -> usize {
    let from_env = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    from_env.unwrap_or_else(|| {
        // SAFETY: winsize is plain data; the kernel fills it or answers an error, and then it is not read.
        let (answer, size) = unsafe {
            let mut size: libc::winsize = std::mem::zeroed();
            (libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size), size)
        };
        if answer == 0 && size.ws_col > 0 { usize::from(size.ws_col) } else { 80 }
    })
}
