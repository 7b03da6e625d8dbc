/* TensorBoard event files: scalars only.
 *
 *   file   = record*          record = u64 length | u32 mask(crc(length)) | data | u32
 * mask(crc(data)) data   = an Event message (tb.proto); the first one holds file_version
 * "brain.Event:2" crc    = CRC-32C (Castagnoli), mask(c) = rotate right by 15, plus 0xa282ead8
 *
 * A resumed run opens another file in the same folder; TensorBoard joins them by step. Tags are
 * spelt as the Hugging Face Trainer spells them: `eval_x` -> eval/x, anything else -> train/x.
 * Owner thread. */
#ifndef PD_TRAIN_TB_H
#define PD_TRAIN_TB_H

#include "base/err.h"
#include <stdint.h>

struct pd_tb;
/* Makes DIR and DIR/events.out.tfevents.<seconds>.<host>.<pid>. */
PD_CHECKED enum pd_rc pd_tb_open(struct pd_tb **out, const char *dir, struct pd_err *err);
/* Collects one scalar; values that are not finite are kept as they are (TensorBoard shows them). */
void pd_tb_scalar(struct pd_tb *tb, const char *key, double value);
/* Writes the collected scalars as one event and flushes. */
PD_CHECKED enum pd_rc pd_tb_flush(struct pd_tb *tb, int64_t step, struct pd_err *err);
void pd_tb_close(struct pd_tb *tb); /* accepts NULL */

uint32_t pd_crc32c(const void *p, size_t n);
uint32_t pd_crc32c_masked(const void *p, size_t n);

#endif
