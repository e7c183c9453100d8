//! `cmaec explain`: what an error code means, with an example.

use super::output::outln;
use cmae::diag::{Code, suggest};

/// Explains an error code, such as `unit::wrong_unit`.
#[derive(clap::Args)]
pub struct Args {
    /// The code, as errors print it.
    #[arg(required_unless_present = "list")]
    code: Option<String>,
    /// Lists all codes.
    #[arg(long)]
    list: bool,
}

pub fn main(args: Args) -> Result<(), String> {
    let Some(text) = args.code.filter(|_| !args.list) else {
        Code::ALL.iter().for_each(|code| outln!("{}", code.as_str()));
        return Ok(());
    };
    match Code::parse(&text) {
        Some(code) => {
            outln!("{}", code.explanation().unwrap_or("There is no page for this code yet.").trim_end());
            Ok(())
        }
        None => {
            let help = suggest(&text, Code::ALL.iter().map(|c| c.as_str()));
            Err(format!("there is no error code `{text}`{}", help.map_or_else(String::new, |h| format!("; {h}"))))
        }
    }
}
