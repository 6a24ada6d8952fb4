/* The C interface of the Rust crate `trireme_text` (text/rust): tokenizers and chat templates.
 *
 * Nobody includes this but text/<name>.cc; everybody else takes the C++ face (tokenizer.h,
 * chat_template.h).
 *
 * Ownership  What a function writes into a TriremeTextBytes or TriremeTextIds belongs to the
 * caller, who gives it back once with the matching _free function (a zeroed one is fine). A
 *            TriremeTextView points into its tokenizer and lives as long as that.
 * Threads    A tokenizer and a template never change after they were loaded: any number of threads
 *            may use one at a time. Freeing one is the caller's last use of it.
 * Errors     A function returns 0, or an absl::StatusCode and a message in *error (UTF-8, to be
 *            freed). Nothing else is written then. No panic crosses this border: it is caught at
 *            the entry and comes back as kInternal (13).
 * Input      Text is UTF-8 with a length, no terminating zero needed; bad UTF-8 is
 *            kInvalidArgument (3).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct TriremeTextTokenizer TriremeTextTokenizer;
typedef struct TriremeTextTemplate TriremeTextTemplate;

typedef struct {
  const uint8_t* data;
  size_t size;
} TriremeTextView;

typedef struct {
  uint8_t* data;
  size_t size;
  size_t capacity;
} TriremeTextBytes;

typedef struct {
  int32_t* data;
  size_t size;
  size_t capacity;
} TriremeTextIds;

void trireme_text_bytes_free(TriremeTextBytes bytes);
void trireme_text_ids_free(TriremeTextIds ids);

/* --- Tokenizer ------------------------------------------------------------------------------ */

/* Reads tokenizer.json, and tokenizer_config.json and special_tokens_map.json where they are. */
int32_t trireme_text_tokenizer_load(TriremeTextView directory, TriremeTextTokenizer** tokenizer,
                                    TriremeTextBytes* error);
void trireme_text_tokenizer_free(TriremeTextTokenizer* tokenizer);

int32_t trireme_text_encode(const TriremeTextTokenizer* tokenizer, TriremeTextView text,
                            int32_t add_special_tokens, TriremeTextIds* ids,
                            TriremeTextBytes* error);
int32_t trireme_text_decode(const TriremeTextTokenizer* tokenizer, const int32_t* ids,
                            size_t id_count, int32_t skip_special_tokens, TriremeTextBytes* text,
                            TriremeTextBytes* error);

/* -1: no such token. */
int32_t trireme_text_token_to_id(const TriremeTextTokenizer* tokenizer, TriremeTextView token);

typedef enum {
  TRIREME_TEXT_BOS = 0,
  TRIREME_TEXT_EOS = 1,
  TRIREME_TEXT_PAD = 2,
  TRIREME_TEXT_UNK = 3,
} TriremeTextRole;

/* The token the model's files give this role: its text (size 0: none) and its id (-1: none). */
TriremeTextView trireme_text_role_token(const TriremeTextTokenizer* tokenizer, TriremeTextRole role,
                                        int32_t* id);

/* The decoder of tokenizer.json worked out for each token, so that streaming needs no call.
 *
 * A token is three byte strings in `bytes`: what it gives as the first token of a text, what it
 * gives elsewhere, and its own text. Token i's are bytes[offsets[3i] .. offsets[3i+1]),
 * [offsets[3i+1] .. offsets[3i+2]) and [offsets[3i+2] .. offsets[3i+3]). */
typedef struct {
  size_t token_count;      /* largest id + 1; ids without a token in between have no kPresent */
  const uint32_t* offsets; /* 3 * token_count + 1 */
  const uint8_t* flags;    /* token_count */
  const uint8_t* bytes;
  /* 1: byte-level; the joined bytes are the text, each maximal invalid part as one U+FFFD.
   * 0: every piece is valid UTF-8, but for kByte tokens: a run of those is text when it is valid
   *    UTF-8 as a whole, else one U+FFFD for each token. */
  uint8_t joins_bytes;
  uint8_t strip_byte; /* an ASCII character ... */
  size_t strip_count; /* ... of which up to this many are cut off the start of the whole text */
} TriremeTextPieces;

enum {
  TRIREME_TEXT_PRESENT = 1, /* the id has a token */
  TRIREME_TEXT_SPECIAL = 2, /* left out by skip_special_tokens */
  TRIREME_TEXT_ADDED = 4,   /* an added token, special or not */
  TRIREME_TEXT_BYTE = 8,    /* a byte token of the byte fallback; its piece is that one byte */
};

TriremeTextPieces trireme_text_pieces(const TriremeTextTokenizer* tokenizer);

/* --- Chat template -------------------------------------------------------------------------- */

/* source.data == NULL: takes the directory's own template (chat_template.jinja,
 * additional_chat_templates/<name>.jinja, or "chat_template" of tokenizer_config.json or
 * chat_template.json). kNotFound (5): it has none. */
int32_t trireme_text_template_load(TriremeTextView directory, TriremeTextView source,
                                   TriremeTextTemplate** chat_template, TriremeTextBytes* error);
void trireme_text_template_free(TriremeTextTemplate* chat_template);

typedef struct {
  TriremeTextView messages; /* JSON array */
  TriremeTextView tools;    /* JSON array, or data == NULL: none */
  TriremeTextView kwargs;   /* JSON object of further variables, or data == NULL */
  TriremeTextView name;     /* of a named template, or data == NULL: "tool_use" / "default" */
  int32_t add_generation_prompt;
  int32_t continue_final_message;
  int64_t now_unix_seconds; /* for strftime_now */
} TriremeTextRender;

int32_t trireme_text_template_render(const TriremeTextTemplate* chat_template,
                                     const TriremeTextRender* request, TriremeTextBytes* text,
                                     TriremeTextBytes* error);

/* The source of the named template; size 0: there is none of that name. Name as in render. */
TriremeTextView trireme_text_template_source(const TriremeTextTemplate* chat_template,
                                             TriremeTextView name);

#ifdef __cplusplus
}
#endif
