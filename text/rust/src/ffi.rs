//! The C entry points of `../../trireme_text.h`; its rules on ownership and errors hold here.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use crate::error::{Code, Result, TextError};
use crate::template::{ChatTemplate, RenderRequest};
use crate::tokenizer::TextTokenizer;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct View {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct Buffer<T> {
    data: *mut T,
    size: usize,
    capacity: usize,
}

#[repr(C)]
pub struct PiecesView {
    token_count: usize,
    offsets: *const u32,
    flags: *const u8,
    bytes: *const u8,
    joins_bytes: u8,
    strip_byte: u8,
    strip_count: usize,
}

#[repr(C)]
pub struct Render {
    messages: View,
    tools: View,
    kwargs: View,
    name: View,
    add_generation_prompt: i32,
    continue_final_message: i32,
    now_unix_seconds: i64,
}

impl View {
    fn of(text: &str) -> View {
        View {
            data: text.as_ptr(),
            size: text.len(),
        }
    }

    const NOTHING: View = View {
        data: std::ptr::null(),
        size: 0,
    };

    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.data.is_null() {
            return &[];
        }
        std::slice::from_raw_parts(self.data, self.size)
    }

    unsafe fn text<'a>(self, what: &str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()).map_err(|error| {
            TextError::invalid(format!(
                "{what} is not valid UTF-8 (byte {})",
                error.valid_up_to()
            ))
        })
    }

    unsafe fn optional_text<'a>(self, what: &str) -> Result<Option<&'a str>> {
        if self.data.is_null() {
            return Ok(None);
        }
        self.text(what).map(Some)
    }

    unsafe fn path<'a>(self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.bytes()))
    }
}

impl<T> Buffer<T> {
    fn of(values: Vec<T>) -> Buffer<T> {
        let mut values = std::mem::ManuallyDrop::new(values);
        Buffer {
            data: values.as_mut_ptr(),
            size: values.len(),
            capacity: values.capacity(),
        }
    }

    unsafe fn free(self) {
        if !self.data.is_null() {
            drop(Vec::from_raw_parts(self.data, self.size, self.capacity));
        }
    }
}

thread_local! {
    static PANIC_MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says, instead of printing it.
fn keep_panic_messages() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            PANIC_MESSAGE.with(|message| *message.borrow_mut() = info.to_string());
        }));
    });
}

/// Runs an entry point: 0, or the code with the message in `error`.
unsafe fn enter(error: *mut Buffer<u8>, work: impl FnOnce() -> Result<()>) -> i32 {
    keep_panic_messages();
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return 0,
        Ok(Err(failure)) => failure,
        Err(_) => {
            let message = PANIC_MESSAGE.with(|message| message.take());
            TextError::new(
                Code::Internal,
                format!("the text library failed: {message}"),
            )
        }
    };
    *error = Buffer::of(failure.message.into_bytes());
    failure.code as i32
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_bytes_free(bytes: Buffer<u8>) {
    bytes.free();
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_ids_free(ids: Buffer<i32>) {
    ids.free();
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_tokenizer_load(
    directory: View,
    tokenizer: *mut *mut TextTokenizer,
    error: *mut Buffer<u8>,
) -> i32 {
    enter(error, || {
        *tokenizer = Box::into_raw(Box::new(TextTokenizer::load(directory.path())?));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_tokenizer_free(tokenizer: *mut TextTokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_encode(
    tokenizer: *const TextTokenizer,
    text: View,
    add_special_tokens: i32,
    ids: *mut Buffer<i32>,
    error: *mut Buffer<u8>,
) -> i32 {
    enter(error, || {
        let encoded = (*tokenizer).encode(text.text("the text")?, add_special_tokens != 0)?;
        *ids = Buffer::of(encoded);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_decode(
    tokenizer: *const TextTokenizer,
    ids: *const i32,
    id_count: usize,
    skip_special_tokens: i32,
    text: *mut Buffer<u8>,
    error: *mut Buffer<u8>,
) -> i32 {
    enter(error, || {
        let ids = if id_count == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(ids, id_count)
        };
        let decoded = (*tokenizer).decode(ids, skip_special_tokens != 0)?;
        *text = Buffer::of(decoded.into_bytes());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_token_to_id(
    tokenizer: *const TextTokenizer,
    token: View,
) -> i32 {
    let found = token
        .text("the token")
        .ok()
        .and_then(|token| (*tokenizer).token_to_id(token));
    found.map_or(-1, |id| id as i32)
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_role_token(
    tokenizer: *const TextTokenizer,
    role: u32,
    id: *mut i32,
) -> View {
    let roles = &(*tokenizer).roles;
    let token = roles.get(role as usize).and_then(Option::as_ref);
    *id = token.map_or(-1, |token| token.id);
    token.map_or(View::NOTHING, |token| View::of(&token.text))
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_pieces(tokenizer: *const TextTokenizer) -> PiecesView {
    let pieces = &(*tokenizer).pieces;
    PiecesView {
        token_count: pieces.flags.len(),
        offsets: pieces.offsets.as_ptr(),
        flags: pieces.flags.as_ptr(),
        bytes: pieces.bytes.as_ptr(),
        joins_bytes: pieces.joins_bytes as u8,
        strip_byte: pieces.strip_byte,
        strip_count: pieces.strip_count,
    }
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_template_load(
    directory: View,
    source: View,
    chat_template: *mut *mut ChatTemplate,
    error: *mut Buffer<u8>,
) -> i32 {
    enter(error, || {
        let source = source.optional_text("the chat template")?;
        let loaded = ChatTemplate::load(directory.path(), source)?;
        *chat_template = Box::into_raw(Box::new(loaded));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_template_free(chat_template: *mut ChatTemplate) {
    if !chat_template.is_null() {
        drop(Box::from_raw(chat_template));
    }
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_template_render(
    chat_template: *const ChatTemplate,
    request: *const Render,
    text: *mut Buffer<u8>,
    error: *mut Buffer<u8>,
) -> i32 {
    enter(error, || {
        let request = &*request;
        let rendered = (*chat_template).render(&RenderRequest {
            messages: request.messages.text("messages")?,
            tools: request.tools.optional_text("tools")?,
            kwargs: request.kwargs.optional_text("chat_template_kwargs")?,
            name: request.name.optional_text("the chat template's name")?,
            add_generation_prompt: request.add_generation_prompt != 0,
            continue_final_message: request.continue_final_message != 0,
            now_unix_seconds: request.now_unix_seconds,
        })?;
        *text = Buffer::of(rendered.into_bytes());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn trireme_text_template_source(
    chat_template: *const ChatTemplate,
    name: View,
) -> View {
    let name = name.optional_text("the name").ok().flatten();
    (*chat_template)
        .source(name)
        .map_or(View::NOTHING, View::of)
}
