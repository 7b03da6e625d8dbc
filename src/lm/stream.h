/* Packed batches: token streams without padding, shaped as prefix trees.
 *
 * A stream is T tokens in rows 0..T-1, cut into segments. A token attends to all tokens of its
 * segment's ancestors and, causally, to its own segment. A preference pair is three segments:
 *
 *      rows   0 .......... 7 | 8 ... 11 | 12 ..... 19
 *             root (prompt)    chosen     rejected          parents: -1, 0, 0
 *      pos    0 .......... 7   8 ... 11   8 ..... 15
 *
 * so the prompt is computed once for both. Trees may be deeper, and a stream holds many trees. A
 * parent always stands before its children. Positions count from the root of the tree; an empty
 * segment is allowed only where a sequence equals a prefix of another (its leaf is then the
 * ancestor, and no segment is made).
 *
 * Memory: owned arrays, reused after clear. Owner thread only. */
#ifndef PD_LM_STREAM_H
#define PD_LM_STREAM_H

#include "base/err.h"
#include <stdint.h>

struct pd_segment {
    int64_t start, len; /* rows [start, start + len) */
    int parent;         /* index of an earlier segment, -1 = a root */
};

struct pd_stream {
    int32_t *ids; /* (T) */
    int32_t *pos; /* (T) distance from the root of the tree */
    struct pd_segment *segs;
    int64_t n_rows; /* T */
    int n_segs;
    int64_t cap_rows;
    int cap_segs;
    int64_t share_limit; /* longer sequences share nothing (pd_config_share_limit); 0 = no limit */
};

void pd_stream_init(struct pd_stream *s);
void pd_stream_release(struct pd_stream *s);
void pd_stream_clear(struct pd_stream *s); /* empties, keeps the memory */

/* Appends a segment of len >= 1 tokens under `parent` (-1 = a new tree); returns its index. */
int pd_stream_add(struct pd_stream *s, int parent, const int32_t *ids, int64_t len);

/* One token sequence to be merged into a tree, and where it ended up. */
struct pd_sequence {
    const int32_t *ids;
    int64_t len; /* >= 1 */
    int leaf;    /* out: segment that holds its last token */
};
/* Appends n sequences as one or more trees in which every common prefix stands once: segments are
 * cut only where sequences part. Sequences that begin differently become separate roots. */
void pd_stream_add_sequences(struct pd_stream *s, struct pd_sequence *seqs, int n);

/* Row of the token at position t (0 = first token of the tree) on the path to segment `leaf`. */
int64_t pd_stream_row(const struct pd_stream *s, int leaf, int64_t t);
/* Number of tokens on the path from the root through segment `leaf`. */
int64_t pd_stream_path_len(const struct pd_stream *s, int leaf);
/* Rows that n sequences would take after sharing: sum of lengths minus what is shared. For packing
 * up to a token budget before anything is added. */
int64_t pd_sequences_rows(const struct pd_sequence *seqs, int n);

#endif
