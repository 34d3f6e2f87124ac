//! Texts that many triggers have in common, such as where they look and what they last saw: each is kept once.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// How many there may be before those that nobody has any more are looked for.
const FEW: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Words(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    texts: HashSet<Arc<str>>,
    /// How many were in use when that was last looked at.
    in_use: usize,
}

impl Words {
    /// The same text, kept once for all who ask for it.
    pub(super) fn shared(&self, text: &str) -> Arc<str> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = kept.texts.get(text) {
            return Arc::clone(text);
        }
        if kept.texts.len() > 2 * kept.in_use + FEW {
            kept.texts.retain(|text| Arc::strong_count(text) > 1);
            kept.in_use = kept.texts.len();
        }
        let text = Arc::from(text);
        kept.texts.insert(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_only_while_somebody_has_it() {
        let words = Words::default();
        let first = words.shared("still running");
        assert!(Arc::ptr_eq(&first, &words.shared("still running")));
        for number in 0..10 * FEW {
            words.shared(&number.to_string());
        }
        assert!(words.0.lock().unwrap().texts.len() <= FEW + 3);
        assert!(Arc::ptr_eq(&first, &words.shared("still running")));
    }
}
